"""What stands above the header of a text table: comments, and the `sep=;` of spreadsheets; and what cuts its cells."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple, TextIO

from zoo.datasets.cells import number

DELIMITERS = ",;\t|"
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_LOOK = 3  # lines below the comments


class Preamble(NamedTuple):
    """How many lines stand above the header, the comments among them, and what cuts the cells below."""

    lines: int
    comments: tuple[str, ...]
    delimiter: str


def preamble(file: TextIO, header: bool | None = None) -> Preamble:
    """Read the lines above the header, and wind the file to the header.

    A last comment of as many cells as the lines below is the header where no other line can be, as NumPy writes it.

    Args:
        file: of text, at its start.
        header: whether a line names the columns; None looks at it.

    Raises:
        ValueError: `sep=` and a mark that is no delimiter.
    """
    head = list(itertools.islice(file, 1))
    skipped, given = 0, None
    if head and (found := _SEP.fullmatch(head[0].rstrip("\r\n"))):
        skipped, given, head = 1, found[1], []
        if given not in DELIMITERS:
            raise ValueError(f"the first line says that {given!r} cuts the cells; comma, semicolon, tab or | are read")
    comments: list[str] = []
    below: list[str] = []
    for line in itertools.chain(head, file):
        if not below and line.startswith("#"):
            comments.append(line.rstrip("\r\n"))
        elif len(below) < _LOOK:
            below.append(line)
        else:
            break
    first = below[0] if below else (comments.pop() if comments else "")
    mark = given or max(DELIMITERS, key=lambda delimiter: len(cut(first, delimiter)))
    if comments and header is not False and _heads(comments[-1], below, mark):
        comments.pop()
    skipped += len(comments)
    rewind(file, skipped)
    return Preamble(skipped, tuple(comments), mark)


def rewind(file: TextIO, lines: int) -> None:
    """Wind the file to its start, and past some lines."""
    file.seek(0)
    for _ in range(lines):
        file.readline()


def cut(line: str, delimiter: str) -> list[str]:
    """The cells of a line."""
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _heads(comment: str, below: Sequence[str], mark: str) -> bool:
    """Whether a comment names the columns of the lines below it: as many cells, above the first line of numbers."""
    rows = [cut(line, mark) for line in below]
    if not rows or len(cut(comment, mark)) != len(rows[0]):
        return False
    numeric = [any(number(cell) is not None for cell in row) for row in rows]
    return numeric[0] or (len(rows[0]) > 1 and not any(numeric))


def elsewhere(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """What cuts the rows of a table that seems to have one column, in words; empty where nothing does."""
    if len(head) > 1 or not rows:
        return ""
    for mark, name in ((",", "','"), (";", "';'"), ("\t", "a tab"), ("|", "'|'")):
        counts = {len(cut(row[0], mark)) for row in rows}
        if len(counts) == 1 and min(counts) > 1:
            return name
    words = [row[0].split() for row in rows]
    counts = {len(row) for row in words}
    numbers = all(number(word) is not None for row in words for word in row)
    return "blanks" if numbers and counts == {len(head[0].split())} and min(counts) > 1 else ""
