"""A cursor over the words and marks of a small language, which knows the line it stands at."""

from __future__ import annotations

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+ | //[^\n]* | /\*.*?\*/)
      | "(?P<quoted>[^"\n]*)"
      | (?P<mark>[{}()\[\]|,;])
      | (?P<word>[^\s{}()\[\]|,;"]+)""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    """A word, or a mark of punctuation (and not a quoted name that looks like one), and its line."""

    text: str
    line: int
    mark: bool


def split(text: str) -> list[Token]:
    """Words, "quoted words" and marks of a text; blanks and comments in the manner of C++ are passed over.

    Raises:
        ValueError: something that is none of these, such as an open quotation mark.
    """
    found, line, at = [], 1, 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(f"line {line}: cannot read {text[at : at + 20].splitlines()[0]!r}")
        if match["space"] is None:
            quoted = match["quoted"]
            found.append(Token(match[0] if quoted is None else quoted, line, match["mark"] is not None))
        line += match[0].count("\n")
        at = match.end()
    return found


class Cursor:
    """Reads tokens from left to right."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens, self.at = tokens, 0

    @property
    def done(self) -> bool:
        """Whether all has been read."""
        return self.at == len(self.tokens)

    def wrong(self, what: str) -> ValueError:
        """An error at the token that was read last."""
        line = self.tokens[min(max(self.at, 1), len(self.tokens)) - 1].line if self.tokens else 1
        return ValueError(f"line {line}: {what}")

    def word(self, expected: str) -> str:
        """The next token, which must be a word."""
        token = self._next(expected)
        if token.mark:
            raise self.wrong(f"expected {expected}, got '{token.text}'")
        return token.text

    def mark(self, expected: str) -> None:
        """Pass over this mark, which must come next."""
        token = self._next(f"'{expected}'")
        if not token.mark or token.text != expected:
            raise self.wrong(f"expected '{expected}', got '{token.text}'")

    def found(self, mark: str) -> bool:
        """Pass over this mark if it comes next; says whether it did."""
        here = not self.done and self.tokens[self.at].mark and self.tokens[self.at].text == mark
        self.at += here
        return here

    def words(self, end: str) -> tuple[str, ...]:
        """Words with or without commas between them, up to the mark `end`."""
        found: list[str] = []
        while not self.found(end):
            if found:
                self.found(",")
            found.append(self.word(f"a name or '{end}'"))
        return tuple(found)

    def skip(self, end: str) -> None:
        """Pass over everything up to the mark `end`."""
        token = self._next(f"'{end}'")
        while not (token.mark and token.text == end):
            token = self._next(f"'{end}'")

    def _next(self, expected: str) -> Token:
        if self.done:
            raise self.wrong(f"expected {expected}, but the text ends")
        self.at += 1
        return self.tokens[self.at - 1]
