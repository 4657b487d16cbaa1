"""neural_autoencoder against PCA on held-out digits, and against its formulas by NumPy and SciPy."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.datasets import load_digits

import inference
import zoo
from inference.running.densities import run
from zoo.base import Batch

LATENT = 8


def split(seed):
    """1,500 digits to fit, 297 held out."""
    x = load_digits().data
    order = np.random.default_rng(seed).permutation(len(x))
    return x[order[:1500]], x[order[1500:]]


def pca_error(train, test):
    """Mean squared error of reconstruction of `test` with the principal components of `train`."""
    vectors = np.linalg.svd(train - train.mean(0), full_matrices=False)[2][:LATENT]
    centered = test - train.mean(0)
    return ((centered - centered @ vectors.T @ vectors) ** 2).mean()


def fitted(x, seed=0, steps=300, **config):
    torch.manual_seed(seed)
    pair = zoo.create("neural_autoencoder", features=x.shape[1], latent=LATENT, **config).double()
    inference.fit(pair, x, steps=steps, lr=0.01, seed=seed, progress=False)
    return pair


@functools.cache
def fitted_digits(seed):
    return fitted(split(seed)[0], seed)


@torch.no_grad()
def error(pair, x):
    x = torch.as_tensor(x)
    return (pair.decode(pair.encode(x)).mean - x).square().mean().item()


# --- reconstruction -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "seed"),
    [
        pytest.param({}, 0, id="mlp-0"),
        pytest.param({}, 1, id="mlp-1"),
        pytest.param({}, 2, id="mlp-2"),
        *(
            pytest.param({"net": "conv", "hidden": (16, 32)}, seed, id=f"conv-{seed}", marks=pytest.mark.slow)
            for seed in (0, 1, 2)
        ),
    ],
)
def test_reconstructs_better_than_pca(config, seed):
    train, test = split(seed)
    pair = fitted(train, seed, **config) if config else fitted_digits(seed)
    assert error(pair, test) < 0.8 * pca_error(train, test)


def test_reconstructs_binary_pixels_better_than_pca():
    train, test = ((x > 7).astype(float) for x in split(0))
    pair = fitted(train, likelihood="bernoulli")
    assert error(pair, test) < 0.8 * pca_error(train, test)
    # and more probably than pixels that know nothing of each other
    rate = train.mean(0).clip(1e-3, 1 - 1e-3)
    score = run(pair, Batch.of(x=torch.as_tensor(test))).log_weight.mean().item()
    assert score > 0.5 * (scipy.special.xlogy(test, rate) + scipy.special.xlogy(1 - test, 1 - rate)).sum(1).mean()


def test_units_do_not_matter():
    """The same pixels in other units give the same codes, step by step."""
    x = split(0)[0]
    one, other = fitted(x, steps=20), fitted(1e4 * x + 5e5, steps=20)
    with torch.no_grad():
        torch.testing.assert_close(other.encode(torch.as_tensor(1e4 * x + 5e5)), one.encode(torch.as_tensor(x)))
    assert error(other, 1e4 * x + 5e5) == pytest.approx(1e8 * error(one, x), rel=1e-6)


# --- the density ----------------------------------------------------------------------------------------------------


def network(state, prefix, x):
    """The MLP of `prefix` by NumPy, from its weights."""
    layers = sorted({name.split(".")[1] for name in state if name.startswith(prefix)}, key=int)
    for layer in layers:
        x = x @ state[f"{prefix}.{layer}.weight"].T + state[f"{prefix}.{layer}.bias"]
        x = x if layer == layers[-1] else x * scipy.special.expit(x)
    return x


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_elbo_equals_the_formula(likelihood):
    """The prior of a code has density 1: what is left is the density of x given its own code."""
    torch.manual_seed(0)
    pair = zoo.create("neural_autoencoder", features=9, latent=3, hidden=(5, 4), likelihood=likelihood).double()
    x = np.random.default_rng(0).integers(0, 2, (6, 9)).astype(float)
    with torch.no_grad():
        pair.center.copy_(torch.randn(9))
        pair.unit.fill_(1.5)
        if likelihood == "gaussian":
            pair.scale = torch.tensor(0.7, dtype=torch.float64)
    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    z = scipy.special.expit(network(state, "encoder", (x - state["center"]) / 1.5))
    h = network(state, "decoder", (z - 0.5) * math.sqrt(12))
    if likelihood == "gaussian":
        expected = scipy.stats.norm.logpdf(x, state["center"] + 1.5 * h, 1.5 * 0.7)
    else:
        expected = scipy.stats.bernoulli.logpmf(x, scipy.special.expit(h))
    found = run(pair, Batch.of(x=torch.as_tensor(x))).log_weight.detach()
    np.testing.assert_allclose(found, expected.sum(1), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_stay_inside_the_cube(dtype):
    """Where the logistic function rounds to 0 or 1 the density of the code would be zero on a face."""
    pair = zoo.create("neural_autoencoder", features=4, latent=2, hidden=()).to(dtype=dtype)
    x = torch.tensor([[-1e6, 1e6, -1e6, 1e6], [1e6, -1e6, 1e6, -1e6]], dtype=dtype)
    z = pair.encode(x)
    assert ((z > 0) & (z < 1)).all()
    assert torch.isfinite(run(pair, Batch.of(x=x)).log_weight).all()


def test_simulated_codes_are_on_the_scale_of_fitted_ones():
    """Nothing makes fitted codes uniform; they fill at least the middle of the cube that simulated ones come from."""
    pair = fitted_digits(0)
    with torch.no_grad():
        fitted_codes = pair.encode(torch.as_tensor(split(0)[1]))
    drawn = pair.simulate(2000)[1]["z"]
    assert (drawn.std(0) - 1 / math.sqrt(12)).abs().max() < 4 / math.sqrt(12 * 2000)
    assert ((fitted_codes.std(0) > 0.1) & (fitted_codes.std(0) < 0.4)).all()
    assert ((fitted_codes.mean(0) - 0.5).abs() < 0.2).all()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"features": 4, "latent": 7}, "latent=7 is larger than features=4: "),
        ({"net": "conv", "features": 10}, "features=10 is not a square"),
        ({"net": "conv", "hidden": ()}, "at least one hidden width"),
        ({"likelihood": "poisson"}, "expected one of"),
    ],
)
def test_bad_config(config, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("neural_autoencoder", **config)


def test_guide_needs_observations():
    with pytest.raises(ValueError, match="needs the observations"):
        zoo.create("neural_autoencoder").guide(Batch(3, 3))
