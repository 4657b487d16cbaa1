"""Refined codes against the best Gaussian of the linear model, and against long runs."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.codes.gaps import gap
from inference.codes.reading import Codes, Encoder
from inference.codes.refinement import elbo, refine
from inference.data.check import as_batch, check
from inference.fitting.objective import choose
from inference.running.quiet import quietly
from tests.helpers.refining import (
    OnTheUnitInterval,
    Stretched,
    digits,
    exact_log_marginal,
    exact_posterior,
    factorised_gap,
    linear,
)
from zoo.base import ModelGuide
from zoo.settings import settings


def divergence(loc, tril, mean, covariance):
    """KL(N(loc, tril tril') || N(mean, covariance)) of each row, (N,)."""
    q = torch.distributions.MultivariateNormal(loc, scale_tril=tril)
    return torch.distributions.kl_divergence(q, torch.distributions.MultivariateNormal(mean, covariance))


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_refine_reaches_the_best_gaussian(covariance):
    """The ELBO misses log p(x) by the divergence from the posterior, here in closed form."""
    pair, x = linear(off=0.15)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    found = refine(pair, x, covariance=covariance)
    mean, posterior = exact_posterior(pair, x)
    tril = found.scale.diag_embed() if found.tril is None else found.tril
    torch.testing.assert_close(tril.square().sum(-1).sqrt(), found.scale)
    missed = divergence(found.loc, tril, mean, posterior.expand(len(x), -1, -1))
    least = factorised_gap(posterior) if covariance == "diagonal" else 0.0
    assert (missed >= least - 1e-9).all()
    assert (missed - least).max() < 0.01  # nats
    # Its own estimate says the same of it, and it has gained on the encoder.
    z = (exact_log_marginal(pair, x) - missed - found.elbo) * (200**0.5)
    assert abs(z.mean()) < 4 * z.std() / math.sqrt(len(x))
    assert ((found.elbo - found.encoder_elbo) > -4 * found.error).all()
    assert (found.elbo - found.encoder_elbo).mean() > 0.1
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())


def test_draws_of_refined_codes():
    pair, x = linear()
    z = refine(pair, x, covariance="full", samples=2, steps=100).draws(4000)["z"]
    assert z.shape == (1, 4000, 40, 3)
    mean, posterior = exact_posterior(pair, x)
    off = z[0] - mean
    spread = (posterior.square() + posterior.diagonal()[:, None] * posterior.diagonal()).sqrt()
    covariance = torch.einsum("snl,snm->lm", off, off) / (4000 * 40)
    assert ((covariance - posterior).abs() < 0.02 * spread).all()  # 160,000 draws, and what 100 steps leave


def test_an_exact_encoder_stays():
    pair, x = linear()
    found = refine(pair, x, covariance="full", steps=200)
    assert (found.elbo - found.encoder_elbo).abs().max() < 1e-3


def test_a_positive_code():
    """The change of variables counts: without it the mode of z, not of log z, would be sought."""
    pair = Stretched().double()
    x = pair.simulate(20)[0].x
    found = refine(pair, x)
    assert (found.loc - x / 2).abs().max() < 0.03
    assert (found.scale - math.sqrt(0.5)).abs().max() < 0.03
    exact = dist.Normal(0.0, math.sqrt(2.0)).log_prob(x[:, 0])
    assert (found.elbo - exact).abs().max() < 0.01


def test_bounded_codes_of_several_shapes():
    """In unconstrained space; log p(x) by quadrature."""
    pair = OnTheUnitInterval().double()
    x = pair.simulate(12)[0].x
    found = refine(pair, x, steps=150)
    draws = found.draws(5)
    assert draws["w"].shape == (1, 5, 12, 2)
    assert ((draws["z"] > 0) & (draws["z"] < 1)).all()
    assert (draws["s"] > 0).all()
    exact = pair.on_a_grid(x)
    assert (found.elbo < exact + 4 * found.error).all()
    assert found.elbo.mean() > found.encoder_elbo.mean() + 0.1
    by = gap(pair, x, steps=100)
    assert ((by.log_marginal - exact).abs() < 5 * by.error + 1e-3).all()


def test_density_of_a_refined_proposal_is_that_of_its_draws():
    pair = OnTheUnitInterval().double()
    batch = as_batch(pair, pair.simulate(6)[0])
    codes = Codes.of(check(pair, batch))
    for covariance in ("diagonal", "full"):
        found = refine(pair, batch, covariance=covariance, steps=5, samples=2)
        rows = slice(2, 5)
        part = batch.select(rows)
        with quietly(0):
            values, log_q = found.propose(codes, part, rows, 4, {})
            torch.testing.assert_close(found.log_prob(codes, part, rows, values, {}), log_q)
            values, log_q = codes.propose(part, 4, {})
            torch.testing.assert_close(codes.log_guide(part, values, {}), log_q)


def test_refine_in_pieces_is_refine():
    """Rows are independent: cutting them up changes nothing but the noise."""
    pair, x = linear(off=0.05)
    whole = refine(pair, x, steps=150)
    with settings.using(memory=2**14):
        cut = refine(pair, x, steps=150)
    assert not torch.equal(cut.loc, whole.loc)
    assert ((cut.loc - whole.loc) / whole.scale).abs().max() < 0.05


@pytest.mark.slow
def test_refine_goes_where_a_long_run_goes():
    """On digits that the VAE has not seen."""
    pair, x = digits()
    x = x[:60]
    long = refine(pair, x, steps=3000, lr=0.03, samples=1000)
    refined = refine(pair, x, samples=1000)
    gained = refined.elbo - refined.encoder_elbo
    assert gained.mean() > 1
    assert (gained > -4 * refined.error).all()
    assert 0.97 < gained.mean() / (long.elbo - refined.encoder_elbo).mean() < 1.03


def test_elbo_in_two_ways():
    """By `refine`'s own sum, and by the bound that `fit` climbs."""
    pair, x = linear(off=0.15)
    batch = as_batch(pair, x)
    with quietly(0):
        mean, error = elbo(Codes.of(check(pair, batch)), batch, Encoder(), [{}], 4000)
        losses = torch.stack([choose(pair, batch, particles=100).loss(pair, batch) for _ in range(20)])
    spread = error.square().sum().sqrt() + losses.std() / math.sqrt(20)
    assert abs(mean.sum() + losses.mean()) < 4 * spread


class Steep(ModelGuide):
    """z ~ N(0, 1), x ~ N(exp z, 1): the guide's z of a large x has a gradient whose square is no float32."""

    dims = {"x": ("feature",)}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(0 * self.one, self.one))
            return pyro.sample("x", dist.Normal(z.exp()[..., None], self.one).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(0.3 * batch.x[:, 0], 0.1 * self.one))


@pytest.mark.parametrize("wild", [140.0, 1000.0])  # gradients of 1e36, and of no number
def test_a_row_that_overflows_holds_up_no_other(wild):
    """There is no common length of the gradient, and no common refusal."""
    pair, x = Steep(), torch.tensor([[0.5], [1.0], [2.0], [3.0]])
    alone = refine(pair, x, steps=60, samples=2)
    x[2] = wild
    found, others = refine(pair, x, steps=60, samples=2), [0, 1, 3]
    assert found.loc[2] > 10
    assert (alone.loc[others] - 0.3 * x[others]).abs().max() > 0.1
    torch.testing.assert_close(found.loc[others], alone.loc[others])
    torch.testing.assert_close(found.scale[others], alone.scale[others])
