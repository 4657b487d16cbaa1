"""Positive series whose logarithms follow a given distribution; densities, draws and forecasts are of the series."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import ExpTransform

from zoo.parts.missing import Steps
from zoo.parts.sequence import Sequences
from zoo.parts.series import AutoregressiveSeries, Size


class TransformedSeries(Sequences):
    """exp of an autoregressive series, event shape (T,).

    log p(x) = log p(log x) - sum_t log x_t, over the steps that are modelled and not missing. Draws beyond the largest
    and smallest number of their type are cut there, as those of an explosive process may be.

    Args:
        base: the distribution of log x.
    """

    def __init__(self, base: AutoregressiveSeries) -> None:
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TransformedSeries:
        """The same series over more batch dimensions."""
        return TransformedSeries(self.base.expand(batch_shape))

    @property
    def support(self) -> constraints.Constraint:
        """Positive numbers; NaN where the base takes it."""
        steps = Steps(~self.base.inside, self.base.missing > 0, constraints.positive)
        return constraints.independent(steps, 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of the modelled steps of each series given the first ones, (..., T) -> (...)."""
        y = x.log()
        inside = self.base.inside & (torch.arange(x.shape[-1], device=x.device) >= self.base.order)
        return self.base.log_prob(y) - torch.where(inside & ~y.isnan(), y, 0).sum(-1)

    def sample(self, sample_shape: Size = ()) -> Tensor:
        """Draw series, (*sample_shape, *batch_shape, T)."""
        y = self.base.sample(sample_shape)
        most = torch.finfo(y.dtype)
        return y.exp().clamp(most.tiny, most.max)

    def forecast(self, x: Tensor, horizon: int, inputs: Tensor | None = None) -> dist.TransformedDistribution:
        """The distribution of the steps that follow; see `AutoregressiveSeries.forecast`."""
        return dist.TransformedDistribution(self.base.forecast(x.log(), horizon, inputs), [ExpTransform()])

    def conditional_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each step given the steps before it, each (..., T): those of a lognormal variable."""
        loc, variance = self.base.conditional_moments(x.log())
        mean = (loc + variance / 2).exp()
        return mean, variance.expm1() * mean.square()
