"""Whether a bound that is drawn anew at each step still rises, where its noise hides it.

Losses of a part of the rows, or of draws far apart, may seem to stand still while each step leads on: their noise is a
hundred times what a window of steps gains. Here the mean parameters of two neighbouring windows are compared by the
same random numbers, which takes most of that noise away.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from inference.fitting.step import Stepper
from zoo.base import Batch
from zoo.threads.randomness import apart

_DRAWS = 64  # of the bound, at each of the two


class Bound:
    """A mark of pairs whose density is itself one estimate of a bound: a guide of the user's own stands behind it."""


class Falling:
    """Mean parameters of the last two windows, and whether the loss is lower at the later.

    Args:
        stepper: takes the steps.
        batch: the next minibatch.
        one: weight of the KL terms.
        window: steps of a window.
        tolerance: a fall that counts as none.
    """

    on = ("stepper", "batch", "one", "parameters")  # what it works on, and does not remember

    def __init__(
        self, stepper: Stepper, batch: Callable[[], Batch], one: Tensor, window: int, tolerance: float
    ) -> None:
        self.stepper, self.batch, self.one, self.tolerance = stepper, batch, one, tolerance
        self.half = window // 2
        self.parameters: list[Tensor] = list(stepper.parameters.values())
        self.sums = [torch.zeros_like(p) for p in self.parameters]
        self.count = 0
        self.means: list[list[Tensor]] = []  # of the last four halves

    @torch.no_grad()
    def add(self) -> None:
        """Take in the parameters after a step."""
        torch._foreach_add_(self.sums, self.parameters)
        self.count += 1
        if self.count == self.half:
            self.means = [*self.means[-3:], [total / self.half for total in self.sums]]
            torch._foreach_zero_(self.sums)
            self.count = 0

    def __call__(self) -> bool:
        """Whether the loss has fallen, beyond two standard errors, from one window to the next; parameters stay."""
        if len(self.means) < 4:
            return False
        here = [p.detach().clone() for p in self.parameters]
        try:
            earlier, later = (self._losses(one, other) for one, other in (self.means[:2], self.means[2:]))
        finally:
            self._set(here)
        fallen = earlier - later
        error = float(fallen.std()) / _DRAWS**0.5
        return bool(float(fallen.mean()) > max(self.tolerance, 2 * error))

    def _losses(self, one: list[Tensor], other: list[Tensor]) -> Tensor:
        """At the mean of two halves, with the same draws every time, (64,)."""
        self._set([(a + b) / 2 for a, b in zip(one, other, strict=True)])
        with apart(0):
            return torch.stack([self.stepper(self.batch(), self.one)[0] for _ in range(_DRAWS)]).double()

    @torch.no_grad()
    def _set(self, values: list[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)
