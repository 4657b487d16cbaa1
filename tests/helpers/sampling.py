"""What the tests of sampling share: a pair whose posterior is normal, draws against a known mean, and Ctrl-C."""

from __future__ import annotations

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
from zoo import ModelGuide

QUICK = {"progress": False}
# A few transitions on purpose: they settle nothing, and say so.
short = pytest.mark.filterwarnings("ignore:.*R-hat", "ignore:.*too few to tell")


class Normals(ModelGuide):
    """x_n ~ Normal(loc, 2), loc ~ Normal(1, 3): the posterior of loc is normal."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.one, 3 * self.one))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 2 * self.one), obs=batch.x)


def data_of(pair, rows=4, seed=0):
    torch.manual_seed(seed)
    return pair.simulate(rows)[0]


def z_scores(draws, mean):
    """How many Monte Carlo errors the means lie from the truth; draws (C, n, ...)."""
    flat = draws.flatten(2) if draws.ndim > 2 else draws.unsqueeze(-1)
    error = np.array([az.mcse(flat[..., i].numpy()) for i in range(flat.shape[-1])])
    return (flat.mean((0, 1)) - torch.as_tensor(mean).flatten()).abs().numpy() / error


def interrupted_after(draws, monkeypatch):
    """Ctrl-C when so many draws are there; none of them while warming up if 0."""
    real, count = inference.sampling.drawing._drawn, [0]

    def drawn(*arguments):
        count[0] += 1
        if count[0] > draws:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr("inference.sampling.drawing._drawn", drawn)
