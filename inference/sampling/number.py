"""How many chains there are, where nobody says: as many as cost little more than one, or a few where each costs.

A step of C chains takes a + b C: what Python does around the operations, and what the operations do. Where a is most of
it, many chains tune the sampler sooner and give more draws for the same time. Where a density writes so many numbers
that b C is, 64 chains take four times as long as 16, and reach an R-hat of 1.01 after as many draws of each.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from inference.sampling.density import Density

CHAINS, FEW = 64, 16
LARGE = 100_000  # numbers written for one point: 64 of these leave a processor's cache


def number(potential: Density, chains: int | None) -> int:
    """Chains to run on a density: those asked for, or by the size of the density; the same on every machine's CPU.

    Args:
        potential: the density.
        chains: how many were asked for, if anybody asked.
    """
    if chains is not None:
        return chains
    if potential.device.type != "cpu":
        return CHAINS
    seen = Written()
    with suppress(ValueError, RuntimeError), seen:  # what is wrong there, the starts will tell
        potential.value_and_gradient(torch.zeros(1, potential.size, dtype=potential.dtype))
    return CHAINS if seen.numbers <= LARGE else FEW


class Written(TorchDispatchMode):
    """Counts operations, and the numbers that they write, views not among them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = self.numbers = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.operations += 1
            parts = found if isinstance(found, (tuple, list)) else (found,)
            self.numbers += sum(part.numel() for part in parts if isinstance(part, Tensor))
        return found
