"""Forecasts as tables: the numbers of the exact predictive distribution, pandas' dates, names; and their picture."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from scipy import stats

import inference
import zoo
from inference.command.main import main
from inference.gallery.future import future
from inference.posterior.latents import Posterior
from tests.helpers.command import blank_pictures, fails
from zoo import Batch

pandas = pytest.importorskip("pandas")
RNG = np.random.default_rng(5)
WALKS = RNG.normal(size=(40, 3)).cumsum(0)
MONTHS = pandas.date_range("1949-01-01", periods=40, freq="MS")


def known(draws):
    """AR(1) about 0 with coefficient 0.5 and variance 4, the same in each draw."""
    values = {"variance": torch.tensor(4.0), "intercept": torch.tensor(0.0), "coefficients": torch.tensor([0.5])}
    return Posterior({n: v.double().expand(1, draws, *v.shape) for n, v in values.items()}, chains=1, size=draws)


def autoregressive(**config):
    return zoo.create("autoregressive", order=1, **config).double()


def test_quantiles_and_dates_are_those_of_the_process():
    """x_h | x_0 ~ Normal(0.5^h x_0, 4 (1 + 0.25 + ... + 0.25^(h-1))): Box & Jenkins (2008), section 5.1."""
    frame = pandas.DataFrame(WALKS, MONTHS, ["a", "b", "c"])
    draws = 4000
    for data in (frame, Batch.of(frame)):
        table = inference.forecast_table(autoregressive(), data, 3, known(draws), mass=(0.5, 0.9))
        assert table["series"].tolist() == list(np.repeat(["a", "b", "c"], 3))
        assert table["step"].tolist() == [1, 2, 3] * 3
        later = pandas.date_range("1952-05-01", periods=3, freq="MS")
        assert table["date"].tolist() == [*later] * 3
        h = table["step"].to_numpy()
        mean = 0.5**h * np.repeat(WALKS[-1], 3)
        sd = np.sqrt(4 * (1 - 0.25**h) / 0.75)
        assert np.abs((table["mean"] - mean) / sd).max() < 4 / draws**0.5
        for name, p in (("median", 0.5), ("low_90", 0.05), ("high_90", 0.95), ("low_50", 0.25), ("high_50", 0.75)):
            z = stats.norm.ppf(p)
            error = np.sqrt(p * (1 - p) / draws) / stats.norm.pdf(z)
            assert np.abs((table[name] - mean) / sd - z).max() < 4 * error, name


def test_series_end_where_they_end_and_steps_have_features():
    frame = pandas.DataFrame(WALKS, MONTHS, ["a", "b", "c"])
    frame.loc[MONTHS[35] :, "b"] = np.nan
    table = inference.forecast_table(autoregressive(), frame, 2, known(50))
    dates = table.set_index(["series", "step"])["date"]
    assert dates["a", 1] == pandas.Timestamp("1952-05-01")
    assert dates["b", 1] == pandas.Timestamp("1951-12-01")
    hmm = zoo.create("hmm", features=3, states=2).double()
    table = inference.forecast_table(hmm, frame.ffill(), 2, draws=10)
    assert table[["series", "step", "feature"]].to_numpy().tolist() == [
        ["series 1", step, name] for step in (1, 2) for name in "abc"
    ]
    plain = inference.forecast_table(autoregressive(), WALKS.T.copy(), 2, known(10))
    assert list(plain.columns) == ["series", "step", "median", "mean", "low", "high"]
    assert plain["series"].tolist() == [1, 1, 2, 2, 3, 3]
    named = inference.forecast_table(autoregressive(), frame.ffill().reset_index(drop=True), 1, known(10))
    assert named["series"].tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("mass", [0, 1, 90, [], "all", True, [0.5, float("nan")]])
def test_masses_are_probabilities(mass):
    with pytest.raises(ValueError, match="mass: expected probabilities between 0 and 1"):
        inference.forecast_table(autoregressive(), WALKS.T.copy(), 2, known(10), mass=mass)


def test_the_picture_shows_data_median_and_bands():
    frame = pandas.DataFrame(WALKS, MONTHS, ["a", "b", "c"])
    table = inference.forecast_table(autoregressive(), frame, 6, known(200), mass=(0.5, 0.9))
    figure = future(autoregressive(), frame, table)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a", "b", "c"]
    axes = figure.axes[1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "forecast, 90 %", "forecast, 50 %", "data", "median"
    ]  # fmt: skip
    data, median = axes.lines
    np.testing.assert_allclose(data.get_ydata(), WALKS[-24:, 1])
    np.testing.assert_allclose(median.get_ydata(), table["median"][6:12])
    with pytest.raises(ValueError, match="forecasts of 3 series, got 6 lines"):
        future(autoregressive(), frame, table[:6])


def test_a_file_in_long_form_is_forecast_by_date_and_name(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{m:%Y-%m},{town},{WALKS[t, i]:.6f}" for i, town in enumerate(("Oslo", "Rome")) for t, m in enumerate(MONTHS)
    ]
    del lines[50]
    (tmp_path / "sales.csv").write_text("\n".join(["month,town,sold", *lines]) + "\n")
    with blank_pictures():
        fit = ["fit", "autoregressive", "--data", "sales.csv", "--set", "order=1", "--set", "missing=1", "--double"]
        assert main([*fit, "--steps", "1", "--no-score", "--out", "run"]) == 0
        assert "2 series of 40 steps, monthly, 1 step missing" in capsys.readouterr().out
        assert main(["score", "run", "--draws", "5"]) == 0
    ahead = ["forecast", "run", "sales.csv", "--horizon", "2", "--out", "next.csv", "--picture", "next.png"]
    assert main(ahead) == 0
    with (tmp_path / "next.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["series"], row["date"]) for row in rows] == [
        (town, date) for town in ("Oslo", "Rome") for date in ("1952-05-01", "1952-06-01")
    ]
    assert (tmp_path / "next.png").stat().st_size > 10_000
    assert main([*ahead[:-4], "--out", "next.npy"]) == 0
    assert np.load("next.npy")[:, 0].tolist() == [1, 1, 2, 2]
    (tmp_path / "twice.csv").write_text("month,sold\n2020-01,1\n2020-02,2\n2020-02,3\n2020-03,4\n")
    said = fails(capsys, *ahead[:2], "twice.csv", *ahead[3:5], "--out", "other.csv")
    assert "two rows, 2 and 3, are of one date, 2020-02-01: keep one" in said
