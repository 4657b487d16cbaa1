"""How a text table is written: what cuts its cells, its decimal mark, its header, what stands above it."""

from __future__ import annotations

import csv
import itertools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from zoo.datasets.cells import distinct, number
from zoo.datasets.decimals import Decimal, Marks
from zoo.datasets.opening import encoding_of, kind_of, open_text
from zoo.datasets.preamble import BLANKS, Preamble, elsewhere, preamble, rewind, rows
from zoo.notes import DataWarning

_YEARS = range(1500, 2201)
_LOOK = 3  # rows


class Layout(NamedTuple):
    """How a text table is written.

    Args:
        delimiter: what cuts its cells; a blank stands for runs of blanks and tabs.
        decimal: its decimal mark.
        columns: their names, but for an empty last one.
        headed: whether a line names them.
        above: how many lines stand above that, comments for instance.
        coded: columns with whole numbers that begin with a zero, as codes do; an example of each.
        encoding: of its text.
        labelled: whether its rows begin with names of their own, which have no column in the header.
    """

    delimiter: str
    decimal: Decimal
    columns: tuple[str, ...]
    headed: bool
    above: int
    coded: dict[str, str]
    encoding: str
    labelled: bool = False


def layout(path: Path, header: bool | None = None) -> Layout:
    """Read how a text table is written, and see that all its rows have as many cells.

    The decimal mark is a comma where cells are cut by something else and more numbers are written so than with a
    point (`zoo.datasets.decimals`). The first row names the columns where a cell of it is no number, or all are years,
    one after the other. Comments above it, and an empty last column, are left out, with a warning.

    Args:
        path: of the file (see `zoo.datasets.opening`).
        header: whether the first row names the columns; None looks at it.

    Raises:
        ValueError: an empty file, rows of different lengths, two columns of one name, no text table.
    """
    encoding = encoding_of(path)
    with open_text(path, encoding) as file:
        try:
            before = preamble(file, header, kind_of(path) not in (".csv", ".tsv"))
            seen = _scan(rows(file, before.delimiter), before)
        except csv.Error as error:
            raise ValueError(f"not a text table ({error})") from error
    head = seen.head
    decimal = seen.marks.decide(before.delimiter)
    headed = header if header is not None else any(number(cell, decimal) is None for cell in head)
    notes = []
    if before.comments:
        notes.append(f"lines of comment above the table were left out, as {before.comments[0][:60]!r}")
    if header is None and not headed and seen.rows and _years(head):
        headed = True
        shown = ", ".join(filter(None, head))[:60]
        notes.append(f"the first row, {shown}, was taken for names of columns; header=False says it is data")
    if seen.labelled:
        notes.append("the header has a cell less than the rows: what they begin with was taken for names, and left out")
    if seen.trailing:
        notes.append(f"each line ends with {before.delimiter!r}: the empty last column was left out")
        head = head[:-1]
    for note in notes:
        warnings.warn(f"'{path}': {note}", DataWarning, stacklevel=2)
    columns = tuple(cell.strip() if headed and cell.strip() else f"column_{j}" for j, cell in enumerate(head, 1))
    distinct(columns)
    seen.marks.tell(decimal, columns)
    if not headed:
        _see_zeros(head, seen.zeros)
    coded = {columns[j]: cell for j, cell in seen.zeros.items() if j < len(columns)}
    return Layout(before.delimiter, decimal, columns, headed, before.lines, coded, encoding, seen.labelled)


def body(file: TextIO, form: Layout) -> Iterator[list[str]]:
    """The rows below the header, of a file that was opened in the encoding of the layout."""
    rewind(file, form.above)
    lines = itertools.islice(rows(file, form.delimiter), int(form.headed), None)
    return (cells[1:] for cells in lines) if form.labelled else lines


class _Seen(NamedTuple):
    """What the rows of a table tell: the first, how many follow, whether their last cells are empty, and the marks."""

    head: list[str]
    rows: int
    trailing: bool
    marks: Marks
    zeros: dict[int, str]
    labelled: bool


def _scan(lines: Iterator[list[str]], before: Preamble) -> _Seen:
    marks, zeros, few = Marks(), dict[int, str](), list[list[str]]()
    head = next(lines, None)
    if head is None:
        raise ValueError("the file is empty")
    row, trailing, labelled = 0, len(head) > 1 and not head[-1].strip(), False
    for row, whole in enumerate(lines, 1):
        if row == 1:  # as R writes tables
            labelled = before.delimiter == BLANKS and len(whole) == len(head) + 1
        cells = whole[1:] if labelled else whole
        if len(cells) != len(head):
            raise ValueError(_uneven(row, cells, head, before.delimiter))
        trailing = trailing and not cells[-1].strip()
        if row <= _LOOK:
            few.append(cells)
        if before.delimiter != ",":
            marks.see(cells)
        _see_zeros(cells, zeros)
    if mark := elsewhere(head, few):
        raise ValueError(
            f"the first line, {head[0].strip()[:60]!r}, was taken for the header of one column, and the rows below "
            f"seem cut by {mark}: leave out titles and notes above the header; comma, semicolon, tab or | may cut cells"
        )
    return _Seen(head, row, trailing and row > 0, marks, zeros, labelled)


def _see_zeros(cells: Sequence[str], zeros: dict[int, str]) -> None:
    """Note the first whole number that begins with a zero, by column."""
    for j, cell in enumerate(cells):
        if cell[:1] == "0" and cell[1:].strip().isdigit():
            zeros.setdefault(j, cell.strip())


def _uneven(row: int, cells: Sequence[str], head: Sequence[str], delimiter: str) -> str:
    told = f"row {row}: expected {len(head)} cells, got {len(cells)}"
    if len(cells) == len(head) + 1 and not cells[-1].strip():
        return f"{told}, the last one empty: the row ends with {delimiter!r}, and the header does not"
    shown = delimiter.join(head)[:60]
    return f"{told}; the first line, {shown!r}, was taken for the header: leave out titles and notes above it"


def _years(head: Sequence[str]) -> bool:
    """Whether a row is of years, one after the other, but for an empty cell before them."""
    cells = [cell.strip() for cell in head]
    cells = cells[1:] if cells and not cells[0] else cells
    if len(cells) < 2 or not all(cell.isdecimal() and len(cell) == 4 for cell in cells):
        return False
    years = list(map(int, cells))
    steps = {later - earlier for earlier, later in itertools.pairwise(years)}
    return len(steps) == 1 and steps <= set(range(1, 11)) and all(year in _YEARS for year in years)
