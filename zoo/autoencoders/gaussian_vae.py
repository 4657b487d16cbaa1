"""Variational autoencoder with a Gaussian code.

For observation n of N, with decoder network f and encoder network g,

    z_n       ~ N(0, I)                       code, in R^L
    x_n | z_n ~ prod_d p(x_nd | f(z_n)_d)     observation, D features

    p(x, z) = prod_n N(z_n | 0, I) prod_d p(x_nd | f(z_n)_d)
    q(z | x) = prod_n N(z_n | m(x_n), T(x_n) T(x_n)'),    (m, T) = g(x_n)

All sites are local: `z`, the code, and `x`, the observation. There are no global latents; both networks are
parameters.

Kingma & Welling 2014, "Auto-encoding variational Bayes".
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroParam
from torch import Tensor

from zoo import nets
from zoo.base import Batch, ModelGuide, register

TRIALS = {"binomial": 16, "beta_binomial": 255, "categorical": 255}  # the largest counts of digits, and of pixels


@register("gaussian_vae")
class GaussianVAE(ModelGuide):
    """Variational autoencoder with a Gaussian code (Kingma & Welling 2014).

    Args:
        features: number of features or pixels D. For `conv` a square.
        latent: dimension of the code L.
        hidden: widths of the encoder's hidden layers, mirrored in the decoder; for `conv` channels, each halving the
            image. An empty tuple makes both networks linear.
        net: `mlp` or `conv` (the rows of a square image, side by side).
        likelihood: of a feature given the code. `bernoulli` (0 or 1); `gaussian` (real, one learned scale a feature:
            standardise); or a whole number from 0 to `trials`: `binomial`, `beta_binomial` (overdispersed) or
            `categorical` (any shape at all).
        trials: the largest count, only for the last three: by default 16 for `binomial` (as in the 8x8 digits) and 255
            for the others (8-bit pixels).
        guide: covariance of q(z | x), `diagonal` or `full`.

    Raises:
        ValueError: `trials` is of no use; `conv` on an image that is not square or too small.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"z": ("latent",), "x": ("feature",)}
    scale: Tensor

    def __init__(
        self,
        features: int = 64,
        latent: int = 2,
        hidden: tuple[int, ...] = (64,),
        net: nets.Net = "mlp",
        likelihood: Literal["bernoulli", "gaussian", "binomial", "beta_binomial", "categorical"] = "bernoulli",
        trials: int | None = None,
        guide: Literal["diagonal", "full"] = "diagonal",
    ) -> None:
        super().__init__()
        if likelihood not in TRIALS and trials is not None:
            raise ValueError(f"likelihood='{likelihood}' takes no trials, got trials={trials}")
        self.latent, self.likelihood, self.covariance = latent, likelihood, guide
        self.trials = trials or TRIALS.get(likelihood, 1)
        outputs = {"beta_binomial": 2, "categorical": self.trials + 1}.get(likelihood, 1)
        spread = latent if guide == "diagonal" else latent * (latent + 1) // 2
        self.encoder = nets.encoder(net, features, hidden, latent + spread)
        self.decoder = nets.decoder(net, latent, hidden, features, outputs)
        if likelihood == "gaussian":
            self.scale = PyroParam(torch.ones(features), nets.SCALE)  # type: ignore[assignment]
        self.register_buffer("prior_loc", torch.zeros(latent))
        self.register_buffer("prior_scale", torch.ones(latent))

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z); returns x, (B, D)."""
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.prior_loc, self.prior_scale).to_event(1))  # (*, B, L)
            return pyro.sample("x", self.decode(z).to_event(1), obs=batch.x)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z | x); returns z, (B, L)."""
        with batch.plate():
            return pyro.sample("z", self.encode(batch.x))

    def decode(self, z: Tensor) -> Any:
        """p(x_d | z), of batch shape (*, B, D)."""
        h = self.decoder(z)  # (*, B, D, outputs)
        if self.likelihood == "categorical":
            return dist.Categorical(logits=h)
        if self.likelihood == "beta_binomial":
            concentration = nets.positive(h)
            return dist.BetaBinomial(concentration[..., 0], concentration[..., 1], self.trials)
        h = h[..., 0]
        if self.likelihood == "binomial":
            return dist.Binomial(self.trials, logits=h)
        return dist.Normal(h, self.scale) if self.likelihood == "gaussian" else dist.Bernoulli(logits=h)

    def encode(self, x: Tensor | None) -> Any:
        """q(z | x), of batch shape (B,) and event shape (L,)."""
        if x is None:
            raise ValueError("gaussian_vae: the guide needs the observations, got a batch without 'x'")
        h = self.encoder(x.to(self.prior_loc.dtype) / self.trials)  # (B, L + spread), from pixels in [0, 1]
        loc, spread = h[..., : self.latent], h[..., self.latent :]
        if self.covariance == "full":
            return dist.MultivariateNormal(loc, scale_tril=nets.scale_tril(spread, self.latent))
        return dist.Normal(loc, nets.positive(spread)).to_event(1)
