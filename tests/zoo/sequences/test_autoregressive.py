"""Autoregression against closed forms: densities with gaps, forecasts, the conjugate posterior, published numbers."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from scipy import optimize
from torch import Tensor

import inference
import zoo
import zoo.datasets.series  # its series register themselves
from inference.data.check import as_batch
from tests.helpers.places import REFERENCE
from zoo import Batch, datasets
from zoo.parts.lags import seasonal_lags, steps_back
from zoo.parts.series import AutoregressiveSeries
from zoo.sequences.autoregressive import Autoregressive

QUICK: dict[str, Any] = {"progress": False, "compile": "off"}


# --- the posterior ----------------------------------------------------------------------------------------------------


def evidence(pair: Autoregressive, z: Tensor, u: Tensor) -> tuple[float, Tensor, Tensor, float, float]:
    """log p(data), and m', V', a', b' of the Normal-inverse-gamma posterior, row by row from its definition."""
    rows, y, P = [], [], max(pair.lags)
    for n in range(len(z)):
        for t in range(P, z.shape[1]):
            rows.append(torch.cat([torch.ones(1).double(), z[n, [t - lag for lag in pair.lags]], u[n, t]]))
            y.append(z[n, t])
    X, target = torch.stack(rows), torch.stack(y)
    prior = (pair.unit / pair.widths).square().diag()
    precision = X.T @ X + prior
    V = torch.linalg.inv(precision)
    m = V @ X.T @ target
    a, b = float(pair.a), float(pair.b * pair.spread**2)
    a_n, b_n = a + len(target) / 2, b + float(target @ target - m @ precision @ m) / 2
    logs = 0.5 * (torch.logdet(prior) - torch.logdet(precision)) - len(target) / 2 * math.log(2 * math.pi)
    log_p = float(logs) + a * math.log(b) - a_n * math.log(b_n) + math.lgamma(a_n) - math.lgamma(a)
    return log_p, m, V, a_n, b_n


EXACT: list[dict[str, Any]] = [
    {},
    {"order": 1, "seasonal": 4, "seasonal_order": 2, "inputs": 2},
    {"order": 2, "seasonal": 4, "products": True, "prior": "minnesota", "inputs": 2},
]


@pytest.mark.parametrize("config", EXACT, ids=str)
def test_the_guide_is_the_conjugate_posterior(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    pair = zoo.create("autoregressive", steps=25, **config).double()
    batch = pair.simulate(4)[0]
    shifted = batch.but(**{pair.field: 50 + 7 * getattr(batch, pair.field)})  # in other units
    pair.initial(shifted)
    z = getattr(shifted, pair.field) - pair.center
    u = shifted.x - pair.input_center if pair.E else z.new_zeros(*z.shape, 0)
    log_p, m, V, a, b = evidence(pair, z, u)
    posterior = inference.draw(pair, shifted, 20_000)
    weight = posterior.stats["log_p"] - posterior.stats["log_q"]
    assert float(weight.std()) < 1e-9  # every draw has the weight of the evidence
    assert float(weight.mean()) == pytest.approx(log_p, abs=1e-8)
    theta = torch.cat([posterior[name][0].reshape(20_000, -1) for name in pair.blocks], -1)
    variance = posterior["variance"][0]
    noise = (theta - m) / variance.sqrt().unsqueeze(-1)  # Normal(0, V), independent of the variance
    assert ((noise.mean(0) / (V.diagonal() / 20_000).sqrt()).abs() < 4).all()
    products = noise[:, :, None] * noise[:, None, :]
    assert ((products.mean(0) - V).abs() < 4 * products.std(0) / 20_000**0.5).all()
    precision = 1 / variance  # Gamma(a, b)
    assert abs(precision.mean() - a / b) < 4 * precision.std() / 20_000**0.5
    inference.fit(pair, shifted, steps=40, lr=0.01, particles=4, **QUICK)  # stays, but for the optimiser's own noise
    posterior = inference.draw(pair, shifted, 1000)
    assert float((posterior.stats["log_p"] - posterior.stats["log_q"]).std()) < 0.1


@pytest.mark.parametrize("unit", [1.0, 1000.0])
def test_the_minnesota_prior_shrinks_by_steps_and_seasons(unit: float) -> None:
    """Scales of the weights are h / k at the residual variance: s^2 = RSS(s) / (n - freedom(s)) of a ridge, solved."""
    back = np.array([1, 2, 2, 1, 2, 3, 3, 2, 3])  # of lags 1..9 in seasons of 4, by hand
    for k, lag in zip(back, range(1, 10), strict=True):
        assert steps_back(lag, 4) == k
    assert [steps_back(lag, None) for lag in (1, 7)] == [1, 7]
    assert seasonal_lags(2, 12, 2, True) == (1, 2, 12, 24, 13, 14, 25, 26)
    pair = zoo.create("autoregressive", order=9, seasonal=4, seasonal_order=0, prior="minnesota").double()
    x = unit * torch.from_numpy(np.random.default_rng(0).normal(size=(1, 80)).cumsum(-1)) + 5
    pair.measure(Batch.of(x))
    z = x[0].numpy() - x.mean().item()
    X = np.column_stack([np.ones(71), *(z[9 - lag : 80 - lag] for lag in range(1, 10))])
    widths = np.array([x.std(correction=0).item(), *(0.2 / back)])

    def excess(variance: float) -> float:
        hat = X @ np.linalg.solve(X.T @ X + variance * np.diag(widths**-2), X.T)
        return float(((z[9:] - hat @ z[9:]) ** 2).sum() / (71 - np.trace(hat)) - variance)

    known = optimize.brentq(excess, 0.01 * unit**2, 100 * unit**2, rtol=1e-14)
    scales = known**0.5 * pair.widths / pair.unit  # of the prior, at that variance
    np.testing.assert_allclose(scales[1:].numpy(), 0.2 / back, rtol=1e-6)  # 0.2 of single precision


def test_missing_steps_teach_nothing_they_do_not_say() -> None:
    """With a fifth of the steps missing the guide still fits: its importance weights have a finite variance."""
    torch.manual_seed(1)
    weights = torch.tensor([0.5, 0.3], dtype=torch.float64)
    one, zero = torch.ones(()).double(), torch.zeros(()).double()
    batch = Batch.of(x=AutoregressiveSeries((1, 2), weights, one, one, 60, zero, one).expand((3,)).sample())
    x = batch.x.clone()
    x[:, 2:][torch.rand(3, 58) < 0.2] = torch.nan
    pair = zoo.create("autoregressive", missing=20).double()
    inference.fit(pair, x, steps=100, lr=0.01, particles=4, **QUICK)
    posterior = inference.draw(pair, x, 500)
    assert inference.khat(pair, x).globals < 0.5
    whole = zoo.create("autoregressive").double()
    inference.fit(whole, batch, steps=1, **QUICK)
    narrow = inference.draw(whole, batch, 500)["coefficients"].std(1)
    wide = posterior["coefficients"]
    assert (wide.std(1) > narrow).all()
    assert ((wide.mean(1) - weights).abs() < 4 * wide.std(1)).all()


def test_posteriordb_ark() -> None:
    folder = REFERENCE / "posteriordb" / "arK-arK"
    if not folder.exists():
        pytest.skip(f"no reference data at {folder}")
    reference = json.loads((folder / "reference_summary.json").read_text())["parameters"]
    y = torch.tensor(json.loads((folder / "data.json").read_text())["y"], dtype=torch.float64)[None]
    scales = {"intercept_scale": 10.0, "coefficient_scale": 10.0, "noise_scale": 2.5}
    pair = zoo.create("autoregressive", order=5, prior="independent", **scales).double()
    inference.fit(pair, y, steps=100, lr=0.01, particles=4, **QUICK)
    posterior = inference.draw(pair, y, 20_000)
    found = {"alpha": posterior["intercept"], "sigma": posterior["variance"].sqrt()}
    found |= {f"beta[{k + 1}]": posterior["coefficients"][..., k] for k in range(5)}
    for name, draws in found.items():
        true = reference[name]
        error = math.hypot(true["mcse_mean"], float(draws.std()) / draws.numel() ** 0.5)
        assert abs(float(draws.mean()) - true["mean"]) < 4 * error, name
        assert 0.97 < float(draws.std()) / true["sd"] < 1.03, name
    weight = posterior.stats["log_p"] - posterior.stats["log_q"]
    assert float(weight.std()) < 0.1


# --- published numbers ------------------------------------------------------------------------------------------------


def stationary(weights: Tensor, variance: float, size: int) -> Tensor:
    """Covariance of successive steps of a stationary autoregression, from the moments of its infinite history."""
    reach = [torch.ones((), dtype=torch.float64)]
    for t in range(1, 2000):
        reach.append(sum(w * reach[t - k - 1] for k, w in enumerate(weights) if t > k))
    psi = torch.stack(reach)
    gamma = variance * torch.stack([(psi[h:] * psi[: len(psi) - h]).sum() for h in range(size)])
    return gamma[(torch.arange(size)[:, None] - torch.arange(size)).abs()]


PUBLISHED = [  # R, help page of `arima`: estimates and log-likelihood, which has stationary first steps
    ("lh", [0.5739], 2.4133, 0.0, 0.1975, -29.38),
    ("lh", [0.6448, -0.0634, -0.2198], 2.3931, 0.0, 0.1787, -27.09),
    ("lakehuron", [1.0048, -0.2913], 579.0993, -0.0216, 0.4566, -101.2),
]


@pytest.mark.parametrize(("name", "weights", "mean", "slope", "variance", "published"), PUBLISHED)
def test_published_likelihoods(
    name: str, weights: list[float], mean: float, slope: float, variance: float, published: float
) -> None:
    """The density at R's estimates, and that of the first steps, which ours leaves out, by hand."""
    x, w, P = datasets.load(name).x, torch.tensor(weights, dtype=torch.float64), len(weights)
    time = torch.arange(x.shape[1], dtype=torch.float64) - 45  # years since 1920
    lags, rest = torch.arange(1, P + 1), 1 - w.sum()
    # m + slope t as the mean of the process: what is left of it once the past is taken off
    intercept = mean * rest + slope * (w * lags).sum()
    values = {"variance": torch.tensor(variance).double(), "intercept": intercept, "coefficients": w}
    if slope:
        pair = zoo.create("autoregressive", order=P, inputs=1).double()
        values["slopes"] = (slope * rest)[None]
        batch = Batch.of(x=time[None, :, None], y=x)
    else:
        pair, batch = zoo.create("autoregressive", order=P).double(), Batch.of(x=x)
    start = dist.MultivariateNormal(mean + slope * time[:P], stationary(w, variance, P)).log_prob(x[0, :P])
    assert float(pair.path(values, batch).log_prob(x) + start) == pytest.approx(published, abs=0.006 if P > 1 else 0.01)


def test_lh_by_least_squares() -> None:
    """R: arima(lh, order = c(3, 0, 0), method = "CSS") is least squares given the first three."""
    pair = zoo.create("autoregressive", order=3, coefficient_scale=1e4, intercept_scale=1e4).double()
    data = datasets.load("lh")
    inference.fit(pair, data, steps=1, **QUICK)
    values = pair.initial(data)
    torch.testing.assert_close(
        values["coefficients"], torch.tensor([0.6578, -0.0658, -0.2348]).double(), atol=5e-5, rtol=0
    )
    mean = pair.center + values["intercept"] / (1 - values["coefficients"].sum())
    assert float(mean) == pytest.approx(2.3918, abs=5e-5)


def test_nile_agrees_with_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.tsa.api")
    data = datasets.load("nile")
    fitted = api.AutoReg(data.x[0].numpy(), lags=2).fit()
    pair = zoo.create("autoregressive", order=2, coefficient_scale=1e4, intercept_scale=1e4).double()
    values = pair.initial(data)
    torch.testing.assert_close(values["coefficients"], torch.as_tensor(fitted.params[1:]), rtol=1e-6, atol=1e-8)
    at = values | {"variance": torch.tensor(fitted.sigma2).double()}
    assert float(pair.path(at, data).log_prob(data.x)) == pytest.approx(fitted.llf, abs=1e-4)
    future = pair.path(at, data).forecast(data.x, 8)
    wanted = torch.as_tensor(fitted.predict(100, 107))
    torch.testing.assert_close(future.mean[0], wanted, rtol=1e-5, atol=1e-3)


# --- use --------------------------------------------------------------------------------------------------------------


def test_forecast_of_a_fit() -> None:
    torch.manual_seed(0)
    pair = zoo.create("autoregressive", inputs=1, seasonal=4, steps=30).double()
    batch = pair.simulate(3)[0].but(lengths=torch.tensor([30, 12, 20]))
    inference.fit(pair, batch, steps=5, **QUICK)
    posterior = inference.draw(pair, batch, 400)
    ahead = torch.randn(3, 5, 1)
    found = inference.forecast(pair, posterior, batch, 5, inputs=ahead)
    assert found.shape == (1, 400, 3, 5)
    values = {name: value[0, :, None] for name, value in posterior.draws.items()}
    exact = pair.path(values, batch).forecast(batch.y, 5, ahead.double())
    z = (found[0] - exact.mean).mean(0) / (exact.variance.mean(0) / 400).sqrt()
    assert z.abs().max() < 4.5
    assert torch.equal(found, inference.forecast(pair, posterior, batch, 5, inputs=ahead.numpy()))
    for wrong, message in (
        (None, "inputs of the steps ahead: expected shape"),
        (ahead[:2], r"inputs: expected shape \(3, 5, E\), got \(2, 5, 1\)"),
        (ahead.clone().fill_(math.nan), "inputs, row 0, step 0, column 0: expected a finite number, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            inference.forecast(pair, posterior, batch, 5, inputs=wrong)


def test_forecast_of_other_pairs() -> None:
    hmm, gmm = zoo.create("hmm"), zoo.create("gmm")
    batch = hmm.simulate(2)[0]
    posterior = inference.prior(hmm, batch, 3)
    assert inference.forecast(hmm, posterior, batch, 4).shape == (1, 3, 2, 4, 1)
    with pytest.raises(ValueError, match="hmm takes no inputs"):
        inference.forecast(hmm, posterior, batch, 4, inputs=torch.zeros(2, 4, 1))
    points = gmm.simulate(2)[0]
    with pytest.raises(ValueError, match="gmm has no forecast at x"):
        inference.forecast(gmm, inference.draw(gmm, points, 2), points, 4)
    pair = zoo.create("autoregressive")
    with pytest.raises(ValueError, match="autoregressive has no hidden states at x"):
        inference.smooth(pair, inference.draw(pair, pair.simulate(2)[0], 2), pair.simulate(2)[0])


def test_predictions_go_on_from_the_first_steps() -> None:
    pair = zoo.create("autoregressive")
    batch = pair.simulate(3)[0]
    found = inference.predict(pair, inference.draw(pair, batch, 4), batch)["x"]
    torch.testing.assert_close(found[..., :2], batch.x[:, :2].expand(1, 4, 3, 2))
    assert not torch.equal(found[..., 2:], batch.x[:, 2:].expand(1, 4, 3, 28))


@pytest.mark.parametrize("config", [{}, {"missing": 2}, {"inputs": 1}, {"prior": "minnesota"}], ids=str)
def test_constant_series_and_inputs_give_finite_results(config: dict[str, Any]) -> None:
    pair = zoo.create("autoregressive", **config)
    x = torch.full((2, 20), 3.0)
    data = Batch.of(x=torch.ones(2, 20, 1), y=x) if "inputs" in config else Batch.of(x=x)
    fit = inference.fit(pair, data, steps=30, **QUICK)
    assert torch.isfinite(torch.as_tensor(fit.losses)).all()
    assert all(torch.isfinite(value).all() for value in pair.state_dict().values())
    with pytest.raises(ValueError, match="constant"):
        inference.fit(zoo.create("autoregressive", prior="independent"), x, steps=2, **QUICK)


def test_inputs_that_tell_the_same_story() -> None:
    """Twice the same input, in other units: the prior shares the slope out, and what they say together is the same."""
    torch.manual_seed(0)
    u, y = torch.randn(1, 40, 1).double(), torch.randn(1, 40).double()
    one, two = (zoo.create("autoregressive", inputs=E, prior="independent").double() for E in (1, 2))
    alone = one.initial(Batch.of(x=u, y=y))
    both = two.initial(Batch.of(x=torch.cat([u, u], -1), y=y))
    torch.testing.assert_close(both["slopes"].sum(-1, keepdim=True), alone["slopes"], rtol=0.02, atol=1e-3)
    torch.testing.assert_close(both["slopes"][0], both["slopes"][1], rtol=1e-6, atol=1e-9)


def refuse(pair: Autoregressive, data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inference.fit(pair, data, steps=2, **QUICK)


def test_series_that_do_not_fit_are_refused_by_row() -> None:
    pair, gaps, with_inputs = (zoo.create("autoregressive", order=4, **c) for c in ({}, {"missing": 2}, {"inputs": 2}))
    x = torch.randn(3, 10)
    refuse(pair, x[:, :4], r"field 'x', row 0: a series of 4 steps; with lags up to 4 it takes at least 5")
    refuse(pair, Batch.of(x=x, lengths=[10, 9, 3]), r"field 'x', row 2: a series of 3 steps; with lags up to 4")
    spoiled = x.clone()
    spoiled[1, 6:9] = torch.nan
    refuse(
        pair,
        spoiled,
        r"'x', row 1, step 6: expected a number \(3 steps missing: make the pair with missing=3\)",
    )
    refuse(gaps, spoiled, r"field 'x', row 1: 3 missing steps, expected at most missing=2")
    spoiled[1, 6:9], spoiled[2, 3] = 0, torch.nan
    refuse(gaps, spoiled, r"field 'x', row 2, step 3: NaN among the first 4 steps")
    late = Batch.of(x=spoiled, lengths=[10, 10, 10]).but(x=x.masked_fill(torch.arange(10) > 7, torch.nan))
    assert torch.isnan(as_batch(pair, late.but(lengths=torch.tensor([8, 8, 8]))).x).any()
    refuse(with_inputs, Batch.of(x=torch.randn(3, 9, 2), y=x), "inputs x have 9 steps, the series y have 10")
    refuse(with_inputs, Batch.of(x=torch.randn(3, 10, 3), y=x), r"'x': expected shape \(N, T, 2\), got \(3, 10, 3\)")
    refuse(with_inputs, x, r"needs field 'x' of shape \(N, 30, 2\)")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"seasonal_order": 2}, "goes with a period"),
        ({"order": 4, "seasonal": 4}, "among the lags up to order=4"),
        ({"seasonal": 12, "seasonal_order": 3}, "steps=30, but the longest lag is 36"),
        ({"order": 0}, "at least 1"),
    ],
)
def test_refuses_arguments_that_do_not_fit(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.create("autoregressive", **config)


def test_known_series() -> None:
    for name, steps in (("nile", 100), ("lakehuron", 98), ("lh", 48), ("sunspots", 309)):
        batch = datasets.load(name)
        assert batch.x.shape == (1, steps)
        assert batch.lengths.tolist() == [steps]
    assert float(datasets.load("nile").x.mean()) == pytest.approx(919.35)  # R: mean(Nile)
    assert float(datasets.load("lakehuron").x.mean()) == pytest.approx(579.0041, abs=5e-5)
    assert float(datasets.load("lh").x.mean()) == pytest.approx(2.4)
