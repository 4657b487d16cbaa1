"""Weights of training rows, as how often each was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from zoo.base import Batch


def repeats(sample_weight: Any, rows: int) -> NDArray[np.int64]:
    """Indices of the rows, each as many times as its weight says.

    Raises:
        ValueError: not one weight a row; a weight that is no whole number from 0 up, by row; none above 0.
    """
    weight = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    if weight.ndim == 0:
        weight = np.full(rows, float(weight))
    if weight.ndim != 1:
        raise ValueError("Sample weights must be 1D array or scalar")
    if weight.shape != (rows,):
        raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(rows,)}")
    wrong = (weight < 0) | (weight != np.round(weight))
    if wrong.any():
        row = int(wrong.nonzero()[0][0])
        raise ValueError(
            f"sample_weight, row {row}: expected how often the row was seen, a whole number from 0 up, got "
            f"{weight[row]:g}; multiply all weights by a common factor to make them whole"
        )
    if not weight.any():
        raise ValueError("sample_weight is zero in every row: no row is left to fit")
    return np.repeat(np.arange(rows), weight.astype(np.int64))


def repeated(batch: Batch, rows: NDArray[np.int64]) -> Batch:
    """The data set of these rows, some of them several times."""
    picked = {name: value[torch.from_numpy(rows)] for name, value in batch.fields().items()}
    return Batch(len(rows), len(rows), columns=batch.columns).but(**picked)


def in_order(batch: Batch) -> Batch:
    """The same rows, sorted: a fit then does not depend on the order in which they came."""
    keys = [value.reshape(batch.size, -1).numpy() for value in batch.fields().values()]
    columns = [column for key in keys for column in key.T]
    return batch.select(torch.from_numpy(np.lexsort(columns[::-1])))
