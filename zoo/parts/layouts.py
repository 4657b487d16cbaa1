"""How series lie in what a user brings, before a pair is made of them.

`lengths` say that rows are series: N of T steps. Without, time runs down the rows of a table (T, D); see
`inference.data.series`, which lays the data out for the pair that is made.
"""

from __future__ import annotations

from contextlib import suppress

import torch

from zoo.batch import Batch
from zoo.dates.calendar import Rows
from zoo.dates.series import on_grid


def features(data: Batch, field: str = "x") -> int:
    """D, the numbers of one step."""
    value = data.fields().get(field)
    if value is None or value.ndim == 1 or (value.ndim == 2 and data.lengths is not None):
        return 1
    return value.shape[-1]


def length(data: Batch, field: str = "x") -> int:
    """T, the steps of the longest series, of a pair whose step is one number."""
    value = data.fields().get(field)
    if value is None:
        return 0
    if value.ndim == 1 or (data.columns is not None and data.lengths is None and value.ndim == 2):
        return len(value)
    return value.shape[1] if data.lengths is None else int(data.lengths.max())


def absent(data: Batch, field: str = "x") -> int:
    """The most steps that a series lacks, of a pair whose step is one number: NaN, or a date between others without a
    row."""
    value = data.fields().get(field)
    if value is None:
        return 0
    lengths = data.lengths
    if isinstance(data.when, Rows):
        with suppress(ValueError):  # dates that make no series: refused at the fit, with words
            laid, lengths, _ = on_grid({field: value}, {field: False}, data.when, data.columns or ())
            value = laid[field]
    elif value.ndim == 1:
        value = value[None]
    elif data.columns is not None and lengths is None and value.ndim == 2:
        value = value.T
    if value.ndim != 2 or not value.is_floating_point():
        return 0
    over = torch.arange(value.shape[1]) >= (value.shape[1] if lengths is None else lengths.cpu().unsqueeze(-1))
    return int((value.cpu().isnan() & ~over).sum(1).max())
