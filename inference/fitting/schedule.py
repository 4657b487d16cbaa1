"""When to slow down, average and stop: small pieces of bookkeeping for `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

_WINDOW = 100  # steps whose mean loss a slow gain is to show in


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


class Cycles:
    """Runs of steps, each annealed and twice as long as the one before (Loshchilov & Hutter 2017, "SGDR").

    The step size rises briefly and falls by a cosine to zero, so that each run ends where the noise of long steps is
    gone, and two ends can be compared by the same random draws. Evidence grows with the steps it cost: what a plateau
    hides that is too flat for a few steps shows in more, and the last run takes half of all.

    Args:
        tolerance: gain in nats per observation, from one end to the next, that counts as none.
        first: steps of the first run.
    """

    def __init__(self, tolerance: float, first: int = 120) -> None:
        self.tolerance, self.length = tolerance, first
        self._count, self._gain = 0, math.inf
        self._ends: Tensor | None = None  # losses at the last end

    @property
    def rate(self) -> float:
        """Multiplier of the step size now."""
        return learning_rate("cosine", self._count, self.length)

    def averages(self, part: float) -> bool:
        """Whether the present run has so small a part left."""
        return self._count >= self.length - part * self.length

    def step(self) -> bool:
        """Count one step; True when a run has just ended."""
        self._count += 1
        return self._count >= self.length

    def gains(self, losses: Tensor, slow: bool = True) -> bool:
        """Whether to go on after the run that ended; the next one begins.

        Not where it gained nothing beyond two standard errors of what the same draws say. Nor, unless `slow` gains
        count, where the next is to gain less than the noise of a window of its own steps hides: it gains as much less
        than this one as this one gained less than the last.

        Args:
            losses: per observation at the end of the run, from the same draws (and rows) each time, (S,).
            slow: whether every gain counts, or those that can be seen.
        """
        before, last = self._ends, self._gain
        self._ends, self._count, self.length = losses.double(), 0, 2 * self.length
        if before is None:
            return True
        fallen = before - self._ends
        self._gain, error = float(fallen.mean()), float(fallen.std()) / len(fallen) ** 0.5
        if self._gain <= max(self.tolerance, 2 * error):
            return False
        if slow or not math.isfinite(last):
            return True
        noise = min(float(before.std()), float(self._ends.std())) * (2 / _WINDOW) ** 0.5
        return bool(self._gain * min(1.0, self._gain / last) > noise * self.length / _WINDOW)


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
