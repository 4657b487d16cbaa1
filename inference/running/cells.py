"""Observations as named columns of numbers, as tables and pictures of them are laid out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from inference.running.checked import Checked
from zoo.schema.column import Column

Cells = list[tuple[Column, np.ndarray[Any, Any]]]  # columns, and the numbers in them


def as_cells(given: Checked, values: Mapping[str, Tensor]) -> Cells:
    """The columns of observations, site -> (..., D) or (...): their names and kinds, and numbers (...)."""
    pair, names = given.pair, given.batch.columns
    found: Cells = []
    for site, value in values.items():
        numbers = np.asarray(value.detach().cpu()).astype(float)
        if site == "x" and pair.schema is not None:
            found += [(column, numbers[..., i]) for i, column in enumerate(pair.schema.used)]
            continue
        if site == "y" and pair.target is not None:
            found.append((pair.target, numbers))
            continue
        event = given.sites[site].event_shape if site in given.sites else value.shape[1:]  # a covariate has no site
        if event.numel() == 1:
            name = names[0] if site == "x" and names and len(names) == 1 else site
            rank = len(event)
            found.append((Column(name, "real"), numbers.reshape(numbers.shape[: value.ndim - rank])))
        else:
            wide = numbers.shape[-1]
            called = names if site == "x" and names and len(names) == wide else [f"{site}_{i + 1}" for i in range(wide)]
            found += [(Column(str(called[i]), "real"), numbers[..., i]) for i in range(wide)]
    return found
