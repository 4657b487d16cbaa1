"""Data that a pair's floating-point type cannot tell apart, against what NumPy makes of them in that type."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import inference
import zoo
from inference.data.check import as_batch

QUICK = {"steps": 1, "progress": False, "compile": "off", "device": "cpu"}


def rows(level, deviation, n=40):
    return level + deviation * np.random.default_rng(0).normal(size=(n, 2))


def series(level, deviation, coefficient=0.75, n=200):
    z, r = [0.0], np.random.default_rng(0)
    for e in r.normal(size=n):
        z.append(coefficient * z[-1] + e)
    return level + deviation * np.array(z)[None]


def silent(pair, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_batch(pair, data)


@pytest.mark.parametrize("level", [3e3, 1e6, 1e8, 1e12])
def test_how_many_values_are_left_decides(level):
    """Below a thousandth of the spread nothing is said; from half of it on most values have become one another."""
    x, pair = rows(level, 1.0), zoo.create("gmm")
    left = len(np.unique(x.astype(np.float32))) / x.size
    lost = float(np.spacing(np.float32(level)))
    if lost < 1e-2:
        assert left > 0.98
        return silent(zoo.create("gmm"), x)
    if lost < 0.5:
        assert left > 0.5
        with pytest.warns(inference.LostPrecision, match=r"field 'x', column \d: numbers near 1e\+06 that vary by"):
            as_batch(pair, x)
    else:
        assert left < 0.25
        with pytest.raises(ValueError, match=r"field 'x', column \d: numbers near .*float32.*\.double\(\).*subtract"):
            as_batch(pair, x)
    if level < 1e12:
        silent(pair.double(), x)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (series(1e6, 0.01), "field 'x'"),  # found: a coefficient of 0.596 where least squares has 0.746
        (series(1e6, 0.3, coefficient=1.0), "field 'x'"),  # a walk far wider than its steps
    ],
)
def test_series_are_asked_for_their_steps(data, words):
    pair = zoo.create("autoregressive", order=1)
    with pytest.raises(ValueError, match=words) if data.std() < 1 else pytest.warns(inference.LostPrecision):
        as_batch(pair, data)


def test_times_in_seconds_and_whole_numbers_beyond_2_to_the_24():
    pair = zoo.create("polynomial_regression", features=1, degree=1)
    y = np.arange(3.0)
    stamps = np.array([[1_700_000_000], [1_700_000_001], [1_700_000_002]])
    assert len(np.unique(stamps.astype(np.float32))) == 1
    with pytest.raises(ValueError, match=r"field 'x', column 0.*1\.7e"):
        inference.fit(pair, stamps, y, **QUICK)
    many = 2**24 + np.arange(60)[:, None]
    assert len(np.unique(many.astype(np.float32))) < 60
    with pytest.warns(inference.LostPrecision, match="column 'id'"):
        as_batch(zoo.create("gmm", features=1), pd.DataFrame(many, columns=["id"]))
    silent(zoo.create("gmm", features=1), np.arange(60.0)[:, None] * 86_400 * 30 + 1.7e9)  # years


def test_responses_are_asked_too():
    x = rows(0.0, 1.0)
    with pytest.raises(ValueError, match="field 'y': numbers near 1e"):
        inference.fit(zoo.create("polynomial_regression", features=2), x, x[:, 0] + 1e8, **QUICK)


def test_odd_cells_constant_columns_and_few_rows_decide_nothing():
    x = rows(0.0, 1.0)
    x[0, 0] = 1e12
    silent(zoo.create("gmm"), x)
    x[:, 1] = 1e6
    silent(zoo.create("gmm"), x)
    silent(zoo.create("gmm"), rows(1e6, 1.0, n=5))


def test_a_fitted_pair_is_not_kept_from_new_rows_that_lie_close_to_each_other():
    pair = zoo.create("gmm")
    inference.fit(pair, rows(1e6, 1e5), **QUICK)
    close = rows(1e6, 1e-3)
    with pytest.warns(inference.LostPrecision):
        assert torch.isfinite(as_batch(pair, close).x).all()


def test_the_estimate_in_double_is_that_of_least_squares():
    x = series(1e6, 0.01)
    pair = zoo.create("autoregressive", order=1).double()
    inference.fit(pair, x, **QUICK)
    found = float(inference.draw(pair, x, 4000, seed=0)["coefficients"].mean())
    z = x[0] - x[0].mean()
    design = np.stack([np.ones(len(z) - 1), z[:-1]], 1)
    wanted, error = np.linalg.lstsq(design, z[1:], rcond=None)[0][1], 0.05 / np.sqrt(4000)
    assert found == pytest.approx(wanted, abs=4 * error + 1e-3)
