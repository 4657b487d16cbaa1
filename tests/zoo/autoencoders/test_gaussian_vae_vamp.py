"""The vamp prior of gaussian_vae: its divergence, its mass, its pseudo-inputs, and what it can hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from pyro import poutine
from sklearn.decomposition import FactorAnalysis

import inference
from inference.data.check import as_batch
from inference.running.densities import run
from tests.helpers.vae import create, gaussians


def vamp(likelihood, **config):
    """A pair whose pseudo-inputs have codes well apart."""
    pair = create(likelihood, prior="vamp", components=5, **config).double()
    with torch.no_grad():
        for parameter in pair.encoder.parameters():
            parameter.mul_(3)
    return pair


def components(pair):
    """(m, T) of q(z | u_k), the base of it for a flow: (K, L), (K, L, L)."""
    loc, tril = zip(*gaussians(pair, pair.pseudo_inputs.detach().numpy()), strict=True)
    return np.array(loc), np.array(tril)


def log_mixture(x, loc, tril):
    """log 1/K sum_k N(x | loc_k, T_k T_k'), (N,), by SciPy."""
    terms = [
        scipy.stats.norm.logpdf(scipy.linalg.solve_triangular(t, (x - m).T, lower=True)).sum(0)
        - np.log(np.diag(t)).sum()
        for m, t in zip(loc, tril, strict=True)
    ]
    return scipy.special.logsumexp(terms, axis=0) - math.log(len(terms))


@pytest.mark.parametrize("guide", ["diagonal", "full", "flow"])
@pytest.mark.parametrize("likelihood", ["gaussian", "binomial"])
def test_kl_to_the_vamp_prior(likelihood, guide):
    """log q(z | x) - log p(z) at the guide's own draw, p being the mixture that SciPy makes of the weights alone."""
    pair = vamp(likelihood, features=9, latent=3, hidden=(6,), guide=guide)
    batch = as_batch(pair, pair.simulate(6)[0].x)
    torch.manual_seed(1)
    obtained = run(pair, batch).local_kl["z"].detach().numpy()
    torch.manual_seed(1)
    recorded = poutine.trace(pair.guide).get_trace(batch)
    recorded.compute_log_prob()
    site = recorded.nodes["z"]
    log_p = log_mixture(site["value"].detach().numpy(), *components(pair))
    np.testing.assert_allclose(obtained, site["log_prob"].detach().numpy() - log_p, rtol=1e-9)


def test_the_vamp_prior_integrates_to_one_and_draws_are_its_own():
    pair = vamp("binomial", features=9, latent=2, hidden=(6,), guide="full")
    grid = torch.linspace(-30, 30, 1201, dtype=torch.float64)
    with torch.no_grad():
        total = pair.prior().log_prob(torch.cartesian_prod(grid, grid)).logsumexp(0) + 2 * math.log(60 / 1200)
    assert float(total) == pytest.approx(0, abs=1e-6)
    z = pair.simulate(4000)[1]["z"].numpy()
    loc, tril = components(pair)
    spread = loc.T @ loc / 5 + np.einsum("kij,klj->il", tril, tril) / 5  # E z z'
    products = np.einsum("ni,nj->nij", z, z)
    for draws, expected in ((z, loc.mean(0)), (products, spread)):
        assert (np.abs(draws.mean(0) - expected) < 4 * draws.std(0) / math.sqrt(len(z))).all()


def test_pseudo_inputs_start_at_rows_and_stay_in_range():
    x = (torch.arange(40.0).reshape(10, 4) % 17).double()
    pair = create("binomial", features=4, prior="vamp", components=6).double()
    inference.fit(pair, x, steps=1, lr=1e-9, progress=False)
    distance = torch.cdist(pair.pseudo_inputs * 16, x.clamp(0.16, 15.84))
    assert (distance.amin(1) < 1e-6).all()
    assert len(set(distance.argmin(1).tolist())) == 6  # rows differ
    inference.fit(pair, x, steps=20, lr=1.0, progress=False)
    assert ((pair.pseudo_inputs > 0) & (pair.pseudo_inputs < 1)).all()
    real = create("gaussian", features=4, prior="vamp", components=12).double()  # more than rows
    real.initial(as_batch(real, x))
    found = real.units.inverse(real.pseudo_inputs)[:10, 0].sort().values
    torch.testing.assert_close(found, x[:, 0].sort().values)


def test_a_vamp_prior_reaches_past_any_gaussian_one():
    """With linear networks p(x) is a mixture of Gaussians in closed form. On clusters its bound, never above that
    density, exceeds the maximum likelihood of factor analysis, which is the most that a standard prior can reach."""
    centres = 3 * torch.eye(3, 4, dtype=torch.float64)
    x = centres.repeat(60, 1) + 0.5 * torch.randn(180, 4, dtype=torch.float64)
    best = FactorAnalysis(2, tol=1e-6, max_iter=5000).fit(x).score(x)
    pair = create("gaussian", features=4, latent=2, hidden=(), prior="vamp", components=12).double()
    # Without warming up, components that overlap at the start may stay together.
    inference.fit(pair, x, steps=400, lr=0.03, anneal=200, progress=False)
    loc, tril = components(pair)
    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    centre, unit = state["units.centre"], state["units.unit"]
    weight, noise = unit[:, None] * state["decoder.0.weight"], np.diag((unit * pair.scale.detach().numpy()) ** 2)
    spread = np.linalg.cholesky([weight @ t @ t.T @ weight.T + noise for t in tril])
    exact = log_mixture(x.numpy(), loc @ weight.T + centre + unit * state["decoder.0.bias"], spread)
    torch.manual_seed(0)
    with torch.no_grad():
        weights = run(pair, as_batch(pair, x), 2000).log_weight  # (S, N)
    elbo, error = weights.mean().item(), weights.mean(1).std().item() / math.sqrt(2000)
    assert best + 0.5 < elbo < exact.mean() + 4 * error
    ratio = (weights - torch.as_tensor(exact)).exp()  # p(x, z) / (q(z | x) p(x)), of mean one
    error = ratio.std(0) / math.sqrt(2000)
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()
