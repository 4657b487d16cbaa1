"""What a file says of its data: fields, the forms of their columns, and how many cells are regular, missing, escaped.

A *field* is a column of a table, or an array with a row for each observation, whose every entry is a column here. The
columns of an array may share forms: `each` has one for every column, `last` one for every place on the last axis, `all`
one in all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError
from inference.compression.forms import Form

CELLS = 1 << 22  # the most of a chunk
SHARES = ("each", "last", "all")
_COLUMNS = 1 << 20


@dataclass(frozen=True)
class Field:
    """Some columns of one name.

    Args:
        name: what the user calls it.
        dtype: of its numbers, as NumPy spells it; `text` of texts.
        shape: of one row of it; () of a column.
        share: one of `SHARES`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()
    share: str = "each"

    @property
    def columns(self) -> int:
        """How many columns it makes."""
        return math.prod(self.shape)

    @property
    def forms(self) -> int:
        """How many forms they have."""
        return {"each": self.columns, "last": self.shape[-1] if self.shape else 1, "all": 1}[self.share]

    def form(self, column: int) -> int:
        """The form of one of its columns."""
        return column % self.forms

    @property
    def code(self) -> np.dtype[Any]:
        """The type whose numbers are coded: that of texts is `object`, that of times and truth values whole numbers."""
        if self.dtype == "text":
            return np.dtype(object)
        dtype = np.dtype(self.dtype)
        return np.dtype({"b": "u1", "M": "i8", "m": "i8"}.get(dtype.kind, dtype.newbyteorder("=")))

    def coded(self, values: NDArray[Any]) -> NDArray[Any]:
        """Its values as the numbers that are coded, (B, columns)."""
        flat = np.ascontiguousarray(values).reshape(len(values), self.columns)
        if self.dtype == "text":
            return flat
        kind = np.dtype(self.dtype).kind
        return flat.view(self.code) if kind in "bMm" else flat.astype(self.code, copy=False)

    def values(self, coded: NDArray[Any]) -> NDArray[Any]:
        """The values again, (B, *shape)."""
        shaped = coded.reshape(len(coded), *self.shape)
        if self.dtype == "text":
            return shaped
        dtype = np.dtype(self.dtype)
        return shaped.view(dtype) if dtype.kind in "bMm" else shaped.astype(dtype, copy=False)


@dataclass(frozen=True)
class Layout:
    """All fields, with a form and the counts of flags, (3,), for each form of each."""

    fields: tuple[Field, ...]
    forms: tuple[tuple[Form, ...], ...]
    flags: tuple[tuple[tuple[int, int, int], ...], ...]

    @property
    def columns(self) -> list[tuple[int, int]]:
        """The field of each column, and its number there."""
        return [(f, j) for f, field in enumerate(self.fields) for j in range(field.columns)]

    def form(self, f: int, j: int) -> Form:
        """The form of a column."""
        return self.forms[f][self.fields[f].form(j)]

    def record(self) -> list[dict[str, Any]]:
        """For the header."""
        return [
            {
                "name": field.name,
                "dtype": field.dtype,
                "shape": list(field.shape),
                "share": field.share,
                "forms": [form.record() for form in forms],
                "flags": [list(counts) for counts in flags],
            }
            for field, forms, flags in zip(self.fields, self.forms, self.flags, strict=True)
        ]

    @classmethod
    def of(cls, record: Any) -> Layout:
        """What a header tells.

        Raises:
            CompressionError: it tells no layout.
        """
        try:
            made = [_field(entry) for entry in record]
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise CompressionError(f"the header describes no fields ({error!r:.80})") from None
        if sum(field.columns for field, _, _ in made) > _COLUMNS:
            raise CompressionError("the header describes more columns than any that are read")
        fields, forms, flags = zip(*made, strict=True) if made else ((), (), ())
        return cls(tuple(fields), tuple(forms), tuple(flags))


def _field(entry: Any) -> tuple[Field, tuple[Form, ...], tuple[tuple[int, int, int], ...]]:
    field = Field(entry["name"], entry["dtype"], tuple(entry["shape"]), entry["share"])
    good = isinstance(field.name, str) and isinstance(field.dtype, str) and field.share in SHARES
    good &= len(field.shape) <= 8 and all(type(n) is int and 0 <= n <= _COLUMNS for n in field.shape)
    good = good and field.columns <= _COLUMNS
    good = good and (field.dtype == "text" or np.dtype(field.dtype).kind in "biufMm")
    forms = tuple(Form.of(form) for form in entry["forms"])
    flags = tuple((int(a), int(b), int(c)) for a, b, c in entry["flags"])
    if not good or len(forms) != field.forms or len(flags) != len(forms):
        raise CompressionError(f"the header describes no field: {entry!r:.100}")
    if any(count < 0 or count >= 1 << 53 for counts in flags for count in counts):
        raise CompressionError(f"the header counts no cells: {entry!r:.100}")
    if field.dtype != "text" and any(form.kind == "category" for form in forms):
        raise CompressionError(f"the header lists texts of numbers: {entry!r:.100}")
    return field, forms, flags


def check_cells(rows: int, columns: int) -> None:
    """Refuse more cells in a chunk than any that are read.

    Raises:
        CompressionError: there are more.
    """
    if rows * max(1, columns) > CELLS:
        raise CompressionError(f"a chunk of {rows} rows and {columns} columns: at most {CELLS:,} cells")
