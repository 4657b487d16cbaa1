"""A log density and its gradient at any number of points, by graphs of few shapes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from inference.compiling.fallback import Fallback, Fastest
from inference.running.deadline import Deadline
from inference.sampling.density import Density

FEW, MANY = 64, 512  # points at once
LARGE = 1 << 20  # numbers in a tensor, above which an allocator asks for fresh pages each time: five times as slow
DEAR = 800  # operations of a run, from which one shape has to do: that many take some 0.2 s to record


class Evaluated:
    """A density whose gradient is recorded; points go through it in pieces of one shape, the last one filled up.

    Sums of other shapes round otherwise, and what follows from them may go another way: shapes follow from what the
    density does, and never from how long it took.

    Args:
        potential: the density.
        deadline: after which searches over it come to an end.
    """

    def __init__(self, potential: Density, deadline: Deadline | None = None) -> None:
        self.potential, self.size = potential, potential.size
        self.deadline = deadline or Deadline()
        self.count = 0  # of points so far
        self.plain = bool(getattr(potential, "plain", False))
        self.run = Fastest(
            potential.value_and_gradient, Fallback(potential.name, "inference", "off" if self.plain else "graph")
        )
        self._most = self._many = 0

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return self.deadline.over()

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """The log density, (S,), -∞ where it or its gradient is no number, and the gradient, 0 there: (S, P)."""
        points = points.to(self.potential.dtype)
        self.count += len(points)
        if not self._most:
            self._most, self._many = _at_once(self.potential, points[:2])
        width = min(self._many if len(points) >= MANY else FEW, self._most)
        call, values, gradients = self.run.bind(), [], []
        for part in points.split(width):
            short = 0 if self.plain else width - len(part)  # only a graph asks for one shape
            filled = torch.cat([part, part[-1:].expand(short, -1)]) if short else part
            value, gradient = call(filled.contiguous(), *self.potential.held)
            values.append(value[: len(part)])
            gradients.append(gradient[: len(part)])
        value, gradient = torch.cat(values).double(), torch.cat(gradients).double()
        good = value.isfinite() & gradient.isfinite().all(-1)
        return value.masked_fill(~good, -torch.inf), gradient.masked_fill(~good[:, None], 0.0)


def _at_once(potential: Density, points: Tensor) -> tuple[int, int]:
    """How many points, a power of two, keep every tensor of a run below `LARGE` numbers; and how many of many."""
    if getattr(potential, "plain", False):
        return MANY, MANY
    ran: Any = _Ran()  # type: ignore[no-untyped-call]
    with ran:
        potential.value_and_gradient(points, *potential.held)
    most = LARGE * len(points) // max(1, ran.numbers)
    return int(min(MANY, max(4, 1 << max(0, most.bit_length() - 1)))), MANY if ran.operations < DEAR else FEW


class _Ran(TorchDispatchMode):
    """How many numbers the largest tensor of a run holds, and how many operations it takes."""

    numbers = operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.operations += 1
        sizes = [leaf.numel() for leaf in pytree.tree_leaves(found) if isinstance(leaf, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0) if sizes else self.numbers
        return found
