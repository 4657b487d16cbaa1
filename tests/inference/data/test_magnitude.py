"""Numbers that a floating-point type cannot work with, and data with nothing to learn, are refused before step one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.data.check import check
from tests.helpers.pairs import NAMES
from zoo.base import Batch

X = np.random.default_rng(0).normal(size=(40, 2))
QUICK = {"progress": False, "compile": "off", "device": "cpu"}


def mixture():
    torch.manual_seed(0)
    return zoo.create("gmm")


def with_cell(value, dtype=np.float64):
    spoilt = X.astype(dtype)
    spoilt[3, 1] = value
    return spoilt


@pytest.mark.parametrize("value", [1e13, -1e15, 1e18, 1e30, 2**62, np.uint64(2**63 + 5)])
def test_a_cell_too_large_for_single_precision_is_named(value):
    pair = mixture()
    spoilt = (
        with_cell(value) if isinstance(value, float) else with_cell(value, np.int64 if value == 2**62 else np.uint64)
    )
    for data in (spoilt, Batch.of(x=spoilt)):
        with pytest.raises(ValueError, match=r"field 'x', row 3, column 1: expected at most 6.98e\+12 .*\.double\(\)"):
            inference.fit(pair, data, steps=2, **QUICK)
    assert not pair.fitted
    assert float(check(pair.double(), spoilt).batch.x[3, 1]) == float(value)


@pytest.mark.parametrize("factor", [1e-40, 1e-25])
def test_a_column_too_small_for_single_precision_is_named(factor):
    tiny = X * [1.0, factor]
    row = int(np.abs(tiny[:, 1]).argmax())
    for run in (
        lambda data: inference.fit(mixture(), data, steps=2, **QUICK),
        lambda data: inference.sample(mixture(), data, 2, 2, progress=False),
    ):
        with pytest.raises(ValueError, match=rf"field 'x', row {row}, column 1: expected at least 1.08e-19 in size"):
            run(tiny)
    one = np.array(X)
    one[3, 1] = factor  # a single cell next to nothing is no such column
    assert np.isfinite(inference.fit(mixture(), one, steps=2, **QUICK).losses).all()
    few = inference.predict(mixture(), inference.draw(mixture(), X, 3), tiny[:1])  # nor is a row to predict for
    assert few["x"].isfinite().all()


@pytest.mark.parametrize("scale", [1e-15, 1e-9, 1e9])
@pytest.mark.parametrize("name", ["autoregressive", "gmm", "hmm"])
def test_within_those_limits_single_precision_loses_no_step(name, scale):
    torch.manual_seed(0)
    pair = zoo.create(name)
    data, _ = pair.simulate(20)
    data = data.but(x=data.x * scale)
    fit = inference.fit(pair, data, steps=3, **QUICK)
    assert np.isfinite(fit.losses).all()
    wide = zoo.create(name, dtype=torch.float64)
    assert (
        abs(fit.losses - inference.fit(wide, data, steps=3, **QUICK).losses).max() < 0.5 + 0.02 * abs(fit.losses).max()
    )


def test_two_columns_that_are_one_have_a_finite_start_in_single_precision():
    pair = mixture()
    same = np.stack([X[:, 0], X[:, 0]], -1)
    fit = inference.fit(pair, same, steps=5, **QUICK)
    assert np.isfinite(fit.losses).all()
    assert all(value.isfinite().all() for value in inference.draw(pair, same, 50).draws.values())


@pytest.mark.parametrize("name", NAMES)
def test_data_that_are_all_missing_are_refused(name):
    torch.manual_seed(0)
    pair = zoo.create(name)
    data, _ = pair.simulate(12)
    nothing = data.but(**{field: value * torch.nan for field, value in data.fields().items() if field != "lengths"})
    for run in (
        lambda: inference.fit(pair, nothing, steps=2, **QUICK),
        lambda: inference.sample(pair, nothing, 2, 2, progress=False),
    ):
        with pytest.raises(ValueError, match=r"field '?[xy]'?.*(is missing|takes no missing|expected a number)"):
            run()
    assert not pair.fitted
