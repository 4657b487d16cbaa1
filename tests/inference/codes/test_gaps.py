"""Refined codes, marginal likelihoods and gaps, against the linear model where all of them are known."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import inference
import zoo
from inference.codes.annealing import Annealing
from inference.codes.gaps import gap, log_marginal
from inference.codes.reading import Codes
from inference.codes.refinement import refine
from inference.data.check import as_batch, check
from inference.running.pieces import share
from inference.running.quiet import quietly
from tests.helpers.refining import Mixed, digits, exact_log_marginal, exact_posterior, factorised_gap, linear
from zoo.base import ModelGuide

# --- log_marginal -----------------------------------------------------------------------------------------------------


def test_log_marginal_equals_the_closed_form():
    pair, x = linear()
    torch.testing.assert_close(log_marginal(pair, x, particles=10), exact_log_marginal(pair, x), rtol=1e-9, atol=1e-9)


def test_log_marginal_under_an_encoder_that_is_off():
    pair, x = linear(off=0.06)
    exact = exact_log_marginal(pair, x)
    found = [log_marginal(pair, x, particles=2000, seed=seed) for seed in range(4)]
    spread = torch.stack(found).std(0).mean()
    assert 0 < spread < 0.1
    assert abs(torch.stack(found).mean() - exact.mean()) < 4 * spread / math.sqrt(4 * len(x)) + spread.square()
    refined = refine(pair, x, covariance="full", samples=2, steps=150)
    better = log_marginal(pair, x, proposal=refined, particles=500)
    assert (better - exact).abs().max() < 0.01


def test_log_marginal_of_classes_is_exact():
    pair = zoo.create("gmm").double()
    batch, _ = pair.simulate(20)
    posterior = inference.draw(pair, batch, draws=9)
    likelihood = inference.log_likelihood(pair, posterior, batch)
    wanted = likelihood.flatten(0, 1).logsumexp(0) - math.log(9)
    torch.testing.assert_close(log_marginal(pair, batch, posterior=posterior), wanted)


class Classes(ModelGuide):
    """k ~ (0.25, 0.75), x ~ N(m_k, 0.5): nothing to draw, neither codes nor globals."""

    def __init__(self) -> None:
        super().__init__("normal")
        self.register_buffer("weights", torch.tensor([0.25, 0.75]))
        self.register_buffer("locs", torch.tensor([-1.0, 2.0]))

    def model(self, batch):
        with batch.plate():
            k = pyro.sample("k", dist.Categorical(self.weights), infer={"enumerate": "parallel"})
            return pyro.sample("x", dist.Normal(self.locs[k], 0.5), obs=batch.x)

    def guide(self, batch):
        pass


def test_log_marginal_where_nothing_is_drawn_is_the_density():
    pair = Classes().double()
    x = pair.simulate(7)[0].x
    wanted = np.log(scipy.stats.norm.pdf(x[:, None], [-1.0, 2.0], 0.5) @ pair.weights.numpy())
    np.testing.assert_allclose(log_marginal(pair, x, particles=50), wanted, rtol=1e-9)


def test_log_marginal_with_a_class_and_a_code():
    pair = Mixed().double()
    x = pair.simulate(50)[0].x
    density = dist.Normal(pair.locs, math.sqrt(1.25)).log_prob(x) + pair.weights.log()
    z = (log_marginal(pair, x) - density.logsumexp(-1)) / math.sqrt(1 / 5000)
    assert abs(z.mean()) < 4 * z.std() / math.sqrt(50) + 0.1
    assert z.std() < 5


def test_global_latents_are_mixed_over():
    """log of the mean of p(x | t), not the mean of its log."""
    pair = zoo.create("bayesian_vae", features=4, likelihood="gaussian").double()
    batch, _ = pair.simulate(5)
    posterior = inference.draw(pair, batch.select(slice(0, 1)), draws=3)
    likelihood = inference.log_likelihood(pair, posterior, batch, particles=20_000).squeeze(0)
    wanted = likelihood.logsumexp(0) - math.log(3)
    found = log_marginal(pair, batch, particles=60_000, posterior=posterior)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.1)


# --- gap --------------------------------------------------------------------------------------------------------------


def test_no_gap_where_the_guide_holds_the_posterior():
    pair, x = linear()
    found = gap(pair, x, covariance="full", particles=1000, steps=200)
    torch.testing.assert_close(found.encoder, exact_log_marginal(pair, x), rtol=1e-9, atol=1e-9)
    assert found.approximation.abs().max() < 1e-3
    assert found.amortisation.abs().max() < 1e-3


@pytest.mark.parametrize("method", ["importance", "annealed"])
def test_gaps_of_the_linear_model(method):
    """Approximation: the divergence of the best factorised Gaussian. The rest is the encoder's."""
    pair, x = linear(off=0.15)
    found = gap(pair, x, method=method, chains=64, temperatures=25, steps=300)
    exact, (_, covariance) = exact_log_marginal(pair, x), exact_posterior(pair, x)
    error = found.error.square().sum().sqrt() / len(x)
    assert 0 < error < 0.02
    # the log of an unbiased estimate is low by half its variance
    assert abs((found.log_marginal - exact).mean()) < 4 * error + found.error.square().mean()
    assert abs(found.approximation.mean() - factorised_gap(covariance)) < 0.03
    assert found.amortisation.mean() > 0.1
    said = str(found)
    assert (
        f"by {'annealed ' if method == 'annealed' else ''}importance sampling: {float(found.log_marginal.mean()):.4g} ±"
        in said
    )
    assert "amortisation gap" in said
    assert "over 40 observations" in said


def test_annealing_from_far_is_unbiased():
    """Of p(x), not of its log: the ratio to the exact value has mean one, from wherever the path starts."""
    pair, x = linear(off=0.1, rows=60)
    batch = as_batch(pair, x)
    codes = Codes.of(check(pair, batch))
    poor = refine(pair, x, steps=1, samples=2)
    with quietly(0):
        found, error = Annealing(codes, poor, temperatures=20, chains=64)(batch, {})
    ratio = (found - exact_log_marginal(pair, x)).exp()
    z = (ratio - 1).mean() / (ratio.std() / math.sqrt(len(x)))
    assert abs(z) < 4
    assert ratio.std() < 0.5
    assert 0.6 < (ratio.std() / error.square().mean().sqrt()) < 1.6


@pytest.mark.slow
def test_gap_on_digits_by_two_methods():
    pair, x = digits()
    x = x[:60]
    found, annealed = gap(pair, x), gap(pair, x, method="annealed", steps=200)
    error = (found.error.square() + annealed.error.square()).sum().sqrt() / len(x)
    difference = (annealed.log_marginal - found.log_marginal).mean()
    assert abs(difference) < 4 * error + annealed.error.square().mean(), f"{difference} ± {error}"
    assert error < 0.1
    assert found.approximation.mean() > 0
    assert found.amortisation.mean() > found.approximation.mean()


def test_share_deals_everything_out():
    for total, among in ((100, 7), (3, 10), (5, 1), (30, 30)):
        pieces = list(share(total, among))
        assert [i for _, where in pieces for i in range(where.start, where.stop)] == list(range(total))
        assert len({s for s, _ in pieces}) == min(total, among)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda pair, x: refine(pair, x, steps=0), "steps: expected a whole number"),
        (lambda pair, x: refine(pair, x, lr=-1), "lr: expected a finite number above 0"),
        (lambda pair, x: refine(pair, x, covariance="diag"), "expected 'diagonal' or 'full'"),
        (lambda pair, x: gap(pair, x, method="exact"), "expected 'importance' or 'annealed'"),
        (lambda pair, x: gap(pair, x, chains=1), "chains: expected a whole number of at least 2"),
        (lambda pair, x: log_marginal(pair, x, particles=0), "particles: expected a whole number"),
        (lambda pair, x: log_marginal(pair, x, proposal="prior"), "proposal: expected 'encoder' or what `refine`"),
        (lambda pair, x: log_marginal(pair, x, proposal=refine(pair, x[:3], steps=1)), "refined for 3 rows, the data"),
        (lambda pair, x: refine(zoo.create("gmm"), x[:, :2]), "refine: the guide of gmm draws no code"),
        (lambda pair, x: gap(zoo.create("gmm"), x[:, :2]), "gap: the guide of gmm draws no code"),
        (lambda pair, x: refine(pair, x * torch.nan), "takes no missing values"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(*linear())


def test_seeds_and_the_callers_random_state():
    pair, x = linear(off=0.15, rows=3)
    pair = pair.float()
    state = torch.get_rng_state()
    options = {"steps": 20, "particles": 50}
    first, again, other = (gap(pair, x, seed=seed, **options) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    for name in ("log_marginal", "best", "encoder"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
        assert getattr(first, name).dtype == torch.float32
