"""Autoencoder: a deterministic code of L numbers, made and read by neural networks.

For observation n of N, with decoder network f and encoder network g,

    z_n       ~ Uniform([0, 1]^L)                code
    x_n | z_n ~ prod_d p(x_nd | f(z_n)_d)        observation, D features

    p(x, z)  = prod_n prod_d p(x_nd | f(z_n)_d)              the density of z_n is 1
    q(z | x) = prod_n Delta(z_n | logistic(g(x_n)))

All sites are local: `z`, the code, and `x`, the observation. There are no global latents; both networks are parameters.
The ELBO is the log density of the observations given their own codes. With the `gaussian` likelihood of one scale its
maximum is the least squared error of reconstruction that the networks can reach.

Why codes live in the unit cube: there the flat prior, which costs a point code nothing wherever it lies, is a proper
one, and the codes of any data are on a known scale. A code drawn from the prior is one that the decoder may have seen;
but nothing makes codes fill the cube evenly, so `simulate` also decodes gaps between them. A VAE closes those.

Limits: features should be of like scale. Pointwise log-likelihoods are given a row's own code: no marginal.

Held against, in `test_neural_autoencoder.py`: PCA's held-out squared error on digits at L = 8, three seeds: 6.28, 6.20
and 6.02; here 3.99, 3.84 and 3.80 (mlp).

Rumelhart, Hinton & Williams 1986, "Learning internal representations by error propagation"; Hinton & Salakhutdinov
2006, "Reducing the dimensionality of data with neural networks".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroParam
from torch import Tensor, nn

from zoo.base import Batch, ModelGuide, register
from zoo.images import counted
from zoo.parts import likelihoods, nets
from zoo.parts.units import moments
from zoo.suiting import Suit


@register("neural_autoencoder")
class NeuralAutoencoder(ModelGuide):
    """Autoencoder with a deterministic code (Hinton & Salakhutdinov 2006).

    Its pointwise log-likelihood is log p(x_n | z_n) at the row's own code z_n. It is no marginal log p(x_n): it rises
    with every further latent dimension, and does not compare with that of other models.

    Args:
        features: number of features or pixels D. For convolutions a square, unless `image` says otherwise.
        latent: dimension of the code L, at most D.
        hidden: widths of the encoder's hidden layers, mirrored in the decoder; for convolutions channels, each halving
            the image. An empty tuple makes both networks linear.
        net: kind of both networks, such as `mlp` or `conv` (over an image, flattened channel by channel and row by
            row).
        likelihood: of a feature given the code: `gaussian` (real, one learned scale sigma for all) or `bernoulli` (0 or
            1).
        image: (H, W) or (C, H, W) of images, channels first: the pair then takes and gives images of that shape, and
            `features` is C H W.
        encoder: a network of your own in the place of g, from rows (B, D), centred and in units of their deviation, or
            such images (B, *image), to (B, L). The pair takes a copy, and a saved one is loaded by
            zoo.load(folder, encoder=…).
        decoder: a network of your own in the place of f, from codes (B, L), scaled to mean 0 and variance 1, to
            (B, D) or (B, *image).

    Raises:
        ValueError: the code is larger than the data; convolutions of an image whose shape is not known, or which is too
            small; an `encoder` or `decoder` that gives other shapes.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"z": ("latent",), "x": ("feature",)}
    adapts: ClassVar = ("likelihood",)
    scale: Tensor
    center: Tensor
    unit: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        features: int = 64,
        latent: int = 2,
        hidden: tuple[int, ...] = (64,),
        net: nets.Net = "mlp",
        likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
        image: tuple[int, ...] | None = None,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if latent > features:
            raise ValueError(f"latent={latent} is larger than features={features}: such a code copies the data")
        self.likelihood, self.image = likelihood, image
        self.encoder = nets.encoder(net, features, hidden, latent, image, encoder)
        self.decoder = nets.decoder(net, latent, hidden, features, 1, image, decoder)
        if likelihood == "gaussian":
            self.scale = PyroParam(torch.ones(()), nets.SCALE)  # type: ignore[assignment]  # sigma / unit
        # Networks see and give (x - center) / unit, so that neither depends on the units of the data.
        self.register_buffer("center", torch.zeros(features))  # mean of the data
        self.register_buffer("unit", torch.ones(()))  # their standard deviation, over all features
        self.register_buffer("low", torch.zeros(latent))
        self.register_buffer("high", torch.ones(latent))

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Width, and the family of a cell."""
        offers = {"binary": "bernoulli", "real": "gaussian"}
        return super().suits(data, given) | likelihoods.suited(counted(data.x), given, offers)

    def measure(self, batch: Batch) -> None:
        """Mean and deviation of the data."""
        if batch.x is not None:
            centre, unit = moments(batch.x, shared=True)
            self.center.copy_(centre)
            self.unit.copy_(unit)

    def encode(self, x: Tensor) -> Tensor:
        """Codes of rows (*, D), (*, L), inside the unit cube."""
        h = self.encoder((x - self.center) / self.unit)
        eps = torch.finfo(h.dtype).eps  # off the faces of the cube, where the density is not defined
        return torch.sigmoid(h) * (1 - 2 * eps) + eps

    def decode(self, z: Tensor) -> Any:
        """p(x_d | z) at codes (*, L), of batch shape (*, D)."""
        h = self.decoder((z - 0.5) * math.sqrt(12))[..., 0]  # a uniform code of mean 0 and variance 1 for the network
        if self.likelihood == "bernoulli":
            return dist.Bernoulli(logits=h)
        return dist.Normal(self.center + self.unit * h, self.unit * self.scale)

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z); returns x, (B, D)."""
        with batch.plate():
            z = pyro.sample("z", dist.Uniform(self.low, self.high).to_event(1))  # (*, B, L)
            return pyro.sample("x", self.decode(z).to_event(1), obs=batch.x)  # (*, B, D)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z | x), a point; returns z, (B, L)."""
        with batch.plate():
            return pyro.sample("z", dist.Delta(self.encode(nets.seen(self, batch))).to_event(1))
