"""Cells and column names of text files, how a file writes its numbers, and the errors of their readers in words."""

from __future__ import annotations

import csv
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from zoo.notes import DataWarning

MISSING = frozenset({"", "na", "nan", "n/a", "#n/a", "<na>", "null", "none", "?"})  # in small letters
MARKS = frozenset({"-", "--", "---", "–", "—", "."})  # taken for missing among numbers, aloud
_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+(?:[eE][+-]?\d+)?")  # 3,5 and 1.234,5
_POINT = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
_YEARS = range(1500, 2201)


class Layout(NamedTuple):
    """How a text table is written: its delimiter, its decimal mark, names of columns, and whether they head it."""

    delimiter: str
    decimal: str
    columns: tuple[str, ...]
    headed: bool


def layout(path: Path, header: bool | None = None) -> Layout:
    """Read how a text table is written, and see that all its rows have as many cells.

    The decimal mark is a comma where cells are cut by something else and more numbers are written so than with a
    point. The first row names the columns where a cell of it is no number, or all are years, one after the other.

    Args:
        path: of the file, in UTF-8.
        header: whether the first row names the columns; None looks at it.

    Raises:
        ValueError: an empty file, rows of different lengths, two columns of one name, no text table.
    """
    commas = points = 0
    with path.open(newline="", encoding="utf-8-sig") as file:
        mark = delimiter(file)
        try:
            lines = filter(None, csv.reader(file, delimiter=mark, skipinitialspace=True))
            head = next(lines, None)
            if head is None:
                raise ValueError("the file is empty")
            row = 0
            for row, cells in enumerate(lines, 1):
                if len(cells) != len(head):
                    raise ValueError(f"row {row}: expected {len(head)} cells, got {len(cells)}")
                if mark != ",":
                    commas += sum(_COMMA.fullmatch(cell.strip()) is not None for cell in cells)
                    points += sum(_POINT.fullmatch(cell.strip()) is not None for cell in cells)
        except csv.Error as error:
            raise ValueError(f"not a text table ({error})") from error
    decimal = "," if commas > points else "."
    headed = header if header is not None else any(number(cell, decimal) is None for cell in head)
    if header is None and not headed and row and _years(head):
        headed = True
        shown = ", ".join(filter(None, head))[:60]
        warnings.warn(
            f"'{path}': the first row, {shown}, was taken for names of columns; header=False says it is data",
            DataWarning,
            stacklevel=2,
        )
    columns = tuple(cell.strip() if headed and cell.strip() else f"column_{j}" for j, cell in enumerate(head, 1))
    distinct(columns)
    return Layout(mark, decimal, columns, headed)


def delimiter(file: TextIO) -> str:
    """Comma, semicolon or tab, whichever cuts the first line most; the file is wound back."""
    first = file.readline()
    file.seek(0)
    return max(",;\t", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))


def _years(head: Sequence[str]) -> bool:
    """Whether a row is of years, one after the other, but for an empty cell before them."""
    cells = [cell.strip() for cell in head]
    cells = cells[1:] if cells and not cells[0] else cells
    if len(cells) < 2 or not all(cell.isdecimal() and len(cell) == 4 for cell in cells):
        return False
    years = list(map(int, cells))
    steps = {later - earlier for earlier, later in itertools.pairwise(years)}
    return len(steps) == 1 and steps <= set(range(1, 11)) and all(year in _YEARS for year in years)


def distinct(columns: tuple[str, ...]) -> None:
    """Refuse two columns of one name."""
    repeated = [name for name, count in Counter(columns).items() if count > 1]
    if repeated:
        raise ValueError(f"two columns called '{repeated[0]}'")


def number(cell: str, decimal: str = ".") -> float | None:
    """The number in a cell, NaN when missing, None when it is something else."""
    text = cell
    if decimal == ",":
        if _COMMA.fullmatch(cell.strip()):
            text = cell.replace(".", "").replace(",", ".")
        elif "." in cell:  # 1.234 is a thousand to some, and hardly more than one to others
            return None
    try:
        return float(text) if "_" not in text else None  # float() reads '1_000' as a thousand
    except ValueError:
        return float("nan") if cell.strip().lower() in MISSING else None


def told(error: Exception) -> str:
    """An error of a reader in words; of a text that is none, where its bytes stop making sense."""
    if isinstance(error, UnicodeDecodeError):
        return f"not a text in UTF-8: byte {error.start + 1} is 0x{error.object[error.start]:02x}"
    return str(error) or type(error).__name__
