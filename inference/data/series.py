"""How series are read, the same bare, as a `Batch` and on the command line: time runs down the rows.

    T numbers, or a frame of one column         one series of T steps
    a frame (T, K), columns of single numbers   K series of T steps, for a pair whose step is one number
    a frame of ids, dates and values            one series an id, one below the other
    a table (T, D), of a frame or an array      one series of T steps of D features, for a pair whose step is D numbers
    an array (N, T) or (N, T, D)                N series, (N, T) where a step is one number

A frame is what has names of columns: of pandas, polars or Arrow, or a .csv, .arff or .parquet file. Its dates, a column
or the index (`zoo.dates.frames`), say how often steps are; absent rows become missing steps, and each series goes from
its first known step to its last. What was understood is in the repr of a `Fit`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.base import Batch
from zoo.dates.calendar import Calendar, Rows
from zoo.dates.frames import split
from zoo.dates.series import on_grid


def without_dates(data: Any, example: Batch, depth: int = 5) -> tuple[Any, Rows | None]:
    """A frame without its columns of dates, and these, where a pair takes series; anything else as it is.

    Raises:
        ValueError: see `zoo.dates.frames.split`.
    """
    if example.lengths is None or isinstance(data, Batch):
        return data, None
    if isinstance(data, tuple) and len(data) == 2:  # (X, y), the dates of either
        given, rows = without_dates(data[0], example, depth + 1)
        response, other = without_dates(data[1], example, depth + 1) if rows is None else (data[1], None)
        return (given, response), other if rows is None else rows
    found = split(data, depth)
    return (data, None) if found is None else found


def in_time(batch: Batch, example: Batch) -> Batch:
    """The batch with its series laid out as the pair takes them, (N, T) or (N, T, D); any other batch as it is.

    Args:
        batch: not checked yet.
        example: two observations of the pair.

    Raises:
        ValueError: dates that make no series (see `zoo.dates.series.on_grid`), or of a pair that takes no series.
    """
    if example.lengths is None:
        if isinstance(batch.when, Rows) and batch.when.words:
            raise ValueError(batch.when.words)
        return batch if batch.when is None else batch.but(when=None)
    if isinstance(batch.when, Rows):
        return _dated(batch, batch.when, example)
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
    named = framed and kept is None and x is not None and size == len(batch.columns or ()) and batch.when is None
    when = Calendar(tuple(batch.columns or ())) if named else batch.when
    return batch.but(size=size, total=total, columns=kept, when=when, **found)


def _dated(batch: Batch, rows: Rows, example: Batch) -> Batch:
    """The rows of a dated frame as the series that the pair takes."""
    if batch.lengths is not None:
        raise ValueError("field 'lengths': the dates of the rows say how long each series is; leave one of both out")
    fields, joint = batch.fields(), {}
    for name, value in fields.items():
        wanted: Tensor | None = getattr(example, name)
        width = wanted.shape[2] if wanted is not None and wanted.ndim == 3 else None
        joint[name] = width is not None and (width > 1 or len(fields) > 1 or value.ndim == 1 or value.shape[1] == 1)
    whole, lengths, calendar = on_grid(fields, joint, rows, batch.columns or ())
    kept = batch.columns if joint.get("x") and whole["x"].ndim == 3 and whole["x"].shape[2] > 1 else None
    size = len(lengths)
    for name, value in whole.items():
        if _lacks_features(value, getattr(example, name)):
            whole[name] = value[..., None]
    return batch.but(size=size, total=size, columns=kept, when=calendar, lengths=lengths, **whole)


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
    words += f" of {value.shape[2]} features" if several and value is not None else ""
    if not isinstance(batch.when, Calendar) or batch.when.starts is None:
        return words
    words += f", {batch.when.words(0, int(batch.lengths[0])) if batch.size == 1 else batch.when.often}"
    return words if value is None else words + _absent(value, batch.lengths)


def _absent(value: Tensor, lengths: Tensor) -> str:
    """How many steps are missing, in words."""
    over = torch.arange(value.shape[1], device=value.device) >= lengths.unsqueeze(-1)
    count = int((value.reshape(*value.shape[:2], -1).isnan().all(-1) & ~over).sum())
    return f", {count:,} step{'s' if count > 1 else ''} missing" if count else ""
