"""When to slow down, average and stop: small pieces of bookkeeping for `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


def learning_rate(schedule: str, step: int, limit: int) -> float:
    """Multiplier of the step size at `step` of `limit`: cosine decay to 0 after a short linear rise, else 1."""
    if schedule != "cosine":
        return 1.0
    rise = min(50, max(1, limit // 20))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, limit - rise)))


class Averaging:
    """The mean of the last iterates of some parameters (Polyak and Juditsky 1992)."""

    on = ("_parameters",)  # what it works on, and does not remember

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._mean: list[Tensor] = []
        self._count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Take the parameters as they are now into the mean."""
        self._count += 1
        if self._count == 1:
            self._mean = [p.detach().clone() for p in self._parameters]
        else:
            torch._foreach_lerp_(self._mean, [p.detach() for p in self._parameters], 1 / self._count)

    @torch.no_grad()
    def apply(self) -> None:
        """Set the parameters to the mean, if anything was added."""
        for parameter, mean in zip(self._parameters, self._mean, strict=False):
            parameter.copy_(mean)


class EarlyStopping:
    """Stop when a held-out loss has not improved by `tolerance` in `patience` evaluations; remember the best."""

    def __init__(self, patience: int, tolerance: float) -> None:
        self.patience, self.tolerance = patience, tolerance
        self.best: list[Tensor] | None = None
        self._score, self._since = math.inf, 0

    def update(self, score: float, parameters: Sequence[Tensor]) -> bool:
        """Take a new evaluation; True when it is time to stop."""
        if score < self._score - self.tolerance:
            self._score, self._since = score, 0
            self.best = [p.detach().clone() for p in parameters]
        else:
            self._since += 1
        return self._since >= self.patience

    @torch.no_grad()
    def restore(self, parameters: Sequence[Tensor]) -> None:
        """Set the parameters to the best seen."""
        for parameter, best in zip(parameters, self.best or [], strict=False):
            parameter.copy_(best)


class Convergence:
    """Compare the mean loss of two neighbouring windows of steps.

    A stage ends when the later window is not better than the earlier by `tolerance` and by its standard error: the
    step size then decays. After the last stage the ELBO has converged.
    """

    def __init__(self, tolerance: float, window: int = 200, stages: int = 3) -> None:
        self.tolerance, self.window, self.stages = tolerance, window, stages
        self._losses: list[float] = []
        self._stage = 0

    @property
    def done(self) -> bool:
        """Whether the last stage has ended."""
        return self._stage > self.stages

    @property
    def last(self) -> bool:
        """Whether the last stage is running: the time to average iterates."""
        return self._stage == self.stages

    def update(self, loss: float, falls: Callable[[], bool] | None = None) -> bool:
        """Take one loss; True when a stage has just ended. It does not where `falls`, asked then, knows better."""
        self._losses.append(loss)
        width = self.window
        if len(self._losses) < 2 * width or len(self._losses) % (width // 2):
            return False
        earlier, later = np.array(self._losses[-2 * width : -width]), np.array(self._losses[-width:])
        error = math.sqrt((np.nanvar(earlier) + np.nanvar(later)) / width)
        if np.nanmean(earlier) - np.nanmean(later) > max(self.tolerance, error) or (falls is not None and falls()):
            return False
        self._losses = []
        self._stage += 1
        return True
