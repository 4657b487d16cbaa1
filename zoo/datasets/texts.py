"""Text tables of numbers: .csv files, cell by cell, and what stands among the numbers that is none.

A column of dates is left out, and a dash where a number should be is a missing value; a warning says so. Anything else
that is no number is refused with its row and column, rows counted from 1 below the header.
"""

from __future__ import annotations

import itertools
import re
import warnings
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.cells import MARKS, number
from zoo.datasets.layout import Layout, body, layout
from zoo.datasets.opening import open_text
from zoo.dates.cells import is_date
from zoo.notes import DataWarning

_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[,.' ]\d{3})+(?:[.,]\d+)?")


def read_csv(path: Path, header: bool | None = None) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The numbers of a text table, (N, D), and its column names.

    Args:
        path: of the file.
        header: whether the first row names the columns; None looks at it.

    Raises:
        ValueError: see `zoo.datasets.layout.layout`; a cell that is no number; a header and no rows.
    """
    form = layout(path, header)
    with open_text(path, form.encoding) as file:
        return _rows(body(file, form), form)


def _rows(lines: Iterator[list[str]], form: Layout) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    first = next(lines, None)
    if first is None:
        raise ValueError("the file holds a header and no rows")
    first = first[: len(form.columns)]  # an empty last column may stand beside them
    dates = [is_date(cell) for cell in first]
    if all(dates):
        raise ValueError(f"column '{form.columns[0]}': expected numbers, got dates")
    values, marks = array("d"), []
    for row, cells in enumerate(itertools.chain([first], lines), 1):
        for name, cell, when in zip(form.columns, cells[: len(dates)], dates, strict=True):
            found = number(cell, form.decimal)
            if when:
                if not is_date(cell) and found == found:  # noqa: PLR0124 - NaN is a date that is missing
                    raise ValueError(f"row {row}, column '{name}': expected a date, as in the first row, got {cell!r}")
                continue
            if found is None and cell.strip() in MARKS:
                marks.append((row, name, cell.strip()))
                found = float("nan")
            if found is None:
                raise ValueError(f"row {row}, column '{name}': expected a number, got {cell!r}{cure(cell)}")
            values.append(found)
    if any(dates):
        tell_dates([name for name, when in zip(form.columns, dates, strict=True) if when])
    tell_marks(marks)
    kept = tuple(name for name, when in zip(form.columns, dates, strict=True) if not when)
    return np.array(values).reshape(-1, len(kept)), kept


def cure(cell: str) -> str:
    """What to do about a cell that is no number and could be meant for one."""
    return ": write it without marks of thousands" if _THOUSANDS.fullmatch(cell.strip()) else ""


def tell_dates(names: Sequence[str]) -> None:
    """Say which columns were left out."""
    left = ", ".join(f"'{name}'" for name in names)
    warnings.warn(f"left out, since dates are no numbers: column {left}", DataWarning, stacklevel=3)


def tell_marks(marks: list[tuple[int, str, str]]) -> None:
    """Say which cells (row, column, text) were taken for missing."""
    if marks:
        row, name, text = marks[0]
        more = f", and {len(marks) - 1} more such cells" if len(marks) > 1 else ""
        told = f"row {row}, column '{name}': {text!r}, among numbers, was taken as missing{more}"
        warnings.warn(told, DataWarning, stacklevel=3)
