"""Backtests: scores against closed forms, the naive forecast by hand, no look at what was to come."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import inference
import zoo
from inference.command.main import main
from inference.forecasting.naive import seasonal_naive
from inference.forecasting.scores import crps, crps_normal, pinball
from tests.helpers.command import fails
from zoo import Batch

pandas = pytest.importorskip("pandas")
QUICK = {"compile": "off", "steps": 1}


def pair(**config):
    return zoo.create("autoregressive", **{"order": 1, **config}).double()


def walk(steps=60, seed=1):
    return np.random.default_rng(seed).normal(size=steps).cumsum()


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actual", [-3.0, 0.1, 2.0])
def test_crps_of_a_normal_is_the_integral_that_defines_it(actual):
    """The integral of (F(x) - 1{x >= y})^2 (Gneiting & Raftery 2007, equation 20)."""
    cdf = stats.norm(0.5, 2.0).cdf
    left = integrate.quad(lambda x: cdf(x) ** 2, -40, actual)[0]
    right = integrate.quad(lambda x: (1 - cdf(x)) ** 2, actual, 40)[0]
    assert float(crps_normal(0.5, 2.0, actual)) == pytest.approx(left + right, abs=1e-7)


def test_crps_from_draws_is_unbiased_for_the_closed_form():
    rng = np.random.default_rng(0)
    found = crps(rng.normal(0.5, 2.0, size=(8, 40_000)), np.full(40_000, 1.5))  # 8 draws each
    error = found.std() / 40_000**0.5
    assert abs(found.mean() - crps_normal(0.5, 2.0, 1.5)) < 4 * error
    few = rng.normal(size=(5, 3))
    apart = np.abs(few[:, None] - few[None]).sum((0, 1)) / (5 * 4)
    np.testing.assert_allclose(crps(few, np.ones(3)), np.abs(few - 1).mean(0) - apart / 2)


def test_pinball_loss_is_least_at_the_quantile():
    draws = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    at = np.linspace(-2, 2, 401)
    for level in (0.05, 0.5, 0.75):
        losses = [pinball(q, level, draws).mean() for q in at]
        assert at[np.argmin(losses)] == pytest.approx(stats.norm.ppf(level), abs=0.011)


# --- the naive forecast -----------------------------------------------------------------------------------------------


def test_the_naive_forecast_is_a_season_before():
    past = np.array([1.0, 2, 3, 4, 2, 4, 6, 8])
    loc, scale = seasonal_naive(past, 9, 4)
    assert loc.tolist() == [2, 4, 6, 8, 2, 4, 6, 8, 2]
    sigma = np.sqrt((1 + 4 + 9 + 16) / 4)
    np.testing.assert_allclose(scale, sigma * np.sqrt([1, 1, 1, 1, 2, 2, 2, 2, 3]))
    past[4] = np.nan  # then the season before that
    loc, scale = seasonal_naive(past, 1, 4)
    assert loc[0] == 1
    assert scale[0] == pytest.approx(np.sqrt(2 * (4 + 9 + 16) / 3))
    with pytest.raises(ValueError, match="8 steps hold no two that are a season of 8 apart: give a shorter season"):
        seasonal_naive(past, 1, 8)


# --- backtests --------------------------------------------------------------------------------------------------------


def test_lines_are_of_the_steps_that_came_after_each_origin():
    months = pandas.date_range("2010-01-01", periods=60, freq="MS")
    frame = pandas.DataFrame({"a": walk(), "b": walk(seed=2)}, months)
    frame.loc[months[:10], "b"] = np.nan
    for data in (frame, Batch.of(frame)):
        found = inference.backtest(pair(), data, 3, folds=4, stride=2, **QUICK)
    assert found.season == 12
    lines = found.lines
    assert len(lines) == 2 * 4 * 2 * 3
    assert lines["fold"].tolist()[::12] == [1, 2, 3, 4]
    for line in lines.itertuples():
        assert line.actual == frame.loc[line.date, line.series]
        assert line.date == months[60 - 3 - 2 * (4 - line.fold) + line.step - 1]
    own = lines[lines["model"] == "autoregressive"]
    inside = (own["low"] <= own["actual"]) & (own["actual"] <= own["high"])
    assert found.table.loc["autoregressive", "coverage"] == pytest.approx(inside.mean())
    assert found.table.loc["autoregressive", "mae"] == pytest.approx((own["median"] - own["actual"]).abs().mean())
    assert found.table["forecasts"].tolist() == [24, 24]
    naive = lines[lines["model"] == "seasonal naive"].iloc[0]
    loc, scale = seasonal_naive(frame["a"].to_numpy()[: 60 - 9], 3, 12)
    assert naive["median"] == pytest.approx(loc[0])
    assert naive["crps"] == pytest.approx(float(crps_normal(loc[0], scale[0], naive["actual"])))
    z = stats.norm.ppf([0.05, 0.95])
    np.testing.assert_allclose([naive["low"], naive["high"]], loc[0] + scale[0] * z)
    assert "4 origins, up to 3 steps ahead, 90% intervals, season 12" in repr(found)


@pytest.mark.parametrize("refit", [True, False])
def test_forecasts_are_those_of_a_fit_to_the_past_alone(refit):
    """What came is changed beyond all measure: not one forecast changes before it, whether refitted or not."""
    x = walk()
    shifted = x.copy()
    shifted[52:] += 1e3
    both = [inference.backtest(pair(), v[None], 4, folds=5, refit=refit, season=4, **QUICK).lines for v in (x, shifted)]
    # origins are 52 to 56: those of the first alone lie before the change
    first = [lines[lines["fold"] == 1][["median", "low", "high"]].to_numpy() for lines in both]
    np.testing.assert_array_equal(*first)
    later = [lines[(lines["fold"] == 2) & (lines["model"] == "autoregressive")]["median"].to_numpy() for lines in both]
    assert np.abs(later[0] - later[1]).min() > 1
    by_hand = pair()
    cut = torch.from_numpy(x[None, :53])
    known = x[None, : 53 if refit else 52]
    inference.fit(by_hand, torch.from_numpy(known), progress=False, seed=0, **QUICK)
    table = inference.forecast_table(by_hand, cut, 4, draws=1000, seed=1)  # the second fold has its own draws
    own = both[0][(both[0]["fold"] == 2) & (both[0]["model"] == "autoregressive")]
    np.testing.assert_allclose(own["median"], table["median"])


def test_inputs_ahead_and_missing_steps_are_taken_from_their_places():
    rng = np.random.default_rng(3)
    u = rng.normal(size=(1, 60, 1))
    y = 3 * u[..., 0] + 0.01 * rng.normal(size=(1, 60))
    found = inference.backtest(pair(inputs=1), (u, y), 2, folds=6, season=1, **QUICK)
    assert found.table.loc["autoregressive", "mae"] < 0.05
    assert found.table.loc["seasonal naive", "mae"] > 1
    y[0, [40, 57]] = np.nan
    found = inference.backtest(pair(inputs=1, missing=2), (u, y), 2, folds=6, season=1, **QUICK)
    assert found.table.loc["autoregressive", "mae"] < 0.05
    assert found.lines["crps"].isna().sum() == 2 * 2  # step 57 was to be forecast from two origins


def test_the_pair_and_the_random_state_are_left_as_they_are():
    given = pair()
    before, state = {n: p.clone() for n, p in given.state_dict().items()}, torch.get_rng_state()
    inference.backtest(given, walk()[None], 2, folds=2, **QUICK)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    assert not given.fitted


REFUSED = {
    "too many folds": (
        {"horizon": 12, "folds": 50},
        "row 0: 60 steps, where 50 folds with 12 steps ahead take 61",
    ),
    "too short a past": ({"horizon": 12, "folds": 46}, "fold 1 of 46: .*3 steps"),
    "no horizon": ({"horizon": 0}, "horizon: expected a whole number"),
    "a season of nothing": ({"horizon": 2, "season": 0}, "season: expected a whole number"),
    "one draw": ({"horizon": 2, "draws": 1}, "draws: expected a whole number of at least 2"),
    "a mass in per cent": ({"horizon": 2, "mass": 90}, "mass: expected probabilities between 0 and 1"),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_makes_no_backtest_is_refused(fault):
    options, words = REFUSED[fault]
    with pytest.raises(ValueError, match=words):
        inference.backtest(pair(order=2 if fault != "too short a past" else 4), walk()[None], **{**QUICK, **options})


def test_pairs_without_numbers_to_forecast_are_refused():
    with pytest.raises(ValueError, match="gmm: expected a pair of series of numbers"):
        inference.backtest(zoo.create("gmm", features=2), np.ones((9, 2)), 1)


def test_a_backtest_is_typed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    months = pandas.date_range("2010-01-01", periods=48, freq="MS").strftime("%Y-%m")
    pandas.DataFrame({"month": months, "sold": walk(48)}).to_csv("sold.csv", index=False)
    words = ["backtest", "autoregressive", "sold.csv", "--set", "order=1", "--horizon", "2", "--folds", "3"]
    words += ["--steps", "1", "--draws", "50", "--out", "lines.csv"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "1 series of 48 steps, monthly, 2010-01 to 2013-12" in said
    assert "3 origins, up to 2 steps ahead, 90% intervals, season 12" in said
    assert "CRPS by steps ahead" in said
    with (tmp_path / "lines.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 3 * 2
    assert rows[-1]["date"] == "2013-12-01"
    assert "'lines.csv' is there already" in fails(capsys, *words)
    assert "expected a name that ends in .csv" in fails(capsys, *words[:-1], "lines.npy")
