"""`sample` against closed forms, reference posteriors and planted faults."""

from __future__ import annotations

import math
import warnings
from typing import ClassVar

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import inference
import zoo
from inference.data.check import check
from inference.running.marginal import log_joint
from inference.sampling import hamiltonian
from inference.sampling.sample import sample
from tests.helpers.places import benchmark
from tests.helpers.sampling import QUICK, Normals, data_of, z_scores
from zoo import Batch, ModelGuide

sampling = benchmark("sampling")


class Scales(ModelGuide):
    """A normal in D dimensions, of scales 0.01 to 100; x tells nothing about it."""

    dims: ClassVar = {"z": ("dim",)}

    def __init__(self, size: int = 50):
        super().__init__()
        self.register_buffer("scales", torch.logspace(-2, 2, size))

    def model(self, batch):
        pyro.sample("z", dist.Normal(0 * self.scales, self.scales).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(0 * self.scales[0], 1 + 0 * self.scales[0]), obs=batch.x)


# --- closed forms -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def normals():
    pair = Normals().double()
    data = torch.linspace(-3, 5, 20).double()
    return pair, data, sample(pair, data, 300, **QUICK)


def test_normal_mean(normals):
    _, data, found = normals
    precision = 1 / 9 + 20 / 4
    mean, sd = (1 / 9 + data.sum() / 4) / precision, precision**-0.5
    assert z_scores(found["loc"], mean) < 4
    assert found["loc"].std() == pytest.approx(sd, rel=0.03)
    assert scipy.stats.kstest(found["loc"][:, ::10].flatten(), scipy.stats.norm(float(mean), sd).cdf).pvalue > 1e-3


def test_what_a_result_holds(normals):
    pair, data, found = normals
    assert (found.method, found.chains, found.size, found.local) == ("mcmc", 64, 300, frozenset())
    names = {"diverging", "energy", "acceptance_rate", "step_size", "n_steps", "lp", "log_p"}
    assert found.stats.keys() == names
    assert not found.stats["diverging"].any()
    assert found.rhat["loc"] < 1.01
    assert not found.notes
    few = {"loc": found["loc"][:, :5].flatten()}
    density = log_joint(check(pair, data), few).reshape(64, 5)
    torch.testing.assert_close(found.stats["log_p"][:, :5], density)


def test_arviz_takes_it(normals):
    pair, data, found = normals
    exported = inference.to_arviz(pair, found.thin(20), data, predictive=5)
    summary = az.summary(exported)
    assert summary["r_hat"].max() < 1.05
    # p(x_n | the others) of a normal mean, in closed form
    x = data.numpy()
    exact = 0.0
    for n in range(20):
        precision = 1 / 9 + 19 / 4
        mean = (1 / 9 + (x.sum() - x[n]) / 4) / precision
        exact += scipy.stats.norm(mean, math.sqrt(4 + 1 / precision)).logpdf(x[n])
    loo = az.loo(exported)
    elpd = loo.elpd_loo if hasattr(loo, "elpd_loo") else loo.elpd  # ArviZ 0.x, 1.x
    assert elpd == pytest.approx(exact, abs=0.1)
    assert az.plot_trace(exported) is not None


def test_polynomial_regression_has_its_exact_posterior():
    torch.manual_seed(0)
    pair = zoo.create("polynomial_regression", degree=2, noise_concentration=3.0, noise_rate=1.0).double()
    batch = data_of(pair, 30)
    found = sample(pair, batch, 300, **QUICK)
    basis, y = pair.basis(batch), (batch.y - pair.location) / pair.spread
    precision = basis.mT @ basis + torch.eye(3).double() / pair.coefficient_scale**2
    mean = torch.linalg.solve(precision, basis.mT @ y)
    concentration = pair.concentration + 15
    rate = pair.rate + (y @ y - mean @ precision @ mean) / 2
    assert z_scores(found["coefficients"], mean).max() < 4
    assert z_scores(found["variance"], rate / (concentration - 1)) < 4
    sd = (torch.linalg.inv(precision).diagonal() * rate / (concentration - 1)).sqrt()
    torch.testing.assert_close(found["coefficients"].flatten(0, 1).std(0), sd, rtol=0.05, atol=0)


def test_autoregressive_has_its_exact_posterior():
    torch.manual_seed(0)
    pair = zoo.create("autoregressive", order=2).double()
    found = sample(pair, data_of(pair, 3), 200, **QUICK)
    exact = inference.draw(pair, data_of(pair, 3), 4000, stats=False)  # the guide starts at the posterior
    for name in ("coefficients", "intercept", "variance"):
        one, other = found[name].flatten(0, 1), exact[name].flatten(0, 1)
        error = (one.var(0) / (len(one) / 4) + other.var(0) / len(other)).sqrt()
        assert ((one.mean(0) - other.mean(0)).abs() / error).max() < 4, name


def test_fifty_scales_from_a_hundredth_to_a_hundred():
    pair = Scales().double()
    found = sample(pair, torch.zeros(2), 300, **QUICK)
    z = found["z"] / pair.scales
    assert z_scores(z, torch.zeros(50)).max() < 4.5  # the largest of fifty
    torch.testing.assert_close(z.flatten(0, 1).std(0), torch.ones(50).double(), rtol=0.06, atol=0)
    assert max(found.rhat.values()) < 1.01
    assert found.warmup <= 400


def test_local_latents_are_drawn_with_the_global_ones():
    pair = sampling.EightSchools().double()
    y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    data = Batch.of(x=torch.full((8, 1), 10.0), y=y)
    found = sample(pair, data, 200, **QUICK)
    assert found.local == {"raw"}
    assert found["raw"].shape == (64, 200, 8)
    theta = found["mu"].unsqueeze(-1) + found["tau"].unsqueeze(-1) * found["raw"]
    grid = torch.linspace(-40, 40, 401).double()
    tau = torch.linspace(1e-3, 120, 1000).double()[:, None]
    total = (tau**2 + 100).sqrt()
    weight = dist.Normal(0, 5.0).log_prob(grid) + dist.HalfCauchy(5.0).log_prob(tau)
    for effect in y:
        weight = weight + dist.Normal(grid, total).log_prob(effect)
    weight = weight.flatten().softmax(0).reshape(weight.shape)
    shrunk = (tau**2 * 28.0 + 100 * grid) / (tau**2 + 100)  # of the first
    assert z_scores(theta[..., 0], (weight * shrunk).sum()) < 4
    assert z_scores(found["mu"], (weight * grid).sum()) < 4


# --- reference posteriors ---------------------------------------------------------------------------------------------


SLOW = {"low_dim_gauss_mix"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(sampling.REFERENCED)],
)
def test_reference_posterior(name):
    case = sampling.CASES[name]
    if not case.folder.exists():
        pytest.skip(f"no reference posteriors at {sampling.REFERENCE} (set ZOO_REFERENCE)")
    pair = case.pair().double()
    found = sample(pair, case.data(), 400, 16 if name == "low_dim_gauss_mix" else 64, **QUICK)  # a thousand rows
    for parameter, (z, shift, ratio) in sampling.compare(case.named(found.draws), case.reference()).items():
        assert z < 4, parameter
        assert shift < 0.1, parameter
        assert 0.9 < ratio < 1.1, parameter
    assert max(found.rhat.values()) < 1.01
    assert sampling.worst_ess(case.named(found.draws)) > 400
    assert not found.stats["diverging"].any()


def slow(step, state, noise, *rest):
    """A transition whose momentum is too small."""
    return hamiltonian.transition(step, state, 0.8 * noise, *rest)


@pytest.mark.parametrize("fault", ["jacobian", "momentum"])
def test_a_planted_fault_fails_against_the_truth(fault, monkeypatch):
    if fault == "jacobian":
        monkeypatch.setattr("torch.distributions.transforms.ExpTransform.log_abs_det_jacobian", lambda t, x, y: 0 * x)
    else:
        monkeypatch.setattr("inference.sampling.chains.transition", slow)
    torch.manual_seed(0)
    pair = zoo.create("polynomial_regression", degree=1, noise_concentration=3.0, noise_rate=1.0).double()
    batch = data_of(pair, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = sample(pair, batch, 200, max_warmup=200, **QUICK)
    basis, y = pair.basis(batch), (batch.y - pair.location) / pair.spread
    precision = basis.mT @ basis + torch.eye(2).double() / pair.coefficient_scale**2
    mean = torch.linalg.solve(precision, basis.mT @ y)
    rate = pair.rate + (y @ y - mean @ precision @ mean) / 2
    assert z_scores(found["variance"], rate / (pair.concentration + 4)) > 4


# --- calibration ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_simulation_based_calibration():
    """Ranks of the truth among draws are uniform (Talts et al. 2018)."""
    ranks = []
    for seed in range(60):
        torch.manual_seed(seed)
        pair = sampling.EightSchools().double()
        batch, truth = pair.simulate(5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = sample(pair, batch, 30, thin=2, seed=seed, **QUICK)
        ranks.append([float((found[name] < truth[name]).double().mean()) for name in ("mu", "tau")])
    for column in np.array(ranks).T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-3
