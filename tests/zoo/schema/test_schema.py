"""Columns and schemas: the way of a table into numbers and back, in the user's own words."""

from __future__ import annotations

import decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tables import mixed
from zoo.schema.column import Column, plain
from zoo.schema.schema import Schema

NAN = float("nan")


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
        (None, None), (NAN, None), (pd.NA, None), (pd.NaT, None), (np.datetime64("NaT", "D"), None),
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


def test_an_unknown_category_is_an_error_or_missing():
    """As scikit-learn's encoder does where it is told to."""
    encoder = pytest.importorskip("sklearn.preprocessing").OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=np.nan
    )
    seen, new = ["a", "c", "b", "a"], ["b", "d", "a", None]
    schema = Schema.infer({"letter": seen})
    with pytest.raises(ValueError, match="row 1: 'd' is none of its categories"):
        schema.encode({"letter": new})
    wanted = encoder.fit([[cell] for cell in seen]).transform([[cell] for cell in new])
    np.testing.assert_array_equal(schema.encode({"letter": new}, unknown="missing"), wanted)
    with pytest.raises(ValueError, match="unknown: expected 'error' or 'missing', got 'drop'"):
        schema.encode({"letter": seen}, unknown="drop")
    numbers = Schema.infer({"size": [1.5, 2.5]})
    with pytest.raises(ValueError, match="expected a number"):
        numbers.encode({"size": ["much", 1.5]}, unknown="missing")
