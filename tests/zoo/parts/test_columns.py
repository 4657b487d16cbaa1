"""Rows of typed columns: density, draws and gradient of each kind against SciPy, whatever the units."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from inference.data.check import _in_words
from zoo.parts.tables import rows
from zoo.parts.tables.columns import Columns
from zoo.parts.tables.rows import Row
from zoo.schema.schema import Schema

KINDS = ["real", ("c", "categorical", "abcd"), "count", "positive", "binary", ("o", "ordinal", (1, 2, 3)), "real"]


REAL, CATEGORICAL, COUNT, POSITIVE, BINARY, ORDINAL, LAST = range(7)
NAN = float("nan")


def columns_of(kinds=KINDS):
    return Columns(Schema.of(kinds).used).double()


def row_of(batch=(), seed=0, columns=None):
    """A row distribution with random parameters, and those parameters."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=g, dtype=torch.float64)

    columns = columns or columns_of()
    parts = {
        "loc": normal(3),
        "scale": (0.3 * normal(3)).exp(),
        "mean": 5 * (0.3 * normal(1)).exp(),
        "concentration": 3 * (0.3 * normal(1)).exp(),
        "logits": normal(3, 4),
    }
    return Row(columns, **parts), {name: part.numpy() for name, part in parts.items()}


def scipy_cells(p, x):
    """Log density of each cell by SciPy."""
    r, m = p["concentration"][0], p["mean"][0]
    first, second, third = (scipy.special.log_softmax(p["logits"][i, :n]) for i, n in ((0, 4), (1, 2), (2, 3)))
    return [
        scipy.stats.norm.logpdf(x[0], p["loc"][0], p["scale"][0]),
        first[int(x[1])],
        scipy.stats.nbinom.logpmf(x[2], r, r / (r + m)),
        scipy.stats.lognorm.logpdf(x[3], p["scale"][2], scale=np.exp(p["loc"][2])),
        second[int(x[4])],
        third[int(x[5])],
        scipy.stats.norm.logpdf(x[6], p["loc"][1], p["scale"][1]),
    ]


@pytest.mark.parametrize("seed", range(3))
def test_each_cell_has_the_density_that_scipy_gives(seed):
    row, parts = row_of(seed=seed)
    x = [0.7, 3.0, 6.0, 1.9, 1.0, 2.0, -4.0]
    wanted = scipy_cells(parts, x)
    value = torch.tensor(x, dtype=torch.float64)
    np.testing.assert_allclose(row.cell_log_prob(value), wanted, rtol=1e-12)
    assert float(row.log_prob(value)) == pytest.approx(sum(wanted), rel=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["f64", "f32"])
def test_counts_of_any_concentration_have_the_density_and_slope_that_scipy_gives(dtype, tolerance):
    columns = Columns(Schema.of(["count"])).to(dtype)
    none = torch.zeros(0, dtype=dtype)
    x = np.array([0.0, 1, 5, 30, 1000])
    for r in (0.01, 0.5, 15.999, 16.0, 100.0, 1e4, 1e6):
        for m in (0.01, 1.0, 30.0, 1e3):
            log_r = torch.tensor([np.log(r)], dtype=dtype, requires_grad=True)
            row = Row(columns, none, none, torch.tensor([m], dtype=dtype), log_r.exp(), none.reshape(0, 1))
            found = row.log_prob(torch.tensor(x, dtype=dtype)[:, None])
            wanted = scipy.stats.nbinom.logpmf(x, r, r / (r + m))
            error = np.abs(found.detach().numpy() - wanted) / np.maximum(1, np.abs(wanted))
            assert error.max() < tolerance, (r, m)
            (slope,) = torch.autograd.grad(found[2], log_r)
            digamma = scipy.special.digamma
            exact = r * (digamma(5 + r) - digamma(r) + np.log(r / (r + m)) + (m - 5) / (r + m))
            assert float(slope) == pytest.approx(exact, abs=10 * tolerance * max(1, m))


def test_draws_have_the_moments_of_their_kinds():
    row, p = row_of(seed=4)
    torch.manual_seed(0)
    n = 40_000
    x = row.sample((n,)).numpy()
    assert x.shape == (n, 7)
    assert row.support.check(torch.as_tensor(x)).all()
    r, m = p["concentration"][0], p["mean"][0]
    exact = {
        REAL: scipy.stats.norm(p["loc"][0], p["scale"][0]),
        LAST: scipy.stats.norm(p["loc"][1], p["scale"][1]),
        POSITIVE: scipy.stats.lognorm(p["scale"][2], scale=np.exp(p["loc"][2])),
        COUNT: scipy.stats.nbinom(r, r / (r + m)),
    }
    for column, wanted in exact.items():
        assert x[:, column].mean() == pytest.approx(wanted.mean(), abs=4 * wanted.std() / np.sqrt(n))
        spread = np.sqrt((float(wanted.stats("k")) + 2) / n)  # relative standard error of a sample variance
        assert x[:, column].var() == pytest.approx(wanted.var(), rel=5 * spread)
    for place, (column, size) in enumerate(((CATEGORICAL, 4), (BINARY, 2), (ORDINAL, 3))):
        share = np.bincount(x[:, column].astype(int), minlength=size) / n
        wanted = scipy.special.softmax(p["logits"][place, :size])
        np.testing.assert_allclose(share, wanted, atol=4 * 0.5 / np.sqrt(n))
    numbers = [REAL, COUNT, POSITIVE, LAST]
    np.testing.assert_allclose(row.mean[numbers], [exact[i].mean() for i in numbers], rtol=1e-12)
    codes = [scipy.stats.rv_discrete(values=(range(n), scipy.special.softmax(p["logits"][i, :n]))).mean()
             for i, n in ((0, 4), (1, 2), (2, 3))]  # fmt: skip
    np.testing.assert_allclose(row.mean[[CATEGORICAL, BINARY, ORDINAL]], codes, rtol=1e-9)
    np.testing.assert_array_equal(row.point[numbers], row.mean[numbers])
    assert row.point[CATEGORICAL] == p["logits"][0].argmax()


def test_missing_cells_have_no_density_and_no_gradient():
    _, parts = row_of(seed=1)
    parts = {name: torch.tensor(part, requires_grad=True) for name, part in parts.items()}
    full = torch.tensor([0.7, 3.0, 6.0, 1.9, 1.0, 2.0, -4.0], dtype=torch.float64)
    cells = Row(columns_of(), **parts).cell_log_prob(full)
    owner = {REAL: ("loc", 0), COUNT: ("mean", 0), POSITIVE: ("scale", 2), BINARY: ("logits", 1), LAST: ("scale", 1)}
    for column, (name, place) in owner.items():
        x = full.clone()
        x[column] = NAN
        row = Row(columns_of(), **parts)
        assert float(row.log_prob(x).detach()) == pytest.approx(float((cells.sum() - cells[column]).detach()))
        gradients = torch.autograd.grad(row.log_prob(x), list(parts.values()))
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        assert not gradients[list(parts).index(name)][place].any()
    empty = torch.full((7,), NAN, dtype=torch.float64)
    row = Row(columns_of(), **parts)
    assert float(row.log_prob(empty).detach()) == 0
    assert not any(gradient.any() for gradient in torch.autograd.grad(row.log_prob(empty), list(parts.values())))


def test_batches_broadcast_and_impossible_rows_have_density_zero():
    row, _ = row_of((5, 1))
    x = row.expand((5, 3)).sample()
    assert x.shape == (5, 3, 7)
    assert row.log_prob(x[0]).shape == (5, 3)
    torch.testing.assert_close(row.expand((5, 3)).log_prob(x), row.log_prob(x))
    possible = torch.tensor([True, False, True])
    ruled = Row(row.columns, row.loc, row.scale, row.count_mean, row.concentration, row.logits, possible)
    assert ruled.batch_shape == (5, 3)
    found = ruled.expand((2, 5, 3)).log_prob(x)
    assert found[:, :, 1].isneginf().all()
    torch.testing.assert_close(found[0][:, possible], row.log_prob(x)[:, possible])


def test_a_row_of_any_single_kind_works():
    for kind in ("real", "positive", "count", "binary"):
        columns = Columns(Schema.of([kind]).used)
        width = kind in ("real", "positive")
        category = columns.category.numel()
        row = rows.row(
            columns, torch.zeros(4, columns.number.numel()), torch.ones(int(width)), torch.ones(int(kind == "count")),
            torch.zeros(category, columns.most),
        )  # fmt: skip
        x = row.sample()
        assert x.shape == (4, 1)
        assert torch.isfinite(row.log_prob(x)).all()


def test_standardised_numbers_have_mean_zero_and_deviation_one_whatever_the_units():
    g = np.random.default_rng(0)
    x = np.column_stack([1e6 + 3e4 * g.normal(size=200), g.poisson(4, 200), 1e-7 * np.exp(g.normal(size=200))])
    x[g.random(x.shape) < 0.2] = np.nan
    columns = columns_of(["real", "count", "positive"])
    columns.standardise(torch.tensor(x))
    numbers = columns.numbers(torch.tensor(x)).numpy()
    np.testing.assert_allclose(np.nanmean(numbers, 0), 0, atol=1e-9)
    np.testing.assert_allclose(np.nanstd(numbers, 0), 1, rtol=1e-9)
    row = rows.row(columns, torch.zeros(3), torch.ones(2), torch.ones(1), torch.zeros(0, 1))
    np.testing.assert_allclose(row.mean[0], np.nanmean(x[:, 0]), rtol=1e-9)
    assert float(row.count_mean) == pytest.approx(np.nanmean(x[:, 1]), rel=0.3)
    assert float(row.scale[1]) == pytest.approx(np.nanstd(np.log(x[:, 2])), rel=1e-9)


def test_constant_columns_have_a_unit_in_proportion():
    """0.1 has no exact mean: what is left by rounding is not a deviation."""
    columns = columns_of(["real", "real", "positive", "real"])
    columns.standardise(torch.tensor([[0.1, 0.0, 7.0, 1e9 / 3]], dtype=torch.float64).expand(37, 4))
    np.testing.assert_allclose(columns.unit[:3], [1e-4, 1e-6, 1e-3 * np.log(7)], rtol=1e-9)
    assert float(columns.unit[3]) == pytest.approx(1e6 / 3)


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1e3, 1e9])
def test_whether_a_column_is_constant_does_not_depend_on_its_units(size):
    """A deviation of a millionth of the mean is one, by NumPy; rounding of the mean is none."""
    x = 7.1 * size * (1 + 1e-6 * np.random.default_rng(0).normal(size=(37, 1)))
    columns = columns_of(["real", "real"])
    columns.standardise(torch.tensor(np.concatenate([x, np.full((37, 1), 7.1 * size)], 1)))
    np.testing.assert_allclose(columns.unit, [x.std(), 7.1e-3 * size], rtol=1e-6)


def test_rare_counts_start_near_their_mean():
    """log(1 + x) of a column that is mostly zero says little of the log of its mean."""
    columns = columns_of(["count", "count", "count"])
    before, unit = columns.log_mean()
    assert before.exp().tolist() == pytest.approx([1.0] * 3)
    assert unit.tolist() == pytest.approx([1.0] * 3)
    x = np.zeros((400, 3))
    x[:20, 0] = 1.0
    x[:, 1] = np.random.default_rng(0).poisson(50, 400)
    columns.standardise(torch.tensor(x))
    log_mean, unit = (part.numpy() for part in columns.log_mean())
    assert abs(log_mean[0] - np.log(0.05)) < unit[0] <= 1.0
    assert log_mean[1] == pytest.approx(np.log(50), abs=0.1)
    assert log_mean[2] < np.log(0.002)
    assert (unit >= 0.1).all()


def test_dispersion_is_that_of_the_moments():
    x = np.random.default_rng(0).negative_binomial(4, 0.3, size=(20_000, 1)).astype(float)
    x[::7] = np.nan
    found = float(columns_of(["count"]).dispersion(torch.tensor(x)))
    m, v = np.nanmean(x), np.nanvar(x)
    assert found == pytest.approx(m**2 / (v - m), rel=1e-9)
    assert found == pytest.approx(4, rel=0.1)


def test_support_says_what_each_column_takes():
    row, _ = row_of()
    support = row.support.base_constraint
    good = torch.tensor([-1.5, 3.0, 0.0, 0.1, 1.0, 2.0, 1e9], dtype=torch.float64)
    assert support.check(good).all()
    assert support.check(torch.full((7,), NAN)).all()
    bad = {CATEGORICAL: (4.0, 0.5, -1.0), COUNT: (-1.0, 0.5), POSITIVE: (0.0, -2.0), BINARY: (2.0,), REAL: (np.inf,)}
    words = {
        CATEGORICAL: "a code from 0 to 3", COUNT: "a whole number of at least 0", POSITIVE: "a number above 0",
        BINARY: "a code from 0 to 1", REAL: "a finite number",
    }  # fmt: skip
    for column, values in bad.items():
        for value in values:
            x = good.clone()
            x[column] = value
            wrong = ~support.check(x)
            assert wrong.nonzero().flatten().tolist() == [column]
            assert _in_words(support, x, wrong) == words[column] + ", or NaN where missing"


@pytest.mark.parametrize("r", [0.3, 15.9, 16.0, 16.5, 40.0, 1e3, 1e6, 1e12])
def test_counts_of_every_dispersion_have_the_density_that_mpmath_has(r):
    """log Gamma(x + r) - log Gamma(r) cancels in doubles; with 60 digits it does not."""
    x, mean = torch.tensor([0.0, 1.0, 2.0, 7.0, 60.0]).double(), torch.tensor(4.5, dtype=torch.float64)
    found = rows._negative_binomial(x, mean, torch.tensor(r, dtype=torch.float64))
    with mpmath.workdps(60):
        m, big = mpmath.mpf(4.5), mpmath.mpf(r)
        for count, density in zip(x.tolist(), found.tolist(), strict=True):
            exact = mpmath.loggamma(count + big) - mpmath.loggamma(big) - mpmath.loggamma(count + 1)
            exact += big * mpmath.log(big / (big + m)) + count * mpmath.log(m / (big + m))
            assert density == pytest.approx(float(exact), abs=1e-11, rel=1e-13)
