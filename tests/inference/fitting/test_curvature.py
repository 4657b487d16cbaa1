"""Widths that a guide starts from: by differences of gradients for large data, by rows' gradients for many latents."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import inference
import zoo
from inference.fitting import curvature
from inference.fitting.objective import choose
from zoo.base import Batch, ModelGuide
from zoo.settings import settings


class Means(ModelGuide):
    """x_nd ~ Normal(m_d, 2), m_d ~ Normal(0, 5), and a latent that no observation tells anything of."""

    def __init__(self, features: int = 3, guide: zoo.guides.Family = "multivariate") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(features))

    def model(self, batch: Batch) -> torch.Tensor:
        m = pyro.sample("m", dist.Normal(self.zero, 5.0).to_event(1))
        pyro.sample("free", dist.Gamma(0 * self.zero[:1] + 3.0, 1.0).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(m, 2.0).to_event(1), obs=batch.x)

    def initial(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {
            "m": batch.x.mean(0),
            "free": 0 * self.zero[:1] + 3.0,
        }  # both where the unconstrained density is highest


def widths(pair):
    return pair.automatic.get_posterior().stddev.detach()


def placed(pair, x):
    inference.fit(pair, x, steps=1, lr=1e-12, progress=False, compile="off")
    return widths(pair)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("large", [False, True])
def test_a_gaussians_curvature_is_its_precision(dtype, large, monkeypatch):
    torch.manual_seed(0)
    x = (3 + 2 * torch.randn(1500, 3, dtype=torch.float64)).to(dtype)
    monkeypatch.setattr(curvature, "_LARGE", 1000 if large else 1 << 20)
    found = placed(Means().to(dtype), x)
    precision = torch.tensor([1500 / 4 + 1 / 25] * 3 + [3.0]).to(found)  # of log t under Gamma(3, 1) at t = 3: 3
    torch.testing.assert_close(found, precision.rsqrt(), rtol=2e-3 if dtype == torch.float32 else 1e-4, atol=0)


@pytest.mark.parametrize("guide", ["normal", "laplace"])
def test_differences_of_a_long_sequence_are_its_second_derivatives(guide, monkeypatch):
    torch.manual_seed(0)
    states = (torch.rand(900) < 0.04).cumsum(0) % 2
    x = torch.where(states == 1, 2.0, -1.0).double() + torch.randn(900).double() * torch.where(states == 1, 0.5, 1.0)
    found = {}
    for most in (10, 1 << 20):
        monkeypatch.setattr(curvature, "_LARGE", most)
        found[most] = placed(zoo.create("hmm", guide=guide).double(), x[None, :, None])
    torch.testing.assert_close(found[10], found[1 << 20], rtol=1e-3, atol=0)


def test_a_long_sequence_is_differentiated_once(monkeypatch):
    pair, x = zoo.create("hmm").double(), torch.randn(1, 70_000, 1, dtype=torch.float64)
    batch = Batch.of(x)
    objective = choose(pair, batch)
    monkeypatch.setattr(torch.autograd.functional, "hessian", None)
    runs = []
    real = curvature.negative_log_joint

    def counted(*given):
        function = real(*given)
        return lambda loc: runs.append(1) or function(loc)

    monkeypatch.setattr(curvature, "negative_log_joint", counted)
    values = {"locs": torch.tensor([[-0.5], [0.5]]).double()}
    with torch.no_grad():
        curvature.set_widths(pair, batch, objective, values)
    assert 2 * 7 + 2 <= len(runs) <= 4 * 7 + 2  # seven latents


@pytest.mark.parametrize("guide", ["normal", "multivariate"])
def test_many_latents_take_their_widths_from_the_rows_gradients(guide):
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(4000, 200, dtype=torch.float64)
    assert settings.hessian_latents < 200
    found = placed(Means(200, guide=guide).double(), x)
    ratio = (found[:200] * (4000 / 4 + 1 / 25) ** 0.5).numpy()
    error = (2 / 255) ** 0.5 / 2  # of a deviation by 256 chunks
    assert np.abs(ratio - 1).max() < 5 * error
    assert abs(ratio.mean() - 1) < 4 * error / 200**0.5 + error**2  # and the mean of 1 / sqrt of a variance
    low, high = np.log(scipy.stats.gamma(3).ppf([0.16, 0.84]))
    assert float(found[200]) == pytest.approx(
        (high - low) / 2, rel=0.25
    )  # 400 draws of the prior: nothing else is known


def test_a_mixture_of_many_latents_starts_near_its_mode():
    rng = np.random.default_rng(0)
    locs, z = rng.normal(0, 4, (6, 8)), rng.integers(0, 6, 6000)
    x = torch.tensor(locs[z] + rng.normal(size=(6000, 8)))
    pair = zoo.create("gmm", features=8, components=6).double()
    inference.fit(pair, x, method="em")
    drawn = inference.log_likelihood(pair, inference.draw(pair, x, 8, stats=False), x).mean()
    truth = -8 * scipy.stats.norm.entropy() - np.log(6)  # components that do not meet
    assert abs(float(drawn) - truth) < 4 * (8 / 2 / 6000) ** 0.5 + 269 / 6000  # parameters fitted and drawn: 1/2 each
