"""Effects, predictions and R² against statsmodels' least squares, scikit-learn-like sums by hand, and closed forms."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import pytest
import scipy.stats

import inference
import zoo
from zoo.datasets import Design

smf = pytest.importorskip("statsmodels.formula.api")
DRAWS = 2000


def frame(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    made = pd.DataFrame(
        {
            "age": rng.uniform(20, 60, rows),
            "member": rng.integers(0, 2, rows),
            "town": rng.choice(["a", "b", "c"], rows),
        }
    )
    slope = 0.4 - 0.005 * (made["age"] - 40) + 0.2 * (made["town"] == "b")
    made["wage"] = 2 + slope * made["age"] + 3 * made["member"] + rng.normal(size=rows)
    return made.set_index(np.arange(rows) + 1000)


FORMULA = "wage ~ age * town + I(age**2) + member"


@functools.cache
def fitted() -> tuple:
    data = frame()
    pair = zoo.create("polynomial_regression", design=Design.infer(data, FORMULA), coefficient_scale=1e3).double()
    inference.fit(pair, data, progress=False)
    return pair, data, inference.draw(pair, data, DRAWS), smf.ols(FORMULA, data).fit()


def test_effects_are_those_of_least_squares():
    pair, data, posterior, ols = fitted()
    table = inference.effects(pair, posterior, data, draws=None)
    assert list(table.index) == [("age", "+1"), ("town", "b - a"), ("town", "c - a"), ("member", "1 - 0")]
    b = ols.params
    share = data["town"].value_counts(normalize=True)
    expected = {
        ("age", "+1"): b["age"] + 2 * b["I(age ** 2)"] * data["age"].mean()
        + share["b"] * b["age:town[T.b]"] + share["c"] * b["age:town[T.c]"],
        ("member", "1 - 0"): b["member"],
    }  # fmt: skip
    for level in "bc":
        change = ols.predict(data.assign(town=level)) - ols.predict(data.assign(town="a"))
        expected["town", f"{level} - a"] = change.mean()
    for line, value in expected.items():
        error = table.loc[line, "sd"] / np.sqrt(DRAWS)
        # A quadratic has its slope by central differences, but for the rows at the ends of the range.
        assert abs(table.loc[line, "estimate"] - value) < 4 * error + 1e-3 * abs(value), line
    assert table.loc[("member", "1 - 0"), "sd"] == pytest.approx(ols.bse["member"], rel=0.06)  # Monte Carlo, and df


def test_contrasts_of_ones_own():
    pair, data, posterior, ols = fitted()
    table = inference.effects(pair, posterior, data, contrasts={"age": (30, 40), "town": ("b", "c")}, draws=None)
    for name, (low, high) in {"age": (30, 40), "town": ("b", "c")}.items():
        change = (ols.predict(data.assign(**{name: high})) - ols.predict(data.assign(**{name: low}))).mean()
        line = table.loc[(name, f"{high} - {low}")]
        assert abs(line["estimate"] - change) < 4 * line["sd"] / np.sqrt(DRAWS) + 1e-4
    with pytest.raises(ValueError, match="no covariate 'agee', did you mean 'age'"):
        inference.effects(pair, posterior, data, contrasts={"agee": (1, 2)})
    with pytest.raises(ValueError, match="'d' is none of its categories"):
        inference.effects(pair, posterior, data, contrasts={"town": ("a", "d")})


def test_predictions_are_those_of_least_squares():
    pair, data, posterior, ols = fitted()
    rows = data.iloc[:30].drop(columns="wage")
    table = inference.predictions(pair, posterior, rows, mass=0.9)
    expected = ols.get_prediction(rows).summary_frame(alpha=0.1)
    assert list(table.columns) == ["mean", "sd", "5%", "95%", "mean 5%", "mean 95%"]
    assert table.index.equals(rows.index)
    assert (np.abs(table["mean"] - expected["mean"]) < 5 * expected["mean_se"] / np.sqrt(DRAWS)).all()
    wide = scipy.stats.t.ppf(0.95, ols.df_resid)
    sd = (expected["obs_ci_upper"] - expected["mean"]) / wide
    np.testing.assert_allclose(table["sd"], sd, rtol=0.04)  # N against N - F degrees of freedom, 2 %
    error = 5 * sd * np.sqrt(0.05 * 0.95 / DRAWS) / scipy.stats.norm.pdf(1.645) + 0.02 * wide * sd
    assert (np.abs(table["5%"] - expected["obs_ci_lower"]) < error).all()
    inside = expected["mean_ci_upper"] - expected["mean_ci_lower"]  # of the mean, without noise
    np.testing.assert_allclose(table["mean 95%"] - table["mean 5%"], inside, rtol=0.12)
    assert (np.abs(table["mean 95%"] - expected["mean_ci_upper"]) < 0.12 * inside).all()
    again = inference.predictions(pair, posterior, data.iloc[:30], mass=0.9)  # the response is not looked at
    pd.testing.assert_frame_equal(again, table)


def test_predictions_of_a_function_of_a_column_say_so():
    data = frame()
    pair = inference.pair_for("polynomial_regression", data, formula="np.log(wage) ~ age + town", tell=None)
    inference.fit(pair, data, progress=False)
    table = inference.predictions(pair, inference.draw(pair, data, DRAWS), data)
    names = ("mean", "sd", "2.5%", "97.5%", "mean 2.5%", "mean 97.5%")
    assert list(table.columns) == [f"{name} of np.log(wage)" for name in names]
    ols = smf.ols("np.log(wage) ~ age + town", data).fit()
    np.testing.assert_allclose(table["mean of np.log(wage)"], ols.fittedvalues, atol=0.01)


def test_r_squared_is_near_that_of_least_squares():
    pair, data, posterior, ols = fitted()
    found = inference.r_squared(pair, posterior, data)
    assert list(found.index) == ["estimate", "sd", "2.5%", "97.5%"]
    assert abs(found["estimate"] - ols.rsquared) < 2 * found["sd"]
    # With one draw at the estimate, the ratio of sums of squares itself.
    table = inference.coefficients(pair, posterior)["estimate"]
    line = np.var(ols.fittedvalues, ddof=1)
    assert found["estimate"] == pytest.approx(line / (line + table["sigma"] ** 2), abs=0.5 * found["sd"])


def test_classes_have_probabilities_under_their_names():
    data = frame(120)
    pair = zoo.create("support_vector_machine", features=2, classes=2).double()
    x, y = data[["age", "wage"]].to_numpy(), data["member"].to_numpy()
    inference.fit(pair, x, y, steps=5, progress=False)
    posterior = inference.draw(pair, (x, y), 50)
    table = inference.predictions(pair, posterior, x)
    assert list(table.columns) == ["class", "0", "1"]
    np.testing.assert_allclose(table["0"] + table["1"], 1, rtol=1e-9)
    assert (table["class"] == (table["1"] > 0.5).astype(int)).all()
    effects = inference.effects(pair, posterior, x)
    assert list(effects.index) == [(k, name, "+1") for k in (0, 1) for name in ("x0", "x1")]
    np.testing.assert_allclose(effects.loc[0]["estimate"], -effects.loc[1]["estimate"], rtol=1e-6)
    assert 0 < inference.r_squared(pair, posterior, x)["estimate"] < 1


def test_pairs_that_explain_nothing_say_so():
    pair = zoo.create("gmm")
    posterior = inference.prior(pair, 3, 2)
    for question in (inference.effects, inference.predictions, inference.r_squared):
        with pytest.raises(ValueError, match="gmm: explains no response y by covariates"):
            question(pair, posterior, np.zeros((3, 2)))


def test_importance_of_a_category_is_of_all_its_levels():
    data = frame()
    pair = inference.pair_for("polynomial_regression", data, formula="wage ~ age + town + member", tell=None)
    inference.fit(pair, data, progress=False)
    posterior = inference.draw(pair, data, 100)
    found = inference.importance(pair, posterior, data)
    assert found.names == ("age", "town", "member")
    line = inference.coefficients(pair, posterior)["estimate"]
    parts = {
        "age": line["age"] * data["age"],
        "town": data["town"].map({"a": 0.0, "b": line["town[T.b]"], "c": line["town[T.c]"]}),
        "member": line["member"] * data["member"],
    }
    whole = sum(parts.values()).var()
    for name, share in zip(found.names, found.mean.tolist(), strict=True):  # of a sum of terms, shares of variance
        assert abs(share - parts[name].var() / whole) < 0.12, name  # one permutation of 200 rows


@pytest.mark.parametrize(
    ("term", "first"),
    [
        ("C(stage, levels=['low', 'mid', 'high'])", "low"),
        ("C(stage, Treatment('mid'))", "mid"),
        ("C(stage, contr.treatment(base='mid'))", "mid"),
        ("C(stage)", "high"),
    ],
)
def test_effects_are_against_the_level_that_the_formula_names(term, first):
    rng = np.random.default_rng(4)
    data = pd.DataFrame({"stage": rng.choice(["low", "mid", "high"], 90)})
    data["wage"] = 2.0 * (data["stage"] == "mid") + rng.normal(size=90)
    pair = inference.pair_for("polynomial_regression", data, formula=f"wage ~ {term}", tell=None, coefficient_scale=1e3)
    inference.fit(pair.double(), data, progress=False)
    posterior = inference.draw(pair, data, 500)
    table = inference.effects(pair, posterior, data)
    mean = data.groupby("stage")["wage"].mean()
    others = [level for level in ("low", "mid", "high") if level != first]
    assert set(table.index) == {("stage", f"{level} - {first}") for level in others}
    coefficients = inference.coefficients(pair, posterior)
    for level in others:
        line = table.loc[("stage", f"{level} - {first}")]
        assert abs(line["estimate"] - (mean[level] - mean[first])) < 5 * line["sd"] / np.sqrt(500)
        assert line["estimate"] == pytest.approx(coefficients.loc[f"{term}[T.{level}]", "estimate"], rel=1e-6)
    assert pair.design.variables[0].categories[0] == first
