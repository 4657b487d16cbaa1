"""Integer rules against exact arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.compression.errors import CompressionError
from inference.compression.integers import FINE, RARE, TOTAL, cumulative, exp2, log2, log_table, mixed, shares


def test_powers_are_those_of_two():
    exponents = np.arange(0, 31 * FINE, 997, dtype=np.int64)
    np.testing.assert_allclose(exp2(exponents), 2.0**30 * 2.0 ** (-exponents / FINE), atol=3)
    assert exp2(np.array([0, FINE, 30 * FINE, 31 * FINE])).tolist() == [1 << 30, 1 << 29, 1, 0]


def test_logs_are_those_of_two():
    numbers = np.unique(np.r_[1:5000, 2 ** np.arange(32), 3 ** np.arange(19), 2**31 - 1])
    found = log2(numbers) / FINE
    exact = np.array([math.log2(n) for n in numbers.tolist()])
    assert (found <= exact + 1e-12).all()
    assert (exact - found < 1 / FINE + 1e-9).all()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_frequencies_sum_and_no_symbol_is_without(masses):
    edges = cumulative(log_table(np.array(masses)))
    assert edges[0] == 0
    assert edges[-1] == TOTAL
    assert (np.diff(edges) >= 1).all()


def test_frequencies_are_near_the_masses():
    masses = np.random.default_rng(0).dirichlet(np.full(40, 0.5), size=7)
    found = np.diff(cumulative(log_table(masses))) / TOTAL
    loss = (masses * np.log2(np.maximum(masses, 1e-300) / found)).sum(-1)
    assert (np.abs(loss) < 5e-5).all()  # bits a symbol: half a unit of log, squared


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(2, 50), st.integers(0, 2**32 - 1))
def test_a_mixture_is_one(K, C, seed):
    rng = np.random.default_rng(seed)
    masses, logs = rng.dirichlet(np.full(C, 0.3), size=K), rng.integers(-40 * FINE, 0, size=(9, K))
    weights = shares(logs)
    assert (weights.sum(-1) == TOTAL).all()
    exact = 2.0 ** (logs / FINE)
    np.testing.assert_allclose(weights / TOTAL, exact / exact.sum(-1, keepdims=True), atol=1e-6)
    edges = cumulative(log_table(masses))
    found = mixed(weights, edges)
    assert (np.diff(found) >= 1).all()
    assert (found[:, 0] == 0).all()
    assert (found[:, -1] == TOTAL).all()
    # Whole numbers of Python's, of any length.
    for row in range(2):
        wanted = [
            sum(w * e for w, e in zip(weights[row].tolist(), edges[:, c].tolist(), strict=True)) for c in range(C + 1)
        ]
        wanted = [total >> 24 for total in wanted]
        assert found[row].tolist() == wanted


def test_of_no_mass_all_are_alike_and_the_rarest_has_a_floor():
    assert np.diff(cumulative(log_table(np.zeros(4)))).tolist() == [TOTAL // 4] * 4
    assert log_table(np.array([1.0, 1e-300])).tolist() == [0, RARE]
    assert np.diff(cumulative(log_table(np.array([1.0, 0.0])))).tolist() == [TOTAL - 1, 1]


def test_a_table_from_a_file_that_holds_more_than_one_is_refused():
    with pytest.raises(CompressionError, match="more than one in all"):
        cumulative(np.zeros((1, 1 << 9), np.int16))
