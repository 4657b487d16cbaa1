"""How series are read, the same bare, as a `Batch` and on the command line: time runs down the rows.

    T numbers, or a frame of one column         one series of T steps
    a frame (T, K), columns of single numbers   K series of T steps, for a pair whose step is one number
    a table (T, D), of a frame or an array      one series of T steps of D features, for a pair whose step is D numbers
    an array (N, T) or (N, T, D)                N series, (N, T) where a step is one number

A frame is what has names of columns: of pandas, polars or Arrow, or a .csv, .arff or .parquet file. Its columns of
dates say when, and are no series: they are left out, with a warning. What was understood is in the repr of a `Fit`.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from zoo.arrays import column_names
from zoo.base import Batch
from zoo.notes import DataWarning
from zoo.schema.column import plain
from zoo.schema.dates import all_dates

_DATES = ("date", "time", "period", "interval")  # how the types of columns begin that say when
_TEXTS = ("object", "str", "utf8", "large_str", "large_utf8")  # and of those whose cells may


def without_dates(data: Any, example: Batch, depth: int = 4) -> Any:
    """A frame without its columns of dates, where a pair takes series; anything else as it is."""
    if isinstance(data, tuple) and len(data) == 2:  # (X, y)
        return (without_dates(data[0], example, 5), data[1])
    names = None if example.lengths is None or isinstance(data, Batch) else column_names(data)
    if not names or not hasattr(data, "__getitem__"):
        return data
    own = list(getattr(data, "column_names", None) or data.columns)
    dates = [name for name in own if own.count(name) == 1 and _says_when(data[name])]
    if not dates or len(dates) == len(own):
        return data
    told = f"left out, since dates are no series: column {', '.join(repr(str(name)) for name in dates)}"
    warnings.warn(told, DataWarning, stacklevel=depth)
    rest = [name for name in own if name not in dates]
    return data.select(rest) if hasattr(data, "column_names") else data[rest]


def _says_when(column: Any) -> bool:
    kind = str(getattr(column, "dtype", getattr(column, "type", ""))).lower()
    if kind.startswith(_DATES):
        return True
    if not kind.startswith(_TEXTS):
        return False
    cells = column.to_pylist() if hasattr(column, "to_pylist") else list(column)
    return all_dates(cells) and any(plain(cell) is not None for cell in cells)


def in_time(batch: Batch, example: Batch) -> Batch:
    """The batch with its series laid out as the pair takes them, (N, T) or (N, T, D); any other batch as it is.

    Args:
        batch: not checked yet.
        example: two observations of the pair.
    """
    if example.lengths is None:
        return batch
    if batch.lengths is not None:  # rows are series then
        flat = [name for name, value in batch.fields().items() if _lacks_features(value, getattr(example, name))]
        return batch.but(**{name: batch.fields()[name][..., None] for name in flat})
    framed = batch.columns is not None
    found: dict[str, Tensor] = {}
    for name, value in batch.fields().items():
        wanted: Tensor | None = getattr(example, name)
        found[name] = value if wanted is None else _in_time(value, wanted, framed)
    sizes = {len(value) for value in found.values()}
    if len(sizes) > 1:  # one of them alone was laid out anew: the check of shapes says what does not fit
        return batch
    if all(found[name] is value for name, value in batch.fields().items()):
        return batch
    (size,) = sizes
    total = batch.total if size == batch.size else size
    x = found.get("x")
    kept = batch.columns if x is not None and x.ndim == 3 and x.shape[2] == len(batch.columns or ()) else None
    return batch.but(size=size, total=total, columns=kept, **found)


def _in_time(value: Tensor, wanted: Tensor, framed: bool) -> Tensor:
    """One field, (N, T) or (N, T, D)."""
    width = wanted.shape[2] if wanted.ndim == 3 else None
    if value.ndim == 1 and (width is None or width == 1):
        return value[None] if width is None else value[None, :, None]
    if value.ndim == 2 and width is not None and value.shape[1] == width:
        return value[None]
    if value.ndim == 2 and framed and width is None and wanted.ndim == 2:
        return value.T
    if value.ndim == 2 and framed and width == 1:
        return value.T[..., None]
    return value[..., None] if _lacks_features(value, wanted) else value


def _lacks_features(value: Tensor, wanted: Tensor | None) -> bool:
    """Whether a field is (N, T) where (N, T, 1) is wanted."""
    return wanted is not None and wanted.ndim == 3 and wanted.shape[2] == 1 and value.ndim == 2


def understood(batch: Batch) -> str:
    """What checked series are, in words: `3 series of 100 steps`; empty for other data."""
    if batch.lengths is None:
        return ""
    short, long = int(batch.lengths.min()), int(batch.lengths.max())
    steps = f"{long:,}" if short == long else f"{short:,} to {long:,}"
    value = batch.y if batch.y is not None else batch.x
    several = value is not None and value.ndim == 3 and value.shape[2] > 1
    words = f"{batch.size:,} series of {steps} step{'s' if long > 1 else ''}"
    return f"{words} of {value.shape[2]} features" if several and value is not None else words
