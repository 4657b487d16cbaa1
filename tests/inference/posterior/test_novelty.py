"""novelty against its formulas, and on a regression whose uncertainty is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

import inference
import zoo
from inference.posterior.novelty import novelty


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    return zoo.create("bayesian_vae", features=6, hidden=(4,)).double()


@pytest.fixture(scope="module")
def rows(pair):
    return pair.simulate(30)[0].x


def test_scores_are_the_formulas(pair, rows):
    posterior = inference.draw(pair, rows, 20, seed=4)
    log_p = inference.log_likelihood(pair, posterior, rows, particles=30, seed=2)[0].numpy()
    log_w = log_p - logsumexp(log_p, 0)
    expected = {
        "variance": log_p.var(0, ddof=1),
        "ess": math.log(20) + np.log((np.exp(log_w) ** 2).sum(0)),
    }
    for score, values in expected.items():
        found = novelty(pair, rows, posterior, particles=30, score=score, seed=2)
        assert found.shape == (30,)
        assert (found >= 0).all()
        np.testing.assert_allclose(found.numpy(), values, rtol=1e-9)
    assert torch.equal(novelty(pair, rows, draws=5, seed=1), novelty(pair, rows, draws=5, seed=1))


def test_against_a_reference_scores_are_fractions(pair, rows):
    scores = novelty(pair, rows, draws=8)
    ranks = novelty(pair, rows, draws=8, reference=rows)
    order = scores.argsort()
    torch.testing.assert_close(ranks[order], torch.arange(30, dtype=torch.float64) / 30)


def test_draws_that_agree_find_nothing_strange(pair, rows):
    """With one draw of the weights twice what is left is the noise of the codes, and falls with more particles."""
    drawn = inference.draw(pair, rows[:1], 1)
    twice = inference.Posterior(
        {name: drawn[name].expand(1, 20, *drawn[name].shape[2:]) for name in drawn.globals}, size=20
    )
    few, many = (float(novelty(pair, rows, twice, particles=k).mean()) for k in (10, 1000))
    assert many < few / 20  # 1/100 within the noise


def test_a_regression_is_surprised_where_it_extrapolates():
    """y at the centre of the data, and at ever larger x: the score rises with the predictive variance."""
    torch.manual_seed(0)
    fitted = zoo.create("polynomial_regression").double()
    batch, _ = fitted.simulate(40)
    inference.fit(fitted, batch, steps=300, device="cpu", progress=False)
    centre = batch.x.mean(0, keepdim=True)
    far = torch.cat([centre + step * batch.x.std() for step in (0.0, 3.0, 6.0)])
    mean = inference.predict(fitted, inference.draw(fitted, batch, 200), batch.but(size=3, total=3, x=far, y=None))["y"]
    scores = novelty(fitted, batch.but(size=3, total=3, x=far, y=mean[0].mean(0)), draws=200)
    assert scores[0] < scores[1] < scores[2]


def test_what_cannot_be_scored_is_refused(pair, rows):
    with pytest.raises(ValueError, match="gaussian_vae has no global latents"):
        novelty(zoo.create("gaussian_vae", features=6), rows)
    with pytest.raises(ValueError, match="at least 2, got 1"):
        novelty(pair, rows, draws=1)
    with pytest.raises(ValueError, match="expected one of variance, ess, got 'entropy'"):
        novelty(pair, rows, score="entropy")
