"""gaussian_vae against formulas written out by hand, factor analysis, and loops over particles."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import pyro
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from pyro import poutine
from sklearn.datasets import load_wine
from sklearn.decomposition import FactorAnalysis

import inference
import zoo
from inference.data.check import as_batch
from inference.running.densities import run
from tests.helpers.vae import LIKELIHOODS, create, elbo, gaussians, network, softplus
from zoo.base import Batch
from zoo.parts.nets import scale_tril

# --- formulas ---------------------------------------------------------------------------------------------------------


def log_likelihood(likelihood, x, h, trials, scale):
    """log p(x | z), (B,), by SciPy, from decoder outputs h, (B, D, outputs)."""
    if likelihood == "categorical":
        logits = scipy.special.log_softmax(h, axis=-1)
        return np.take_along_axis(logits, x[..., None].astype(int), -1)[..., 0].sum(-1)
    if likelihood == "beta_binomial":
        a, b = softplus(h[..., 0]), softplus(h[..., 1])
        return scipy.stats.betabinom.logpmf(x, trials, a, b).sum(-1)
    if likelihood == "gaussian":
        return scipy.stats.norm.logpdf(x, h[..., 0], scale).sum(-1)
    return scipy.stats.binom.logpmf(x, trials or 1, scipy.special.expit(h[..., 0])).sum(-1)


@pytest.mark.parametrize("guide", ["diagonal", "full"])
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_elbo_equals_the_formulas(likelihood, guide):
    """Same weights, same noise, every term written out again: log-likelihood by SciPy, KL by determinants."""
    rows, features, latent = 6, 9, 3
    trials = LIKELIHOODS[likelihood]
    pair = create(likelihood, features=features, latent=latent, hidden=(5, 4), guide=guide).double()
    if likelihood == "gaussian":
        with torch.no_grad():
            pair.scale = torch.linspace(0.5, 2, features, dtype=torch.float64)
    batch = as_batch(pair, pair.simulate(rows)[0].x)
    torch.manual_seed(3)
    obtained = elbo(pair, batch)
    torch.manual_seed(3)
    noise = torch.normal(torch.zeros(rows, latent, dtype=torch.float64), 1.0).numpy()

    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    x = batch.x.numpy()
    total = 0.0
    for n, (loc, tril) in enumerate(gaussians(pair, x / (trials or 1))):
        covariance = tril @ tril.T
        divergence = 0.5 * (np.trace(covariance) + loc @ loc - latent - np.linalg.slogdet(covariance)[1])
        z = loc + tril @ noise[n]
        h_n = network(state, "decoder", z).reshape(features, -1)
        scale = pair.scale.detach().numpy() if likelihood == "gaussian" else None
        total += log_likelihood(likelihood, x[n], h_n, trials, scale) - divergence
    assert obtained == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("likelihood", ["binomial", "beta_binomial", "categorical"])
def test_counts_sum_to_one(likelihood):
    """The probabilities of all counts 0..trials of a pixel sum to one, and the support is exactly those."""
    pair = create(likelihood, features=4).double()
    pixel = pair.decode(torch.randn(2, dtype=torch.float64))
    counts = torch.arange(pair.trials + 1, dtype=torch.float64)
    total = pixel.expand((len(counts), 4)).log_prob(counts[:, None].expand(-1, 4)).logsumexp(0)
    torch.testing.assert_close(total, torch.zeros(4, dtype=torch.float64), atol=1e-9, rtol=0)
    allowed = pixel.support.check(torch.tensor([-1.0, 0.0, 0.5, pair.trials, pair.trials + 1])[:, None].expand(-1, 4))
    assert allowed.all(1).tolist() == [False, True, False, True, False]


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"net": "conv", "features": 10}, "features=10 is not a square"),
        ({"net": "conv", "features": 16, "hidden": (4, 4, 4)}, "at most 2"),
        ({"net": "residual", "hidden": ()}, "at least one hidden width"),
        ({"trials": 16}, "takes no trials"),
        ({"components": 9}, "prior='standard' takes no components, got components=9"),
        ({"latent": 5, "features": 4}, "latent=5 dimensions is larger than the data, features=4"),
        ({"likelihood": "poisson"}, "expected one of"),
        ({"hidden": (64, 0)}, r"hidden'\[1\]: expected at least 1"),
    ],
)
def test_bad_config(config, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("gaussian_vae", **config)


def test_guide_needs_observations():
    with pytest.raises(ValueError, match="needs the observations"):
        zoo.create("gaussian_vae").guide(Batch(3, 3))


def test_scales_stay_positive():
    """Far below zero softplus underflows: the scale stops at the rounding unit instead."""
    tril = scale_tril(torch.full((2, 3), -200.0), 2)
    assert (tril.diagonal(dim1=-2, dim2=-1) > 0).all()
    assert (tril.triu(1) == 0).all()


# --- particles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", ["mlp", "conv", "residual"])
@pytest.mark.parametrize("guide", ["diagonal", "full", "flow"])
def test_particles_equal_a_loop(net, guide):
    """Codes of S particles at once, and the guide's draws for them: each as if it were alone."""
    pair = create("beta_binomial", features=16, net=net, guide=guide, hidden=(4,)).double()
    batch, _ = pair.simulate(3)

    def log_prob(z):
        with pyro.plate("particles", 5, dim=-2) if z.ndim == 3 else contextlib.nullcontext():
            recorded = poutine.trace(poutine.condition(pair.model, {"z": z})).get_trace(batch)
        recorded.compute_log_prob()
        return recorded.nodes["x"]["log_prob"]

    with pyro.plate("particles", 5, dim=-2):
        z = pair.guide(batch)
    assert z.shape == (5, 3, 2)
    assert (z[0] != z[1]).all()
    together = log_prob(z)
    assert together.shape == (5, 3)
    torch.testing.assert_close(together, torch.stack([log_prob(alone) for alone in z]), rtol=1e-12, atol=1e-12)


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide", ["diagonal", "full"])
def test_linear_networks_are_factor_analysis(guide):
    """With no hidden layer and `gaussian` features the best ELBO is the maximum likelihood of factor analysis.

    A diagonal guide reaches it too: it turns the code so that the posterior covariance is diagonal.
    """
    x = load_wine().data
    x = (x - x.mean(0)) / x.std(0)
    best = FactorAnalysis(3, svd_method="lapack", tol=1e-9, max_iter=5000).fit(x).score(x)
    pair = create("gaussian", features=13, latent=3, hidden=(), guide=guide).double()
    inference.fit(pair, x, steps=400, lr=0.05, progress=False)
    torch.manual_seed(0)
    with torch.no_grad():
        draws = run(pair, as_batch(pair, x), 500, analytic=True).log_weight.mean(1)
    error = draws.std().item() / math.sqrt(len(draws))
    assert draws.mean().item() < best + 4 * error
    assert draws.mean().item() > best - 0.005 * abs(best) - 4 * error


CONV, RESIDUAL = ({"net": net, "hidden": (16, 32)} for net in ("conv", "residual"))
