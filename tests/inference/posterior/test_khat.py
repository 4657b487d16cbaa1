"""Pareto k̂ and the leave-one-out score: a known tail, ArviZ's own numbers, and what has no tail."""

from __future__ import annotations

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from arviz_stats import base

import inference
import zoo
from inference.posterior import containers
from inference.posterior.khat import verdict
from inference.posterior.loo import leave_one_out
from inference.posterior.psis import EXACT, effective_share, pareto_k, smoothed, threshold
from tests.helpers.pairs import Normal
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
    found = leave_one_out(scores)
    elpd, k = found.pointwise, found.pareto_k
    np.testing.assert_allclose(elpd, theirs.elpd_i if hasattr(theirs, "elpd_i") else theirs.loo_i, rtol=1e-12)
    np.testing.assert_allclose(k, theirs.pareto_k, rtol=1e-12)
    np.testing.assert_array_equal(k, pareto_k(-scores))
    assert found.penalty == pytest.approx(theirs.p if hasattr(theirs, "p") else theirs.p_loo, rel=1e-9)
    assert found.se == pytest.approx(theirs.se, rel=1e-12)
    assert found.threshold == pytest.approx(theirs.good_k, rel=1e-12)
    assert elpd[0] == pytest.approx(-2, abs=0.02)
    assert (k[0] < 0.7) & (k[3] > 0.7)


def test_leave_one_out_is_the_density_under_the_others():
    rng = np.random.default_rng(0)
    x = rng.normal(size=20)  # x_n ~ Normal(m, 1), m ~ Normal(0, 1): m | the others is Normal(sum / N, 1 / N)
    draws = rng.normal(x.sum() / 21, 21**-0.5, (4000, 1))
    found = leave_one_out(-0.5 * ((x - draws) ** 2 + np.log(2 * np.pi)))
    elpd, k = found.pointwise, found.pareto_k
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


@pytest.mark.parametrize(("draws", "limit"), [(500, 0.629), (1000, 0.667), (2201, 0.7), (10**6, 0.7), (100, 0.5)])
def test_khat_is_held_against_the_threshold_of_its_draws(draws, limit):
    assert threshold(draws) == pytest.approx(limit, abs=5e-4)  # Vehtari et al. 2024, table 1
    assert min(map(threshold, range(1, 40))) == 0
    below, above = verdict(limit - 0.01, draws, 0.3), verdict(limit + 0.01, draws, 0.3)
    assert "good" in below or "usable" in below
    assert "poor" in above
    many = inference.posterior.khat.KHat(None, np.array([limit - 0.01, limit + 0.01]), particles=draws)
    assert many.reliable.tolist() == [True, False]
    assert f"50% are below {limit:.2f}" in str(many)


@pytest.mark.parametrize("width", [1.01, 1.05, 1.3, 2.0])
def test_the_effective_share_of_the_weights_is_that_of_two_normals(width):
    # p = Normal(0, 1) by draws of q = Normal(0, width): E[w^m] = width^m / sqrt(m width^2 - m + 1)
    draws = width * np.random.default_rng(0).normal(size=(200_000, 2))
    ratios = -0.5 * draws**2 * (1 - width**-2) + 1e4  # no constant counts
    second, fourth = (width**m / (m * width**2 - (m - 1)) ** 0.5 for m in (2, 4))
    exact = (2 * width**2 - 1) ** 0.5 / width**2
    np.testing.assert_allclose(effective_share(ratios), exact, atol=4 * (fourth / second**2 - 1) ** 0.5 / 200_000**0.5)
    assert ("exact" in verdict(float(pareto_k(ratios)[0]), 200_000, exact)) == (width < 1.06)


def test_weights_that_are_nearly_one_are_called_exact_whatever_their_tail():
    rng = np.random.default_rng(0)
    ratios = np.log1p(1e-5 * np.exp(1.5 * rng.exponential(size=1000)))  # a tail without a mean, of hardly any weight
    k, share = float(pareto_k(ratios)), float(effective_share(ratios))
    assert k > threshold(1000)
    assert share > EXACT
    assert ratios.mean() < 0.01  # nats between log evidence and bound
    found = inference.posterior.khat.KHat(k, np.array([k, -np.inf]), share, np.array([share, 1.0]))
    assert "poor" not in str(found)
    assert str(found).count("exact") == 2
    assert found.reliable.all()
    assert "poor" in verdict(k, 1000, 0.5)


def test_equal_weights_are_called_exact_and_not_minus_infinity():
    equal = inference.posterior.khat.KHat(-np.inf, np.full(3, -np.inf), 1.0, np.ones(3))
    for said in (str(equal), verdict(-np.inf), verdict(-np.inf, 500, 1.0)):
        assert "exact" in said
        assert "inf" not in said
        assert "good" not in said
    assert effective_share(np.array([np.nan, 0.0])) == 0
    assert effective_share(np.full((4, 2), -np.inf)).tolist() == [0, 0]


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_draws_too_few_for_a_tail_are_refused_and_25_are_judged(count):
    with pytest.raises(ValueError, match=f"^draws: a k̂ needs at least 25, for a tail of 5, got {count}$"):
        inference.khat(Normal(), np.ones(4), draws=count)
    with pytest.raises(ValueError, match=f"^particles: a k̂ needs at least 25, for a tail of 5, got {count}$"):
        inference.khat(zoo.create("gaussian_vae", features=2, latent=1, hidden=[2]), np.ones((4, 2)), particles=count)
    few = inference.draw(Normal(), np.ones(4), count)
    for call in (lambda: inference.loo(Normal(), few, np.ones(4)), lambda: inference.resample(few)):
        with pytest.raises(ValueError, match=f"^posterior: draws: .* needs at least 25, for a tail of 5, got {count}$"):
            call()
    ratios = np.random.default_rng(count).exponential(size=25)
    assert float(pareto_k(ratios)) == pytest.approx(float(base.array_stats.psislw(-ratios)[1]), rel=1e-12)  # of five
    assert np.isfinite(inference.khat(Normal(), np.ones(4), draws=25).globals)


def test_a_score_that_no_draw_moves_is_its_own():
    constant, ordinary = np.full(100, -3.0), np.random.default_rng(0).normal(-2, 0.1, 100)
    found = leave_one_out(np.stack([constant, ordinary], axis=-1))
    elpd, k = found.pointwise, found.pareto_k
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


@pytest.mark.parametrize("size", [25, 225, 226, 1000])
@pytest.mark.parametrize("heavy", [2, 5, 50])
def test_smoothed_weights_are_those_of_arviz(size, heavy):
    ratios = np.random.default_rng(size + heavy).standard_t(heavy, size)
    weights, k = smoothed(ratios)
    expected, expected_k = base.array_stats.psislw(-ratios)
    assert k == pytest.approx(float(expected_k), rel=1e-10)
    np.testing.assert_allclose(weights, expected, rtol=1e-10, atol=1e-12)
