"""The Gaussian road for many rows: begun on some of them, held against closed forms for all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.data.check import check
from inference.roads import infer as roads
from inference.roads import streaming
from inference.roads.streaming import Streamed, some_of
from inference.running.quiet import quietly
from inference.sampling.potential import Potential

ROWS = 5000


def line(rows, guide=None):
    """A polynomial, whose posterior and evidence have a closed form, and data."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 2))
    y = 1 + 2 * X[:, 0] - X[:, 1] + 0.5 * X[:, 0] ** 2 + 0.7 * rng.normal(size=rows)
    more = {} if guide is None else {"guide": guide}
    return zoo.create("polynomial_regression", features=2, degree=2, **more).double(), (X, y)


def blobs(rows, seed=0):
    rng = np.random.default_rng(seed)
    which = rng.choice(2, size=rows, p=[0.6, 0.4])
    return np.array([[0.0, 0], [4, 1]])[which] + rng.normal(size=(rows, 2)) * np.array([[1, 0.5], [0.7, 0.7]])[which]


@pytest.fixture
def few(monkeypatch):
    """The road for many rows, for a quick test taken for 5,000."""
    monkeypatch.setattr(streaming, "SOME", 500)
    monkeypatch.setattr(streaming, "EACH", 10)


@pytest.mark.parametrize("name", ["gmm", "polynomial_regression"])
def test_pieces_add_up_to_the_density_of_all_rows(name):
    """With its gradient, prior and Jacobian counted once, where the last piece is shorter than the others."""
    if name == "gmm":
        pair, data = zoo.create("gmm", features=2, components=2).double(), blobs(300)
    else:
        pair, data = line(300)
    given = check(pair, data)
    pair.measure(given.batch)
    with quietly(0, pair):
        whole = Potential(given)
        points = whole.prior(3)
        with zoo.settings.using(memory=3 * given.width * 77):  # numbers: pieces of 77 rows
            apart = Streamed(given)
            assert sum(1 for _ in given.rows(draws=3)) == 4
            assert torch.allclose(apart.log_density(points), whole.log_density(points), rtol=1e-12)
            for one, other in zip(apart.value_and_gradient(points), whole.value_and_gradient(points), strict=True):
                assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_of_many_rows_it_comes_to_the_closed_form(few, monkeypatch):
    pair, data = line(ROWS)
    exact = inference.infer(pair, data, progress=False)
    assert exact.road == "exact"
    monkeypatch.setattr(roads, "_exact", lambda *args: None)
    pair, data = line(ROWS, "multivariate")
    found = inference.infer(pair, data, draws=2000, progress=False)
    assert (found.road, found.trusted) == ("Gaussian", True)
    assert found.log_evidence == pytest.approx(exact.log_evidence, abs=4 * found.error + 1e-6)
    for name in ("coefficients", "variance"):
        mean, wide = exact[name][0].mean(0), exact[name][0].std(0)
        assert ((found[name][0].mean(0) - mean).abs() < 4 * wide * (1 / 1000 + 1 / 1000) ** 0.5).all()
        assert (found[name][0].std(0) / wide - 1).abs().max() < 4 * (1 / 1000) ** 0.5


def test_the_guide_is_left_there_and_what_is_kept_is_as_of_all_rows(few):
    pair = zoo.create("gmm", features=2, components=2, guide="multivariate").double()
    data = blobs(ROWS)
    found = inference.infer(pair, data, progress=False)
    assert (found.road, found.trusted) == ("Gaussian", True)
    assert inference.khat(pair, data, 200).share > 0.9
    order = found["weights"][0].mean(0).argsort(descending=True)
    error = 4 * np.sqrt(0.24 / ROWS)  # of a share, where every row told its component
    assert found["weights"][0].mean(0)[order].numpy() == pytest.approx([0.6, 0.4], abs=1.5 * error)
    assert found["weights"][0].std(0).max() < 0.5 * error


def test_the_same_seed_gives_the_same_bits(few):
    runs = [inference.infer(zoo.create("gmm", features=1, components=1).double(), blobs(ROWS)[:, :1], progress=False)
            for _ in range(2)]  # fmt: skip
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0].draws)


def test_a_budget_ends_it_and_it_says_where(few):
    pair = zoo.create("gmm", features=1, components=1).double()
    found = inference.infer(pair, blobs(ROWS)[:, :1], budget=1e-3, progress=False)
    assert not found.trusted
    assert "the budget ended the Gaussian road" in found.advice.replace("The budget", "the budget")
    assert found.road == "Gaussian"


def test_few_rows_are_all_read():
    given = check(*line(streaming.WORTH * streaming.SOME - 1))
    assert some_of(given, 7, 0) is None
    part = some_of(check(*line(streaming.WORTH * streaming.SOME)), 7, 0)
    assert part.batch.size == part.batch.total == streaming.SOME


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["gmm", "naive_bayes", "polynomial_regression"])
def test_200_000_rows_take_two_minutes_at_most_and_the_memory_of_a_piece(name):
    """Against what made them: of 200,000 rows an answer lies within four of its deviations."""
    rows, rng = 200_000, np.random.default_rng(1)
    if name == "polynomial_regression":
        X = rng.normal(size=(rows, 1))
        pair = zoo.create(name, features=1, degree=1, noise="student_t").double()
        data = X, 1 + 2 * X[:, 0] + 0.7 * rng.standard_t(4, size=rows)
    elif name == "gmm":
        pair, data = zoo.create(name, features=2, components=2).double(), blobs(rows, 1)
    else:
        which = rng.random(rows) < 0.4
        chances = np.where(which[:, None], [0.8, 0.7, 0.9, 0.6, 0.75], 0.2)
        pair = zoo.create(name, columns=["binary"] * 5, target=2).double()
        data = (rng.random((rows, 5)) < chances).astype(float)
    found = inference.infer(pair, data, progress=False)
    assert found.trusted
    assert found.cpu < 150
    if name == "polynomial_regression":
        ends = inference.predict(pair, found, zoo.Batch.of(np.array([[-1.0], [1.0]]), np.zeros(2)))["y"][0]
        assert float((ends[:, 1] - ends[:, 0]).median()) == pytest.approx(4.0, abs=0.2)
        return
    share = found["weights"][0].sort(-1).values[:, 0]
    assert abs(float(share.mean()) - 0.4) < 4 * float(share.std())
    assert float(share.std()) < 0.01
