"""Bayesian linear regression in conjugate form: its posterior given data, and the same with numbers that are learned.

    v ~ InverseGamma(a, b),   w given v ~ Normal(0, v / kappa),   y given t ~ Normal(w . t, v)

with the variance v of the noise and F coefficients w. After n rows with L = diag(kappa) + sum t t^T and c = sum t y
(Murphy 2012, section 7.6.3),

    w given v ~ Normal(m, v R R^T),   m = L^-1 c,   R R^T = L^-1
    v         ~ InverseGamma(a + n / 2, b + s / 2),   s = sum (y - m . t)^2 + kappa . m^2 = sum y^2 - m . c

Equations stand side by side in leading dimensions, (*); R is lower triangular.
"""

from __future__ import annotations

from typing import NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.nn import functional

from zoo.guides import WIDTH
from zoo.parts.conjugate.factors import Factor, Landing
from zoo.parts.conjugate.scaled import ScaledNormal


class Coefficients(NamedTuple):
    """Coefficients given the variance v: Normal(centre, v tril tril^T), for each of some equations.

    Args:
        centre: m, (*, F).
        tril: R, (*, F, F).
    """

    centre: Tensor
    tril: Tensor

    @property
    def point(self) -> Tensor:
        """The mean."""
        return self.centre

    def density(self, variance: Tensor) -> TorchDistribution:
        """The distribution at these variances, (..., *), all dimensions of (*) in the event."""
        tril = variance.sqrt()[..., None, None] * self.tril
        joint: TorchDistribution = dist.MultivariateNormal(self.centre, scale_tril=tril).to_event(self.centre.ndim - 1)
        return joint

    def following(self, block: slice, before: Tensor, variance: Tensor, scalar: bool = False) -> TorchDistribution:
        """Of one equation: w[block] given v, (...), and all w before the block, (..., block.start).

        The event of a scalar, a block of one, is ().
        """
        k, scale, loc = block.start, variance.sqrt().unsqueeze(-1), self.centre[block]
        if k:
            off = (before - self.centre[:k]).unsqueeze(-1)
            noise = torch.linalg.solve_triangular(self.tril[:k, :k], off, upper=False)
            loc = loc + (self.tril[block, :k] @ noise).squeeze(-1)
        if scalar:
            return first(dist.Normal(loc, scale * self.tril[block, block].squeeze(-1)))
        return dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * self.tril[block, block])

    def detach(self) -> Coefficients:
        """The same numbers as constants."""
        return Coefficients(self.centre.detach(), self.tril.detach())


class LearnedCoefficients(nn.Module):
    """Coefficients whose numbers are learned, in steps that suit their width at the start."""

    origin: Tensor
    base: Tensor
    unit: Tensor

    def __init__(self, factor: Coefficients, variance: Tensor) -> None:
        super().__init__()
        for name, value in (("origin", factor.centre), ("base", factor.tril), ("unit", factor.tril)):
            self.register_buffer(name, torch.empty_like(value))
        self.step = nn.Parameter(torch.empty_like(factor.centre))
        self.turn = nn.Parameter(torch.empty_like(factor.tril))  # lower triangle, the logarithm on its diagonal
        self.place(factor, variance)

    @torch.no_grad()
    def place(self, factor: Coefficients, variance: Tensor) -> None:
        """Take on another factor's numbers; `variance` is a usual one of each equation, (*)."""
        self.origin.copy_(factor.centre)
        self.base.copy_(factor.tril)
        self.unit.copy_(variance.sqrt()[..., None, None] * factor.tril / WIDTH)
        self.step.zero_()
        self.turn.zero_()

    def forward(self) -> Coefficients:
        """The factor as it stands."""
        turn = self.turn.tril(-1) + self.turn.diagonal(dim1=-2, dim2=-1).exp().diag_embed()
        centre = self.origin + (self.unit @ self.step.unsqueeze(-1)).squeeze(-1)
        return Coefficients(centre, self.base @ turn)

    def density(self, variance: Tensor) -> Landing:
        """`Coefficients.density`, with the gradient of draws alone; see `Landing`."""
        live = self()
        return Landing(live.density(variance), live.detach().density(variance))

    def scaled(self, variance: Tensor) -> Landing:
        """The same of one equation, for variances (*), without a matrix for each."""
        live = self()
        return Landing(*(ScaledNormal(each.centre, each.tril, variance) for each in (live, live.detach())))

    def following(self, block: slice, before: Tensor, variance: Tensor, scalar: bool = False) -> Landing:
        """`Coefficients.following`, likewise."""
        live = self()
        return Landing(*(each.following(block, before, variance, scalar) for each in (live, live.detach())))


def of_products(
    products: Tensor, centre: Tensor, unit: Tensor, terms: Tensor, kappa: Tensor, a: Tensor, b: Tensor
) -> tuple[Factor, Coefficients]:
    """Variance and coefficients of R equations given sums of products, exact, in the user's units.

    Args:
        products: sums of (1, z, y) (1, z, y)^T over rows, standardised, (*, R, P + 2, P + 2).
        centre, unit: of each equation's y, (R,).
        terms: units of (1, z), (R, P + 1).
        kappa, a, b: of the prior, for standardised cells.
    """
    cross = products[..., :-1, -1]
    tril = torch.linalg.cholesky(products[..., :-1, :-1] + kappa * torch.eye(cross.shape[-1]).to(cross))
    mean = torch.cholesky_solve(cross.unsqueeze(-1), tril).squeeze(-1)
    root = torch.linalg.cholesky(torch.cholesky_inverse(tril))
    squares = products[..., -1, -1] - (cross * mean).sum(-1)
    variance = _variance(a, b, products[..., 0, 0], squares.clamp(min=0), 2 * unit.log())
    # The variance is in units of y already, so its factor needs those of the terms alone.
    offset = functional.pad(centre.unsqueeze(-1), (0, terms.shape[-1] - 1))
    return variance, Coefficients(offset + unit.unsqueeze(-1) / terms * mean, root / terms.unsqueeze(-1))


def of_rows(X: Tensor, y: Tensor, count: float, kappa: Tensor, a: Tensor, b: Tensor) -> tuple[Factor, Coefficients]:
    """Variance and coefficients given the design X, (n, F), and y, (n,), of weighted rows that count as `count`; exact.

    The prior has its own precision kappa for each coefficient, (F,).
    """
    mean, root = solve(X.mT @ X + kappa.diag(), X.mT @ y)
    squares = (y - X @ mean).square().sum() + (mean.square() * kappa).sum()
    return _variance(a, b, torch.as_tensor(count).to(X), squares), Coefficients(mean, root)


def about(X: Tensor, y: Tensor, count: float, precision: Tensor) -> tuple[Factor, Coefficients]:
    """About the posterior under w ~ Normal(0, 1 / precision) whatever v is, and a wide prior of v; see `of_rows`.

    The rows that are left for v are those that determine no coefficient, count - F + v tr(precision L^-1) (MacKay 1992,
    "Bayesian interpolation"): what the prior alone determines takes none.
    """
    variance = freedom = torch.ones((), dtype=X.dtype, device=X.device)
    for _ in range(50):
        mean, root = solve(X.mT @ X + (variance * precision).diag(), X.mT @ y)
        given = variance * (root.square().sum(-1) * precision).sum()
        freedom = (count - X.shape[1] + given).clamp(min=1)
        variance = (y - X @ mean).square().sum() / freedom + torch.finfo(X.dtype).tiny
    return Factor("inverse_gamma", variance.log(), freedom / 2), Coefficients(mean, root)


def solve(gram: Tensor, cross: Tensor) -> tuple[Tensor, Tensor]:
    """L^-1 c and a lower root of L^-1, given L, (*, F, F), and c, (*, F)."""
    unit = gram.diagonal(dim1=-2, dim2=-1).rsqrt().unsqueeze(-1)
    gram = gram * unit * unit.mT
    eye = torch.eye(gram.shape[-1]).to(gram)
    for jitter in (0.0, 1e-12, 1e-9, 1e-6):  # columns that tell the same story to rounding
        # of the matrix read backwards: its factor, read backwards, is upper, and the root of the inverse lower
        factor, failed = torch.linalg.cholesky_ex((gram + jitter * eye).flip(-2, -1))
        if not failed.any():
            break
    root = unit * torch.linalg.inv(factor.flip(-2, -1)).mT
    mean: Tensor = root @ (root.mT @ cross.unsqueeze(-1))
    return mean.squeeze(-1), root


def _variance(a: Tensor, b: Tensor, count: Tensor, squares: Tensor, log_unit: Tensor | float = 0.0) -> Factor:
    """q(v) after `count` rows that leave these squares, in units of this logarithm."""
    shape = a + count / 2
    return Factor("inverse_gamma", ((b + squares / 2) / shape).log() + log_unit, shape)


def first(fn: dist.Normal) -> TorchDistribution:
    """The distribution of the first entry of the last dimension."""
    return dist.Normal(fn.loc[..., 0], fn.scale[..., 0])


def deviation(centred: Tensor) -> Tensor:
    """Root mean square over rows; 1 where they are all zero."""
    spread = centred.square().mean(0).sqrt()
    return torch.where(spread > 0, spread, 1)
