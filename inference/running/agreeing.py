"""Whether a graph does what its function does, at a point that it was not written down at.

A value that leaves torch by a way that nobody watches is a constant of the graph, and right at one point alone. Where
the function draws, the graph is given the same draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart, draws

_SEED = 0x2D7A1  # of other draws than those of the recording, which the thread's own state would give again
# Far above what the same operations differ by in another layout, far below what another value makes.
_TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3}


class Draws(TorchDispatchMode):
    """Notes what is drawn at random, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[Any] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if draws(func):
            self.found.append(pytree.tree_map_only(Tensor, lambda x: x.detach().clone(), result))
        return result


def agrees(function: Callable[[Any], Any], graph: Callable[[Any, Sequence[Any]], Any], point: Any, random: int) -> bool:
    """Whether both make the same of a point; where one of them fails, nothing is known, and nobody is in the wrong.

    Args:
        function: of a nest of tensors.
        graph: of the same, and of what is drawn on the way.
        point: the nest.
        random: how many operations of the graph draw; where the function has another number, nothing is compared.
    """
    try:
        with apart(_SEED), torch.enable_grad(), unvalidated(), Draws() as drawn:
            one = pytree.tree_leaves(function(point))
        if len(drawn.found) != random:
            return True
        other = pytree.tree_leaves(graph(point, drawn.found))
    except (RuntimeError, ValueError):
        return True
    return all(map(_alike, one, other))


def _alike(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or not one.is_floating_point():
        return True
    one, other = one.detach(), other.detach().to(one.dtype)
    if one.shape != other.shape:
        return False
    finite = one[one.isfinite()]
    size = 1 + float(finite.abs().max()) if finite.numel() else 1.0
    close = _TOLERANCE.get(one.dtype, 0.05) * size
    return bool(torch.isclose(one, other, rtol=0, atol=close, equal_nan=True).all())
