"""gaussian_autoencoder against probabilistic PCA in closed form and factor analysis by EM."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import FactorAnalysis

import inference
import zoo
from inference.fitting.objective import choose
from inference.running.densities import run
from zoo.base import Batch


def wine():
    x = load_wine().data
    return (x - x.mean(0)) / x.std(0)


def digits():
    return load_digits().data


def varying_digits():
    """Standardised, without the 3 constant pixels: there factor analysis has no maximum."""
    x = digits()
    x = x[:, x.std(0) > 0]
    return (x - x.mean(0)) / x.std(0)


def ppca(x, latent):
    """Maximum log-likelihood per observation, W and psi: Tipping & Bishop 1999, equations 7 to 9."""
    features = x.shape[1]
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[latent:].mean()
    weight = vectors[:, :latent] * np.sqrt(values[:latent] - noise)
    logdet = np.log(values[:latent]).sum() + (features - latent) * np.log(noise)
    return -0.5 * (features * np.log(2 * np.pi) + logdet + features), weight, np.sqrt(noise)


def marginal(pair, x):
    """log p(x_n) under the pair's own W, mu, psi, (N,)."""
    covariance = pair.weight @ pair.weight.mT + torch.diag(pair.noise.expand(x.shape[1]) ** 2)
    return torch.distributions.MultivariateNormal(pair.loc, covariance).log_prob(x)


def exact_elbo(pair, x):
    """The ELBO of each observation with the expectation over z done by hand, (N,)."""
    weight, loc, scale, tril = pair.weight, pair.loc, pair.noise.expand(x.shape[1]), pair.scale_tril
    mean = ((x - loc) / scale) @ pair.encoder.mT
    residual = (x - loc - mean @ weight.mT) / scale
    spread = (weight / scale[:, None] @ tril).square().sum()
    fit = -0.5 * (x.shape[1] * math.log(2 * math.pi) + residual.square().sum(-1) + spread) - scale.log().sum()
    divergence = 0.5 * (tril.square().sum() + mean.square().sum(-1) - len(tril)) - tril.diagonal().log().sum()
    return fit - divergence


def fitted(x, latent, noise, **options):
    pair = zoo.create("gaussian_autoencoder", features=x.shape[1], latent=latent, noise=noise).double()
    inference.fit(pair, x, progress=False, **options)
    x = torch.as_tensor(x)
    with torch.no_grad():
        return pair, exact_elbo(pair, x).mean().item(), marginal(pair, x).mean().item()


def check_reached(elbo, own, best):
    """Each bound holds exactly, since nothing here is sampled; the ELBO is within 0.5 % of the best there is."""
    rounding = 1e-9 * abs(best)
    assert elbo <= own + rounding
    assert own <= best + rounding
    assert elbo >= best - 0.005 * abs(best)


@pytest.mark.parametrize(
    ("data", "latent", "options"),
    [
        pytest.param(wine, 2, {"steps": 400, "lr": 0.05}, id="wine"),
        pytest.param(digits, 10, {"steps": 1000, "lr": 0.1}, id="digits"),
    ],
)
def test_reaches_ppca(data, latent, options):
    x = data()
    best, weight, _ = ppca(x, latent)
    pair, elbo, own = fitted(x, latent, "isotropic", **options)
    check_reached(elbo, own, best)
    # The columns of W span the principal subspace: squared cosines of the principal angles.
    bases = [np.linalg.qr(w)[0] for w in (weight, pair.weight.detach().numpy())]
    assert (np.linalg.svd(bases[0].T @ bases[1])[1] ** 2).mean() > 0.98


@pytest.mark.parametrize(
    ("data", "latent", "options"),
    [
        pytest.param(wine, 3, {"steps": 500, "lr": 0.05}, id="wine"),
        # All rows at once: in a minibatch without the one row where a rare pixel is lit, that pixel is constant.
        pytest.param(varying_digits, 5, {"steps": 300, "lr": 0.1, "batch_size": 1797}, id="digits"),
    ],
)
def test_reaches_factor_analysis(data, latent, options):
    x = data()
    best = FactorAnalysis(latent, svd_method="lapack", tol=1e-9, max_iter=5000).fit(x).score(x)
    _, elbo, own = fitted(x, latent, "per_feature", **options)
    check_reached(elbo, own, best + 1e-6 * abs(best))  # EM stops short of the maximum by its tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("data", "latent"), [(lambda: load_iris().data, 2), (lambda: load_wine().data, 2), (wine, 2), (digits, 10)],
    ids=["iris", "raw_wine", "wine", "digits"],
)  # fmt: skip
def test_starts_at_ppca_whatever_the_scale_of_the_columns(data, latent, dtype):
    x = data()
    best, weight, scale = ppca(x, latent)
    pair = zoo.create("gaussian_autoencoder", features=x.shape[1], latent=latent).to(dtype)
    pair.initial(Batch.of(torch.tensor(x, dtype=dtype)))
    pair = pair.double()
    x = torch.tensor(x)
    with torch.no_grad():
        found, elbo = marginal(pair, x), exact_elbo(pair, x)
    assert found.mean().item() == pytest.approx(best, rel=1e-9 if dtype == torch.float64 else 1e-4)
    torch.testing.assert_close(elbo, found, rtol=1e-9 if dtype == torch.float64 else 1e-3, atol=1e-6)
    assert pair.noise.item() == pytest.approx(scale, rel=1e-4)
    signs = np.sign((pair.weight.detach().numpy() * weight).sum(0))
    np.testing.assert_allclose(pair.weight.detach().numpy(), weight * signs, atol=1e-3 * np.abs(weight).max())


@pytest.mark.filterwarnings("ignore:FactorAnalysis did not converge")
def test_raw_iris_ends_where_its_closed_form_is():
    x = load_iris().data
    _, elbo, own = fitted(x, 2, "isotropic", steps=100)
    assert own * 150 == pytest.approx(-404.963, abs=1e-3)
    assert elbo == pytest.approx(own, rel=1e-9)
    _, elbo, own = fitted(x, 2, "per_feature", steps=100)  # a noise of its own for each can only help
    best = FactorAnalysis(2, svd_method="lapack", tol=1e-6, max_iter=1000).fit(x).score(x)
    assert own >= best
    assert own * 150 > -404.963
    assert elbo == pytest.approx(own, rel=1e-6)


@pytest.mark.parametrize("data", [wine, varying_digits])
def test_starts_at_factor_analysis(data):
    x = data()
    best = FactorAnalysis(3, svd_method="lapack", tol=1e-9, max_iter=5000).fit(x).score(x)
    found = {}
    for unit in (1.0, 1e4):  # the second column in another unit: nothing else changes
        pair = zoo.create("gaussian_autoencoder", features=x.shape[1], latent=3, noise="per_feature").double()
        units = np.where(np.arange(x.shape[1]) == 1, unit, 1.0)
        pair.initial(Batch.of(x * units))
        with torch.no_grad():
            found[unit] = marginal(pair, torch.tensor(x * units)).mean().item() + math.log(unit)
            assert exact_elbo(pair, torch.tensor(x * units)).mean().item() + math.log(unit) == pytest.approx(
                found[unit]
            )
    assert found[1.0] == pytest.approx(best, rel=1e-6)
    assert found[1e4] == pytest.approx(found[1.0], rel=1e-7)


@pytest.mark.parametrize("noise", ["isotropic", "per_feature"])
@pytest.mark.parametrize(
    "x",
    [np.random.default_rng(0).normal(size=(4, 9)), np.outer(np.arange(6.0), np.ones(9)), np.ones((5, 9))],
    ids=["wide", "one line", "constant"],
)
def test_few_rows_and_flat_data_give_a_finite_start(x, noise):
    x = np.where(np.arange(9) == 8, 3.0, x)  # and a constant column
    pair = zoo.create("gaussian_autoencoder", features=9, latent=3, noise=noise).double()
    pair.initial(Batch.of(x))
    assert all(torch.isfinite(value).all() for value in pair.parameters())
    assert torch.isfinite(marginal(pair, torch.tensor(x))).all()


def at_the_maximum(x, latent):
    """The pair with the closed-form optimum, and the exact posterior as its guide."""
    best, weight, scale = ppca(x, latent)
    pair = zoo.create("gaussian_autoencoder", features=x.shape[1], latent=latent).double()
    loading = torch.as_tensor(weight / scale)
    covariance = (torch.eye(latent) + loading.mT @ loading).inverse()
    with torch.no_grad():
        pair.scale = torch.full((1,), scale, dtype=torch.float64)
        pair.offset.copy_(torch.as_tensor(x.mean(0) / scale))
        pair.loading.copy_(loading)
        pair.encoder.copy_(covariance @ loading.mT)
        pair.scale_tril = torch.linalg.cholesky(covariance)
    return pair, best


@pytest.mark.parametrize("data", [wine, digits])
def test_the_guide_holds_the_posterior(data):
    x = data()
    pair, best = at_the_maximum(x, 4)
    weights = run(pair, Batch(len(x), len(x), x=torch.as_tensor(x)), particles=3).log_weight
    # p(x, z) / q(z | x) is p(x) whatever z was drawn.
    torch.testing.assert_close(weights, marginal(pair, torch.as_tensor(x)).expand(3, -1), rtol=1e-9, atol=1e-9)
    assert weights.mean().item() == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("noise", ["isotropic", "per_feature"])
def test_a_new_guide_is_the_posterior_of_a_new_model(noise):
    pair = zoo.create("gaussian_autoencoder", features=7, latent=3, noise=noise).double()
    batch, _ = pair.simulate(20)
    weights = run(pair, batch, particles=2).log_weight
    torch.testing.assert_close(weights, marginal(pair, batch.x).expand(2, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("noise", ["isotropic", "per_feature"])
def test_exact_elbo_is_the_mean_of_the_sampled_one(noise):
    """The ELBO by hand, which the tests above trust, is what the pair's model and guide define."""
    x = torch.as_tensor(wine())[:20]
    pair = zoo.create("gaussian_autoencoder", features=13, latent=3, noise=noise).double()
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        batch = Batch(20, 20, x=x)
        exact = exact_elbo(pair, x).mean().item()
        sampled = [run(pair, batch, particles=4000, analytic=analytic).log_weight.mean(1) for analytic in (True, False)]
    for draws in sampled:
        error = draws.std().item() / math.sqrt(len(draws))
        assert abs(draws.mean().item() - exact) < 4 * error
        assert error < 0.01 * abs(exact)


def test_a_constant_feature_leaves_the_loss_finite():
    """The likelihood rises without end as psi falls; psi stops above zero before 0 / 0 does harm."""
    pair = zoo.create("gaussian_autoencoder", noise="per_feature")
    with torch.no_grad():
        pair.scale_unconstrained.fill_(-300.0)
    batch = Batch(4, 4, x=torch.zeros(4, 5))
    loss = choose(pair, batch).loss(pair, batch)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(loss, list(pair.parameters())))


def test_guide_needs_observations():
    pair = zoo.create("gaussian_autoencoder")
    with pytest.raises(ValueError, match="needs the observations"):
        pair.guide(Batch(3, 3))
