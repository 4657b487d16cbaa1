"""Labels of naive_bayes: known, hidden or some of each; classes against scikit-learn and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.naive_bayes import CategoricalNB, GaussianNB
from sklearn.preprocessing import KBinsDiscretizer

import inference
import zoo
from inference.data.check import as_batch
from inference.fitting.objective import choose
from inference.fitting.step import Stepper
from tests.helpers.classes import (
    COLUMNS,
    ILL,
    LOCS,
    MEANS,
    MIXED,
    PROBS,
    QUICK,
    batch_of,
    frame,
    made,
    simulated,
    started,
)
from zoo.parts.tables.labels import Revealed
from zoo.schema.column import Column


def test_a_row_far_from_its_known_class_keeps_its_density_and_gradient():
    """Enumeration rescales factors one by one: without `Row.possible` this row's own class would underflow."""
    x = np.random.default_rng(0).normal(size=(40, 2))
    y = np.arange(40) % 2.0
    x += 40 * y[:, None]
    y[0] = 1.0
    y[2:10] = np.nan  # and hidden labels beside
    narrow = {"loc_count": 1e-3, "variance_concentration": 1e4, "variance_rate": 25.0}  # a deviation of about 1
    for dtype in (torch.float32, torch.float64):
        pair = started(made(["real", "real"], dtype=dtype, **narrow), x, y)
        batch = as_batch(pair, batch_of(x, y))
        posterior = inference.draw(pair, batch, 3)
        scores = inference.log_likelihood(pair, posterior, batch)[0, :, 0]
        own = posterior["weights"][0, :, 1].log()
        loc, scale = posterior["loc"][0, :, 1], posterior["variance"][0, :, 1].sqrt()
        own = own + torch.distributions.Normal(loc, scale).log_prob(batch.x[0]).sum(-1)
        torch.testing.assert_close(scores, own, rtol=1e-4, atol=0)
        assert float(own.max()) < -200
        objective, one = choose(pair, batch), torch.ones((), dtype=dtype)
        for mode in ("graph", "off"):
            loss, gradients = Stepper(pair, objective, mode, fallback=False)(batch, one)
            assert torch.isfinite(loss)
            assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_gaussian_classifier_equals_scikit_learn_on_iris():
    x, y = load_iris(return_X_y=True)
    weak = {"loc_count": 1e-3, "variance_concentration": 1e-3, "variance_rate": 1e-6}
    for config in (weak, {}):
        pair = started(made(["real"] * 4, 3, **config), x, y.astype(float))
        posterior = inference.draw(pair, batch_of(x, y.astype(float)), 200)
        found = inference.assignments(pair, posterior, x)["label"].argmax(-1).numpy()
        wanted = GaussianNB().fit(x, y).predict(x)
        assert (found == y).mean() == (wanted == y).mean() == 0.96
        assert (found == wanted).all() or config == {}


def test_categorical_classifier_equals_scikit_learn_on_binned_breast_cancer():
    raw, y = load_breast_cancer(return_X_y=True)
    x = KBinsDiscretizer(4, encode="ordinal", strategy="quantile", quantile_method="averaged_inverted_cdf")
    x = x.fit_transform(raw)[:, :12]
    known = CategoricalNB(alpha=0.5, min_categories=4).fit(x, y)
    columns = [(f"x{i}", "ordinal", (0, 1, 2, 3)) for i in range(12)]
    pair = started(made(columns, 2, category_concentration=0.5, class_concentration=1e-4), x, y.astype(float))
    with torch.no_grad():
        found = pair.factors["probs_4"]().point
        shares = pair.factors["weights"]().point
    # Smoothing by alpha is the posterior mean under a Dirichlet(alpha) prior.
    np.testing.assert_allclose(found.transpose(0, 1), np.exp(known.feature_log_prob_), rtol=1e-9)
    np.testing.assert_allclose(shares, np.exp(known.class_log_prior_), rtol=1e-5)
    # The posterior predictive p(x, y) is E[w] prod_d E[p_d], again in closed form.
    posterior = inference.draw(pair, batch_of(x, y.astype(float)), 500)
    x, y = x[::2], y[::2]
    scores = []
    for k in (0, 1):
        terms = inference.log_likelihood(pair, posterior, batch_of(x, np.full(len(x), float(k))))[0]  # (S, N)
        weight = (terms - terms.amax(0)).exp()
        error = weight.std(0) / weight.mean(0) / np.sqrt(500)
        scores.append(terms.logsumexp(0) - np.log(500))
        wanted = torch.from_numpy(known.predict_joint_log_proba(x)[:, k])
        wrong = (scores[-1] - wanted).abs() > 4 * error + 1e-4
        assert wrong.double().mean() < 0.01  # means of skewed terms: a few of 285 may stray
    labels = torch.stack(scores).argmax(0).numpy()
    assert (labels == y).mean() == (known.predict(x) == y).mean()
    assert (labels == known.predict(x)).all()
    # p(y | x, draw) averaged over draws is nearly the same.
    averaged = inference.assignments(pair, posterior, x)["label"].argmax(-1).numpy()
    assert (averaged == labels).mean() > 0.99


def accuracy(labels, y):
    """The share of equal labels after the best renaming."""
    table = np.zeros((3, 3))
    np.add.at(table, (labels, y), 1)
    return table[linear_sum_assignment(-table)].sum() / len(y)


@pytest.mark.slow
def test_latent_class_analysis_recovers_the_classes():
    x, y, joint = simulated(500, 0)
    pair = made(MIXED, 3)
    torch.manual_seed(0)
    inference.fit(pair, x, steps=100, compile="off", **QUICK)
    posterior = inference.draw(pair, x, 200)
    labels = inference.assignments(pair, posterior, x)["label"].argmax(-1).numpy()
    best = (joint.argmax(1) == y).mean()
    assert best > 0.95
    assert accuracy(labels, y) > best - 4 * np.sqrt(best * (1 - best) / len(y))
    weights = posterior["weights"][0]
    assert (weights.mean(0).diff() < 0).all()  # the largest class first, as simulated
    for site, wanted in (("weights", [0.5, 0.3, 0.2]), ("mean", MEANS), ("loc", LOCS)):
        draws = posterior[site][0].flatten(1)
        assert ((draws.mean(0) - torch.tensor(wanted)).abs() < 4 * draws.std(0)).all(), site
    pulled = posterior["probs_2"][0, ..., 1]
    assert ((pulled.mean(0) - torch.tensor(PROBS)).abs() < 4 * pulled.std(0)).all()


@pytest.mark.slow
def test_hidden_rows_help_the_few_that_have_a_label():
    scores = []
    for seed in range(6):
        x, y, _ = simulated(300, 100 + seed)
        labelled = np.concatenate([np.flatnonzero(y == k)[:2] for k in range(3)])
        partly = np.full(len(y), np.nan)
        partly[labelled] = y[labelled]
        rest = np.setdiff1d(np.arange(len(y)), labelled)
        score = []
        for rows in (labelled, np.arange(len(y))):
            pair = started(made(MIXED, 3), x[rows], partly[rows], seed)
            posterior = inference.draw(pair, batch_of(x[rows], partly[rows]), 50)
            labels = inference.assignments(pair, posterior, x[rest])["label"].argmax(-1).numpy()
            score.append((labels == y[rest]).mean())
        scores.append(score)
    gain = np.diff(scores)[:, 0]
    assert gain.mean() > 4 * gain.std(ddof=1) / np.sqrt(len(gain))
    assert np.mean(scores, axis=0)[1] > 0.95


def test_known_labels_keep_their_names_when_others_are_hidden():
    """A class of which no row is labelled takes the rows that no labelled class explains."""
    x, y, _ = simulated(400, 3)
    partly = np.where((y < 2) & (np.arange(400) % 10 == 0), y, np.nan)
    pair = started(made(MIXED, 3), x, partly)
    posterior = inference.draw(pair, batch_of(x, partly), 50)
    labels = inference.assignments(pair, posterior, x)["label"].argmax(-1).numpy()
    assert (labels == y).mean() > 0.95


def test_a_frame_is_classified_in_its_own_names(tmp_path):
    pair = zoo.create("naive_bayes", columns=COLUMNS, target=ILL)
    inference.fit(pair, frame(), steps=3, compile="off", **QUICK)
    loaded = zoo.load(pair.save(tmp_path / "run"))
    assert str(loaded.schema) == str(pair.schema)
    assert loaded.target == pair.target
    posterior = inference.draw(loaded, frame(), 100)
    known = inference.assignments(loaded, posterior, frame())["label"]
    assert known[:4].tolist() == [[0, 1], [1, 0], [1, 0], [0, 1]]
    hidden = inference.assignments(loaded, posterior, frame().drop(columns="ill"))["label"]
    torch.testing.assert_close(hidden[4], known[4])
    assert hidden.argmax(-1)[[0, 2, 3]].tolist() == [1, 0, 1]


def test_one_class_beside_hidden_labels_is_not_refused():
    pair = zoo.create("naive_bayes", columns=COLUMNS, target=ILL)
    some = frame().assign(ill=["sick", None, None, None, None, "sick"])
    assert inference.fit(pair, some, steps=2, compile="off", **QUICK).steps == 2


def test_codes_of_no_class_and_targets_that_are_none_are_refused():
    pair = zoo.create("naive_bayes", columns=["real"], target=3)
    with pytest.raises(ValueError, match="'y', row 1: expected a code from 0 to 2, or NaN where hidden, got 5"):
        inference.fit(pair, batch_of(np.zeros((3, 1)), np.array([0.0, 5.0, 1.0])), steps=1, **QUICK)
    with pytest.raises(ValueError, match="target 'y': expected a column of categories, got a real one"):
        zoo.create("naive_bayes", columns=["real"], target=("y", "real"))
    with pytest.raises(ValueError, match="target 'x1' is one of the columns"):
        zoo.create("naive_bayes", columns=["real"], target=("x1", "binary"))


def test_a_label_is_revealed_or_hidden():
    label = torch.tensor([0, 2, 1])
    fn = Revealed(label, Column.of(3), torch.float64)
    value = torch.tensor([0.0, 1.0, torch.nan], dtype=torch.float64)
    assert fn.log_prob(value).tolist() == [0.0, -torch.inf, 0.0]
    assert fn.expand((2, 3)).log_prob(value).shape == (2, 3)
    assert torch.equal(fn.sample((4,)), label.double().expand(4, 3))
    assert fn.support.check(torch.tensor([0.0, 2.0, torch.nan, 3.0, -1.0, 0.5])).tolist() == [True] * 3 + [False] * 3
