"""Pareto k̂ and the leave-one-out score: a known tail, ArviZ's own numbers, and what has no tail."""

from __future__ import annotations

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.posterior import containers
from inference.posterior.khat import leave_one_out, pareto_k
from zoo.base import Batch, ModelGuide


@pytest.mark.parametrize("shape", [0.1, 0.4, 0.7, 1.0])
def test_khat_is_the_shape_of_the_weights_tail(shape):
    # log weights of a Pareto law are exponential; the estimate is drawn to 0.5 by ten draws' worth
    ratios = shape * np.random.default_rng(0).exponential(size=(100_000, 4))
    np.testing.assert_allclose(pareto_k(ratios), (949 * shape + 10 * 0.5) / 959, atol=0.12)
    assert pareto_k(-ratios).max() < 0  # the large weights count, and these are bounded


def test_khat_and_loo_are_those_of_arviz():
    scores = np.random.default_rng(0).normal(-2, [0.05, 0.5, 1.0, 2.0], (200, 4))  # above 225 draws 0.x counts a tail
    posterior = {"a": (("chain", "draw"), np.zeros((1, 200)))}  # of one more than 1.x
    exported = containers.build(
        {"posterior": posterior, "log_likelihood": {"x": (("chain", "draw", "obs"), scores[None])}}
    )
    with pytest.warns(UserWarning, match="shape parameter of Pareto"):
        theirs = az.loo(exported, pointwise=True)
    elpd, k = leave_one_out(scores)
    np.testing.assert_allclose(elpd, theirs.elpd_i if hasattr(theirs, "elpd_i") else theirs.loo_i, rtol=1e-12)
    np.testing.assert_allclose(k, theirs.pareto_k, rtol=1e-12)
    np.testing.assert_array_equal(k, pareto_k(-scores))
    assert elpd[0] == pytest.approx(-2, abs=0.02)
    assert (k[0] < 0.7) & (k[3] > 0.7)


def test_leave_one_out_is_the_density_under_the_others():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)  # x_n ~ Normal(m, 1), m ~ Normal(0, 1): m | the others is Normal(sum / N, 1 / N)
    draws = rng.normal(x.sum() / 21, 21**-0.5, (4000, 1))
    elpd, k = leave_one_out(-0.5 * ((x - draws) ** 2 + np.log(2 * np.pi)))
    mean, variance = (x.sum() - x) / 20, 1 + 1 / 20
    np.testing.assert_allclose(elpd, -0.5 * ((x - mean) ** 2 / variance + np.log(2 * np.pi * variance)), atol=0.01)
    assert k.max() < 0.5


def test_rows_without_a_tail_stand_beside_those_with_one():
    normal = np.random.default_rng(0).normal(size=500)
    rows = {
        "an exact guide": (np.full(500, 3.0), -np.inf),
        "two values": (np.repeat([0.0, -1.0], 250), None),
        "one dwarfs the rest": (np.where(np.arange(500) == 7, 0.0, -1e4 + normal), np.inf),
        "not a number": (np.where(np.arange(500) == 7, np.nan, normal), np.inf),
        "infinite": (np.where(np.arange(500) == 7, np.inf, normal), np.inf),
        "outside the support": (np.full(500, -np.inf), np.inf),
        "half of them outside": (np.where(np.arange(500) % 2, normal, -np.inf), None),
        "normal": (normal, None),
    }
    found = pareto_k(np.stack([row for row, _ in rows.values()], axis=-1))
    for (name, (row, wanted)), k in zip(rows.items(), found, strict=True):
        assert k == pareto_k(row), name
        assert k == wanted if wanted is not None else -1 < k < 0.7, (name, k)
    assert pareto_k(normal[:24]) == np.inf  # five weights make a tail, a fifth of the draws are in it


def test_rounding_does_not_move_khat():
    ratios = np.random.default_rng(0).normal(0, 0.5, (1000, 20))
    rounded = np.round(ratios, 2)  # what single precision leaves of log densities about -1e5
    assert len(np.unique(rounded)) < 400
    np.testing.assert_allclose(pareto_k(rounded), pareto_k(ratios), atol=0.1)
    assert np.abs(pareto_k(rounded) - pareto_k(ratios)).mean() < 0.02


def test_a_score_that_no_draw_moves_is_its_own():
    constant, ordinary = np.full(100, -3.0), np.random.default_rng(0).normal(-2, 0.1, 100)
    elpd, k = leave_one_out(np.stack([constant, ordinary], axis=-1))
    assert elpd[0] == pytest.approx(-3)
    assert k[0] == -np.inf
    assert elpd[1] == pytest.approx(-2, abs=0.05)


class Unguided(ModelGuide):
    """x_n ~ Normal(r_n, 1), r_n ~ Normal(m, 1), m ~ Normal(0, 1), and nothing draws r."""

    def __init__(self, guide: zoo.guides.Family = "normal") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        m = pyro.sample("m", dist.Normal(self.zero, 1.0))
        with batch.plate():
            r = pyro.sample("r", dist.Normal(m, 1.0))
            return pyro.sample("x", dist.Normal(r, 1.0), obs=batch.x)


@pytest.mark.parametrize("ask", [inference.khat, inference.fit, inference.gap])
def test_a_latent_that_the_guide_leaves_out_is_named_with_the_cure(ask):
    pair = Unguided()
    cure = r"continuous site 'r' is neither .* write a `guide` that samples 'r', with self\.global_guide\(batch\)"
    for data in (np.ones(5), Batch.of(np.ones(5))):
        with pytest.raises(ValueError, match=cure):
            ask(pair, data)


def test_a_latent_that_the_guide_leaves_out_is_integrated_over_its_prior():
    pair, x = Unguided().double(), torch.linspace(-2, 2, 5, dtype=torch.float64)
    m = torch.tensor([-0.5, 0.0, 1.0], dtype=torch.float64)
    found = inference.log_likelihood(pair, inference.Posterior({"m": m[None]}, size=3), x, particles=20_000)[0]
    wanted = dist.Normal(m[:, None], 2**0.5).log_prob(x)
    # weights Normal(x | r, 1) under r ~ Normal(m, 1): their second moment is known
    second = dist.Normal(m[:, None], 1.5**0.5).log_prob(x).exp() / (4 * torch.pi) ** 0.5
    error = ((second / wanted.exp() ** 2 - 1) / 20_000).sqrt()
    assert ((found - wanted).abs() < 4 * error).all()
