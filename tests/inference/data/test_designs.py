"""Frames and formulas at the door: `pair_for` and every regression, against their own function."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import inference
import zoo
from inference.data.accept import designed
from zoo.schema.design import Design

RNG = np.random.default_rng(5)
N = 90
FRAME = pd.DataFrame({"age": RNG.uniform(20, 60, N), "town": RNG.choice(["a", "b", "c"], N)})
FRAME["wage"] = 0.1 * FRAME["age"] + (FRAME["town"] == "b") + RNG.normal(size=N)
FRAME["mood"] = np.where(FRAME["age"] + 5 * RNG.normal(size=N) > 40, "good", np.where(FRAME["age"] < 30, "bad", "so"))
REGRESSIONS = ["polynomial_regression", "decision_tree", "random_forest"]
CLASSIFIERS = ["support_vector_machine", "decision_tree", "random_forest"]


@pytest.mark.parametrize("name", REGRESSIONS)
def test_a_frame_with_a_number_to_explain(name):
    pair = inference.pair_for(name, FRAME[["age", "town", "wage"]], target="wage")
    assert pair.config["features"] == 3
    inference.fit(pair, FRAME, steps=3, progress=False)
    posterior = inference.draw(pair, FRAME, 20)
    table = inference.predictions(pair, posterior, FRAME.drop(columns="wage"))
    assert list(table.columns) == ["mean", "sd", "2.5%", "97.5%", "mean 2.5%", "mean 97.5%"]
    assert list(inference.effects(pair, posterior, FRAME).index)[1:] == [("town", "b - a"), ("town", "c - a")]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_frame_with_a_class_to_explain(name):
    pair = inference.pair_for(name, FRAME, formula="mood ~ age + town")
    inference.fit(pair, FRAME, steps=3, progress=False)
    posterior = inference.draw(pair, FRAME, 20)
    table = inference.predictions(pair, posterior, FRAME)
    assert list(table.columns) == ["class", "bad", "good", "so"]
    assert set(table["class"]) <= {"bad", "good", "so"}
    by_words = inference.log_likelihood(pair, posterior, (FRAME[["age", "town"]], FRAME["mood"]))
    assert torch.equal(by_words, inference.log_likelihood(pair, posterior, FRAME))


def test_coefficients_of_a_linear_machine_are_its_function():
    pair = inference.pair_for("support_vector_machine", FRAME, formula="mood ~ age * town", dtype=torch.float64)
    inference.fit(pair, FRAME, steps=2, progress=False)
    posterior = inference.draw(pair, FRAME, 10)
    table = inference.coefficients(pair, posterior)["estimate"]
    batch = designed(pair.design, FRAME)
    weights, intercept = posterior["weights"].mean((0, 1)), posterior["intercept"].mean((0, 1))
    own = pair.phi(batch) @ weights.mT + intercept  # (N, K)
    for k, name in enumerate(["bad", "good", "so"]):
        line = table.loc[name]
        expected = line["Intercept"] + batch.x.numpy() @ line[list(pair.design.columns)].to_numpy()
        np.testing.assert_allclose(own[:, k], expected, rtol=1e-9)
    curved = zoo.create("support_vector_machine", features=2, kernel="rbf")
    with pytest.raises(ValueError, match="no sum of terms"):
        inference.coefficients(curved, inference.prior(curved, 3, 2))


def test_words_in_a_frame_beside_y_make_a_design():
    pair = inference.pair_for("random_forest", FRAME[["age", "town"]], FRAME["wage"])
    assert pair.design.formula == "wage ~ age + town"
    numbers = inference.pair_for("random_forest", FRAME[["age"]], FRAME["wage"], tell=None)
    assert numbers.design is None


@pytest.mark.parametrize(
    ("name", "data", "words", "said"),
    [
        ("polynomial_regression", FRAME, {"formula": "mood ~ age"}, "column 'mood': the response is to be a number"),
        ("polynomial_regression", FRAME, {"target": "wag"}, "no column 'wag', did you mean 'wage'"),
        ("polynomial_regression", np.eye(4), {"formula": "y ~ x"}, "names columns of a frame; the data are ndarray"),
        ("gmm", FRAME, {"formula": "wage ~ age"}, "formula: gmm takes none"),
        ("random_forest", FRAME, {"target": "mood", "task": "regression"}, "to be a number, and holds"),
    ],
)
def test_designs_are_refused_by_name(name, data, words, said):
    with pytest.raises(ValueError, match=said):
        inference.pair_for(name, data, tell=None, **words)


def test_a_number_is_no_class_of_its_own():
    design = Design.infer(FRAME, "wage ~ age")
    with pytest.raises(ValueError, match="explains a class, and the response 'wage' is a number"):
        zoo.create("support_vector_machine", design=design)


@pytest.mark.filterwarnings("ignore:column 'day' holds dates")
@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("gmm", {}, "gmm takes columns of numbers alone: leave the others out, or take .*naive_bayes_vae"),
        ("polynomial_regression", {}, "explains a response: name it, as target='age', or give a formula"),
        ("polynomial_regression", {"formula": "mood ~ age"}, "holds 'bad'; of classes there are .*random_forest"),
        ("polynomial_regression", {"formula": "wage, age"}, "as in 'y ~ age . town'"),
        ("polynomial_regression", {"formula": "wage ~ day"}, "dates are no covariate: add a column of numbers"),
    ],
)
def test_errors_say_what_to_do(name, words, said):
    frame = FRAME if "day" not in str(words) else FRAME.assign(day=[f"2020-01-{row % 28 + 1:02d}" for row in range(N)])
    with pytest.raises(ValueError, match=said):
        inference.pair_for(name, frame, **words)
