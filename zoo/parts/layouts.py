"""How series lie in what a user brings, before a pair is made of them.

`lengths` say that rows are series: N of T steps. Without, time runs down the rows of a table (T, D); see
`inference.data.series`, which lays the data out for the pair that is made.
"""

from __future__ import annotations

from zoo.batch import Batch


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
