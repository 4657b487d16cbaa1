"""Completed tables have the names, index, categories and types of the table that was given, and its observed cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import inference
import zoo
from tests.helpers.tables import mixed
from zoo.datasets import Schema


def frame():
    """A mixed table as pandas has it at its best: an index, categories in order, whole numbers with holes."""
    table = pd.DataFrame(mixed(), index=[f"row {i}" for i in range(60)])
    table["stars"] = pd.Categorical(table["stars"], [3, 4, 5], ordered=True)
    table["town"] = table["town"].astype("category")
    table["visits"] = table["visits"].astype("Int64")
    table["member"] = table["member"].astype("boolean")
    for place, name in enumerate(("visits", "town", "stars", "income")):
        table.iloc[place::9, table.columns.get_loc(name)] = pd.NA if name == "visits" else None
    table["note"] = "as it is"
    return table


@pytest.fixture(scope="module")
def found():
    torch.manual_seed(0)
    table = frame()
    pair = zoo.create("naive_bayes_vae", columns=Schema.infer(table, note="ignored"), hidden=[8], latent=2).double()
    return inference.impute(pair, table, draws=20, proposals=10)


def test_a_frame_comes_back_complete_and_otherwise_as_it_was(found):
    given, whole = frame(), found.frame()
    assert not whole.isna().to_numpy().any()
    assert list(whole) == list(given)
    assert (whole.index == given.index).all()
    assert (whole.dtypes == given.dtypes).all()
    kept = given.notna().to_numpy()
    assert (whole.to_numpy(object)[kept] == given.to_numpy(object)[kept]).all()
    assert kept.sum() == given.size - len(found.rows)
    assert set(whole["smokes"]) == {"no", "yes"}
    assert given.equals(frame())  # which nobody wrote into


def test_the_values_filled_in_are_the_mean_or_the_most_frequent_draw(found):
    """Counted here, cell by cell, from the draws themselves."""
    schema, whole = found.schema, found.frame()
    draws = found.values.flatten(0, 1).numpy()
    for cell, (row, place) in enumerate(zip(found.rows.tolist(), found.columns.tolist(), strict=True)):
        column, value = schema.used[place], whole.iloc[row][schema.used[place].name]
        if column.categories:
            counts = [int((draws[:, cell] == code).sum()) for code in range(len(column.categories))]
            assert counts[column.categories.index(value)] == max(counts)
        elif column.kind == "count":
            assert value == round(draws[:, cell].mean())
        else:
            assert value == pytest.approx(draws[:, cell].mean(), rel=1e-6)


def test_frames_hold_draws_evenly_spaced(found):
    tables = found.frames(4)
    assert len(tables) == 4
    draws = found.values.flatten(0, 1)
    names = [column.name for column in found.schema.used]
    place = names.index("height")
    cells = (found.columns == place).numpy()
    for table, number in zip(tables, (0, 5, 10, 15), strict=True):
        values = table["height"].to_numpy()[found.rows.numpy()[cells]]
        np.testing.assert_allclose(values, draws[number].numpy()[cells], rtol=1e-6)
    with pytest.raises(ValueError, match=r"count: expected at most the 20 draws there are, got 21; impute\(draws=…\)"):
        found.frames(21)
    with pytest.raises(ValueError, match="count: expected a whole number of at least 1"):
        found.frames(0)


def test_tables_of_other_kinds(found):
    pair = zoo.create("naive_bayes", columns=[("a", "real"), ("b", "binary", ["no", "yes"])], target=2).double()
    polars = pytest.importorskip("polars")
    table = {"a": [1.5, None, 2.5], "b": ["no", "yes", None]}
    for given in (table, polars.DataFrame(table), (table, None)):
        whole = inference.impute(pair, given, draws=5).frame()
        assert list(whole) == ["a", "b"]
        assert whole["a"].tolist()[::2] == [1.5, 2.5]
        assert whole["b"].tolist()[:2] == ["no", "yes"]
        assert whole["b"][2] in ("no", "yes")
    matrix = np.array([[1.5, 0.0], [np.nan, 1.0], [2.5, np.nan]])
    whole = inference.impute(pair, matrix, draws=5).frame()
    assert whole["b"].tolist()[:2] == ["no", "yes"]


def test_a_category_that_the_frame_does_not_know_and_halves_among_whole_numbers():
    """The frame of one town and of whole numbers, filled by a model that knows more."""
    from inference.codes.completed import frame as completed

    given = pd.DataFrame({"town": pd.Categorical(["Ulm", None]), "n": pd.array([1, None], "Int64"), "c": [1.0, np.nan]})
    rows = np.array([1])
    whole = completed(given, {"town": (rows, ["Bonn"]), "n": (rows, [2.5]), "c": (rows, [7])})
    assert list(whole["town"].cat.categories) == ["Ulm", "Bonn"]
    assert whole["n"].tolist() == [1.0, 2.5]
    assert whole["c"].tolist() == [1.0, 7.0]
    texts = completed(pd.DataFrame({"c": [1.0, np.nan]}), {"c": (rows, ["3+"])})
    assert texts["c"].tolist() == [1.0, "3+"]
