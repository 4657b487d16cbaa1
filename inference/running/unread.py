"""What torch reads a value for, without need: `x[i]` with a whole number i that was drawn, and checks of arguments.

Distributions that a program holds, as the priors of a network's weights, check values if they were made while
validation was on, whatever it is now.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ALL_TRUE = getattr(torch, "_is_all_true", None)  # asked by checks of distributions alone


class Unread(TorchFunctionMode):
    """Inside, a single number as index is one more tensor of indices, whose dim is then dropped; checks pass."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            own, index = args
            entries = list(index) if isinstance(index, tuple) else [index]
            if isinstance(own, Tensor) and any(map(_single, entries)):
                return _taken(own, entries)
        if func is _ALL_TRUE:
            return True
        return func(*args, **(kwargs or {}))


def _single(entry: Any) -> bool:
    """Whether an index is a tensor of one whole number."""
    return (
        isinstance(entry, Tensor)
        and entry.ndim == 0
        and not entry.dtype.is_floating_point
        and entry.dtype != torch.bool
    )


def _taken(own: Tensor, entries: list[Any]) -> Tensor:
    """`own[entries]`, each single number as a row that is selected and then dropped."""
    others = [entry for entry in entries if entry is not None and entry is not Ellipsis]
    if any(isinstance(entry, Tensor) and not _single(entry) for entry in entries):  # torch joins them into one index
        whole = [entry.reshape(1) if _single(entry) else entry for entry in entries]
        return own[tuple(whole)]
    for place, entry in enumerate(entries):
        if _single(entry):
            dim = sum(_used(own, before, len(others)) for before in entries[:place])
            own = own.index_select(dim, entry.reshape(1) % own.shape[dim])
            entries[place] = 0
    return own[tuple(entries)]


def _used(own: Tensor, entry: Any, others: int) -> int:
    """Dims of the tensor that an entry stands for."""
    if entry is None:
        return 0
    return own.ndim - others if entry is Ellipsis else 1
