"""Series with dates out of a file: a table with a column that says when, side by side or in long form."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.arrays import as_tensor, column_names
from zoo.config import nearest
from zoo.datasets.opening import TEXTS, kind_of
from zoo.datasets.registry import names
from zoo.datasets.tables import table
from zoo.dates.frames import split
from zoo.notes import DataWarning

if TYPE_CHECKING:
    from zoo.batch import Batch

_TABLES = (*TEXTS, ".arff", ".parquet")


def read_dated(source: str | Path, *, target: str | None = None, header: bool | None = None) -> Batch | None:
    """A file of series with dates, for a pair that takes series; None for a file, or a known data set, without.

    Args:
        source: of a .csv, .txt, .arff or .parquet file; see `zoo.datasets.table`.
        target: the column that becomes `y`; the other numbers are x then.
        header: whether the first row of a .csv names the columns.

    Raises:
        ValueError: a damaged file, an unknown column, a cell that is no number.
    """
    path = Path(source)
    if source in names() or kind_of(path) not in _TABLES or not path.is_file():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # it is read again where it has no dates
        try:
            frame = table(path, header=header)
        except ValueError:
            return None
    found = split(frame, first=1)
    if found is None:
        return None
    from zoo.batch import Batch

    rest, rows = found
    given = list(map(str, rest.columns))
    if target is not None and target not in given:
        raise ValueError(f"no column '{target}'{nearest(target, given)}; columns: {', '.join(given)}")
    try:
        y = None if target is None else as_tensor("y", rest.pop(target))
        x = as_tensor("x", rest) if rest.shape[1] else None
    except ValueError as error:
        raise ValueError(f"cannot read '{path}': {error}") from None
    columns = column_names(rest) if x is not None else (str(target),)
    return Batch(len(frame), len(frame), x, y, columns=columns, when=replace(rows, words=""))
