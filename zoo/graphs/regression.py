"""Bayesian linear regression in conjugate form: coefficients given the variance, exactly and as a learned factor.

    v ~ InverseGamma(a, b),   w given v ~ Normal(0, v / kappa),   y given t ~ Normal(w . t, v)

After n rows with sums of products L = kappa I + sum t t^T, c = sum t y and q = sum y^2 (Murphy 2012, section 7.6.3),

    w given v ~ Normal(m, v L^-1),  m = L^-1 c,      v ~ InverseGamma(a + n / 2, b + (q - m^T L m) / 2)
"""

from __future__ import annotations

from typing import NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from zoo.guides import WIDTH
from zoo.mixtures.conjugate import Factor, Landing


class Coefficients(NamedTuple):
    """Coefficients given the variance v: Normal(centre, v tril tril^T), for R equations of P + 1 terms.

    Args:
        centre: (*, R, P + 1).
        tril: lower triangular, (*, R, P + 1, P + 1).
    """

    centre: Tensor
    tril: Tensor

    def density(self, variance: Tensor) -> TorchDistribution:
        """The distribution at these variances, (*, R)."""
        tril = variance.sqrt()[..., None, None] * self.tril
        joint: TorchDistribution = dist.MultivariateNormal(self.centre, scale_tril=tril).to_event(1)
        return joint

    @property
    def point(self) -> Tensor:
        """The mean."""
        return self.centre


class LearnedCoefficients(nn.Module):
    """Coefficients whose numbers are learned, in steps that suit their width at the start."""

    origin: Tensor
    unit: Tensor
    base: Tensor

    def __init__(self, factor: Coefficients, variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("origin", torch.empty_like(factor.centre))
        self.register_buffer("unit", torch.empty_like(factor.tril))
        self.register_buffer("base", torch.empty_like(factor.tril))
        self.step = nn.Parameter(torch.empty_like(factor.centre))
        self.shape = nn.Parameter(torch.empty_like(factor.tril))  # lower triangle, the logarithm on its diagonal
        self.place(factor, variance)

    @torch.no_grad()
    def place(self, factor: Coefficients, variance: Tensor) -> None:
        """Take on another factor's numbers; `variance` is a usual one, (R,)."""
        self.origin.copy_(factor.centre)
        self.unit.copy_(variance.sqrt()[..., None, None] * factor.tril / WIDTH)
        self.base.copy_(factor.tril)
        self.step.zero_()
        self.shape.zero_()

    def forward(self) -> Coefficients:
        """The factor as it stands."""
        centre = self.origin + (self.unit @ self.step.unsqueeze(-1)).squeeze(-1)
        turn = self.shape.tril(-1) + self.shape.diagonal(dim1=-2, dim2=-1).exp().diag_embed()
        return Coefficients(centre, self.base @ turn)

    def density(self, variance: Tensor) -> Landing:
        """Its distribution at these variances, with the gradient of draws alone; see `Landing`."""
        live = self()
        still = Coefficients(live.centre.detach(), live.tril.detach())
        return Landing(live.density(variance), still.density(variance))


def posterior(
    products: Tensor, centre: Tensor, unit: Tensor, terms: Tensor, kappa: Tensor, a: Tensor, b: Tensor
) -> tuple[Factor, Coefficients]:
    """Variance and coefficients of R equations given sums of products, exact, in the user's units.

    Args:
        products: sums of (1, z, y) (1, z, y)^T over rows, standardised, (*, R, P + 2, P + 2).
        centre, unit: of each equation's y, (R,).
        terms: units of (1, z), (R, P + 1).
        kappa, a, b: of the prior, for standardised cells.
    """
    eye = torch.eye(products.shape[-1] - 1, dtype=products.dtype, device=products.device)
    tril = torch.linalg.cholesky(products[..., :-1, :-1] + kappa * eye)
    cross = products[..., :-1, -1:]
    mean = torch.cholesky_solve(cross, tril)  # (*, R, P + 1, 1)
    rest = products[..., -1, -1] - (cross * mean).sum((-2, -1))
    shape = a + products[..., 0, 0] / 2
    rate = b + rest.clamp(min=0) / 2
    variance = Factor("inverse_gamma", (rate / shape).log() + 2 * unit.log(), shape)
    # The variance is in units of y already, so its factor needs those of the terms alone.
    offset = torch.nn.functional.pad(centre.unsqueeze(-1), (0, terms.shape[-1] - 1))
    located = offset + unit.unsqueeze(-1) / terms * mean.squeeze(-1)
    root = torch.linalg.cholesky(torch.cholesky_inverse(tril))
    return variance, Coefficients(located, root / terms.unsqueeze(-1))
