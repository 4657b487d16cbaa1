"""Whatever holds numbers -> a tensor: NumPy arrays of any layout and type, frames, series, masked arrays.

One intake for both doors: `Batch.of(x=…)` and the bare data that `inference` takes. A value that is missing in its own
container (a masked cell, `None`, pandas' `NA`) becomes NaN. Nothing handed in is written to, and arrays are copied.
Frames of pandas, polars and Arrow are alike: dates and categories are refused by the column's type, before a library
turns them into day numbers or codes; a text is a number where it is spelt as one.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.images import unequal
from zoo.rows import nth

_MISSING = ("NAType", "NaTType")  # of pandas, which is not imported for it
_DATES = "give a number instead, such as the days since the first"
PAD = "pad sequences of several lengths, with NaN say, and give these: Batch.of(x=…, lengths=…)"
_DATE_TYPES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
# How the names of column types begin, in any of the three libraries -> what such columns hold, and what to do.
_NO_NUMBERS = {
    ("date", "time", "duration", "period"): ("dates or times", _DATES),
    ("categor", "enum", "dictionary"): ("categories", "give a column of 0 and 1 for each, or their codes as integers"),
}
_NO_DTYPES = {
    "M": f"; {_DATES}",
    "m": f"; {_DATES}",
    "c": "; give real and imaginary parts as columns",
    "V": "; give a matrix, as numpy.lib.recfunctions.structured_to_unstructured makes it",
}


def column_names(data: Any) -> tuple[str, ...] | None:
    """Column names of a frame, else None."""
    if isinstance(data, (Tensor, np.ndarray)) or _is_lazy(data):
        return None
    columns = getattr(data, "column_names", None)  # of an Arrow table, whose `columns` are the data
    if not isinstance(columns, list):  # of pandas: a column of that name
        columns = getattr(data, "columns", None)
    return None if columns is None else tuple(str(c) for c in columns)


def holds_numbers(data: Any) -> bool:
    """Whether `data` is of a kind that `as_tensor` reads, or that it refuses with a reason of its own."""
    if isinstance(data, (Tensor, np.ndarray, np.generic)) or hasattr(data, "to_numpy"):
        return True
    if _is_sparse(data) or _is_lazy(data):
        return True
    return column_names(data) is not None and hasattr(data, "__array__")


def as_tensor(field: str, data: Any) -> Tensor:
    """A tensor of the values; a tensor is taken as it is, anything else is copied into C order and native bytes.

    Args:
        field: what to call the data in an error.
        data: a tensor, an array, a frame or series (anything with `to_numpy`), or nested lists of numbers.

    Returns:
        float32 or float64, integers or booleans; half precision, and what is longer than float64, become float64, as do
        unsigned integers too large for int64.

    Raises:
        ValueError: no numbers (row and column are named), columns of dates or categories (by name), or a kind that
            cannot be read: sparse, quantised, complex, meta.
    """
    if isinstance(data, Tensor):
        return _plain_tensor(field, data)
    if _is_sparse(data):
        raise ValueError(f"field '{field}': sparse matrices are not accepted; give .toarray()")
    if not isinstance(data, (list, tuple)) and hasattr(data, "__getitem__") and not _is_array(data):
        kind = type(data).__name__  # a torch Dataset, a mapping
        raise ValueError(f"field '{field}': expected an array, a frame or lists of numbers, got {kind}")
    if _is_lazy(data):
        raise ValueError(f"field '{field}': a {type(data).__name__} has no values yet; give .collect()")
    columns = column_names(data)
    if isinstance(data, np.ma.MaskedArray):
        return _copied(field, _unmasked(data), columns)
    if isinstance(data, (np.ndarray, np.generic)):
        return _copied(field, np.asarray(data), columns)
    _check_types(field, data, columns)
    if hasattr(data, "to_numpy") and not hasattr(data, "__array__"):  # Arrow's `to_numpy` knows no missing values
        return _copied(field, np.asarray(data.to_numpy()), columns)
    data = _listed(field, data) if isinstance(data, (list, tuple)) else data
    try:
        return _copied(field, np.asarray(data), columns)
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        told = f"expected rows of equal length, got {type(data).__name__}; {PAD}"
        raise ValueError(f"field '{field}': {told}") from None
    except TypeError as error:  # an xarray Dataset; a list of dates and numbers
        kind = type(data).__name__
        raise ValueError(f"field '{field}': expected an array, a frame or lists of numbers, got {kind}") from error


def _listed(field: str, rows: Sequence[Any]) -> Sequence[Any]:
    """A list as NumPy reads it: tensors in it as lists, arrays of one shape."""
    if wrong := unequal(rows):
        raise ValueError(f"field '{field}': {wrong}{PAD if wrong.endswith('; ') else ''}")
    return [row.detach().cpu().double().tolist() if isinstance(row, Tensor) else row for row in rows]


def check_rows(field: str, value: Tensor) -> None:
    """Refuse a single number, and what is empty.

    Raises:
        ValueError: by field.
    """
    if value.ndim == 0:
        raise ValueError(f"field '{field}': expected rows, got the single number {value.item()}")
    if value.numel() == 0:
        needed = "row" if len(value) == 0 else "step or column"
        raise ValueError(f"field '{field}' is empty: shape {tuple(value.shape)}; at least one {needed} is needed")


def place(field: str, index: Sequence[int], columns: Sequence[str] | None = None) -> str:
    """Where a cell stands, in words: field, row, step and column."""
    names = ["row", "column"] if len(index) < 3 else ["row", "step", "column"]
    shown = [f"{name} {nth(i)}" for name, i in zip(names, index, strict=False)]
    if columns is not None and len(index) == 2 and index[1] < len(columns):
        shown[1] = f"column '{columns[index[1]]}'"
    return ", ".join([f"field '{field}'", *shown])


def _is_array(data: Any) -> bool:
    return any(hasattr(data, name) for name in ("__array__", "to_numpy", "collect_schema"))


def _is_lazy(data: Any) -> bool:
    """A query of polars, which has no values yet."""
    return hasattr(data, "collect_schema") and not hasattr(data, "to_numpy")


def _is_sparse(data: Any) -> bool:
    return hasattr(data, "toarray") and hasattr(data, "nnz")


def _plain_tensor(field: str, value: Tensor) -> Tensor:
    wrong = ""
    if value.is_nested:
        wrong = "a nested tensor; pad it and give lengths"
    elif type(value).__name__ == "MaskedTensor":  # of torch.masked, a prototype: few operations know it
        wrong = "a masked tensor; give .to_tensor(float('nan')), which puts NaN where it is masked"
    elif value.layout != torch.strided:
        wrong = "a sparse tensor; give .to_dense()"
    elif value.is_quantized:
        wrong = "a quantised tensor; give .dequantize()"
    elif value.is_meta:
        wrong = "a tensor on the meta device, which holds no values"
    elif value.is_complex():
        wrong = f"dtype {value.dtype}{_NO_DTYPES['c']}"
    if wrong:
        raise ValueError(f"field '{field}': expected numbers, got {wrong}")
    return value


def _unmasked(data: np.ma.MaskedArray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values, NaN behind the mask."""
    mask = np.ma.getmaskarray(data)
    if not mask.any():
        return np.asarray(data.data)
    kind = data.dtype.kind
    values = np.array(data.data, dtype=data.dtype if kind in "fO" else np.float64 if kind in "iub" else object)
    values[mask] = np.nan
    return values


def _check_types(field: str, data: Any, columns: Sequence[str] | None) -> None:
    """Refuse a frame or series by the types that its library declares."""
    for i, kind in enumerate(_column_types(data)):
        for beginnings, (held, advice) in _NO_NUMBERS.items():
            if str(kind).lower().startswith(beginnings):
                where = f"field '{field}'" + (f", column '{columns[i]}'" if columns and i < len(columns) else "")
                raise ValueError(f"{where}: expected numbers, got {held} ({kind}); {advice}")


def _column_types(data: Any) -> Iterable[Any]:
    """The types of the columns of a frame, or the one of a series."""
    arrow = getattr(data, "schema", None)
    found = getattr(arrow, "types", None) if arrow is not None else None
    found = getattr(data, "dtypes", None) if found is None else found
    if found is None or not isinstance(found, Iterable):
        found = [getattr(data, "dtype", getattr(data, "type", None))]
    return found


def _copied(field: str, array: np.ndarray[Any, Any], columns: Sequence[str] | None) -> Tensor:
    if array.dtype.kind in "OUST":  # T: NumPy's strings of any length
        array = _numbers(field, array, columns)
    if array.dtype.kind not in "fiub":
        advice = _NO_DTYPES.get(array.dtype.kind, "")
        raise ValueError(f"field '{field}': expected numbers, got dtype {array.dtype}{advice}")
    if array.dtype == np.float16 or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
        array = array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        fits = not array.size or int(array.max()) <= np.iinfo(np.int64).max
        array = array.astype(np.int64 if fits else np.float64)
    return torch.from_numpy(np.array(array, order="C", copy=True, dtype=array.dtype.newbyteorder("=")))


def _shown(value: Any) -> str:
    told = repr(value.item() if isinstance(value, np.generic) else value)
    return told if len(told) <= 60 else f"{told[:60]}…"


def _numbers(field: str, array: np.ndarray[Any, Any], columns: Sequence[str] | None) -> np.ndarray[Any, Any]:
    values = np.empty(array.shape, dtype=np.float64)
    for index, value in np.ndenumerate(array):
        try:
            values[index] = np.nan if _is_missing(value) else _number(value)
        except (TypeError, ValueError, OverflowError):
            advice = f"; {_DATES}" if isinstance(value, _DATE_TYPES) else ""
            where = place(field, index, columns)
            raise ValueError(f"{where}: expected a number, got {_shown(value)}{advice}") from None
    return values


def _is_missing(value: Any) -> bool:
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return bool(np.isnat(value))
    return value is None or type(value).__name__ in _MISSING


def _number(value: Any) -> float:
    if isinstance(value, np.complexfloating):  # `float` would drop the imaginary part
        raise TypeError("complex")
    return float(value)
