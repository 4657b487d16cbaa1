"""Coefficients given the variance of the noise, drawn without a covariance for each draw of the variance."""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class ScaledNormal(TorchDistribution):
    """Normal(m, v R R^T) over F coefficients.

    Args:
        loc: m, (F,).
        tril: R, lower triangular, (F, F): one for all variances.
        variance: v, (*).
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name and type
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, tril: Tensor, variance: Tensor) -> None:
        self.loc, self.tril, self.noise = loc, tril, variance
        super().__init__(variance.shape, loc.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ScaledNormal:
        """The same, of more batch dimensions."""
        return ScaledNormal(self.loc, self.tril, self.noise.expand(batch_shape))

    @property
    def mean(self) -> Tensor:
        """m, (*, F)."""
        return self.loc.expand(*self.batch_shape, *self.event_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A draw, differentiable in all three, (*sample_shape, *, F)."""
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.noise.sqrt().unsqueeze(-1) * (noise @ self.tril.mT)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of coefficients (*, F), (*)."""
        F = len(self.loc)
        off = (value - self.loc) / self.noise.sqrt().unsqueeze(-1)
        rows = torch.linalg.solve_triangular(self.tril, off.reshape(-1, F).mT, upper=False)  # (F, rows)
        square = rows.square().sum(0).reshape(off.shape[:-1])
        logdet = self.tril.diagonal().log().sum() + F / 2 * self.noise.log()
        density: Tensor = -0.5 * square - logdet - F / 2 * math.log(2 * math.pi)
        return density
