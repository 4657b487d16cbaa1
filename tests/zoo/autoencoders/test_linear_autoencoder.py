"""linear_autoencoder against PCA by singular value decomposition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.datasets import load_digits, load_wine

import inference
import zoo
from inference.fitting.objective import choose
from inference.running.densities import run
from zoo.base import Batch


def digits():
    return load_digits().data


def wine():
    x = load_wine().data
    return (x - x.mean(0)) / x.std(0)


def pca(x, latent):
    """Mean squared error of reconstruction with `latent` components, and their directions, (D, L)."""
    _, values, vectors = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return (values[latent:] ** 2).sum() / x.size, vectors[:latent].T


def create(features, latent):
    torch.manual_seed(0)
    return zoo.create("linear_autoencoder", features=features, latent=latent).double()


def fitted(x, latent, **options):
    pair = create(x.shape[1], latent)
    inference.fit(pair, x, progress=False, **options)
    return pair


@torch.no_grad()
def error(pair, x):
    x = torch.as_tensor(x)
    return (pair.decode(pair.encode(x)) - x).square().mean().item()


def weight(pair):
    """W_d, (D, L), from what the decoder does to unit codes."""
    with torch.no_grad():
        eye = torch.eye(pair.config["latent"], dtype=pair.dtype)
        return (pair.decode(eye) - pair.decode(torch.zeros_like(eye))).mT.numpy()


@pytest.fixture(scope="module")
def wine_pair():
    """Fitted with the default options."""
    return fitted(wine(), 3)


# --- principal components -------------------------------------------------------------------------------------------


def check_is_pca(pair, x, latent):
    """The error is PCA's: never below it, within 0.1 %; so are noise and subspace."""
    best, directions = pca(x, latent)
    found = error(pair, x)
    assert best * (1 - 1e-9) <= found <= best * 1.001
    sigma = (pair.unit * pair.scale).item()
    assert sigma**2 == pytest.approx(found, rel=0.01)
    assert scipy.linalg.subspace_angles(weight(pair), directions).max() < 0.02  # radians


def test_wine_is_pca(wine_pair):
    check_is_pca(wine_pair, wine(), 3)


@pytest.mark.parametrize(
    "options",
    [pytest.param({"steps": 400, "lr": 0.02}, id="short"), pytest.param({}, id="defaults", marks=pytest.mark.slow)],
)
def test_digits_are_pca(options):
    """1,797 rows: in minibatches, which is the default there."""
    check_is_pca(fitted(digits(), 10, **options), digits(), 10)


def test_units_do_not_matter():
    x = 1e4 * wine() + 5e5
    check_is_pca(fitted(x, 3, steps=400, lr=0.02, batch_size=64), x, 3)


def test_no_map_of_rank_l_is_better():
    """The least-squares decoder of any encoder, fitted or not, lies above PCA's error."""
    x, generator = wine(), np.random.default_rng(0)
    best, _ = pca(x, 3)
    for _ in range(20):
        codes = x @ generator.normal(size=(13, 3))
        decoder = np.linalg.lstsq(codes, x, rcond=None)[0]
        pair = create(13, 3)
        with torch.no_grad():
            pair.encoder.copy_(torch.as_tensor(np.linalg.lstsq(x, codes, rcond=None)[0].T))
            pair.decoder.copy_(torch.as_tensor(decoder.T))
        assert error(pair, x) >= best * (1 - 1e-9)
        assert error(pair, x) == pytest.approx(((codes @ decoder - x) ** 2).mean(), rel=1e-9)


# --- the density ----------------------------------------------------------------------------------------------------


def test_elbo_equals_the_formula():
    x = wine()[:20]
    pair = create(13, 3)
    with torch.no_grad():
        pair.scale = torch.tensor(0.7, dtype=torch.float64)
        for parameter in (pair.encoder, pair.decoder, pair.offset):
            parameter.copy_(torch.randn_like(parameter))
        pair.center.copy_(torch.randn(13))
        pair.unit.fill_(1.5)
    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    b_d = state["center"] + 1.5 * state["offset"]
    w_d, w_e = 1.5 * state["decoder"], state["encoder"] / 1.5
    z = x @ w_e.T - w_e @ b_d
    expected = scipy.stats.norm.logpdf(x, z @ w_d.T + b_d, 1.5 * 0.7).sum(1)
    batch = Batch(20, 20, x=torch.as_tensor(x))
    np.testing.assert_allclose(run(pair, batch).log_weight.detach(), expected, rtol=1e-10)
    assert choose(pair, batch).loss(pair, batch).item() == pytest.approx(-expected.sum(), rel=1e-10)


def test_short_codes_cost_what_long_ones_do(wine_pair):
    """Codes divided by c and the decoder multiplied: a prior that is scored would pay for it, and have no optimum."""
    batch = Batch.of(x=torch.as_tensor(wine()))
    before = run(wine_pair, batch).log_weight
    twin = zoo.create("linear_autoencoder", **wine_pair.config).double()
    twin.load_state_dict(wine_pair.state_dict())
    with torch.no_grad():
        twin.encoder.div_(1e3)
        twin.decoder.mul_(1e3)
    torch.testing.assert_close(run(twin, batch).log_weight, before, rtol=1e-10, atol=1e-10)


# --- simulation -----------------------------------------------------------------------------------------------------


def test_simulated_codes_have_the_moments_of_the_codes_of_the_data(wine_pair):
    with torch.no_grad():
        z = wine_pair.encode(torch.as_tensor(wine()))
        codes = wine_pair.codes()
    torch.testing.assert_close(codes.mean, z.mean(0), rtol=1e-9, atol=1e-9)
    spread = z.T.cov(correction=0)
    floor = 1e-4 * spread.diagonal().mean() * torch.eye(3)
    torch.testing.assert_close(codes.covariance_matrix, spread + floor, rtol=1e-9, atol=1e-9)


def test_simulated_data_have_the_mean_and_covariance_of_the_data(wine_pair):
    """In the principal subspace and in total; beside it the noise is the same in all directions."""
    x, rows = wine(), 20_000
    torch.manual_seed(1)
    simulated = wine_pair.simulate(rows)[0].x.numpy()
    z = (simulated.mean(0) - x.mean(0)) / (simulated.std(0) / math.sqrt(rows))
    assert np.abs(z).max() < 4
    best, directions = pca(x, 3)
    of_data = (x @ directions).var(0)
    # A component's variance in the model holds the noise too; that of the sample has standard error sqrt(2 / N).
    variance = (simulated @ directions).var(0)
    np.testing.assert_allclose(variance, of_data + best, rtol=4 * math.sqrt(2 / rows) + 1e-3)
    assert simulated.var(0).sum() == pytest.approx(x.var(0).sum(), rel=4 * math.sqrt(2 / rows) + 1e-3)


def test_codes_that_repeat_each_other_can_be_drawn():
    """As many codes as features, of which three are constant; and two codes alike."""
    torch.manual_seed(0)
    pair = zoo.create("linear_autoencoder", features=64, latent=64)
    inference.fit(pair, digits(), steps=20, progress=False)
    with torch.no_grad():
        pair.encoder[1].copy_(pair.encoder[0])
    assert torch.isfinite(pair.simulate(5)[0].x).all()


# --- bad input ------------------------------------------------------------------------------------------------------


def test_a_code_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="latent=7 is larger than features=4: "):
        zoo.create("linear_autoencoder", features=4, latent=7)
    assert zoo.create("linear_autoencoder", features=4, latent=4)


def test_data_without_spread_change_no_units():
    pair = create(4, 2)
    assert pair.initial(Batch.of(x=torch.full((3, 4), 7.0, dtype=torch.float64))) == {}
    assert pair.unit == 1


def test_guide_needs_observations():
    with pytest.raises(ValueError, match="needs the observations"):
        zoo.create("linear_autoencoder").guide(Batch(3, 3))
