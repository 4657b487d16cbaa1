"""Typed columns of a mixed table, and the way between a user's values and the numbers that a model sees.

A model sees a matrix (N, D) of floats: quantities in the user's units, categories as codes 0, 1, ..., and NaN for a
missing cell. A `Schema` names and types the columns; it is inferred from a table, can be printed and edited, and is
saved with the model as one of its arguments.

    >>> table = {"age": [31, None, 54], "smokes": ["no", "yes", "no"], "bmi": [22.5, 31.2, None]}
    >>> schema = Schema.infer(table)
    >>> schema = schema.but(age="count")
    >>> schema.encode(table)[:, 1]
    array([0., 1., 0.])

A table is a frame of pandas or polars, an Arrow table, a mapping of columns, or what `zoo.datasets.table` reads from a
file. Missing are None, NaN and the frame libraries' NA.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.config import nearest
from zoo.dates.cells import all_dates
from zoo.notes import DataWarning
from zoo.schema.column import CATEGORIES, Column, Kind, Unknown, listed, plain
from zoo.schema.marks import check_marks, tell_codes
from zoo.schema.said import in_order, tell_order, tell_stand_ins

__all__ = ["Column", "Schema", "as_columns"]
LEVELS = 20  # distinct whole numbers that may be levels of one scale
_WORDS = 50  # distinct texts that may be categories, or half the rows


class Schema(tuple[Column, ...]):
    """The columns of a table, in order. Iterate, index by position; print it to read it."""

    __slots__ = ()

    @classmethod
    def of(cls, value: Any) -> Schema:
        """A schema from columns, (name, kind, categories) triples, or kinds alone (`real`, `positive`, `count`,
        `binary`), whose columns are then called x1, x2, ...

        Raises:
            ValueError: see `Column.of`; two columns of one name; no column at all.
        """
        if isinstance(value, Schema):
            return value
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ValueError(f"expected a list of columns, got {value!r}")
        given = [(f"x{i}", item) if isinstance(item, str) else item for i, item in enumerate(value, 1)]
        columns = [Column.of(item) for item in given]
        names = [column.name for column in columns]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two columns called '{name}'")
        if not any(column.kind != "ignored" for column in columns):
            raise ValueError("a schema needs at least one column that is not ignored")
        return cls(columns)

    @classmethod
    def infer(cls, table: Any, **kinds: str | tuple[str, Sequence[Any]]) -> Schema:
        """The schema of a table; `kinds` says what some columns are: `grade="ordinal"`, or
        `grade=("ordinal", ["low", "mid", "high"])`, in this order.

        Texts and the frame libraries' categories are `categorical` (`binary` when there are two, `ordinal` when the
        frame says that they are ordered; `ignored` when more than 50 texts, and more than half as many as rows, are
        distinct). Booleans, and two whole numbers in a row such as 0 and 1, are `binary`. Other whole numbers from 0
        up are a `count` when they vary at least as much as a Poisson variable would (half as much where there are
        zeros); otherwise, up to 20 distinct ones are `ordinal`. Other numbers are `positive` when all are above 0,
        else `real`. Columns of dates and times are `ignored`, with a warning: none of the kinds knows what an order or
        a distance in time is; so are columns of lists and of complex numbers.

        Raises:
            ValueError: no rows, a column all missing or of no such type, texts that are numbers with a mark (`41.2%`,
                `54,709`), an unknown name in `kinds`, or categories in it that lack one of the column.
        """
        columns, declared = as_columns(table)
        for name in kinds:
            if name not in columns:
                raise ValueError(f"no column '{name}'{nearest(name, columns)}; columns: {listed(columns)}")
        return cls.of([_infer(n, values, kinds.get(n), declared.get(n)) for n, values in columns.items()])

    def but(self, **kinds: str | tuple[str, Sequence[Any]]) -> Schema:
        """The same schema with other kinds: `but(grade="ordinal")`, or `but(grade=("ordinal", ["low", "high"]))`.

        Raises:
            ValueError: an unknown column, or a kind that its categories do not suit.
        """
        changed = {column.name: column for column in self}
        for name, kind in kinds.items():
            if name not in changed:
                raise ValueError(f"no column '{name}'{nearest(name, changed)}; columns: {listed(changed)}")
            old = changed[name].categories
            value = (kind, old if kind in CATEGORIES else ()) if isinstance(kind, str) else kind
            changed[name] = Column.of((name, *value))
        return Schema.of(changed.values())

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that are not ignored: those of the matrix, in order."""
        return tuple(column for column in self if column.kind != "ignored")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the used columns."""
        return tuple(column.name for column in self.used)

    def __str__(self) -> str:
        """A line a column."""
        return "\n".join(map(str, self))

    def encode(self, table: Any, unknown: Unknown = "error") -> NDArray[np.float64]:
        """The matrix of a table, (N, D): codes of categories, NaN where missing.

        Args:
            table: with the columns of the schema, in any order.
            unknown: what a category is that the schema does not know: an `error`, or a `missing` value.

        Raises:
            ValueError: columns of table and schema differ (both are named), or a cell that its column refuses.
        """
        columns, _ = as_columns(table)
        missing = [name for name in self.names if name not in columns]
        extra = [name for name in columns if name not in {column.name for column in self}]
        if missing or extra:
            raise ValueError(
                "schema and table disagree: "
                + "; ".join(
                    [f"the schema has '{n}'{nearest(n, extra)}, which the table lacks" for n in missing]
                    + [f"the table has '{n}', which the schema lacks" for n in extra]
                )
            )
        return np.stack([column.encode(columns[column.name], unknown) for column in self.used], axis=1)

    def decode(self, matrix: Any) -> dict[str, list[Any]]:
        """The user's values of a matrix (N, D), column by column; None where missing."""
        matrix = np.asarray(matrix)
        if matrix.ndim != 2 or matrix.shape[1] != len(self.used):
            raise ValueError(f"expected a matrix of {len(self.used)} columns, got shape {matrix.shape}")
        return {column.name: column.decode(matrix[:, i]) for i, column in enumerate(self.used)}


def as_columns(table: Any) -> tuple[dict[str, list[Any]], dict[str, tuple[Kind | None, list[Any]]]]:
    """The values of each column of a table, and the kind (`ordinal` or None) and categories that it declares for some.

    Raises:
        ValueError: not a table, without rows, or with columns of different lengths or of one name.
    """
    arrow = getattr(table, "column_names", None)  # of an Arrow table, whose `columns` are the data
    given = arrow if isinstance(arrow, list) else getattr(table, "columns", ())
    names = list(table) if isinstance(table, Mapping) else list(given)
    if not names or not hasattr(table, "__getitem__"):
        raise ValueError(f"expected a table (a frame or a mapping of columns), got {type(table).__name__}")
    texts = [str(name) for name in names]
    if len(set(texts)) < len(texts):
        raise ValueError(f"two columns called '{next(name for name in texts if texts.count(name) > 1)}'")
    columns: dict[str, list[Any]] = {}
    declared: dict[str, tuple[Kind | None, list[Any]]] = dict(getattr(table, "declared", {}))
    for name, text in zip(names, texts, strict=True):
        cells = table[name]
        columns[text] = cells.to_pylist() if hasattr(cells, "to_pylist") else list(cells)
        dtype = getattr(cells, "dtype", None)
        categories: Any = getattr(dtype, "categories", None)  # of pandas, and of an Enum of polars
        if hasattr(categories, "__len__") and len(categories):  # a Categorical of polars tells none
            kind: Kind | None = "ordinal" if getattr(dtype, "ordered", False) else None
            declared[text] = (kind, [plain(value) for value in categories])
    lengths = {text: len(values) for text, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of different lengths: {lengths}")
    if not all(lengths.values()):
        raise ValueError(f"the table has no rows; columns: {listed(texts)}")
    return columns, declared


def _infer(
    name: str,
    values: list[Any],
    said: str | tuple[str, Sequence[Any]] | None,
    declared: tuple[Kind | None, list[Any]] | None,
) -> Column:
    kind, order = (said, ()) if said is None or isinstance(said, str) else said
    cells = [cell for cell in map(plain, values) if cell is not None]
    if kind is None and declared is None and cells and (what := _foreign(values)):
        told = f"column '{name}' holds {what}, which no model here reads: it is ignored"
        warnings.warn(told, DataWarning, stacklevel=4)
        kind = "ignored"
    if not cells and kind != "ignored":
        raise ValueError(f"column '{name}': all {len(values)} cells are missing; drop it, or call it 'ignored'")
    if declared is not None:
        distinct = declared[1]
        kind = kind or declared[0] or ("binary" if len(distinct) == 2 else "categorical")
    else:
        distinct = sorted(set(cells), key=lambda cell: (isinstance(cell, str), cell))
        if kind is None and any(isinstance(cell, str) for cell in distinct):
            check_marks(name, cells)
            tell_codes(name, cells, distinct, _kind(cells, distinct))
        kind = kind or _kind(cells, distinct)
        if kind == "ordinal" and not order and any(isinstance(cell, str) for cell in distinct):
            tell_order(name, distinct)
        if not any(isinstance(cell, str) for cell in distinct):
            tell_stand_ins(name, cells)
    if order:
        distinct = in_order(name, order, distinct)
    return Column.of((name, kind, distinct if kind in CATEGORIES else ()))


def _foreign(values: list[Any]) -> str:
    """What a column holds that is neither number nor category; empty where it holds none such."""
    if all_dates(values):
        return "dates or times"
    if any(isinstance(value, (complex, np.complexfloating)) for value in values):
        return "complex numbers"
    nested = (hasattr(value, "__len__") and not isinstance(value, (str, bytes)) for value in values)
    return "lists" if any(nested) else ""


def _kind(cells: list[Any], distinct: list[Any]) -> Kind:
    if any(isinstance(cell, (str, bool)) for cell in distinct):
        if len(distinct) == 2:
            return "binary"
        return "ignored" if len(distinct) > max(_WORDS, len(cells) // 2) else "categorical"
    numbers = np.array(cells, dtype=float)
    if all(isinstance(cell, int) for cell in cells) and numbers.min() >= 0 and len(distinct) > 1:
        if len(distinct) == 2 and numbers.max() - numbers.min() == 1:
            return "binary"
        if numbers.var() >= numbers.mean() * (0.5 if numbers.min() == 0 else 1.0):
            return "count"
        if len(distinct) <= LEVELS:
            return "ordinal"
    return "positive" if numbers.min() > 0 else "real"
