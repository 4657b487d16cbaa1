"""Pairs whose refined codes, marginal likelihoods and gaps are known."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch

import inference
import zoo
from zoo import datasets
from zoo.base import ModelGuide


def exact_posterior(pair, x):
    """Means (N, L) and the covariance, (L, L)."""
    covariance = (torch.eye(pair.loading.shape[1]).double() + pair.loading.mT @ pair.loading).inverse()
    return (((x - pair.loc) / pair.noise) @ pair.loading @ covariance).detach(), covariance.detach()


def factorised_gap(covariance):
    """KL between the best factorised Gaussian, of variances 1 / precision_ll, and a Gaussian of this covariance."""
    precision = covariance.inverse()
    return 0.5 * (precision.diagonal().log().sum() + covariance.logdet())


class OnTheUnitInterval(ModelGuide):
    """Codes with bounds and of two shapes: z ~ Beta(2, 2), s ~ Exponential(1), x ~ N(z + w, s). The guide is rough."""

    dims = {"w": ("latent",), "x": ("feature",)}  # noqa: RUF012

    def __init__(self, features: int = 2):
        super().__init__()
        self.register_buffer("zero", torch.zeros(features))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Beta(self.zero[0] + 2, self.zero[0] + 2))
            s = pyro.sample("s", dist.Gamma(self.zero[0] + 4, self.zero[0] + 4))
            w = pyro.sample("w", dist.Normal(self.zero, self.zero + 0.5).to_event(1))
            return pyro.sample("x", dist.Normal(z[..., None] + w, s[..., None]).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Beta(self.zero[0] + 2, self.zero[0] + 2))
            pyro.sample("s", dist.LogNormal(self.zero[0], self.zero[0] + 0.5))
            pyro.sample("w", dist.Normal(self.zero, self.zero + 0.7).to_event(1))

    def on_a_grid(self, x):
        """log p(x), (N,): w integrated by hand, z and s on a grid."""
        z = torch.linspace(0.0025, 0.9975, 200).double()[:, None]
        s = torch.linspace(0.005, 6, 1200).double()
        prior = dist.Beta(2.0, 2.0).log_prob(z) + dist.Gamma(4.0, 4.0).log_prob(s)
        sd = (s.square() + 0.25).sqrt()
        found = [(dist.Normal(z, sd).log_prob(row[0]) + dist.Normal(z, sd).log_prob(row[1]) + prior) for row in x]
        area = math.log(0.005 * (6 - 0.005) / 1199)
        return torch.stack([part.flatten().logsumexp(0) + area for part in found])


class Stretched(ModelGuide):
    """A positive code whose logarithm has a Gaussian posterior: log z ~ N(0, 1), x ~ N(log z, 1)."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.LogNormal(self.zero, self.zero + 1))
            return pyro.sample("x", dist.Normal(z.log()[..., None], self.zero + 1).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.LogNormal(0.2 * batch.x[:, 0] + 0.5, self.zero + 0.5))


class Mixed(ModelGuide):
    """A class and a code together: k ~ (0.4, 0.6), z ~ N(0, 1), x ~ N(z + m_k, 0.5)."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.tensor([0.4, 0.6]))
        self.register_buffer("locs", torch.tensor([-1.0, 2.0]))

    def model(self, batch):
        one = self.locs[0] * 0 + 1
        with batch.plate():
            k = pyro.sample("k", dist.Categorical(self.weights), infer={"enumerate": "parallel"})
            z = pyro.sample("z", dist.Normal(0 * one, one))
            loc = (self.locs[k] + z)[..., None]
            return pyro.sample("x", dist.Normal(loc, 0.5 * one).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(0.3 * batch.x[:, 0], self.locs[0] * 0 + 1))


def linear(features=6, latent=3, off=0.0, rows=40, strength=2.0):
    """A gaussian_autoencoder in float64 with observations of its own; its guide exact, or moved off."""
    pair = zoo.create("gaussian_autoencoder", features=features, latent=latent).double()
    with torch.no_grad():
        loading = pair.loading.mul_(strength)
        covariance = (torch.eye(latent).double() + loading.mT @ loading).inverse()
        pair.encoder.copy_(covariance @ loading.mT)
        pair.scale_tril = torch.linalg.cholesky(covariance)
        for parameter in (pair.encoder, pair.scale_tril_unconstrained):
            parameter.add_(off * torch.randn_like(parameter))
    return pair, pair.simulate(rows)[0].x


def exact_log_marginal(pair, x):
    covariance = pair.weight @ pair.weight.mT + torch.diag(pair.noise.expand(x.shape[1]) ** 2)
    return torch.distributions.MultivariateNormal(pair.loc, covariance).log_prob(x).detach()


def digits():
    """A binomial VAE fitted to digits, and digits that it has not seen."""
    x = datasets.load("digits").x
    pair = zoo.create("gaussian_vae", features=64, latent=4, hidden=(32,), likelihood="binomial")
    inference.fit(pair, x[:1500], steps=1000, progress=False)
    return pair, x[1500:]
