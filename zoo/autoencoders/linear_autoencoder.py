"""Linear autoencoder: a deterministic code of L numbers, and principal component analysis when it is trained.

For observation n of N, with encoder weight W_e (L x D) and bias b_e, decoder weight W_d (D x L) and bias b_d,

    z_n       ~ flat                             code, in R^L: any value is as good as any other
    x_n | z_n ~ N(W_d z_n + b_d, sigma^2 I)      observation, in R^D

    p(x, z)  = prod_n N(x_n | W_d z_n + b_d, sigma^2 I)
    q(z | x) = prod_n Delta(z_n | W_e x_n + b_e)

All sites are local: `z`, the code, and `x`, the observation. There are no global latents. The ELBO is the Gaussian log
density of the reconstructions: its maximum over W_e, W_d, b_e and b_d is the least squared error that any map of rank L
has, PCA's. The columns of W_d then span the principal subspace; their basis in it is arbitrary.

Why the code has no prior that counts: N(z_n | 0, I) would be paid for every code, and codes divided by c, with W_d
multiplied by c, reconstruct as well for less. Its optimum lies at codes of zero length, which nothing attains; without
it the optimum is attained, and is PCA exactly. So `z` is drawn from a Gaussian only for the sake of `simulate`, and not
scored (`mask(False)`). That Gaussian has the moments which the encoder gives to the codes of the data, so that a fitted
model simulates data of the right mean and covariance.

Limits: features should be of like scale, as for PCA. Pointwise log-likelihoods are given a row's own code: no marginal.

Held against, in `test_linear_autoencoder.py`: PCA's squared error, 0.334700 on standardised wine (L = 3; here the same,
largest angle to the principal subspace 1e-11) and 4.914296 on digits (L = 10). A fit starts there.

Baldi & Hornik 1989, "Neural networks and principal component analysis: learning from examples without local minima".
"""

from __future__ import annotations

import math
from typing import ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroParam
from torch import Tensor, nn

from zoo.base import Batch, ModelGuide, register
from zoo.parts import factors, nets
from zoo.parts.units import moments


@register("linear_autoencoder")
class LinearAutoencoder(ModelGuide):
    """Linear autoencoder: reconstructs as PCA does (Baldi & Hornik 1989).

    Its pointwise log-likelihood is log N(x_n | W_d z_n + b_d, sigma^2 I) at the row's own code z_n. It is no marginal
    log p(x_n): it rises with every further latent dimension, and does not compare with that of other models.

    Args:
        features: number of features D.
        latent: dimension of the code L, at most D.
        image: (H, W) or (C, H, W) of images, channels first: the pair then takes and gives images of that shape, and
            `features` is C H W.

    Raises:
        ValueError: the code is larger than the data.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"z": ("latent",), "x": ("feature",)}
    scale: Tensor
    center: Tensor
    unit: Tensor
    covariance: Tensor

    def __init__(self, features: int = 5, latent: int = 2, image: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.image = image
        if latent > features:
            raise ValueError(f"latent={latent} is larger than features={features}: such a code copies the data")
        # Parameters are in units of (x - center) / unit, so that no step length depends on those of the data.
        encoder = torch.randn(latent, features) / math.sqrt(features)
        self.encoder = nn.Parameter(encoder)  # unit * W_e, (L, D)
        self.decoder = nn.Parameter(encoder.mT.clone())  # W_d / unit, (D, L)
        # One offset for both biases, since they only enter as the sum W_d b_e + b_d: x = b_d has the code zero.
        self.offset = nn.Parameter(torch.zeros(features))  # (b_d - center) / unit
        self.scale = PyroParam(torch.ones(()), nets.SCALE)  # type: ignore[assignment]  # sigma / unit
        self.register_buffer("center", torch.zeros(features))  # mean of the data
        self.register_buffer("unit", torch.ones(()))  # their standard deviation, over all features
        self.register_buffer("covariance", torch.eye(features))  # theirs, in those units

    def measure(self, batch: Batch) -> None:
        """Mean, deviation and covariance of the data."""
        if batch.x is not None:
            centre, unit = moments(batch.x, shared=True)
            t = (batch.x.double() - centre) / unit
            self.center.copy_(centre)
            self.unit.copy_(unit)
            self.covariance.copy_(t.mT @ t / batch.size if bool(t.any()) else torch.eye(len(centre)).to(t))

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start at the least squared error, on the principal axes, in closed form; there are no globals."""
        if batch.x is not None and batch.size > 1:
            x = (batch.x.double() - self.center) / self.unit
            values, axes = factors.spectrum(x - x.mean(0))
            latent = len(self.encoder)
            left = (values.sum() - values[:latent].sum()).clamp(min=0) / x.shape[1]
            if bool(left.isfinite()) and float(values[0]) > 0:
                self.encoder.copy_(axes[:, :latent].mT)
                self.decoder.copy_(axes[:, :latent])
                self.offset.copy_(x.mean(0))
                self.scale = left.sqrt().clamp(min=factors.FLOOR).to(self.offset)
        return {}

    def encode(self, x: Tensor) -> Tensor:
        """Codes W_e x + b_e of rows (*, D), (*, L)."""
        return ((x - self.center) / self.unit - self.offset) @ self.encoder.mT

    def decode(self, z: Tensor) -> Tensor:
        """Reconstructions W_d z + b_d of codes (*, L), (*, D)."""
        return self.center + self.unit * (z @ self.decoder.mT + self.offset)

    def codes(self) -> dist.MultivariateNormal:
        """The Gaussian with the moments of the codes of the data, W_e Cov(x) W_e'; event shape (L,)."""
        encoder = self.encoder.detach()
        spread = encoder @ self.covariance @ encoder.mT
        floor = 1e-4 * spread.diagonal().mean()  # a code that repeats another has no variance of its own
        scale_tril = torch.linalg.cholesky(spread + floor * torch.eye(len(spread)).to(spread))
        return dist.MultivariateNormal(-encoder @ self.offset.detach(), scale_tril=scale_tril)

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z); returns x, (B, D)."""
        codes = self.codes().mask(False)
        with batch.plate():
            z = pyro.sample("z", codes)  # (*, B, L)
            x = dist.Normal(self.decode(z), self.unit * self.scale).to_event(1)  # (*, B, D)
            return pyro.sample("x", x, obs=batch.x)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z | x), a point; returns z, (B, L)."""
        with batch.plate():
            return pyro.sample("z", dist.Delta(self.encode(nets.seen(self, batch))).to_event(1))
