"""Designs against formulaic's own matrices, on frames with categories; what they refuse, and what a saved one gives."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

import inference
import zoo
from zoo.notes import DataWarning
from zoo.parts.designs import collinear
from zoo.schema.design import Design

formulaic = pytest.importorskip("formulaic")
RNG = np.random.default_rng(0)
N = 60
FRAME = pd.DataFrame(
    {
        "wage": RNG.normal(size=N),
        "age": RNG.uniform(20, 60, N),
        "per capita": RNG.gamma(2, size=N),
        "town": RNG.choice(["b", "a", "c"], N),
        "member": RNG.random(N) > 0.5,
        "grade": RNG.integers(1, 4, N),
        "rank": pd.Categorical(RNG.choice(["low", "mid", "top"], N), categories=["low", "mid", "top"], ordered=True),
    }
)
FORMULAS = [
    "wage ~ age + town",
    "wage ~ age * town + C(grade) + rank",
    "log(wage + 9) ~ poly(age, 2) + bs(`per capita`, df=4) + member:town",
    "wage ~ scale(age) + center(`per capita`) + C(town, Treatment('b')) + I(age**2)",
    "wage ~ C(rank, contr.sum) + cr(age, df=4) + np.log(`per capita`) + I(age > 40)",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_design_matrix_is_formulaics(formula):
    design = Design.infer(FRAME, formula)
    x, y = design.encode(FRAME)
    own = FRAME.assign(
        town=pd.Categorical(FRAME["town"]), member=pd.Categorical(FRAME["member"]), grade=pd.Categorical(FRAME["grade"])
    )
    expected = formulaic.Formula(formula).get_model_matrix(own)
    right = expected.rhs.drop(columns="Intercept")
    assert design.columns == tuple(right.columns)
    np.testing.assert_allclose(x, right.to_numpy(float), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(y, expected.lhs.to_numpy(float)[:, 0], rtol=1e-12)


@pytest.mark.parametrize("formula", FORMULAS)
def test_saved_design_gives_new_rows_the_same_columns(formula):
    design = Design.infer(FRAME, formula)
    again = Design.of(json.loads(json.dumps(design)))
    some = FRAME.iloc[[3, 5]]  # their means, levels and knots are not those of the fit
    x, y = again.encode(some)
    np.testing.assert_allclose(x, design.encode(FRAME)[0][[3, 5]], rtol=1e-12)
    np.testing.assert_allclose(y, design.encode(FRAME)[1][[3, 5]], rtol=1e-12)
    assert again.encode(some.drop(columns="wage"))[1] is None


def test_y_alone_takes_every_other_column():
    frame = FRAME.assign(name=[f"person {i}" for i in range(N)], when=pd.date_range("2020-01-01", periods=N))
    with pytest.warns(DataWarning, match=r"'name', 'when': dates, or texts that nearly all differ"):
        design = Design.infer(frame.iloc[:60], y="wage")
    assert design.columns == (
        "age", "per capita", "town[T.b]", "town[T.c]", "member[T.True]", "grade", "rank[T.mid]", "rank[T.top]",
    )  # fmt: skip
    assert design.factors == (-1, -1, 2, 2, 3, -1, 5, 5)
    assert Design.infer(FRAME, "wage ~ .").columns == design.columns
    assert "rank[T.mid]" not in Design.infer(FRAME, "wage ~ . - rank").columns


def test_frames_of_every_library_give_one_design():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    design = Design.infer(FRAME, "wage ~ age + town + member")
    x, _ = design.encode(FRAME)
    for table in (polars.from_pandas(FRAME), pyarrow.Table.from_pandas(FRAME), {n: list(FRAME[n]) for n in FRAME}):
        assert Design.infer(table, "wage ~ age + town + member") == design
        np.testing.assert_array_equal(design.encode(table)[0], x)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("wage ~ agee", "no column 'agee', did you mean 'age'"),
        ("wag ~ age", "no column 'wag', did you mean 'wage'"),
        ("wage ~ lgo(age)", "no function 'lgo', did you mean 'log'"),
        ("wage ~ 0 + age", "has an intercept"),
        ("wage ~ 1", "has no covariate"),
        ("~ age", "has no response"),
        ("wage ~ log(age - 40)", r"'log\(age - 40\)', row \d+: has no finite value"),
        ("wage ~ age + (town", "formula"),
        ("wage ~ wage", "stands on both sides"),
        ("wage ~ age.mean()", "no function"),
        ("wage ~ __import__('os').system('true')", "formula"),
        ("wage ~ I(().__class__)", "more than arithmetic"),
        ("wage ~ I([x for x in age])", "more than arithmetic"),
        ("wage ~ I(np.load('x'))", r"no function 'np\.load'"),
        ("wage ~ I(9**9**9**9)", "more than arithmetic"),
        ("wage ~ poly(age, 10000)", "asks for more than"),
    ],
)
def test_formulas_are_refused_by_name(formula, said):
    with pytest.raises(ValueError, match=said):
        Design.infer(FRAME, formula)


def test_saved_formula_cannot_run_what_a_new_one_may_not():
    parts = list(Design.infer(FRAME, "wage ~ age"))
    parts[0] = "wage ~ I(age.__class__)"
    with pytest.raises(ValueError, match="more than arithmetic"):
        Design.of(parts)


def test_cells_are_refused_by_row_and_column():
    design = Design.infer(FRAME, "wage ~ age + town")
    with pytest.raises(ValueError, match=r"column 'age', row 7: missing \(and in 1 more\)"):
        Design.infer(FRAME.assign(age=FRAME["age"].where(~FRAME.index.isin([7, 9]))), "wage ~ age")
    with pytest.raises(ValueError, match="column 'town', row 1: 'd' is none of its categories"):
        design.encode({"age": [30, 31], "town": ["a", "d"]})
    with pytest.raises(ValueError, match="no column 'age', did you mean 'Age'"):
        design.encode({"Age": [30], "town": ["a"]})
    with pytest.raises(ValueError, match="column 'town': holds 'a' in every row"):
        Design.infer(FRAME.assign(town="a"), "wage ~ town")
    with pytest.raises(ValueError, match="the response is to be a number, and holds"):
        Design.infer(FRAME, "town ~ age", classes=False)
    assert Design.infer(FRAME, "town ~ age").response.categories == ("a", "b", "c")


def test_level_seen_once_is_named():
    frame = FRAME.assign(town=FRAME["town"].where(FRAME.index != 4, "lonely"))
    with pytest.warns(DataWarning, match=r"column 'town': level 'lonely' seen once \(row 4\)"):
        Design.infer(frame, "wage ~ town")


def test_collinear_columns_are_named_with_their_shares():
    x = torch.from_numpy(RNG.normal(size=(50, 3)))
    both = torch.cat([x, 2 * x[:, :1] - x[:, 2:] + 5], 1)
    assert collinear(both, ["a", "b", "c", "total"]) == "'total' = 2 a + -1 c + 5"
    assert collinear(x, ["a", "b", "c"]) == ""
    frame = FRAME.assign(months=12 * FRAME["age"])
    pair = zoo.create("polynomial_regression", design=Design.infer(frame, "wage ~ age + months"))
    with pytest.raises(ValueError, match="collinear columns: 'months' = 12 age: leave one of them out"):
        inference.fit(pair, frame, steps=1)


def test_frame_without_response_is_told_of_it():
    pair = zoo.create("polynomial_regression", design=Design.infer(FRAME, "wage ~ age + town"))
    with pytest.raises(ValueError, match="a frame without the response 'wage'"):
        inference.fit(pair, FRAME.drop(columns="wage"), steps=1)
    with pytest.raises(ValueError, match="explains a number, and the response 'town' is a class"):
        zoo.create("polynomial_regression", design=Design.infer(FRAME, "town ~ age"))


def test_design_is_saved_with_the_pair(tmp_path):
    pair = zoo.create("polynomial_regression", design=Design.infer(FRAME, "wage ~ poly(age, 2) + town")).double()
    inference.fit(pair, FRAME, steps=2, progress=False)
    pair.save(tmp_path / "run")
    again = zoo.load(tmp_path / "run")
    assert again.design == pair.design
    posterior, rows = inference.draw(pair, FRAME, 3), FRAME.iloc[:4].drop(columns="wage")
    before, after = (inference.predict(each, posterior, rows)["y"] for each in (pair, again))
    assert torch.equal(before, after)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        ("wage ~ C(town, levels=['Aar', 'Bern'])", "levels=.'Aar', 'Bern'. in the formula lacks 'Chur'"),
        ("wage ~ C(town, Treatment('Basel'))", "the reference 'Basel' of the formula is none of its levels"),
    ],
)
def test_levels_that_a_formula_has_wrong_are_named(formula, said):
    frame = {"town": ["Aar", "Bern", "Chur"] * 4, "wage": list(range(12))}
    with pytest.raises(ValueError, match=said):
        Design.infer(frame, formula)
