"""Frames of pandas, polars and Arrow: the same numbers, and what holds none is refused alike, through both doors."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.data.check import check
from zoo.base import Batch
from zoo.schema.schema import Schema

pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
DAY, NOON = datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2, 12, tzinfo=datetime.UTC)
HOUR, WHILE = datetime.time(1, 30), datetime.timedelta(days=3)
LIBRARIES = {  # how a frame and a series are made of columns with None where a value is missing
    "pandas": (lambda columns: pandas.DataFrame(columns).convert_dtypes(), lambda v: pandas.Series(v).convert_dtypes()),
    "pandas on Arrow": (
        lambda columns: pandas.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"),
        lambda v: pandas.Series(v).convert_dtypes(dtype_backend="pyarrow"),
    ),
    "polars": (polars.DataFrame, lambda v: polars.Series("d", v)),
    "arrow": (pyarrow.table, pyarrow.array),
    "arrow batch": (pyarrow.record_batch, lambda v: pyarrow.chunked_array([v[:1], v[1:]])),
}


@pytest.fixture(scope="module")
def plain():
    """A pair without a schema: a frame is a matrix to it."""
    return zoo.create("gmm", features=2, components=2).double()


@pytest.fixture(params=LIBRARIES)
def library(request):
    return LIBRARIES[request.param]


def doors(pair, data):
    """Both ways in: as it is, and in a Batch."""
    return (lambda: check(pair, data).batch, lambda: check(pair, Batch.of(x=data)).batch)


def refused(pair, data, words):
    said = []
    for door in doors(pair, data):
        with pytest.raises(ValueError, match=words) as error:
            door()
        said.append(str(error.value))
    assert said[0] == said[1]


NUMBERS = {
    "floats": [1.5, -2.5],
    "whole numbers": [3, -4],
    "booleans": [True, False],
    "decimals": [Decimal("1.25"), Decimal("2.50")],
    "numerals": ["1.5", "-2"],
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_columns_of_numbers_are_read_with_their_names(kind, library, plain):
    frame, series = library
    values = NUMBERS[kind]
    expected = [[float(value), float(i)] for i, value in enumerate(values)]
    for door in doors(plain, frame({"first": values, "d": [0.0, 1.0]})):
        batch = door()
        assert batch.x.tolist() == expected
        assert batch.columns == ("first", "d")
    assert Batch.of(y=series(values)).y.tolist() == [float(value) for value in values]


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_null_is_a_missing_number_whatever_the_type(kind, library, plain):
    frame, series = library
    values = [NUMBERS[kind][0], None]
    data = frame({"first": values, "d": [0.0, 1.0]})
    expected = [float(values[0]), np.nan]
    np.testing.assert_array_equal(Batch.of(x=data).x.numpy(), np.column_stack([expected, [0.0, 1.0]]))
    np.testing.assert_array_equal(Batch.of(y=series(values)).y.numpy(), expected)
    refused(plain, data, r"field 'x', row 1, column 'first': expected a number \(this model takes no missing values\)")


@pytest.mark.parametrize("value", [DAY, NOON, HOUR, WHILE], ids=lambda value: type(value).__name__)
def test_dates_and_times_are_refused_by_column_with_what_to_do(value, library, plain):
    frame, series = library
    advice = "give a number instead, such as the days since the first"
    words = rf"^field 'x', (row 0, )?column 'd': expected (numbers, got dates or times .*|a number, got .*); {advice}$"
    refused(plain, frame({"a": [1.0, 2.0], "d": [value, value]}), words)
    refused(plain, frame({"d": [value, None], "a": [1.0, 2.0]}), words)
    with pytest.raises(ValueError, match=rf"^field 'y'.*: expected .*; {advice}$"):
        Batch.of(y=series([value, value]))


DATED = {
    "datetime": lambda: pandas.Series([NOON, NOON]).dt.tz_localize(None),
    "of a zone": lambda: pandas.Series([NOON, NOON]),
    "never": lambda: pandas.Series([pandas.NaT, pandas.NaT]),
    "difference": lambda: pandas.Series([WHILE, WHILE]),
    "month": lambda: pandas.Series(pandas.period_range("2020-01", periods=2, freq="M")),
}


@pytest.mark.parametrize("kind", DATED)
def test_columns_of_pandas_that_hold_time_are_refused_by_name(kind, plain):
    words = r"column 'd': expected numbers, got dates or times \((datetime64|timedelta64|period)\[.*\]\); give a number"
    refused(plain, pandas.DataFrame({"a": [1.0, 2.0], "d": DATED[kind]()}), words)
    refused(plain, pandas.DataFrame({"d": DATED[kind]()}), words)


@pytest.mark.parametrize("text", ["x", "", "12 km"])
def test_a_text_is_refused_by_row_and_column(text, library, plain):
    frame, series = library
    refused(plain, frame({"a": [1.0, 2.0], "d": ["7", text]}), f"row 1, column 'd': expected a number, got '{text}'$")
    with pytest.raises(ValueError, match=f"field 'y', row 1: expected a number, got '{text}'$"):
        Batch.of(y=series(["7", text]))


CATEGORIES = {
    "pandas": lambda values: pandas.DataFrame({"a": [1.0, 2.0], "d": pandas.Categorical(values)}),
    "polars": lambda values: polars.DataFrame({"a": [1.0, 2.0], "d": values}).cast({"d": polars.Categorical}),
    "enum": lambda values: polars.DataFrame({"a": [1.0, 2.0], "d": values}).cast({"d": polars.Enum(values)}),
    "arrow": lambda values: pyarrow.table({"a": [1.0, 2.0], "d": pyarrow.array(values).dictionary_encode()}),
}


@pytest.mark.parametrize("values", [["low", "high"], ["1", "2"]], ids=" ".join)
@pytest.mark.parametrize("kind", CATEGORIES)
def test_categories_are_refused_by_column_also_where_they_look_like_numbers(kind, values, plain):
    words = r"field 'x', column 'd': expected numbers, got categories \(.*\); give a column of 0 and 1 for each, or"
    refused(plain, CATEGORIES[kind](values), words)


@pytest.mark.parametrize("kind", CATEGORIES)
def test_a_schema_reads_categories(kind):
    data = CATEGORIES[kind](["low", "high"])
    schema = Schema.infer(data).but(a="real")
    pair = zoo.create("naive_bayes", columns=schema)
    codes = [schema[1].categories.index(value) for value in ("low", "high")]
    assert check(pair, data).batch.x.tolist() == [[1.0, codes[0]], [2.0, codes[1]]]


def test_a_schema_reads_an_arrow_table_by_its_names():
    pair = zoo.create("naive_bayes", columns=[("a", "real"), ("d", "count")])
    for make in (pyarrow.table, pyarrow.record_batch):
        batch = check(pair, make({"d": [3, None], "a": [1.5, 2.5]})).batch
        np.testing.assert_array_equal(batch.x.numpy(), [[1.5, 3.0], [2.5, np.nan]])
        with pytest.raises(ValueError, match="the table has 'e', which the schema lacks"):
            check(pair, make({"d": [3, 1], "a": [1.5, 2.5], "e": [1, 2]}))


def test_columns_of_pandas_may_have_the_names_that_arrow_uses(plain):
    frame = pandas.DataFrame({"column_names": [1.0, 2.0], "schema": [3.0, 4.0]})
    for door in doors(plain, frame):
        assert door().columns == ("column_names", "schema")
        assert door().x.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    pair = zoo.create("naive_bayes", columns=[("column_names", "real"), ("schema", "real")])
    assert check(pair, frame).batch.x.tolist() == [[1.0, 3.0], [2.0, 4.0]]


NAT = np.datetime64("NaT", "D")
ARRAYS = {
    "datetime64": (np.full((2, 2), "2020-01-02", "M8[D]"), r"got dtype datetime64\[D\]; give a number instead"),
    "timedelta64": (np.full((2, 2), 3, "m8[s]"), r"got dtype timedelta64\[s\]; give a number instead"),
    "complex": (np.ones((2, 2)) + 1j, "got dtype complex128; give real and imaginary parts as columns"),
    "complex in objects": (np.full((2, 2), np.complex128(1j), object), "row 0, column 0: expected a number, got 1j"),
    "complex tensor": (torch.ones(2, 2) + 1j, "got dtype torch.complex64; give real and imaginary parts as columns"),
    "structured": (np.zeros(2, [("a", "f8"), ("d", "f8")]), r"got dtype \[\('a'.*; give a matrix, as numpy\.lib\.rec"),
    "record": (np.rec.array([(1.0, 2.0)], [("a", "f8"), ("d", "f8")]), "got dtype .*; give a matrix, as numpy"),
    "bytes without meaning": (np.zeros((2, 2), "V8"), r"got dtype \|V8; give a matrix"),
    "dates in objects": (np.array([[1.0, NOON]], object), "row 0, column 1: .*; give a number instead"),
    "dates in lists": ([[1.0, DAY], [2.0, DAY]], r"row 0, column 1: .*datetime\.date.*; give a number instead"),
    "dates of NumPy in lists": ([[1.0, np.datetime64(DAY)]], "row 0, column 1: .*; give a number instead"),
    "dates beside numbers": ([np.array([DAY], "M8[D]"), np.array([1])], "row 0, column 0: .*; give a number instead"),
    "all None": (np.full((2, 2), None), "row 0, column 0: expected a number .this model takes no missing values"),
    "no date": (np.array([[1.0, NAT]], object), "row 0, column 1: expected a number .this model takes no missing"),
    "text of any length": (np.array([["1", "x"]], np.dtypes.StringDType()), "row 0, column 1: .*, got 'x'"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_that_hold_no_numbers_are_refused_with_words(kind, plain):
    data, words = ARRAYS[kind]
    refused(plain, data, words)


def test_an_xarray_dataset_is_refused_with_words(plain):
    dataset = pytest.importorskip("xarray").Dataset({"a": ("row", [1.0, 2.0])})
    with pytest.raises(ValueError, match="expected an array, a frame or lists of numbers, got Dataset"):
        Batch.of(x=dataset)
    with pytest.raises(ValueError, match="data of type Dataset is not accepted"):
        check(plain, dataset)


@pytest.mark.parametrize("name", ["naive_bayes", "naive_bayes_vae"])
def test_a_column_without_a_single_value_is_refused_by_a_fit(name):
    table = pandas.DataFrame({"x1": [1.0, 2.0, 3.0], "x2": [None] * 3})
    for data in (table, Batch.of(x=table)):
        pair = zoo.create(name, columns=["real"] * 2)
        with pytest.raises(ValueError, match="column 'x2': all 3 cells are missing"):
            inference.fit(pair, data, steps=1, progress=False)


def test_a_frame_of_one_column_for_y_is_told_how_to_give_it():
    pair = zoo.create("polynomial_regression", features=2)
    x, y = np.arange(12.0).reshape(6, 2), pandas.DataFrame({"y": np.arange(6.0)})
    with pytest.raises(ValueError, match=r"field 'y': expected shape \(N\), got \(6, 1\); one column is given as a v"):
        inference.fit(pair, x, y, steps=2, progress=False)
    inference.fit(pair, x, y["y"], steps=2, progress=False)
