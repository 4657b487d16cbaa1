"""The regression table against least squares by statsmodels, and against the function that the pair itself computes."""

from __future__ import annotations

import json

import arviz as az
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.polynomial import polynomial

import inference
import zoo
from inference.posterior.latents import Posterior
from tests.helpers.places import REFERENCE
from zoo.base import Batch
from zoo.datasets import Design
from zoo.parts.polynomials import named, powers

sm = pytest.importorskip("statsmodels.api")
smf = pytest.importorskip("statsmodels.formula.api")


def wide(design: Design, frame: pd.DataFrame, **config) -> tuple:
    """A pair with a prior that hardly matters, its constants taken, and its posterior mean as one draw."""
    pair = zoo.create("polynomial_regression", design=design, coefficient_scale=1e4, **config).double()
    x, y = design.encode(frame)
    batch = Batch.of(x, y)
    pair.measure(batch)
    point = pair.initial(batch)
    return pair, Posterior(
        {name: value[None, None].expand(1, 2, *value.shape) for name, value in point.items()}, size=2
    )


@pytest.mark.parametrize(
    ("data", "formula"),
    [
        ("anes96", "TVnews ~ age + income + C(educ)"),
        ("statecrime", "murder ~ urban + poverty + hs_grad + single"),
        ("fair", "affairs ~ rate_marriage + age * yrs_married + I(age**2) + C(occupation)"),
    ],
)
def test_estimates_in_units_are_least_squares(data, formula):
    frame = getattr(sm.datasets, data).load_pandas().data
    pair, posterior = wide(Design.infer(frame, formula), frame)
    table = inference.coefficients(pair, posterior)
    found = smf.ols(formula, frame).fit()
    own = {name.replace(".0]", "]").replace(" ** ", " ** "): value for name, value in found.params.items()}
    assert list(table.index) == [*pair_names(table), "sigma"]
    assert set(table.index[:-1]) == set(own)
    for name, value in own.items():
        assert table.loc[name, "estimate"] == pytest.approx(value, rel=1e-5, abs=1e-7 * abs(max(own.values())))


def pair_names(table: pd.DataFrame) -> list[str]:
    return [name for name in table.index if name != "sigma"]


def test_powers_and_products_are_those_of_least_squares_on_monomials():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"age": rng.uniform(20, 60, 80), "town": rng.choice(["a", "b"], 80)})
    frame["wage"] = 3 + 0.1 * frame["age"] - 0.002 * frame["age"] ** 2 + (frame["town"] == "b") + rng.normal(size=80)
    pair, posterior = wide(Design.infer(frame, y="wage"), frame)  # degree 3 with products, by default
    table = inference.coefficients(pair, posterior)
    assert list(table.index) == [
        "Intercept", "age", "town[T.b]", "age^2", "age:town[T.b]", "age^3", "age^2:town[T.b]", "sigma",
    ]  # fmt: skip
    a, b = frame["age"].to_numpy(), (frame["town"] == "b").to_numpy(float)
    design = np.stack([np.ones(80), a, b, a**2, a * b, a**3, a**2 * b], 1)
    scale = np.abs(design).max(0)
    found = np.linalg.lstsq(design / scale, frame["wage"].to_numpy(), rcond=None)[0] / scale
    np.testing.assert_allclose(table["estimate"][:-1], found, rtol=1e-4)


def test_terms_of_a_matrix_give_the_pairs_own_mean():
    rng = np.random.default_rng(2)
    x = np.stack([rng.normal(50, 9, 40), rng.integers(0, 2, 40)], 1)  # the square of the second is itself
    y = torch.from_numpy(rng.normal(7, 3, 40))
    pair = zoo.create("polynomial_regression", features=2, degree=3).double()
    batch = Batch.of(x, y)
    pair.measure(batch)
    point = {
        "coefficients": torch.randn(pair.powers.shape[0], dtype=torch.float64),
        "variance": torch.tensor(0.3).double(),
    }
    posterior = Posterior({name: value[None, None] for name, value in point.items()}, size=1)
    table = inference.coefficients(pair, posterior, mass=0.8)
    assert list(table.columns) == ["estimate", "sd", "10%", "90%"]
    assert list(table.index) == ["Intercept", "x0", "x1", "x0^2", "x0:x1", "x0^3", "x0^2:x1", "sigma"]
    grid = np.zeros((4, 2))  # coefficients of x0^i x1^j
    for name, value in table["estimate"][:-1].items():
        at = [0, 0]
        for part in name.split(":") if name != "Intercept" else ():
            column, _, power = part.partition("^")
            at[int(column[1:])] = int(power or 1)
        grid[tuple(at)] = value
    expected = polynomial.polyval2d(x[:, 0], x[:, 1], grid)
    told = (pair.mixing.diagonal() > 0).double()  # those that stay at their prior are zero on these rows
    own = pair.location + pair.spread * (pair.basis(batch) * told) @ point["coefficients"]
    np.testing.assert_allclose(own, expected, rtol=1e-9)
    assert table.loc["sigma", "estimate"] == pytest.approx(np.sqrt(0.3) * y.std(correction=0).item())


def test_interval_and_deviation_are_those_of_the_draws():
    frame = sm.datasets.statecrime.load_pandas().data
    pair, posterior = wide(Design.infer(frame, "murder ~ urban"), frame)
    many = {name: value[:, :1].expand(1, 500, *value.shape[2:]) for name, value in posterior.draws.items()}
    shift = torch.randn(1, 500, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    many["coefficients"] = many["coefficients"] + shift * torch.tensor([0.0, 1.0])
    table = inference.coefficients(pair, Posterior(many, size=500))
    # One internal term, murder's deviation times (urban - mean) / deviation: the same shift in units.
    slope = shift.numpy().ravel() * frame["murder"].std(ddof=0) / frame["urban"].std(ddof=0)
    at = table.loc["urban", "estimate"] - slope.mean() + slope
    assert table.loc["urban", "sd"] == pytest.approx(slope.std(ddof=1), rel=1e-9)
    np.testing.assert_allclose(table.loc["urban", ["2.5%", "97.5%"]].astype(float), np.quantile(at, [0.025, 0.975]))


def test_pairs_without_terms_say_what_to_ask_instead():
    pair = zoo.create("random_forest", features=2)
    posterior = inference.prior(pair, 3, 2)
    with pytest.raises(ValueError, match=r"random_forest: .* inference\.importance"):
        inference.coefficients(pair, posterior)


def test_terms_are_named_as_formulas_name_them():
    assert named(powers(2, 2, True), ["age", "income"]) == (
        "Intercept", "age", "income", "age^2", "age:income", "income^2",
    )  # fmt: skip
    kept = powers(3, 2, True, (-1, 0, 0))  # two indicators of one category
    assert named(kept, ["age", "b", "c"]) == ("Intercept", "age", "b", "c", "age^2", "age:b", "age:c")


def test_export_has_coefficients_in_units_under_their_names():
    frame = sm.datasets.fair.load_pandas().data.iloc[::20]
    design = Design.infer(frame, "affairs ~ age + C(occupation)")
    pair = zoo.create("polynomial_regression", design=design).double()
    inference.fit(pair, frame, progress=False)
    posterior = inference.draw(pair, frame, 200)
    table = inference.coefficients(pair, posterior)
    made = inference.to_arviz(pair, posterior, frame, log_likelihood=False, predictive=False, prior=7)
    draws = made["posterior"]["coefficients"]
    assert list(draws["term"].values) == list(table.index[:-1])
    np.testing.assert_allclose(draws.mean(("chain", "draw")), table["estimate"][:-1], rtol=1e-9)
    assert float(made["posterior"]["sigma"].mean()) == pytest.approx(table.loc["sigma", "estimate"])
    assert made["prior"]["coefficients"].sizes["term"] == len(table) - 1
    labelled = inference.to_arviz(
        pair, posterior, frame, log_likelihood=False, predictive=False, coords={"term": range(len(table) - 1)}
    )
    assert list(labelled["posterior"]["term"].values) == list(range(len(table) - 1))


def small(rows: int = 16) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({name: rng.normal(size=rows) for name in "abcdef"})
    return frame.assign(wage=frame["a"] + rng.normal(size=rows))


def test_few_rows_for_many_coefficients_are_said_with_what_they_do_to_intervals():
    frame, formula = small(), "wage ~ a + b + c + d + e + f"
    pair = inference.pair_for("polynomial_regression", frame, formula=formula, tell=None)
    fit = inference.fit(pair, frame, progress=False)
    assert "7 coefficients of 16 rows: intervals are at least 25% narrower" in repr(fit)
    assert fit.reason == "the guide is the exact posterior"
    ols = smf.ols(formula, frame).fit().conf_int()
    wide = pair.config | {"prior": "independent", "coefficient_scale": 1e4}
    other = zoo.create("polynomial_regression", **wide).double()
    assert not inference.fit(other, frame, steps=400, lr=0.01, particles=8, progress=False, compile="off").caution
    for each, low, high in ((pair, 0.6, 0.75), (other, 0.93, 1.07)):
        table = inference.coefficients(each, inference.draw(each, frame, 4000))
        share = (table["97.5%"] - table["2.5%"]).iloc[:-1].to_numpy() / (ols[1] - ols[0]).to_numpy()
        assert (low < share).all(), share
        assert (share < high).all(), share
    many = small(80)
    assert not inference.fit(zoo.create("polynomial_regression", **pair.config), many, progress=False).caution


def test_more_coefficients_than_rows_are_refused_in_a_formula_and_said_of_a_matrix():
    frame = small()
    pair = inference.pair_for("polynomial_regression", frame, formula="wage ~ (a + b + c) ** 3 * d + e * f", tell=None)
    with pytest.raises(ValueError, match="19 coefficients, the intercept among them, and 16 rows"):
        inference.fit(pair, frame, progress=False)
    matrix = zoo.create("polynomial_regression", features=6, degree=2)
    fit = inference.fit(matrix, frame[list("abcdef")].to_numpy(), frame["wage"].to_numpy(), progress=False)
    assert "16 rows for 28 coefficients" in fit.caution


def test_a_combination_that_no_row_has_is_named():
    frame = pd.DataFrame({"town": ["a", "a", "b", "b"] * 4, "sex": ["f", "m", "f", "f"] * 4})
    frame["wage"] = np.arange(16.0)
    pair = inference.pair_for("polynomial_regression", frame, formula="wage ~ town * sex", tell=None)
    with pytest.raises(ValueError, match="no row has town=b and sex=m"):
        inference.fit(pair, frame, progress=False)


@pytest.mark.slow
def test_kidiq_by_mcmc_in_units():
    folder = REFERENCE / "posteriordb" / "kidiq-kidscore_momiq"
    if not folder.is_dir():
        pytest.skip(f"the reference posterior is not here: no {folder}")
    data, summary = (json.loads((folder / f"{file}.json").read_text()) for file in ("data", "reference_summary"))
    frame = pd.DataFrame({name: data[name] for name in ("mom_iq", "kid_score")})
    # theirs: flat coefficients, and sigma ~ half-Cauchy(0, 2.5) whatever they are
    same = {"prior": "independent", "coefficient_scale": 1e4, "noise_scale": 2.5 / frame["kid_score"].std(ddof=0)}
    pair = inference.pair_for("polynomial_regression", frame, formula="kid_score ~ mom_iq", dtype=torch.float64, **same)
    found = inference.sample(pair, frame, 1000, chains=4, seed=1, progress=False)
    draws = inference.to_arviz(pair, found, frame, log_likelihood=False, predictive=False)["posterior"]
    values = {
        "beta[1]": draws["coefficients"].sel(term="Intercept").values,
        "beta[2]": draws["coefficients"].sel(term="mom_iq").values,
        "sigma": draws["sigma"].values,
    }
    for name, value in values.items():
        expected = summary["parameters"][name]
        error = np.hypot(value.std() / np.sqrt(float(az.ess(value))), expected["mcse_mean"])
        assert abs(value.mean() - expected["mean"]) < 4 * error, name
        # of a standard deviation, that of n draws of a normal is sd / sqrt(2 n)
        errors = 4 * np.hypot(value.std() / np.sqrt(2 * float(az.ess(value))), expected["mcse_sd"])
        assert abs(value.std() - expected["sd"]) < errors, name
