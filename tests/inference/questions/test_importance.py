"""The interval of an importance against order statistics that are known and NumPy's quantiles."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from inference.posterior.latents import Posterior
from inference.questions.importance import Importance, importance
from zoo.base import Batch, ModelGuide


class Plane(ModelGuide):
    """y_n ~ Normal(w x_n, 1), w ~ Normal(0, 1)."""

    def __init__(self) -> None:
        super().__init__("normal")
        self.register_buffer("zero", torch.zeros(2))

    def model(self, batch):
        w = pyro.sample("w", dist.Normal(self.zero, 1.0).to_event(1))
        with batch.plate():
            return pyro.sample("y", dist.Normal((batch.x * w).sum(-1), 1.0), obs=batch.y)

    def inputs(self, n):
        return Batch(n, n, x=torch.randn(n, 2).to(self.zero))


def test_of_what_explains_nothing_no_covariate_is_important():
    """x in {-1, 1}^2, each pair equally often: T = w^2 / |w|^2 but for the permutation; w = 0 has none, and no NaN."""
    x = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]], dtype=torch.float64).repeat(500, 1)
    w = torch.tensor([[0.0, 0], [3, 0], [0, -2], [3, 4]], dtype=torch.float64)
    found = importance(Plane().double(), Posterior({"w": w[None]}, size=4), Batch.of(x=x)).draws
    wanted = torch.tensor([[0.0, 0], [1, 0], [0, 1], [9 / 25, 16 / 25]], dtype=torch.float64)
    assert torch.equal(found == 0, wanted == 0)
    torch.testing.assert_close(found, wanted, rtol=4 / 2000**0.5, atol=0)


def test_ends_of_an_interval_are_quantiles_of_each_covariates_draws():
    """Of draws 0, 1, ..., 100 in any order the q-th quantile is 100 q; NumPy says the same of any others."""
    rng = np.random.default_rng(0)
    draws = np.stack([rng.permutation(101), 1000 - 3.0 * rng.permutation(101), rng.gamma(2.0, size=101)], 1)
    found = Importance(("a", "b", "c"), torch.from_numpy(draws))
    for mass, (low, high) in {0.9: (5.0, 95.0), 0.5: (25.0, 75.0), 0.2: (40.0, 60.0)}.items():
        ends = found.interval(mass)
        torch.testing.assert_close(ends[0][:2], torch.tensor([low, 1000 - 3 * high]).double(), rtol=1e-12, atol=0)
        torch.testing.assert_close(ends[1][:2], torch.tensor([high, 1000 - 3 * low]).double(), rtol=1e-12, atol=0)
        wanted = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        np.testing.assert_allclose(torch.stack(ends), wanted, rtol=1e-12)
    assert torch.equal(found.interval()[0], found.interval(0.9)[0])
    np.testing.assert_allclose(found.mean, draws.mean(0), rtol=1e-12)
