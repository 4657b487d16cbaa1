"""Completed tables, as their users wrote them: the same names, categories, types and order, with nothing missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zoo.schema.column import Column
from zoo.schema.schema import Schema, as_columns

if TYPE_CHECKING:
    import pandas as pd

Cells = dict[str, tuple[NDArray[np.int64], list[Any]]]  # column -> rows, and what goes there


def user_values(column: Column, numbers: NDArray[Any]) -> list[Any]:
    """Imputed numbers as the user would write them: whole where categories or counts are, else of seven digits."""
    if column.kind == "count":
        numbers = np.round(numbers)
    elif not column.categories:  # more digits are not in a float32, nor in what is known of an imputed value
        numbers = np.array([float(f"{number:.7g}") for number in numbers])
    return column.decode(numbers)


def cells(schema: Schema, rows: NDArray[Any], columns: NDArray[Any], values: NDArray[Any]) -> Cells:
    """What goes into the missing cells of a table, column by column.

    Args:
        schema: of the table; its used columns are those of the matrix.
        rows, columns: of each missing cell of the matrix, (M,).
        values: that go there, as the model codes them, (M,).
    """
    found: Cells = {}
    for place, column in enumerate(schema.used):
        at = columns == place
        if at.any():
            found[column.name] = rows[at], user_values(column, values[at])
    return found


def filled(table: Any, found: Cells) -> dict[str, list[Any]]:
    """The columns of a table, what was missing filled in; all else stays as it was.

    Args:
        table: as it was given: a frame, or a mapping of columns.
        found: see `cells`.
    """
    columns = {name: list(values) for name, values in as_columns(table)[0].items()}
    for name, (rows, values) in found.items():
        for row, value in zip(rows, values, strict=True):
            columns[name][row] = value
    return columns


def frame(table: Any, found: Cells) -> pd.DataFrame:
    """The same as a pandas frame: a frame of pandas keeps its index, the order of its columns, and their types.

    Args:
        table: a frame, or a mapping of columns.
        found: see `cells`.
    """
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        return pd.DataFrame(filled(table, found))
    whole = table.copy()
    names = {str(name): name for name in table}
    for name, (rows, values) in found.items():
        whole[names[name]] = _put(table[names[name]], rows, values)
    return whole


def _put(column: pd.Series[Any], rows: NDArray[np.int64], values: list[Any]) -> pd.Series[Any]:
    """The column with these values in these rows, of its own type if that holds them."""
    import pandas as pd

    whole: pd.Series[Any] = column.copy()
    if isinstance(column.dtype, pd.CategoricalDtype):
        known = set(column.dtype.categories)
        whole = whole.cat.add_categories([value for value in dict.fromkeys(values) if value not in known])
    elif pd.api.types.is_integer_dtype(column.dtype) and any(value != int(value) for value in values):
        whole = whole.astype("Float64")
    elif pd.api.types.is_float_dtype(column.dtype) and not any(isinstance(value, str) for value in values):
        values = [float(value) for value in values]
    try:
        whole.iloc[rows] = values
    except TypeError:  # texts among numbers, say
        whole = whole.astype(object)
        whole.iloc[rows] = values
    return whole
