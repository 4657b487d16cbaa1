"""Every pair on a matrix of real numbers, of 0 and 1, of counts and of bytes, with its defaults; weights; chains."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import stats
from sklearn.linear_model import LinearRegression

import inference
from inference.estimator import Estimator
from inference.estimator.chained import Levels
from inference.estimator.weights import repeats
from tests.helpers.pairs import NAMES
from zoo.base import registered

RNG = np.random.default_rng(0)
CODES = {"autoencoders"}
KINDS = ("real", "binary", "count", "byte")
LABELS = {"gmm", "naive_bayes"}


def matrix(kind, rows, columns):
    rng = np.random.default_rng(0)
    return {
        "real": rng.random((rows, columns)),
        "binary": rng.integers(0, 2, (rows, columns)),
        "count": rng.poisson(3.0, (rows, columns)),
        "byte": rng.integers(0, 256, (rows, columns)).astype(np.uint8),
    }[kind]


def answers(name, X, **options):
    """All that is asked of an estimator of rows."""
    found = Estimator(name, **options).fit(X)
    predicted = found.predict(X)
    assert predicted.shape == (X.shape if name not in LABELS else X.shape[:1])
    assert np.isfinite(predicted).all()
    new = found.sample(3)
    assert new.shape == (3, X.shape[1])
    assert np.isfinite(new).all()
    if set(np.unique(X)) == {0, 1} and name not in REAL:
        assert set(np.unique(new)) <= {0, 1}
    if registered(name).__module__.split(".")[1] in CODES:
        codes = found.encode(X)
        assert codes.shape == (len(X), min(2, X.shape[1]))
        assert found.decode(codes).shape == X.shape
    return found


REAL = {"gaussian_autoencoder", "linear_autoencoder", "gmm", "autoregressive"}  # know real numbers alone


@pytest.mark.parametrize(("name", "kind"), [(name, KINDS[i % 4]) for i, name in enumerate(NAMES)])
def test_every_pair_answers_to_a_matrix(name, kind):
    answers(name, matrix(kind, 20, 3), steps=2, draws=5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_every_pair_answers_to_a_matrix_with_its_defaults(name, kind):
    answers(name, matrix(kind, 100, 10))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [(name, KINDS[i % 4]) for i, name in enumerate(NAMES)])
def test_every_pair_answers_to_a_matrix_in_double_precision(name, kind):
    answers(name, matrix(kind, 100, 10), double=True)


def test_what_was_chosen_is_said():
    found = Estimator("gaussian_vae", steps=1).fit(matrix("count", 20, 3))
    assert found.suited_ == (
        f"gaussian_vae: features=3, likelihood='binomial', trials={matrix('count', 20, 3).max()}, "
        f"since cells are whole numbers from 0 to {matrix('count', 20, 3).max()}"
    )
    assert Estimator("gmm", steps=1).fit(matrix("real", 20, 3)).suited_ == ""


# --- weights ----------------------------------------------------------------------------------------------------------
def test_a_weight_is_how_often_a_row_was_seen():
    x = RNG.normal(size=(12, 2))
    weight = RNG.integers(0, 4, 12)
    order = RNG.permutation(weight.sum())
    for name in ("gmm", "linear_autoencoder"):
        weighted = Estimator(name, steps=5).fit(x, sample_weight=weight)
        repeated = Estimator(name, steps=5).fit(np.repeat(x, weight, axis=0)[order])
        np.testing.assert_array_equal(weighted.score_samples(x), repeated.score_samples(x))
    assert repeats([2, 0, 1], 3).tolist() == [0, 0, 2]


# --- regressions ------------------------------------------------------------------------------------------------------
def test_the_standard_deviation_of_a_prediction_is_students():
    """A conjugate line with wide priors: the predictive of a new y is Student-t, in closed form."""
    x, y = RNG.normal(size=(40, 1)), RNG.normal(size=40)
    y += 2 * x[:, 0]
    found = Estimator(
        "polynomial_regression", degree=1, double=True, draws=4000, coefficient_scale=1000.0, steps=300
    ).fit(x, y)
    mean, sd = found.predict(x, return_std=True)
    design = np.column_stack([np.ones(40), x])
    line = LinearRegression().fit(x, y)
    leverage = np.einsum("ni,ij,nj->n", design, np.linalg.inv(design.T @ design), design)
    residual = ((y - line.predict(x)) ** 2).sum()
    # v ~ InverseGamma(1/2, 0.01) in units of y adds one observation: 41 degrees of freedom
    df, square = 41, (residual + 0.02 * y.var()) / 41
    wanted = np.sqrt(square * (1 + leverage) * df / (df - 2))
    np.testing.assert_allclose(mean, line.predict(x), atol=0.05)
    np.testing.assert_allclose(sd, wanted, rtol=0.04)  # 4,000 draws: their variance, some four standard errors
    z = (y - mean) / sd
    assert abs(stats.zscore(z)).max() < 4


def test_without_a_response_each_column_is_explained_by_those_before_it():
    z = RNG.normal(size=(60, 3))
    x = np.column_stack([z[:, 0], 2 * z[:, 0] + 0.1 * z[:, 1], np.full(60, 7.0), z[:, 0] - 0.5 * z[:, 1] + 3])
    found = Estimator("polynomial_regression", degree=1, double=True).fit(x)
    mean, sd = found.predict(x, return_std=True)
    np.testing.assert_allclose(mean[:, 0], x[:, 0].mean())
    np.testing.assert_allclose(mean[:, 2], 7.0)
    assert (sd[:, 2] == 0).all()
    np.testing.assert_allclose(mean[:, 1], LinearRegression().fit(x[:, :1], x[:, 1]).predict(x[:, :1]), atol=0.01)
    np.testing.assert_allclose(mean[:, 3], x[:, 3], atol=0.01)  # x_1 and x_2 tell it
    new = found.sample(500)
    error = 4 / np.sqrt(500)
    np.testing.assert_allclose(np.corrcoef(new[:, 0], new[:, 1])[0, 1], np.corrcoef(x[:, 0], x[:, 1])[0, 1], atol=error)
    assert (new[:, 2] == 7).all()
    assert "without y each column" in found.suited_
    line = x[:, :1] @ [[2.0]]
    again = found.fit(x[:, :1], line[:, 0] + 0.1 * z[:, 1])  # and a fit with a response is one again
    assert again.predict(x[:, :1]).shape == (60,)


def test_a_classifier_without_a_response_takes_the_values_or_the_halves_of_a_column():
    column = np.array([0.0, 2.0, 2.0, 5.0, 0.0])
    levels = Levels.of(column)
    assert levels.codes(column).tolist() == [0, 1, 1, 2, 0]
    mean, variance = levels.moments(np.array([[0.5, 0.25, 0.25]]))
    assert (mean[0], variance[0]) == pytest.approx((1.75, 0.25 * 4 + 0.25 * 25 - 1.75**2))
    column = np.arange(10.0)
    halves = Levels.of(column)
    assert halves.codes(column).tolist() == [0] * 5 + [1] * 5
    mean, variance = halves.moments(np.array([[1.0, 0.0], [0.5, 0.5]]))
    assert mean.tolist() == [2.0, 4.5]
    assert variance[1] == pytest.approx(column.var())
    most = Levels.of(np.array([1.0, 2, 3, 4, 5, 9, 9, 9, 9, 9, 9, 9]))  # its median is its largest value
    assert [len(cells) for cells in most.cells] == [5, 7]


def test_categories_that_explain_a_response_are_coded():
    pd, smf = pytest.importorskip("pandas"), pytest.importorskip("statsmodels.formula.api")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"age": rng.normal(40, 10, 90), "town": rng.choice(["Bern", "Oslo", "Rome"], 90)})
    y = 2 + 0.1 * frame.age + 3 * (frame.town == "Rome") + rng.normal(size=90)
    options = {"degree": 1, "interactions": False, "coefficient_scale": 1000.0, "double": True, "draws": 1000}
    found = Estimator("polynomial_regression", **options).fit(frame, y)
    wanted = smf.ols("y ~ age + town", frame.assign(y=y)).fit().fittedvalues
    np.testing.assert_allclose(found.predict(frame), wanted, atol=0.05)  # of 1,000 draws
    assert found.pair_.design.columns == ("age", "town[T.Oslo]", "town[T.Rome]")
    with pytest.raises(ValueError, match="column 'town', row 0: 'Paris' is none of its categories"):
        found.predict(pd.DataFrame({"age": [30.0], "town": ["Paris"]}))
    south = np.where(frame.town == "Rome", "south", "north")
    assert Estimator("support_vector_machine", steps=2).fit(frame, south).score(frame, south) == 1


# --- clusters, states, cells ------------------------------------------------------------------------------------------
def test_classes_are_found_where_none_are_given():
    centre = np.repeat([[0.0, 0.0], [8.0, 8.0]], 30, axis=0)
    x, truth = centre + RNG.normal(size=(60, 2)), np.repeat([0, 1], 30)
    for name in ("naive_bayes", "gmm"):
        found = Estimator(name, steps=2)
        labels = found.fit_predict(x)
        assert max((labels == truth).mean(), (labels != truth).mean()) == 1
        np.testing.assert_array_equal(found.labels_, found.predict(x))
    taught = Estimator("naive_bayes", steps=2).fit(x, np.array(["a", "b"])[truth])
    assert taught.predict(x).tolist() == np.array(["a", "b"])[truth].tolist()
    assert taught.fit(x).predict(x).max() == 1  # numbers again


def test_states_of_sequences():
    truth = np.tile(np.repeat([0, 1], 5), (8, 1))
    found = Estimator("hmm", steps=2)
    states = found.fit_predict(5.0 * truth + RNG.normal(size=truth.shape))
    assert max((states == truth).mean(), (states != truth).mean()) > 0.98
    assert found.states_proba(np.zeros((2, 10))).shape == (2, 10, 2)


def test_rows_of_a_matrix_are_sequences_even_of_one_step():
    x = RNG.normal(size=(9, 1))
    assert Estimator("hmm", steps=2).fit(x).predict(x).shape == (9, 1)
    with pytest.raises(ValueError, match="takes at least"):
        Estimator("autoregressive").fit(x)


def test_a_network_fills_missing_cells():
    z = RNG.normal(size=(200, 2))
    x = np.column_stack([z[:, 0], 2 * z[:, 0] + 0.5 * z[:, 1]])
    found = Estimator("bayesian_network", edges=[("x1", "x2")], double=True, steps=20).fit(x)
    holed = x[:3].copy()
    holed[0, 1] = holed[1, 0] = np.nan
    filled = found.predict(holed)
    line = LinearRegression().fit(x[:, :1], x[:, 1])
    back = LinearRegression().fit(x[:, 1:], x[:, 0])
    assert filled[0, 1] == pytest.approx(line.predict(x[:1, :1])[0], abs=0.03)
    assert filled[1, 0] == pytest.approx(back.predict(x[1:2, 1:])[0], abs=0.03)
    kept = ~np.isnan(holed)
    np.testing.assert_array_equal(filled[kept], holed[kept])


def test_a_network_fills_missing_words():
    pd = pytest.importorskip("pandas")
    towns = np.array(["Oslo", "Rome"])[np.arange(40) % 2]
    frame = pd.DataFrame({"town": towns, "sunny": np.where(np.arange(40) % 2 == 1, "yes", "no")})
    found = Estimator("bayesian_network", edges=[("town", "sunny")], steps=5).fit(frame)
    new = pd.DataFrame({"town": ["Rome", None], "sunny": [None, "no"]})
    assert found.predict(new).to_numpy().tolist() == [["Rome", "yes"], ["Oslo", "no"]]


def test_sampled_sequences_are_as_long_as_the_rows_and_generate_takes_steps():
    pair = inference.pair_for("recurrent", matrix("real", 5, 1), tell=None)
    assert inference.generate(pair, 4, steps=9)["x"].shape == (4, 9, 1)
    with pytest.raises(ValueError, match="steps: gmm has no sequences"):
        inference.generate(inference.pair_for("gmm", matrix("real", 5, 1), tell=None), 4, steps=9)
    with pytest.raises(ValueError, match="steps: autoregressive goes on x"):
        inference.generate(inference.pair_for("autoregressive", matrix("real", 2, 9), inputs=2, tell=None), 1, steps=9)
