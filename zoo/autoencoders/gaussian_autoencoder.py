"""Linear autoencoder with a Gaussian code: probabilistic PCA and factor analysis.

For observation n of N, with weight W (D x L), loc mu (D) and scale psi (D, or one number),

    z_n       ~ N(0, I)                             code, in R^L
    x_n | z_n ~ N(W z_n + mu, diag(psi)^2)          observation, in R^D

    p(x, z)  = prod_n N(z_n | 0, I) N(x_n | W z_n + mu, diag(psi)^2)
    q(z | x) = prod_n N(z_n | A (x_n - mu) / psi, T T')

The posterior of z_n is Gaussian, linear in x_n, and has one covariance for all n, so the guide can hold it, and the
best ELBO is the maximum log-likelihood: of probabilistic PCA with `isotropic` noise, where the columns of W span the
principal subspace, and of factor analysis with noise `per_feature`.

Inside, x stands as (x - c) / u, so that neither depends on the units of the data: mean c and deviation u of each
feature, with `isotropic` noise one u for all, are set by `fit`.

All sites are local: `z`, the code, and `x`, the observation. There are no global latents: W, mu and psi are parameters
of the model; A (L x D) and the Cholesky factor T (L x L) are the guide's own.

A fit starts at the maximum, known in closed form or nearly (`zoo.parts.factors`), and stays unless its steps lead
higher. Limits: where a feature's noise tends to zero, as in factor analysis of few columns, the maximum is approached
slowly, and the fit goes on from where 500 turns end.

Held against, in `test_gaussian_autoencoder.py`: the maximum log-likelihood, which no fit may exceed; of probabilistic
PCA on raw iris (L = 2) -404.963 in all, raw and standardised wine and digits, equal to 1e-9; of factor analysis that
of scikit-learn, to 1e-6 where no noise tends to zero, and above that on raw iris (here -389.37; scikit-learn -389.90).

Tipping & Bishop 1999, "Probabilistic principal component analysis"; Lucas et al. 2019, "Don't blame the ELBO!".
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroParam
from torch import Tensor, nn

from zoo.base import Batch, ModelGuide, register
from zoo.parts import factors, nets
from zoo.parts.units import Units


@register("gaussian_autoencoder")
class GaussianAutoencoder(ModelGuide):
    """Linear autoencoder with a Gaussian code (Tipping & Bishop 1999).

    Args:
        features: number of features D. With noise `per_feature` a constant one has unbounded likelihood: leave it out.
        latent: dimension of the code L.
        noise: `isotropic`, one psi for all features (probabilistic PCA), or `per_feature` (factor analysis).
        image: (H, W) or (C, H, W) of images, channels first: the pair then takes and gives images of that shape, and
            `features` is C H W.

    Raises:
        ValueError: more latent dimensions than features.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"z": ("latent",), "x": ("feature",)}
    scale: Tensor
    scale_tril: Tensor

    def __init__(
        self,
        features: int = 5,
        latent: int = 2,
        noise: Literal["isotropic", "per_feature"] = "isotropic",
        image: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.image = image
        if latent > features:
            raise ValueError(f"gaussian_autoencoder: latent={latent} is larger than features={features}")
        # W and mu are kept in units of the noise, W = psi * loading and mu = c + psi * offset: then no gradient depends
        # on a feature's scale.
        loading = torch.randn(features, latent) / math.sqrt(features)
        self.loading = nn.Parameter(loading)  # (D, L)
        self.offset = nn.Parameter(torch.zeros(features))
        self.units = Units(features, shared=noise == "isotropic")
        scale = torch.ones(features if noise == "per_feature" else 1)  # psi / u
        self.scale = PyroParam(scale, nets.SCALE)  # type: ignore[assignment]
        # The guide starts at the exact posterior: with loading R, A = (I + R'R)^-1 R' and T T' = (I + R'R)^-1.
        covariance = (torch.eye(latent) + loading.T @ loading).inverse()
        self.encoder = nn.Parameter(covariance @ loading.T)  # A, (L, D)
        tril = torch.linalg.cholesky(covariance)  # T
        self.scale_tril = PyroParam(tril, constraints.lower_cholesky)  # type: ignore[assignment]
        self.register_buffer("prior_loc", torch.zeros(latent))
        self.register_buffer("prior_scale_tril", torch.eye(latent))

    def measure(self, batch: Batch) -> None:
        """Centre and unit of the features."""
        if batch.x is not None:
            self.units.place(batch.x)

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start at the maximum of the likelihood, the guide at the posterior there; there are no globals.

        In closed form with noise `isotropic`, by turns of W and psi with noise `per_feature`; see `zoo.parts.factors`.
        """
        if batch.x is None or batch.size < 2:
            return {}
        x, latent = self.units(batch.x.double()), self.loading.shape[1]
        loc = x.mean(0)
        x = x - loc
        if float(x.abs().max()) > 0:
            weight, scale = factors.isotropic(x, latent) if len(self.scale) == 1 else factors.per_feature(x, latent)
            self._place(loc, weight, scale)
        return {}

    def _place(self, loc: Tensor, weight: Tensor, scale: Tensor) -> None:
        """Move to mu (D), W (D, L) and psi (D or 1), all of standardised x, and the guide to the posterior there."""
        scale = scale.clamp(min=2 * nets.SCALE.lower_bound)
        loading = weight / scale.unsqueeze(-1)  # R = W / psi
        covariance = (torch.eye(loading.shape[1]).to(loading) + loading.mT @ loading).inverse()
        self.scale = scale.to(self.loading)
        self.offset.copy_(loc / scale)
        self.loading.copy_(loading)
        self.encoder.copy_(covariance @ loading.mT)
        self.scale_tril = torch.linalg.cholesky((covariance + covariance.mT) / 2).to(self.loading)

    @property
    def weight(self) -> Tensor:
        """W, (D, L)."""
        return self.noise[:, None] * self.loading

    @property
    def loc(self) -> Tensor:
        """Mean of x, mu, (D,)."""
        return self.units.inverse(self.scale * self.offset)

    @property
    def noise(self) -> Tensor:
        """psi, (D,), or (1,)."""
        return self.units.unit * self.scale

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z); returns x, (B, D)."""
        weight, loc, scale = self.weight, self.loc, self.noise
        with batch.plate():
            z = pyro.sample("z", dist.MultivariateNormal(self.prior_loc, scale_tril=self.prior_scale_tril))
            x = dist.Normal(z @ weight.mT + loc, scale).to_event(1)  # z (*, B, L), x (*, B, D)
            return pyro.sample("x", x, obs=batch.x)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z | x); returns z, (B, L)."""
        loc = (self.units(nets.seen(self, batch)) / self.scale - self.offset) @ self.encoder.mT  # (B, L)
        with batch.plate():
            return pyro.sample("z", dist.MultivariateNormal(loc, scale_tril=self.scale_tril))
