"""Scores of strangeness against marginals in closed form, by quadrature and by SciPy's mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

import inference
import zoo
from tests.helpers.mixtures import mixture, mixture_density
from tests.helpers.vae import bent

SEED = 3


def test_tight_is_the_marginal_and_fast_the_bound():
    pair, x, marginal, bound = bent()
    for tight, exact in ((True, marginal), (False, bound)):
        found = inference.anomaly(pair, x, tight=tight, draws=5_000, seed=SEED)
        z = (found["score"] + exact) / found["sd"]
        assert np.abs(z).max() < 4
        assert found["sd"].max() < 0.2
        assert found.index.name == "row"


def test_principal_components_in_closed_form():
    torch.manual_seed(0)
    pair = zoo.create("gaussian_autoencoder", features=5, latent=2).double()
    with torch.no_grad():
        pair.encoder += 0.1 * torch.randn(2, 5)  # away from the posterior, where nothing would be left to sample
    data = pair.simulate(100)[0].x
    weight, loc, noise = (v.detach().numpy() for v in (pair.weight, pair.loc, pair.noise))
    exact = -scipy.stats.multivariate_normal(loc, weight @ weight.T + np.diag(noise**2 * np.ones(5))).logpdf(data)
    found = inference.anomaly(pair, data, tight=True, draws=1000, seed=SEED)
    assert np.all(np.abs(found["score"] - exact) < 4 * found["sd"])
    fast = inference.anomaly(pair, data, seed=SEED)
    assert np.all(fast["score"] - exact > -4 * fast["sd"])
    assert (fast["score"] - exact).mean() > 0.01  # the bound, which is not tight here


def test_a_mixture_under_each_draw_by_scipy():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(6, 2))
    parts = [(rng.dirichlet([2, 2]), rng.normal(size=(2, 2)), rng.uniform(0.5, 2, size=(2, 2))) for _ in range(7)]
    held = np.stack([mixture_density(data, *part) for part in parts])  # (S, N)
    pair, posterior = mixture(*map(np.stack, zip(*parts, strict=True)))
    for tight, expected in ((True, -np.log(held.mean(0))), (False, -np.log(held).mean(0))):
        found = inference.anomaly(pair, data, tight=tight, draws=70, posterior=posterior)
        np.testing.assert_allclose(found["score"], expected, rtol=1e-9)


def test_the_share_of_usual_rows():
    pair, x, _, _ = bent()
    usual = pair.simulate(50)[0].x
    found = inference.anomaly(pair, x, reference=usual, seed=SEED)
    below = inference.anomaly(pair, usual, seed=SEED)["score"].to_numpy()
    np.testing.assert_allclose(found["share"], [(below < score).mean() for score in found["score"]])


@pytest.mark.parametrize(
    ("options", "words"),
    [({"draws": 1}, "draws: expected .*2"), ({"tight": 1}, "tight"), ({"data": torch.zeros(3, 5)}, "expected shape")],
)
def test_wrong_options(options, words):
    pair, x, _, _ = bent()
    with pytest.raises(ValueError, match=words):
        inference.anomaly(pair, **{"data": x, **options})


def test_points_have_no_tight_score():
    pair = zoo.create("linear_autoencoder", features=3)
    data = torch.randn(4, 3)
    with pytest.raises(ValueError, match="a tight score: the guide of linear_autoencoder is a point mass at 'z'"):
        inference.anomaly(pair, data, tight=True)
    assert np.isfinite(inference.anomaly(pair, data)).all(axis=None)
