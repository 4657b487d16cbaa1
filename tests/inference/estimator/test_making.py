"""The scikit-learn face: scikit-learn's own checks, a Pipeline, a grid search, and numbers that are known."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from inference.estimator import Estimator, estimator_class
from tests.helpers.pairs import NAMES

QUICK = {"steps": 40, "double": True, "draws": 10}


FAST = {"linear_autoencoder"}


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_scikit_learns_own_checks(name):
    options = dict(QUICK)
    if issubclass(estimator_class(name), (_regressor(), _classifier())):
        options["steps"] = 300  # they check that something has been learnt
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_estimator(Estimator(name, **options))


METHODS = "predict", "predict_proba", "score", "score_samples", "transform", "inverse_transform", "encode", "decode"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_answered_before_a_fit(name):
    estimator = Estimator(name)
    offered = [method for method in METHODS if hasattr(estimator, method)]
    assert "predict" in offered or "score" in offered
    for method in offered:
        y = (np.zeros(2),) if method == "score" and isinstance(estimator, (_regressor(), _classifier())) else ()
        with pytest.raises(NotFittedError):
            getattr(estimator, method)(np.zeros((2, 2)), *y)
    with pytest.raises(NotFittedError):
        estimator.sample(2)


def _regressor():
    from sklearn.base import RegressorMixin

    return RegressorMixin


def _classifier():
    from sklearn.base import ClassifierMixin

    return ClassifierMixin


@pytest.mark.slow
def test_a_linear_code_in_a_pipeline_does_as_well_as_pca():
    x = load_wine().data
    pipeline = make_pipeline(StandardScaler(), Estimator("gaussian_autoencoder", latent=3, double=True))
    codes = pipeline.fit_transform(x)
    scaled = pipeline[0].transform(x)
    pca = PCA(3).fit(scaled)
    mine = ((scaled - pipeline[1].predict(scaled)) ** 2).mean()
    best = ((scaled - pca.inverse_transform(pca.transform(scaled))) ** 2).mean()
    assert codes.shape == (178, 3)
    assert best <= mine < 1.1 * best  # a posterior mean shrinks towards the middle
    assert pipeline.score(x) == pytest.approx(pca.score(scaled), rel=5e-3)  # log density of probabilistic PCA
    np.testing.assert_allclose(pipeline[1].decode(codes), pipeline[1].predict(scaled), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
def test_grid_search_finds_the_number_of_components():
    x = load_iris().data
    folds = KFold(3, shuffle=True, random_state=0)  # the rows come species by species
    search = GridSearchCV(Estimator("gmm", steps=150, draws=20), {"components": [1, 3]}, cv=folds).fit(x)
    assert search.best_params_ == {"components": 3}
    assert search.best_estimator_.predict_proba(x).sum(1) == pytest.approx(1.0, abs=1e-4)
    assert set(search.predict(x)) <= {0, 1, 2}


def test_regression_agrees_with_least_squares():
    x, y = load_diabetes(return_X_y=True)
    x = x[:, :3]
    mine = Estimator("polynomial_regression", degree=1, double=True, steps=500).fit(x, y)
    assert mine.score(x, y) == pytest.approx(LinearRegression().fit(x, y).score(x, y), abs=2e-3)
    assert mine.log_density(x, y).shape == y.shape


@pytest.mark.parametrize("model", ["support_vector_machine", "random_forest"])
def test_a_classifier_gives_probabilities_of_its_own_labels(model):
    x, y = load_wine(return_X_y=True)
    names = np.array(["barolo", "grignolino", "barbera"])[y]
    train = np.arange(len(y)) % 3 > 0
    options = {"steps": 150} | ({"task": "classification"} if model == "random_forest" else {})
    found = Estimator(model, **options).fit(x[train], names[train])
    assert set(found.classes_) == set(names)
    assert found.predict_proba(x[~train]).sum(1) == pytest.approx(1)
    assert found.score(x[~train], names[~train]) > 0.9
    assert (pickle.loads(pickle.dumps(found)).predict(x) == found.predict(x)).all()
    assert clone(found).get_params() == found.get_params()


def test_parameters_are_known_by_name_clone_and_survive_pickling():
    estimator = Estimator("gaussian_autoencoder", latent=2, steps=20, double=True)
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator.set_params(latent=3).get_params()["latent"] == 3
    x = load_iris().data
    fitted = estimator.fit(x)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.transform(x), fitted.transform(x))
    assert fitted.n_features_in_ == 4
    assert list(fitted.get_feature_names_out()) == ["z0", "z1", "z2"]
    assert fitted.sample(5).shape == (5, 4)
    assert "latent=3" in repr(fitted)


def test_a_frame_of_mixed_columns_goes_in_as_it_is():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=60), "colour": rng.choice(["red", "blue", "green"], 60)})
    frame.loc[3, "colour"] = None
    codes = Estimator("naive_bayes_vae", latent=1, steps=20).fit(frame).transform(frame)
    assert codes.shape == (60, 1)
    assert np.isfinite(codes).all()


def test_a_frame_of_numbers_is_a_matrix():
    pd = pytest.importorskip("pandas")
    x, y = load_iris(return_X_y=True)
    whole = x.round()  # levels of a scale, by themselves
    matrix = Estimator("naive_bayes", steps=20).fit(whole, y)
    frame = pd.DataFrame(whole.astype(int), columns=list("abcd"))
    framed = Estimator("naive_bayes", steps=20).fit(frame, y)
    np.testing.assert_allclose(framed.predict_proba(frame), matrix.predict_proba(whole), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Estimator("gaussian_vea"), "did you mean 'gaussian_vae'"),
        (lambda: Estimator("gaussian_vae", latents=3), "no argument 'latents', did you mean 'latent'"),
        (lambda: Estimator("naive_bayes").fit(np.eye(4), np.ones(4)), "one class"),
        (lambda: Estimator("gmm").fit(np.array([[1.0, np.nan]])), "NaN"),
        (lambda: Estimator("polynomial_regression").fit(np.eye(4)[:, :1]), r"y to be passed.* 1 feature\(s\)"),
        (lambda: Estimator("polynomial_regression").fit(np.ones((4, 3))), "fewer than two columns of X vary"),
        (lambda: Estimator("gmm").fit(np.eye(4), sample_weight=[1, 2, 0.5, 1]), "sample_weight, row 2: .*got 0.5; mul"),
        (lambda: Estimator("gmm").fit(np.eye(4), sample_weight=[1, -2, 1, 1]), "row 1: .*got -2"),
        (lambda: Estimator("gmm").fit(np.eye(4), sample_weight=np.zeros(4)), "zero in every row"),
        (lambda: Estimator("gmm").fit(np.eye(4), sample_weight=[1, 2]), r"expected \(4,\)"),
    ],
    ids=["model", "argument", "one-class", "nan", "one-column", "constants", "part", "negative", "zero", "few"],
)
def test_what_cannot_be_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_an_argument_that_would_hide_a_method_has_another_name():
    x = np.exp(np.random.default_rng(0).normal(size=(20, 6)))
    found = Estimator("autoregressive", transformation="log").fit(x)
    assert found.pair_.config["transform"] == "log"
    assert not hasattr(found, "transform")
    assert clone(found).get_params()["transformation"] == "log"
