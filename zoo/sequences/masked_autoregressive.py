"""Masked autoregressive network for vectors and images (MADE).

For observation n of N and its features d = 1..D, with R orderings of them and a network f whose weights are masked so
that the outputs for feature d under ordering r see only those features that come before d in it,

    x_n ~ 1/R sum_r prod_d p(x_nd | f_rd(x_n)),        f_rd(x) a function of { x_e : rank_r(e) < rank_r(d) }

and the density of a feature given those before it is, by `likelihood`,

    bernoulli     x_nd ~ Bernoulli(logits = f)
    categorical   x_nd ~ Categorical(logits = f),                        codes 0..C-1
    gaussian      x_nd ~ sum_k pi_k Normal(m_d + s_d a_k, s_d b_k),      f = (log pi, a, b before softplus), K of each

Each factor is normalised, so each product is, and their mean. There are no latents: the weights of f are parameters,
the guide is empty, and the ELBO is the log-likelihood. `fit` sets the mean m_d and deviation s_d of each feature.

One pass of the network gives the density of a row. A draw takes D, one for each feature.

Limits: no latents: the density is exact, the parameters are points.

Held against, in `test_masked_autoregressive.py`: probabilities of all 2^10 binary vectors (their sum is off 1 by
4e-16); a strictly triangular Jacobian under each ordering; independent Bernoullis on held-out binarised digits, 25.27
nats an image (here 18.45, slow).

Germain, Gregor, Murray & Larochelle 2015, "MADE: masked autoencoder for distribution estimation"; Uria, Murray &
Larochelle 2014, "A deep and tractable density estimator" (several orderings, one set of weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from zoo.base import Batch, ModelGuide, register
from zoo.images import counted
from zoo.parts import likelihoods, nets
from zoo.parts.masked import Conditional, MaskedAutoregression, MaskedNetwork
from zoo.parts.units import moments
from zoo.suiting import Suit

FLOOR = 1e-3  # least conditional deviation of a feature, in its own: a constant feature would take it to zero


@register("masked_autoregressive")
class MaskedAutoregressive(ModelGuide):
    """Masked autoencoder for distribution estimation, MADE (Germain et al. 2015).

    Its density stands at the top of this file: exact, no bound. `x` is (N, D), complete: a NaN is refused.

    Args:
        features: number of features or pixels D.
        hidden: widths of the hidden layers. An empty tuple makes each feature depend linearly on those before it, a
            fully visible sigmoid belief network where `likelihood` is `bernoulli`.
        likelihood: of a feature given those before it: `bernoulli` (0 or 1), `categorical` (codes from 0) or `gaussian`
            (real, a mixture of `components`).
        components: number of Gaussians K of a feature.
        categories: number of categories C of a feature.
        orderings: number of orderings R that share the weights and are averaged: the order of the columns first, the
            others drawn when the pair is made.
        image: (H, W) or (C, H, W) of images, channels first: the pair then takes and gives images of that shape, and
            `features` is C H W.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"x": ("feature",)}
    adapts: ClassVar = ("likelihood", "categories")

    def __init__(
        self,
        features: int = 16,
        hidden: tuple[int, ...] = (64,),
        likelihood: Literal["bernoulli", "categorical", "gaussian"] = "bernoulli",
        components: int = 3,
        categories: int = 4,
        orderings: int = 2,
        image: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.image = image
        self.conditional: Conditional
        if likelihood == "bernoulli":
            self.conditional = Binary(1, 1)
        elif likelihood == "categorical":
            self.conditional = Codes(categories, categories)
        else:
            self.conditional = Reals(features, components)
        self.network = MaskedNetwork(features, hidden, self.conditional.each, self.conditional.outputs, orderings)

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Width, and the family of a cell."""
        offers = {"binary": "bernoulli", "count": "categorical", "byte": "categorical", "real": "gaussian"}
        return super().suits(data, given) | likelihoods.suited(
            counted(data.x), given, offers, sizes=likelihoods.CATEGORIES
        )

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x); returns x, (B, D)."""
        with batch.plate():
            x: Tensor = pyro.sample("x", self.rows(), obs=batch.x)  # (B, D)
            return x

    def guide(self, batch: Batch) -> dict[str, Tensor]:
        """Nothing to infer."""
        return {}

    def rows(self) -> MaskedAutoregression:
        """The distribution of a row."""
        return MaskedAutoregression(self.network, self.conditional)

    def measure(self, batch: Batch) -> None:
        """Mean and deviation of real features."""
        if batch.x is not None and isinstance(self.conditional, Reals):
            self.conditional.standardise(batch.x)


class Binary(Conditional):
    """Bernoulli, by one logit."""

    support = constraints.boolean

    def code(self, x: Tensor) -> Tensor:
        """-1 or 1, (n, D, 1)."""
        return (2 * x - 1).unsqueeze(-1)

    def density(self, h: Tensor) -> Any:
        """From logits (..., D, 1)."""
        return dist.Bernoulli(logits=h.squeeze(-1))


class Codes(Conditional):
    """Categorical, by C logits."""

    @property
    def support(self) -> constraints.Constraint:
        """Codes from 0 to C - 1."""
        return constraints.integer_interval(0, self.outputs - 1)

    def code(self, x: Tensor) -> Tensor:
        """One-hot, (n, D, C)."""
        return (x.unsqueeze(-1) == torch.arange(self.each, device=x.device)).to(x.dtype)

    def density(self, h: Tensor) -> Any:
        """From logits (..., D, C)."""
        return dist.Categorical(logits=h)


class Reals(Conditional):
    """A mixture of K Gaussians, by K logits, locations and scales, in units of the feature."""

    support = constraints.real
    center: Tensor
    unit: Tensor
    apart: Tensor

    def __init__(self, features: int, components: int) -> None:
        super().__init__(1, 3 * components)
        self.register_buffer("center", torch.zeros(features))  # m
        self.register_buffer("unit", torch.ones(features))  # s
        # where components start: alike, they would stay so
        self.register_buffer("apart", torch.linspace(-1, 1, components) if components > 1 else torch.zeros(1))

    def standardise(self, x: Tensor) -> None:
        """Take mean and deviation of rows (n, D)."""
        center, unit = moments(x)
        self.center.copy_(center)
        self.unit.copy_(unit)

    def code(self, x: Tensor) -> Tensor:
        """Standardised, (n, D, 1)."""
        return ((x - self.center) / self.unit).unsqueeze(-1)

    def density(self, h: Tensor) -> Any:
        """From (..., D, 3 K)."""
        logits, loc, scale = h.chunk(3, -1)  # (..., D, K)
        center, unit = self.center.unsqueeze(-1), self.unit.unsqueeze(-1)
        parts = dist.Normal(center + unit * (self.apart + loc), unit * (nets.positive(scale) + FLOOR))
        return dist.MixtureSameFamily(dist.Categorical(logits=logits), parts)
