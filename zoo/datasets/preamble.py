"""What stands above the header of a text table: comments, and the `sep=;` of spreadsheets; and what cuts its cells."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TextIO

from zoo.datasets.cells import number
from zoo.datasets.decimals import Decimal

DELIMITERS = ",;\t|"
BLANKS = " "  # runs of blanks and tabs
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_RUN = re.compile(r'"(?:[^"]|"")*"|[ \t]+')  # quotes keep their blanks
_LOOK = 3  # lines below the comments
_MORE = 20  # ... where blanks may cut them


class Preamble(NamedTuple):
    """How many lines stand above the header, the comments among them, and what cuts the cells below."""

    lines: int
    comments: tuple[str, ...]
    delimiter: str


def preamble(file: TextIO, header: bool | None = None, loose: bool = False) -> Preamble:
    """Read the lines above the header, and wind the file to the header.

    A last comment of as many cells as the lines below is the header where no other line can be, as NumPy writes it.

    Args:
        file: of text, at its start.
        header: whether a line names the columns; None looks at it.
        loose: whether blanks may cut cells of words too, as in a .dat, not only those of numbers.

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
        elif len(below) < _MORE:
            below.append(line)
        else:
            break
    first = below[0] if below else (comments.pop() if comments else "")
    mark = given or max(DELIMITERS, key=lambda delimiter: len(cut(first, delimiter)))
    if given is None and _blanks([first, *below[1:]], mark, loose):
        mark = BLANKS
    if comments and header is not False and _heads(comments[-1], below[:_LOOK], mark):
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
    return next(rows([line], delimiter), [])


def rows(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """The cells of each line that has some; `BLANKS` stands for runs of blanks and tabs, behind the # of a header."""
    if delimiter == BLANKS:
        lines = (_RUN.sub(_tab, line.strip().removeprefix("#").lstrip()) for line in lines)
        delimiter = "\t"
    return filter(None, csv.reader(lines, delimiter=delimiter, skipinitialspace=True))


def _tab(run: re.Match[str]) -> str:
    return run[0] if run[0][0] == '"' else "\t"


def _blanks(lines: Sequence[str], mark: str, loose: bool) -> bool:
    """Whether runs of blanks cut the cells, and not the mark: as many in each line, names of rows aside.

    Where the mark cuts nothing, each line has to hold a number, unless words may be cut (`loose`). Where it cuts
    something, one of its cells has to be numbers side by side.
    """
    lines = [line for line in lines if line.strip()]
    table = [cut(line, BLANKS) for line in lines]
    body = table[1:] or table
    counts = {len(words) for words in body}
    if len(counts) != 1 or min(counts) < 2 or min(counts) - len(table[0]) not in (0, 1):
        return False
    if all(len(cut(line, mark)) == 1 for line in lines):
        numeric = all(any(number(word) is not None for word in words) for words in body)
        return (loose or numeric) and (loose or len(table[0]) in counts)
    cells = [cell for line in lines[1:] or lines for cell in line.split(mark) if cell.strip()[:1] not in ('"', "")]
    inner = [cell.split() for cell in cells if len(cell.split()) > 1]
    if mark == "\t":
        return bool(inner) and all(number(word) is not None for words in inner for word in words)
    comma = Decimal(",", grouped=False)
    return loose and bool(inner) and all(number(word, comma) is not None for words in body for word in words)


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
    return "blanks" if numbers and len(counts) == 1 and min(counts) > 1 else ""
