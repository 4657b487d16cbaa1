"""Pairs of the tests' own whose posteriors are known."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import nn

import zoo
from zoo.base import ModelGuide, registered

NAMES = [name for name in zoo.names() if registered(name).__module__.startswith("zoo.")]  # without the tests' own


class Normal(ModelGuide):
    """x_n ~ Normal(loc, 1), loc ~ Normal(0, 2): the posterior is known."""

    def __init__(self, guide: zoo.guides.Family = "normal") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 2.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)


class Coded(ModelGuide):
    """z_n ~ N(0, I), x_n ~ Normal(W z_n, 1), with a linear encoder."""

    def __init__(self, latent: int = 3, features: int = 4) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent))
        self.decoder, self.encoder = nn.Linear(latent, features), nn.Linear(features, 2 * latent)

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.zero, 1.0).to_event(1))
            return pyro.sample("x", dist.Normal(self.decoder(z), 1.0).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            loc, scale = self.encoder(batch.x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, scale.exp()).to_event(1))


def data(n=40, seed=0):
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)) + 1.5
