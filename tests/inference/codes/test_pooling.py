"""Rubin's rules against numbers worked by hand and against statsmodels; what cannot be pooled is refused."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from inference import pool


def test_three_tables_by_hand():
    """W = 2, B = 4, K = 3: T = 2 + 4/3 · 4 = 22/3, r = 8/3, df = 2 · (11/8)² = 121/32."""
    found = pool([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])
    assert found.estimate.tolist() == [5.0]
    assert found.sd[0] == pytest.approx(math.sqrt(22 / 3), rel=1e-12)
    assert found.df[0] == pytest.approx(121 / 32, rel=1e-12)
    assert found.missing_information[0] == pytest.approx((8 / 3 + 2 / (121 / 32 + 3)) / (11 / 3), rel=1e-12)
    low, high = found.interval(0.9)
    assert high[0] - 5 == pytest.approx(stats.t.ppf(0.95, 121 / 32) * math.sqrt(22 / 3), rel=1e-9)
    assert low[0] + high[0] == pytest.approx(10)


def test_a_small_table_has_fewer_degrees_of_freedom():
    """Barnard & Rubin (1999): 1 / df = 1 / old + 1 / ((d + 1) / (d + 3) d (1 - gamma)), gamma = 8/11 here."""
    found = pool([3.0, 5.0, 7.0], [1.0, 2.0, 3.0], df=20)
    assert found.df[0] == pytest.approx(1 / (32 / 121 + 1 / (21 / 23 * 20 * 3 / 11)), rel=1e-12)
    assert pool([3.0, 5.0], [1.0, 1.0], df=1e9).df[0] == pytest.approx(pool([3.0, 5.0], [1.0, 1.0]).df[0], rel=1e-6)


def test_what_all_tables_say_alike_has_lost_nothing():
    found = pool([[1.0, 2.0]] * 4, [[0.5, 0.0]] * 4)
    assert found.sd.tolist() == [math.sqrt(0.5), 0.0]
    assert found.missing_information.tolist() == [0.0, 0.0]
    assert np.isinf(found.df).all()
    assert pool([1.0, 2.0], [0.0, 0.0]).missing_information.tolist() == [1.0]


def test_regressions_are_pooled_as_by_statsmodels():
    mice = pytest.importorskip("statsmodels.imputation.mice")
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    data = pd.DataFrame(rng.normal(size=(60, 3)), columns=["y", "a", "b"])
    data["y"] += data["a"]
    data.loc[:20, "a"] = np.nan
    np.random.seed(0)  # noqa: NPY002 - statsmodels draws from there
    chain = mice.MICE("y ~ a + b", api.OLS, mice.MICEData(data))
    wanted = chain.fit(1, 3)
    found = pool([fit.params for fit in chain.results_list], [fit.bse**2 for fit in chain.results_list])
    np.testing.assert_allclose(found.estimate, wanted.params, rtol=1e-10)
    np.testing.assert_allclose(found.sd, wanted.bse, rtol=1e-10)
    assert found.names == ("Intercept", "a", "b")
    table = found.frame()
    assert list(table.index) == ["Intercept", "a", "b"]
    assert list(table) == ["estimate", "sd", "low", "high", "df", "missing_information"]
    assert "from 3 completed tables" in repr(found)


def test_series_are_pooled_by_their_names():
    one, other = pd.Series({"a": 1.0, "b": 9.0}), pd.Series({"b": 11.0, "a": 2.0})
    found = pool([one, other], [one.abs(), other.abs()])
    assert found.frame()["estimate"].to_dict() == {"a": 1.5, "b": 10.0}
    assert found.within.tolist() == [1.5, 10.0]
    with pytest.raises(ValueError, match="estimates, table 1: expected a, b, got a, c"):
        pool([one, pd.Series({"a": 1.0, "c": 1.0})], [one, one])


@pytest.mark.parametrize(
    ("estimates", "variances", "words"),
    [
        ([1.0], [1.0], "at least 2 completed tables, got 1"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "the shape of the estimates, 2 tables of 1 quantities, got 3 tables"),
        ([1.0, math.nan], [1.0, 1.0], "estimates, table 1, quantity 0: expected a finite number, got nan"),
        ([1.0, 2.0], [1.0, math.inf], "variances, table 1, quantity 0: expected a finite number, got inf"),
        ([[1.0, 1.0], [2.0, 2.0]], [[1.0, 1.0], [1.0, -1.0]], "variances, table 1, quantity 1: expected at least 0"),
        (["a", "b"], [1.0, 1.0], "estimates: expected a number or a row of numbers for each"),
        ([], [], "estimates: expected shape"),
    ],
)
def test_what_cannot_be_pooled_is_refused(estimates, variances, words):
    with pytest.raises(ValueError, match=words):
        pool(estimates, variances)
    with pytest.raises(ValueError, match="df: expected a finite number"):
        pool([1.0, 2.0], [1.0, 1.0], df=-3)
