"""Several series under one set of coefficients: said where their levels or scales differ, against statsmodels."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.command.main import main
from zoo.notes import DataWarning
from zoo.parts.alike import tell_unlike

pandas = pytest.importorskip("pandas")
AutoReg = pytest.importorskip("statsmodels.tsa.ar_model").AutoReg


def process(phi: float, count: int, steps: int, seed: int = 0) -> np.ndarray:
    rng, x = np.random.default_rng(seed), np.zeros((count, steps + 50))
    for t in range(1, steps + 50):
        x[:, t] = phi * x[:, t - 1] + rng.normal(size=count)
    return x[:, 50:]


@pytest.mark.parametrize(
    ("phi", "count", "steps"), [(0.0, 1000, 30), (0.5, 2, 30), (0.9, 300, 30), (0.8, 5, 12), (1.1, 9, 30)]
)
def test_series_of_one_process_are_let_by(phi, count, steps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x = torch.from_numpy(process(phi, count, steps))
        tell_unlike(x, torch.stack([torch.ones_like(x[:, 1:]), x[:, :-1]], -1), x[:, 1:])


def test_series_of_other_scale_or_level_are_told_at_the_fit():
    when = pandas.date_range("2015-01", periods=96, freq="MS")
    plain, other = process(0.5, 2, 96)
    pair = zoo.create("autoregressive", order=1).double()
    own = [AutoReg(series, 1).fit().resid.std() for series in (9 * plain, other)]
    ratio = own[0] / own[1]
    wide = pandas.DataFrame(np.stack([9 * plain, other], 1), when, columns=["sold", "rate"])
    with pytest.warns(DataWarning, match=f"all 2 series.*noise of 'sold' is {ratio:.3g} times as wide as.*'rate'"):
        inference.fit(pair, wide, steps=1, progress=False)
    high = pandas.DataFrame({"a": plain, "b": other + 50}, when)
    means = f"{np.mean(other + 50):.4g} of 'b', {np.mean(plain):.4g} of 'a'"
    with pytest.warns(DataWarning, match=f"levels differ: {means}"):
        inference.fit(zoo.create("autoregressive", order=1).double(), high, steps=1, progress=False)
    apart = zoo.create("autoregressive", order=1, difference=1).double()
    inference.fit(apart, high, steps=1, progress=False)  # what is regressed then has one level


def test_the_command_line_says_so_and_takes_no_step_for_a_column(tmp_path, capsys):
    plain, other = process(0.5, 2, 96)
    table = pandas.DataFrame({"month": pandas.date_range("2015-01", periods=96, freq="MS").strftime("%Y-%m")})
    table.assign(sold=900 * np.exp(plain), rate=other).to_csv(tmp_path / "two.csv", index=False)
    words = ["autoregressive", "--data", str(tmp_path / "two.csv"), "--out", str(tmp_path / "run"), "--steps", "1"]
    assert main(["fit", *words, "--no-score"]) == 0
    said = "".join(capsys.readouterr())
    assert "for all 2 series, and the noise of 'sold' is" in said
    assert "the columns differ" not in said
