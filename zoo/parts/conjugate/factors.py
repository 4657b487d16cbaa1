"""Factors of conjugate families: their posteriors given data, and the same with numbers that are learned.

    dirichlet       p ~ Dirichlet(t softmax(c))                   c centre, t precision
    inverse_gamma   v ~ InverseGamma(t, t exp(c))                 so 1 / E[1 / v] = exp(c)
    normal          m ~ Normal(c, sqrt(v / t))                    given the variance v: together Normal-inverse-gamma
    log_normal      l ~ LogNormal(c, 1 / sqrt(t))                 conjugate to nothing, for what is positive

A factor says where it stands (the centre, on the real line) and how sure it is (the precision, in observations).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from zoo.guides import WIDTH
from zoo.parts.conjugate.inverse_gamma import InverseGamma

Family = Literal["dirichlet", "inverse_gamma", "normal", "log_normal"]


class Factor(NamedTuple):
    """One factor in numbers; the formulas stand at the top of this file.

    Args:
        family: which.
        centre: c, of the shape of the latent.
        precision: t, of the same shape, but (*, 1) of a Dirichlet over the last dimension.
    """

    family: Family
    centre: Tensor
    precision: Tensor

    def density(self, variance: Tensor | None = None) -> TorchDistribution:
        """The distribution, all dimensions in the event; a `normal` one needs the variance that it is given."""
        c, t = self.centre, self.precision
        fn: TorchDistribution
        if self.family == "dirichlet":
            fn = dist.Dirichlet(t * c.softmax(-1))
        elif self.family == "inverse_gamma":
            fn = InverseGamma(t, t * c.exp())
        elif self.family == "normal" and variance is not None:
            fn = dist.Normal(c, (variance / t).sqrt())
        else:
            fn = dist.LogNormal(c, t.rsqrt())
        joint: TorchDistribution = fn.to_event(c.ndim - fn.event_dim)
        return joint

    @property
    def point(self) -> Tensor:
        """The value at the centre: of a Dirichlet and of a normal the mean."""
        if self.family == "normal":
            return self.centre
        return self.centre.softmax(-1) if self.family == "dirichlet" else self.centre.exp()

    def width(self, variance: Tensor | None = None) -> Tensor:
        """About the standard deviation on the line of the centre, of its shape."""
        if self.family == "dirichlet":
            return (self.precision * self.point).rsqrt().clamp(max=1.0)
        return self.precision.rsqrt() if variance is None else (variance / self.precision).sqrt()


class Learned(nn.Module):
    """A factor whose numbers are learned, in steps that suit its width at the start."""

    origin: Tensor
    unit: Tensor

    def __init__(self, factor: Factor, variance: Tensor | None = None) -> None:
        super().__init__()
        self.family = factor.family
        self.register_buffer("origin", torch.empty_like(factor.centre))
        self.register_buffer("unit", torch.empty_like(factor.centre))
        self.step = nn.Parameter(torch.empty_like(factor.centre))
        self.log_precision = nn.Parameter(torch.empty_like(factor.precision))
        self.place(factor, variance)

    @torch.no_grad()
    def place(self, factor: Factor, variance: Tensor | None = None) -> None:
        """Take on another factor's numbers; `variance` is the usual one of a normal factor."""
        self.origin.copy_(factor.centre)
        self.unit.copy_(factor.width(variance) / WIDTH)
        self.step.zero_()
        self.log_precision.copy_(factor.precision.log())

    def forward(self) -> Factor:
        """The factor as it stands."""
        return Factor(self.family, self.origin + self.unit * self.step, self.log_precision.exp())

    def density(self, variance: Tensor | None = None) -> Landing:
        """Its distribution; see `Factor.density`."""
        live = self()
        still = Factor(live.family, live.centre.detach(), live.precision.detach())
        return Landing(live.density(variance), still.density(variance))


class Landing(TorchDistribution):
    """Draws carry the gradient of the parameters, their density does not (Roeder, Wu & Duvenaud 2017).

    The gradient of the ELBO stays right on average, since what is left out has mean zero; and at the exact posterior,
    where log p - log q is one number, each draw's gradient is zero: the guide stays there. Importance-weighted bounds
    weigh draws unequally, so their gradients are slightly off.

    Args:
        live: what is drawn from.
        still: the same distribution with constant parameters.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name and type
    has_rsample = True

    def __init__(self, live: TorchDistribution, still: TorchDistribution) -> None:
        self.live, self.still = live, still
        super().__init__(live.batch_shape, live.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of the distribution."""
        return self.live.support

    def expand(self, batch_shape: Any, _instance: Any = None) -> Landing:
        """The same, of more batch dimensions."""
        return Landing(self.live.expand(batch_shape), self.still.expand(batch_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A draw, differentiable in the parameters."""
        draw: Tensor = self.live.rsample(sample_shape)
        return draw

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, differentiable in the value alone."""
        density: Tensor = self.still.log_prob(value)
        return density


def dirichlet(concentration: Tensor) -> Factor:
    """Dirichlet of this concentration, over the last dimension."""
    total = concentration.sum(-1, keepdim=True)
    return Factor("dirichlet", (concentration / total).log(), total)


def normal_inverse_gamma(
    cells: Tensor, weight: Tensor, centre: Tensor, unit: Tensor, kappa: Tensor, a: Tensor, b: Tensor
) -> tuple[Factor, Factor]:
    """Posterior of variance and loc given standardised cells (N, D), NaN where missing, of weights (*, K, N), exact.

    The prior is v ~ InverseGamma(a, b unit^2), m ~ Normal(centre, sqrt(v / kappa)), for cells centre + unit * cell
    (Murphy 2007, section 6). Factors have shape (*, K, D).
    """
    n, total, squares = sums(cells, weight)
    kappa, shape = kappa + n, a + n / 2
    loc = total / kappa
    rate = b + (squares - kappa * loc.square()).clamp(min=0) / 2
    variance = Factor("inverse_gamma", (rate / shape).log() + 2 * unit.log(), shape)
    return variance, Factor("normal", centre + unit * loc, kappa)


def negative_binomial(
    counts: Tensor, weight: Tensor, mean: tuple[Tensor, Tensor], dispersion: tuple[Tensor, Tensor]
) -> tuple[Factor, Factor]:
    """About the posterior of mean and concentration given counts (N, D), NaN where missing, of weights (*, K, N).

    Matched by moments, with the Fisher information there; `mean` and `dispersion` are loc and scale of the log-normal
    priors. Factors have shape (*, K, D).
    """
    n, total, squares = sums(counts, weight)
    found = (total + mean[0].exp()) / (n + 1)
    extra = (squares - 2 * found * total + n * found.square()) / n.clamp(min=1) - found  # variance beyond Poisson's
    r = found.square() / extra.clamp(min=1e-3 * found.square())
    seen = n * found * r / (found + r), n / 2 * (found / (found + r)).square()  # information on log mean and log r
    return _log_normal(*mean, found.log(), seen[0]), _log_normal(*dispersion, r.log(), seen[1])


def _log_normal(loc: Tensor, scale: Tensor, found: Tensor, precision: Tensor) -> Factor:
    """A log-normal prior combined with an estimate of the logarithm."""
    prior = scale.square().reciprocal()
    total = prior + precision
    return Factor("log_normal", (prior * loc + precision * found) / total, total)


def sums(cells: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted numbers, sums and sums of squares of the cells (N, D) that are not NaN, each (*, K, D)."""
    seen, cells = ~cells.isnan(), cells.nan_to_num()
    return weight @ seen.to(cells), weight @ cells, weight @ cells.square()
