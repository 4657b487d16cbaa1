"""Differences and logarithms of the autoregression, against statsmodels' state space models of the same process."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import inference
import zoo
from inference.posterior.latents import Posterior
from zoo import Batch

sarimax = pytest.importorskip("statsmodels.tsa.statespace.sarimax")
QUICK: dict[str, Any] = {"progress": False, "compile": "off"}
STEPS, SIGMA = 60, 0.3
SPECS: list[dict[str, Any]] = [
    {"order": 2, "difference": 1},
    {"order": 1, "difference": 2},
    {"order": 2, "seasonal": 4, "seasonal_order": 0, "seasonal_difference": 1},
    {"order": 2, "seasonal": 4, "seasonal_order": 2, "difference": 1, "seasonal_difference": 1},
    {"order": 1, "transform": "log"},
    {"order": 2, "seasonal": 4, "difference": 1, "seasonal_difference": 1, "transform": "log"},
    {"order": 2, "seasonal": 4, "products": True, "seasonal_difference": 1, "prior": "minnesota"},
]


def series(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    season = np.tile([0.0, 1.0, 0.3, -0.8], STEPS // 4)
    return np.exp(0.1 * rng.normal(size=STEPS).cumsum() + 0.02 * np.arange(STEPS) + 0.2 * season)


def created(spec: dict[str, Any], missing: int | None = None) -> Any:
    torch.manual_seed(0)
    return zoo.create("autoregressive", steps=40, missing=missing, **spec).double()


def latents(pair: Any, draws: int = 1) -> tuple[Posterior, np.ndarray, float]:
    """The same weights and intercept in each draw, and they themselves."""
    known = {"coefficients": [0.5, -0.2, 0.1], "seasonal": [0.3, -0.1], "products": [-0.15, 0.05]}
    sizes = {name: block.stop - block.start for name, block in pair.blocks.items() if name in known}
    values = {
        "variance": torch.tensor(SIGMA**2),
        "intercept": torch.tensor(0.02),
        **{name: torch.tensor(known[name][:size]) for name, size in sizes.items()},
    }
    values = {name: value.double().expand(1, draws, *value.shape) for name, value in values.items()}
    weights = torch.cat([v[0, 0] for n, v in values.items() if n in known]).numpy()
    return Posterior(values, chains=1, size=draws), weights, 0.02


def statespace(pair: Any, y: np.ndarray, weights: np.ndarray, intercept: float) -> Any:
    """The same process in statsmodels, at the same parameters: an AR(P) of differences."""
    spec = pair.config
    lags = np.zeros(max(pair.lags))
    lags[[lag - 1 for lag in pair.lags]] = weights
    model = sarimax.SARIMAX(
        np.log(y) if spec["transform"] else y,
        order=(list((lags != 0).astype(int)), spec["difference"], 0),
        seasonal_order=(0, spec["seasonal_difference"], 0, spec["seasonal"] or 0),
        trend="c",
    )
    constant = intercept + float(pair.center) * (1 - weights.sum())
    return model.smooth([constant, *lags[lags != 0], SIGMA**2])


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("absent", [[], [30, 31, 44, 59]], ids=str)
def test_densities_and_forecasts_are_those_of_the_state_space_model(spec: dict[str, Any], absent: list[int]) -> None:
    y = series()
    y[absent] = np.nan
    pair, data = created(spec, 4), torch.from_numpy(y)[None]
    pair.measure(Batch.of(torch.from_numpy(series())[None]))
    draws = 4000
    posterior, weights, intercept = latents(pair, draws)
    known = statespace(pair, y, weights, intercept)
    found = float(inference.log_likelihood(pair, posterior.thin(1), data))
    jacobian = np.nansum(np.log(y[pair.given :])) if spec.get("transform") else 0.0
    assert found == pytest.approx(known.llf_obs[pair.given :].sum() - jacobian, rel=1e-6, abs=1e-6)
    if absent and absent[-1] == STEPS - 1:
        return  # the last valid step is not the last of the array: lengths would say so
    ahead = known.get_forecast(8)
    mean, sd = ahead.predicted_mean, ahead.se_mean
    with torch.no_grad():
        batch = Batch.of(data)
        values = {name: value[0, 0] for name, value in posterior.draws.items()}
        fn = pair.path(values, batch.but(lengths=torch.tensor([STEPS]))).forecast(data, 8)
    base = fn.base_dist if spec.get("transform") else fn
    np.testing.assert_allclose(base.mean[0].numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(base.covariance_matrix[0].diagonal().sqrt().numpy(), sd, rtol=1e-5)
    paths = inference.forecast(pair, posterior, data, 8)[0, :, 0].numpy()  # in the data's own units
    shares = (paths < (np.exp(mean) if spec.get("transform") else mean)).mean(0)
    assert np.abs(shares - 0.5).max() < 4 * 0.5 / draws**0.5


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("absent", [[], [30, 31, 44]], ids=str)
def test_moments_of_one_step_ahead_are_those_of_the_state_space_model(spec: dict[str, Any], absent: list[int]) -> None:
    y = series()
    y[absent] = np.nan
    pair = created(spec, 4)
    pair.measure(Batch.of(torch.from_numpy(series())[None]))
    posterior, weights, intercept = latents(pair)
    known = statespace(pair, y, weights, intercept).get_prediction()
    mean, sd = (np.asarray(value)[pair.given :] for value in (known.predicted_mean, known.se_mean))
    if spec.get("transform"):
        law = stats.lognorm(sd, scale=np.exp(mean))
        mean, sd = law.mean(), law.std()
    found = inference.one_step_ahead(pair, posterior, torch.from_numpy(y)[None])
    np.testing.assert_allclose(found.mean[0, pair.given :].numpy(), mean, rtol=1e-6)
    np.testing.assert_allclose(found.sd[0, pair.given :].numpy(), sd, rtol=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_the_fit_is_the_posterior_of_the_differenced_series(spec: dict[str, Any]) -> None:
    """With the conjugate prior: the plain pair on numpy's differences has the same posterior and evidence."""
    y = series()
    z = np.log(y) if spec.get("transform") else y
    for _ in range(spec.get("difference", 0)):
        z = np.diff(z)
    for _ in range(spec.get("seasonal_difference", 0)):
        z = z[4:] - z[:-4]
    kept: tuple[str, ...] = ("order",)
    if spec.get("seasonal_order") != 0:
        kept = ("order", "seasonal", "seasonal_order", "products", "prior")
    plain = created({name: spec[name] for name in kept if name in spec})
    pair = created(spec)
    log_p = {}
    for each, data in ((plain, z), (pair, y)):
        each.initial(Batch.of(torch.from_numpy(data)[None], lengths=[len(data)]))
        drawn = inference.draw(each, torch.from_numpy(data)[None], 50)
        weight = drawn.stats["log_p"] - drawn.stats["log_q"]
        assert float(weight.std()) < 1e-9, "the guide is exact"
        log_p[each] = float(weight.mean()), drawn["coefficients"]
    torch.testing.assert_close(log_p[pair][1], log_p[plain][1], rtol=1e-9, atol=1e-9)
    jacobian = np.log(y[pair.given :]).sum() if spec.get("transform") else 0.0
    assert log_p[pair][0] == pytest.approx(log_p[plain][0] - jacobian, abs=1e-9)


def test_draws_of_a_logged_series_are_lognormal_one_step_ahead() -> None:
    pair = created({"order": 1, "transform": "log"})
    posterior, weights, intercept = latents(pair, 4000)
    data = torch.from_numpy(series())[None]
    drawn = inference.forecast(pair, posterior, data, 1).flatten().numpy()
    mean = intercept + weights[0] * np.log(series()[-1])
    assert stats.kstest(drawn, stats.lognorm(SIGMA, scale=np.exp(mean)).cdf).pvalue > 0.001
    new = pair.simulate(50)[0].x
    assert bool((new > 0).all())
    assert bool(new.isfinite().all())


def test_scale_and_start_of_simulated_series_are_those_of_the_data() -> None:
    pair = created({"order": 1, "difference": 1})
    data = torch.from_numpy(1000 + 10 * series())[None]
    inference.fit(pair, data, steps=1, **QUICK)
    start = pair.simulate(4000)[0].x[:, 0]
    assert float(start.mean()) == pytest.approx(float(data.mean()), abs=4 * float(data.std()) / 4000**0.5)
    again = zoo.create("autoregressive", order=1, difference=1, steps=40).double()
    again.load_state_dict(pair.state_dict())
    assert torch.equal(
        inference.log_likelihood(again, inference.draw(pair, data, 5), data),
        inference.log_likelihood(pair, inference.draw(pair, data, 5), data),
    )


REFUSED = {
    "a seasonal difference without period": ({"seasonal_difference": 1}, None, "goes with a period, 'seasonal'"),
    "too few steps": ({"difference": 2}, np.ones(4), "with lags up to 2 and 2 lost to differences it takes at least 5"),
    "zero under a logarithm": (
        {"transform": "log"},
        np.array([1.0, 2, 0, 3, 4]),
        "row 0, step 2: expected a number above 0, .*got 0",
    ),
    "another transform": ({"transform": "sqrt"}, None, "transform.*log"),
    "products of nothing": ({"products": True}, None, "products=True goes with a period, 'seasonal', and lags of it"),
    "steps of a draw": ({"difference": 1, "seasonal_difference": 3, "seasonal": 12}, None, "longest lag is 49"),
}  # fmt: skip


def fitted(spec: dict[str, Any], data: Any) -> None:
    pair = zoo.create("autoregressive", **spec).double()
    inference.fit(pair, torch.from_numpy(data)[None], steps=1, **QUICK)


@pytest.mark.parametrize("fault", REFUSED)
def test_what_cannot_be_differenced_is_refused(fault: str) -> None:
    spec, data, words = REFUSED[fault]
    with pytest.raises(ValueError, match=words):
        fitted(spec, data)
