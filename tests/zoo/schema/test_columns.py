"""Typed columns: rows against SciPy, and the way of a table into numbers and back."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.data.check import _in_words
from zoo.datasets.tables import table
from zoo.parts.tables import rows
from zoo.parts.tables.columns import Columns
from zoo.parts.tables.rows import Row
from zoo.schema.column import Column, plain
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


# --- rows -----------------------------------------------------------------------------------------------------------


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
    columns.standardise(torch.tensor([[0.1, 0.0, 7.0, 1e9]], dtype=torch.float64).expand(37, 4))
    np.testing.assert_allclose(columns.unit[:3], [1e-4, 1e-6, 1e-3 * np.log(7)], rtol=1e-9)
    assert float(columns.unit[3]) == pytest.approx(1e6)


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


# --- a column -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "expected a column"),
        (("a",), "expected a column"),
        ("real", "expected a column"),
        (("", "real"), "expected a column's name"),
        (("a", "reel"), "kind 'reel' is unknown, did you mean 'real'"),
        (("a", "categorical"), "'a': a categorical column needs its categories, got none"),
        (("a", "binary", ("x",)), "'a': a binary column needs its categories, got x"),
        (("a", "binary", "xyz"), "'a': a binary column has two categories, got x, y, z"),
        (("a", "real", "xy"), "'a': a real column has no categories, got x, y"),
        (("a", "ordinal", ("x", "x")), "'a': categories are missing values or not distinct: x, x"),
        (("a", "ordinal", ("x", None)), "not distinct: x, None"),
    ],
)
def test_columns_that_make_no_sense_are_refused(value, words):
    with pytest.raises(ValueError, match=words):
        Column.of(value)


def test_columns_read_what_they_print_and_json_holds():
    column = Column.of(["grade", "ordinal", ["low", "mid", "high"]])
    assert column == ("grade", "ordinal", ("low", "mid", "high"))
    assert str(column) == "grade: ordinal (low, mid, high)"
    assert Column.of(np.int64(3)) == Column.of(3) == ("y", "categorical", (0, 1, 2))
    assert Column.of(("sex", "binary")).categories == (0, 1)
    assert str(Column.of(("c", "categorical", range(20)))).endswith("7, … (20 in all))")


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        (None, None), (NAN, None), (pd.NA, None), (pd.NaT, None), (np.datetime64("NaT"), None),
        (np.float32("nan"), None), (decimal.Decimal("NaN"), None), (np.int8(3), 3), (3.0, 3), (np.float64(2.5), 2.5),
        (decimal.Decimal("2.5"), 2.5),
        (np.bool_(True), True), ("a", "a"), (np.str_("a"), "a"), (torch.tensor(2.0), 2), (float("inf"), float("inf")),
        (pd.Timestamp("2020-01-02"), "2020-01-02 00:00:00"),
    ],
    ids=str,
)  # fmt: skip
def test_cells_become_plain_values(cell, wanted):
    found = plain(cell)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("column", "cells", "words"),
    [
        (("n", "count"), [1, -2], r"column 'n', row 1: expected a whole number of at least 0, got -2"),
        (("n", "count"), [1, 2.5], r"column 'n', row 1: expected a whole number of at least 0, got 2.5"),
        (("p", "positive"), [None, 0.0], r"column 'p', row 1: expected a number above 0, got 0"),
        (("r", "real"), [1.0, float("inf")], r"column 'r', row 1: expected a finite number, got inf"),
        (("r", "real"), [1.0, "x"], r"column 'r', row 1: expected a number, got 'x'"),
        (("c", "categorical", ("red", "blue")), ["red", "bleu"], r"'c', row 1: 'bleu' is none .*did you mean 'blue'"),
        (("b", "binary"), [0, 2], r"'b', row 1: 2 is none of its categories.*they are 0, 1"),
    ],
)
def test_cells_that_a_column_refuses_are_named_by_row(column, cells, words):
    with pytest.raises(ValueError, match=words):
        Column.of(column).encode(cells)


def test_categories_are_found_by_value_or_by_text():
    column = Column.of(("b", "binary", (0, 1)))
    np.testing.assert_array_equal(column.encode([0, "1", 1.0, True, None, "0"]), [0, 1, 1, 1, NAN, 0])
    assert Column.of(("b", "binary", (False, True))).decode(np.array([1.0, NAN])) == [True, None]


# --- a schema -------------------------------------------------------------------------------------------------------


def mixed():
    """A table with one column of each kind, holes in most."""
    g = np.random.default_rng(0)
    rows = 60
    return {
        "height": [None, *np.round(g.normal(0, 10, rows - 1), 2).tolist()],
        "income": np.round(np.exp(g.normal(size=rows)) + 0.01, 2).tolist(),
        "visits": g.negative_binomial(1, 0.1, rows).tolist(),
        "smokes": ["no", "yes", None] * 20,
        "town": [["Ulm", "Bonn", "Kiel", "Köln"][i % 4] for i in range(rows)],
        "stars": [3, 4, 5, 4] * 15,
        "member": [True, False, None] * 20,
    }


INFERRED = {
    "height": "real", "income": "positive", "visits": "count", "smokes": "binary", "town": "categorical",
    "stars": "ordinal", "member": "binary",
}  # fmt: skip


def forms():
    """The same table as each library holds it."""
    data = mixed()
    frame = pd.DataFrame(data)
    typed = frame.assign(
        visits=frame.visits.astype("Int64"), stars=frame.stars.astype("Int8"), member=frame.member.astype("boolean"),
        smokes=pd.Categorical(frame.smokes), height=frame.height.astype("Float64"),
    )  # fmt: skip
    enum = pl.DataFrame(data).with_columns(pl.col("smokes").cast(pl.Enum(["no", "yes"])))
    named = pl.DataFrame(data).with_columns(pl.col("town").cast(pl.Categorical))
    return {
        "dict": data,
        "pandas": frame,
        "nullable": typed,
        "polars": pl.DataFrame(data),
        "enum": enum,
        "named": named,
    }


@pytest.mark.parametrize("form", ["dict", "pandas", "nullable", "polars", "enum", "named"])
def test_a_table_goes_in_and_comes_out_in_any_form(form):
    given = forms()[form]
    schema = Schema.infer(given)
    assert {column.name: column.kind for column in schema} == INFERRED
    matrix = schema.encode(given)
    assert matrix.shape == (60, 7)
    np.testing.assert_array_equal(np.isnan(matrix).sum(0), [1, 0, 0, 20, 0, 0, 20])
    assert schema.decode(matrix) == mixed()
    np.testing.assert_array_equal(schema.encode(schema.decode(matrix)), matrix)
    np.testing.assert_array_equal(matrix, schema.encode(mixed()))  # codes do not depend on the form


def test_declared_categories_keep_their_order_and_the_unseen():
    frame = pd.DataFrame(
        {
            "size": pd.Categorical(["M", "S", None], categories=["S", "M", "L"], ordered=True),
            "hue": pd.Categorical(["b", "a", "b"], categories=["b", "a", "c"]),
            "yes": pd.Categorical([1, 0, 1], categories=[1, 0]),
        }
    )
    schema = Schema.infer(frame)
    assert [tuple(column) for column in schema] == [
        ("size", "ordinal", ("S", "M", "L")), ("hue", "categorical", ("b", "a", "c")), ("yes", "binary", (1, 0)),
    ]  # fmt: skip
    np.testing.assert_array_equal(schema.encode(frame), [[1, 0, 0], [0, 1, 1], [NAN, 0, 0]])
    enum = pl.DataFrame({"size": pl.Series(["M", "S"], dtype=pl.Enum(["S", "M", "L"]))})
    assert Schema.infer(enum)[0].categories == ("S", "M", "L")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1.5, -2.0, 3.0], "real"),
        ([1.5, 2.0, 3.0], "positive"),
        ([0, 0, 3, 9, 1], "count"),
        ([0, 1, 1, None], "binary"),
        ([1, 2, 2], "binary"),
        ([3, 4, 5, 4], "ordinal"),
        ([2, 2, 2], "positive"),
        ([0, 0], "real"),
        (["a", "b", "c"], "categorical"),
        (["a", "a"], "categorical"),
        ([True, False], "binary"),
        ([f"id{i}" for i in range(80)], "ignored"),
        ([f"id{i % 30}" for i in range(80)], "categorical"),
        ([f"id{i}" for i in range(40)], "categorical"),
        (list(range(100, 200)), "count"),
        ([1, "a", 2], "categorical"),
        ([-1, 0, 1], "real"),
    ],
    ids=str,
)
def test_kinds_are_inferred(cells, kind):
    assert Schema.infer({"a": cells, "b": [0.5] * len(cells)})[0].kind == kind


def test_a_schema_prints_and_is_edited():
    schema = Schema.infer(mixed(), income="real", town="ignored")
    assert str(schema).splitlines()[1:5] == [
        "income: real", "visits: count", "smokes: binary (no, yes)", "town: ignored",
    ]  # fmt: skip
    assert "town" not in schema.names
    assert len(schema.used) == 6
    edited = schema.but(visits="real", stars=("categorical", [5, 4, 3]), smokes="ordinal")
    assert edited[2].kind == "real"
    assert edited[5] == ("stars", "categorical", (5, 4, 3))
    assert edited[3] == ("smokes", "ordinal", ("no", "yes"))
    assert Schema.of([list(column) for column in edited]) == edited  # as JSON holds it
    assert schema.encode(mixed()).shape == (60, 6)
    with pytest.raises(ValueError, match="no column 'incme', did you mean 'income'"):
        schema.but(incme="real")
    with pytest.raises(ValueError, match="no column 'twn', did you mean 'town'"):
        Schema.infer(mixed(), twn="ignored")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Schema.of("real"), "expected a list of columns"),
        (lambda: Schema.of([]), "at least one column"),
        (lambda: Schema.of([("a", "ignored")]), "at least one column that is not ignored"),
        (lambda: Schema.of([("a", "real"), ("a", "count")]), "two columns called 'a'"),
        (lambda: Schema.infer({"a": [1.5], "b": [None]}), "column 'b': all 1 cells are missing"),
        (lambda: Schema.infer(pd.DataFrame({"b": pd.Categorical([None], categories=["x"])})), "'b': all 1 cells are"),
        (lambda: Schema.infer({"a": []}), "no rows"),
        (lambda: Schema.infer({"a": [1, 2], "b": [1]}), "different lengths"),
        (lambda: Schema.infer([1, 2]), "expected a table .*got list"),
        (lambda: Schema.infer(pd.DataFrame([[1, 2]], columns=["a", "a"])), "two columns called 'a'"),
        (lambda: Schema.infer({1: [1.5], "1": [2.5]}), "two columns called '1'"),
        (lambda: Schema.infer({"a": ["x", "y", "z"]}, a="binary"), "'a': a binary column has two categories"),
        (lambda: Schema.of(["real"]).decode(np.zeros((2, 3))), r"expected a matrix of 1 columns, got shape \(2, 3\)"),
    ],
)  # fmt: skip
def test_tables_and_schemas_that_make_no_sense_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_schema_and_a_frame_that_disagree_name_both():
    schema = Schema.of([("age", "real"), ("smokes", "binary", ("no", "yes")), ("id", "ignored")])
    wanted = (
        "schema has 'smokes', did you mean 'smoke'.*which the table lacks.*table has 'smoke', which the schema lacks"
    )
    with pytest.raises(ValueError, match=wanted):
        schema.encode({"age": [1.5], "smoke": ["no"]})
    with pytest.raises(ValueError, match="'smokes', row 0: 'zzz' is none of its categories; they are no, yes"):
        schema.encode({"age": [1.5], "smokes": ["zzz"]})
    found = schema.encode(
        {"smokes": ["no"], "id": ["x"], "age": [1.5]}
    )  # the order of the schema; ignored may be there
    np.testing.assert_array_equal(found, [[1.5, 0.0]])


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6)
cells = {
    "real": st.floats(-1e12, 1e12, allow_subnormal=False),
    "positive": st.floats(1e-9, 1e12),
    "count": st.integers(0, 10**12),
    "categorical": st.sampled_from(["", "a", "?", "ä b", "0"]),
    "ordinal": st.sampled_from([1, 2, 30]),
    "binary": st.booleans(),
}
choices = {"categorical": ("", "a", "?", "ä b", "0"), "ordinal": (1, 2, 30), "binary": (False, True)}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kinds=st.lists(st.sampled_from(list(cells)), min_size=1, max_size=4), rows=st.integers(1, 5))
def test_what_goes_in_comes_out(data, kinds, rows):
    names = data.draw(st.lists(texts.filter(bool), min_size=len(kinds), max_size=len(kinds), unique=True))
    schema = Schema.of([(n, k, choices[k]) if k in choices else (n, k) for n, k in zip(names, kinds, strict=True)])
    values = {n: [data.draw(st.none() | cells[k]) for _ in range(rows)] for n, k in zip(names, kinds, strict=True)}
    matrix = schema.encode(values)
    assert schema.decode(matrix) == values
    np.testing.assert_array_equal(schema.encode(pd.DataFrame(values, dtype=object)), matrix)
    missing = [[value is None for value in column] for column in values.values()]
    np.testing.assert_array_equal(np.isnan(matrix).T, missing)


# --- files ----------------------------------------------------------------------------------------------------------

ARFF = """% a comment
@relation people
@attribute age numeric
@attribute 'home town' {Ulm, 'New York', Bonn}
@attribute smokes {no, yes}
@attribute visits integer

@data
31, Ulm, no, 0
?, 'New York', ?, 3
54.5, ?, yes, 12
"""


def test_an_arff_file_is_read_with_its_categories_in_order(tmp_path):
    path = tmp_path / "people.arff"
    path.write_text(ARFF)
    frame = table(path)
    schema = Schema.infer(frame, visits="count")
    assert schema[1] == ("home town", "categorical", ("Ulm", "New York", "Bonn"))
    assert [column.kind for column in schema] == ["positive", "categorical", "binary", "count"]
    np.testing.assert_array_equal(schema.encode(frame), [[31, 0, 0, 0], [NAN, 1, NAN, 3], [54.5, NAN, 1, 12]])


def test_arff_takes_quotes_escapes_texts_and_any_case(tmp_path):
    path = tmp_path / "odd.arff"
    path.write_text(
        "@RELATION odd\n@ATTRIBUTE 'it\\'s' STRING\n@Attribute when DATE 'yyyy'\n"
        "@attribute kind{\"a,b\",'it\\'s', c} % said so\n@DATA\n'x, y',2020,\"a,b\"\n"
        "\n% more\n?,2021,'it\\'s'\nz , ? ,c\n"
    )
    frame = table(path)
    assert list(frame.columns) == ["it's", "when", "kind"]
    assert frame["kind"].tolist() == ["a,b", "it's", "c"]
    assert [plain(cell) for cell in frame["it's"]] == ["x, y", None, "z"]
    assert [plain(cell) for cell in frame["when"]] == ["2020", "2021", None]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_csv_file_is_read_with_its_holes(tmp_path, mark):
    path = tmp_path / "people.csv"
    lines = ["age,town,visits,member", "31,Ulm,0,True", "?,,3,False", 'NA,"Köln, am Rhein",12,', "54.5,Ulm,1,True"]
    text = "\n".join(lines)
    if mark != ",":
        text = "\n".join(line.replace(", am", " am").replace(",", mark) for line in lines)
    path.write_text("\ufeff" + text, encoding="utf-8")
    frame = table(path)
    schema = Schema.infer(frame)
    assert [column.kind for column in schema] == ["positive", "binary", "count", "binary"]
    wanted = [[31, 1, 0, 1], [NAN, NAN, 3, 0], [NAN, 0, 12, NAN], [54.5, 1, 1, 1]]
    np.testing.assert_array_equal(schema.encode(frame), wanted)


def test_a_csv_file_without_a_header_and_other_formats(tmp_path):
    (tmp_path / "a.csv").write_text("1,2.5\n3,4\n")
    assert list(table(tmp_path / "a.csv").columns) == ["column_1", "column_2"]
    assert table(tmp_path / "a.csv").shape == (2, 2)
    assert table(tmp_path / "a.csv", text=True).iloc[0].tolist() == ["1", "2.5"]
    np.save(tmp_path / "b.npy", np.eye(3))
    assert table(tmp_path / "b.npy").shape == (3, 3)
    frame = pd.DataFrame(mixed())
    frame.to_parquet(tmp_path / "c.parquet")
    schema = Schema.infer(frame)
    np.testing.assert_array_equal(schema.encode(table(tmp_path / "c.parquet")), schema.encode(frame))
    frame.to_csv(tmp_path / "d.csv", index=False)
    assert Schema.infer(table(tmp_path / "d.csv")) == schema
    np.testing.assert_array_equal(schema.encode(table(tmp_path / "d.csv")), schema.encode(frame))


def test_a_single_column_keeps_its_missing_rows(tmp_path):
    frame = pd.DataFrame({"age": [1.5, None, 2.5]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    pd.testing.assert_frame_equal(table(tmp_path / "a.csv"), frame)


DAMAGED = {
    "short.csv": (b"a,b\n1,2\n3\n", "row 2: expected 2 cells, got 1"),
    "empty.csv": (b"", "empty"),
    "header.csv": (b"a,b\n", "no rows"),
    "twice.csv": (b"a,a\n1,2\n", "two columns called 'a'"),
    "binary.csv": (b"\xff\xfe\x00\x01\n", "codec"),
    "empty.arff": (b"", "no @data"),
    "nothing.arff": (b"@relation r\n@data\n1\n", "row 1: expected 0 cells, got 1"),
    "columns.arff": (b"@relation r\n@data\n", "no @attribute"),
    "csv.arff": (b"a,b\n1,2\n", "a header line is 'a,b'"),
    "kind.arff": (b"@relation r\n@attribute a numbr\n@data\n", "attribute 'a': expected numeric.*got 'numbr'"),
    "name.arff": (b"@relation r\n@attribute a\n@data\n", "attribute line is '@attribute a'"),
    "twice.arff": (b"@attribute a real\n@attribute a real\n@data\n1,2\n", "two columns called 'a'"),
    "quotes.arff": (b"@attribute a {x,'y}\n@data\nx\n", "attribute 'a': quotes that do not end"),
    "beside.arff": (b"@attribute a {x,'y'}\n@data\n'y' x\n", "row 1: quotes that do not end, or text beside"),
    "sparse.arff": (b"@attribute a real\n@data\n{0 1}\n", "row 1: sparse"),
    "header.arff": (b"@relation r\n@attribute a numeric\n@data\n", "no rows"),
    "short.arff": (
        b"@relation r\n@attribute a numeric\n@attribute b numeric\n@data\n1,2\n3\n",
        "row 2: expected 2 cells, got 1",
    ),
    "unknown.arff": (
        b"@relation r\n@attribute a {x,y}\n@data\nz\n",
        "row 1, column 'a': 'z' is none of its categories: x, y",
    ),
    "word.arff": (
        b"@relation r\n@attribute a numeric\n@data\nword\n",
        "row 1, column 'a': expected a number, got 'word'",
    ),
    "noise.arff": (bytes(range(256)), ""),
    "noise.parquet": (b"PAR1 nothing of the kind", "parquet"),
    "noise.npy": (b"\x93NUMPY nothing", ""),
    "file.xls": (b"", r"expected a file ending in \.csv, \.arff"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_refused_by_path(tmp_path, name):
    content, words = DAMAGED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"(?s)cannot read '.*{name}'.*{words}"):
        table(tmp_path / name)


def test_absent_files_and_folders_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="it is not a file"):
        table(tmp_path / "folder.csv")
