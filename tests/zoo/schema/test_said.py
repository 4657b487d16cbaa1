"""Levels whose order is said, and numbers that stand for missing; the order of codes against pandas' Categorical."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

import zoo
from inference.command.main import main
from tests.helpers.command import fails
from zoo.datasets import Design, Schema

GRADES = ["mid", "low", "high", "low", None, "mid"] * 9


def test_the_order_of_levels_is_the_one_that_is_said():
    levels = ["low", "mid", "high"]
    schema = Schema.infer({"grade": GRADES}, grade=("ordinal", levels))
    expected = pd.Categorical(GRADES, categories=levels, ordered=True).codes.astype(float)
    np.testing.assert_array_equal(schema.encode({"grade": GRADES})[:, 0], np.where(expected < 0, np.nan, expected))
    assert Schema.infer({"size": [3, 1, 2]}, size=("ordinal", ["2", "1", "3"]))[0].categories == (2, 1, 3)
    with pytest.raises(ValueError, match="'mid' is none of the levels that were given: low, high"):
        Schema.infer({"grade": GRADES}, grade=("ordinal", ["low", "high"]))


def test_an_order_that_nobody_said_is_told():
    with pytest.warns(UserWarning, match="alphabetical order, high, low, mid; .*--kind grade=ordinal:high,low,mid"):
        Schema.infer({"grade": GRADES}, grade="ordinal")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Schema.infer(pd.DataFrame({"grade": pd.Categorical(GRADES, ["low", "mid", "high"], ordered=True)}))
        Schema.infer({"grade": GRADES})  # categories have none


@pytest.mark.parametrize(
    ("levels", "expected"),
    [("low,mid,high", ("low", "mid", "high")), ('["high", "mid", "low"]', ("high", "mid", "low"))],
)
def test_the_command_takes_the_order(tmp_path, monkeypatch, capsys, levels, expected):
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"grade": GRADES, "size": np.arange(54.0) ** 0.5})
    frame.to_csv("grades.csv", index=False)
    words = ["fit", "naive_bayes", "--data", "grades.csv", "--kind", f"grade=ordinal:{levels}", "--steps", "2"]
    assert main([*words, "--no-score", "--out", "run"]) == 0
    assert "alphabetical" not in capsys.readouterr().out
    assert zoo.load("run").schema[0].categories == expected
    words = ["fit", "naive_bayes", "--data", "grades.csv", "--kind", "grade=ordinal:low,mid", "--out", "other"]
    assert "'high' is none of the levels that were given" in fails(capsys, *words)


@pytest.mark.parametrize("value", [-999, 99999, -9.0])
def test_numbers_that_stand_for_missing_are_told(value):
    age = [value if row % 5 == 0 else 20.0 + row % 7 for row in range(40)]
    table = {"age": age, "wage": [float(row) for row in range(40)]}
    said = f"column 'age': 8 rows hold {value:g}, far from all others .20 to 26."
    with pytest.warns(UserWarning, match=said):
        Schema.infer(table)
    with pytest.warns(UserWarning, match=said):
        Design.infer(table, "wage ~ age")


def test_numbers_among_others_stand_for_themselves():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Schema.infer(
            {"a": [-9.5, -9, -9, -8.0, -12, 3.5], "b": [99, 99, 98, 97.5, 90, 60], "c": [999, 5, 6, 7, 8, 9.5]}
        )
        Schema.infer({"a": [0, 999, 999, 0]})  # two levels: nothing tells which of them is far
