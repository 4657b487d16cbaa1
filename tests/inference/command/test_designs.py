"""`zoo fit --formula`, `--target` of a table with words, and `zoo predict`, against statsmodels on the same file."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

import zoo
from inference.command.main import main
from tests.helpers.command import blank_pictures, fails

smf = pytest.importorskip("statsmodels.formula.api")
FORMULA = "wage ~ age * town + I(age**2)"
QUICK = ["--no-score", "--steps", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, and a regression on it whose prior hardly matters."""
    where = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.uniform(20, 60, 120).round(1), "town": rng.choice(["Aar", "Bern", "Chur"], 120)})
    frame["wage"] = (2 + 0.1 * frame["age"] + (frame["town"] == "Bern") + rng.normal(size=120)).round(3)
    frame["member"] = rng.choice(["yes", "no"], 120)
    frame.to_csv(where / "people.csv", index=False)
    frame.drop(columns="wage").head(9).to_csv(where / "new.csv", index=False)
    words = ["--data", f"{where}/people.csv", "--formula", FORMULA, "--set", "coefficient_scale=1000", "--double"]
    assert main(["fit", "polynomial_regression", *words, "--no-score", "--out", f"{where}/run"]) == 0
    return where


def test_predictions_in_a_file_are_those_of_least_squares(folder):
    assert main(["predict", f"{folder}/run", f"{folder}/new.csv", "--out", f"{folder}/out.csv", "--mass", "0.9"]) == 0
    found, ols = pd.read_csv(folder / "out.csv"), smf.ols(FORMULA, pd.read_csv(folder / "people.csv")).fit()
    expected = ols.get_prediction(pd.read_csv(folder / "new.csv")).summary_frame(alpha=0.1)
    assert list(found.columns) == ["row", "mean", "sd", "5%", "95%", "mean 5%", "mean 95%"]
    assert list(found["row"]) == list(range(1, 10))
    assert (np.abs(found["mean"] - expected["mean"]) < 5 * expected["mean_se"] / np.sqrt(4000)).all()
    np.testing.assert_allclose(
        found["95%"] - found["5%"], expected["obs_ci_upper"] - expected["obs_ci_lower"], rtol=0.1
    )


def test_a_fit_prints_how_much_is_explained_and_by_what(folder, capsys):
    pd.read_csv(folder / "people.csv").assign(age2=lambda d: d["age"] % 7).to_csv(folder / "two.csv", index=False)
    with blank_pictures():
        words = ["--data", f"{folder}/two.csv", "--target", "wage", "--score-seconds", "1", "--draws", "50"]
        assert main(["fit", "polynomial_regression", *words, "--out", f"{folder}/told"]) == 0
    said = capsys.readouterr().out
    # no power of an indicator, and products of numbers only where there are no more than three covariates
    assert "member: no, yes); and of its own age^2, age2^2 (degree=1 leaves them out)" in said
    data = pd.read_csv(folder / "two.csv")
    ols = smf.ols("wage ~ age + town + member + age2 + I(age**2) + I(age2**2)", data).fit()
    found = re.search(r"R² ([\d.]+), 95% interval ([\d.]+) to ([\d.]+)", said)
    assert float(found[2]) < ols.rsquared < float(found[3])
    line = next(line for line in said.splitlines() if "yes - no" in line).split()
    assert float(line[-4]) == pytest.approx(ols.params["member[T.yes]"], abs=0.02)
    assert float(line[-3]) == pytest.approx(ols.bse["member[T.yes]"], rel=0.15)


def test_a_level_that_it_has_not_seen_cannot_be_missing(folder, capsys):
    words = [f"{folder}/run", f"{folder}/new.csv", "--unknown", "missing", "--out", f"{folder}/never.csv"]
    assert "polynomial_regression explains a response by covariates and takes no missing cell" in fails(
        capsys, "predict", *words
    )


def test_a_run_is_scored_from_its_own_table(folder, capsys):
    with blank_pictures():
        assert main(["score", f"{folder}/run", "--draws", "100"]) == 0
    said = capsys.readouterr().out
    for term in ("coefficients[town[T.Bern]]", "coefficients[I(age ** 2)]", "coefficients[age:town[T.Chur]]", "sigma"):
        assert term in said


def test_a_table_with_words_has_a_design_of_all_its_columns(folder, capsys):
    words = ["--data", f"{folder}/people.csv", "--y", "member", *QUICK, "--out", f"{folder}/members"]
    assert main(["fit", "support_vector_machine", *words]) == 0
    assert "design: member ~ age + town + wage (town: Aar, Bern, Chur)" in capsys.readouterr().out
    pair = zoo.load(folder / "members")
    assert pair.design.response.categories == ("no", "yes")
    assert main(["predict", f"{folder}/members", f"{folder}/people.csv", "--out", f"{folder}/m.csv"]) == 0
    found = pd.read_csv(folder / "m.csv")
    assert list(found.columns) == ["row", "class", "no", "yes"]
    np.testing.assert_allclose(found["no"] + found["yes"], 1, rtol=1e-6)


def test_a_table_of_numbers_is_read_as_before_and_predicted(folder):
    pd.read_csv(folder / "people.csv")[["age", "wage"]].to_csv(folder / "numbers.csv", index=False)
    words = ["--data", f"{folder}/numbers.csv", "--target", "wage", *QUICK, "--out", f"{folder}/numbers"]
    assert main(["fit", "polynomial_regression", *words]) == 0
    assert zoo.load(folder / "numbers").design is None
    pd.read_csv(folder / "new.csv")[["age"]].to_csv(folder / "ages.csv", index=False)
    for source in ("numbers", "ages"):  # with the response, and without
        assert (
            main(["predict", f"{folder}/numbers", f"{folder}/{source}.csv", "--out", f"{folder}/{source}.out.csv"]) == 0
        )
    found = [pd.read_csv(folder / f"{source}.out.csv") for source in ("numbers", "ages")]
    np.testing.assert_allclose(found[0]["mean"][:9], found[1]["mean"], rtol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["polynomial_regression", "--formula", "wage ~ agee"], "no column 'agee', did you mean 'age'"),
        (["polynomial_regression", "--formula", "wage ~ age", "--target", "wage"], "leave --target out"),
        (["gmm", "--formula", "wage ~ age"], "gmm explains no response"),
        (["naive_bayes_vae", "--formula", "wage ~ age"], "models all columns of a table together"),
        (["polynomial_regression", "--target", "member"], "response is to be a number.* support_vector_machine"),
        (["polynomial_regression", "--formula", "wage ~ age +"], "as in 'y ~ age . town'"),
        (["polynomial_regression", "--target", "wage", "--kind", "age=count"], r"C\(COLUMN\) in a formula"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(folder, capsys, words, said):
    line = fails(capsys, "fit", *words, "--data", f"{folder}/people.csv", "--out", f"{folder}/none")
    assert re.search(said, line)
    assert not (folder / "none").exists()
