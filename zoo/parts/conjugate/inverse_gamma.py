"""The inverse gamma distribution at any scale.

Pyro has it as the reciprocal of a gamma draw, whose gradients hold the square of the value, or of its inverse: for a
variance of 1e13, or of 1e-13, they overflow in single precision. Here the density is written out:

    log p(v) = a log b - log Gamma(a) - (a + 1) log v - b / v,    v = b / g,  g ~ Gamma(a, 1)
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor

_Pyros: Any = dist.InverseGamma  # whose signatures have no types


class InverseGamma(_Pyros):  # type: ignore[misc]
    """InverseGamma(concentration, rate): the same draws and densities as Pyro's, up to rounding."""

    def rsample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """A draw, differentiable in concentration and rate, (*sample_shape, *batch)."""
        shape = self._extended_shape(sample_shape)
        g = torch._standard_gamma(self.concentration.expand(shape))
        draw: Tensor = self.rate / g.clamp(min=torch.finfo(g.dtype).tiny)
        return draw

    def sample(self, sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
        """A draw without gradients, (*sample_shape, *batch)."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """The log density of positive values."""
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration, self.rate
        density: Tensor = a * b.log() - a.lgamma() - (a + 1) * value.log() - b / value
        return density
