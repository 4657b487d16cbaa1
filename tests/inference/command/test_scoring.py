"""Scores are of what was fitted: all rows in k̂, a random sample of them one by one, and the time is kept to."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from scipy import stats

import inference
import zoo
from inference.command.main import main
from inference.command.scoring import Watch, score
from inference.data.check import check
from inference.posterior import likelihood
from tests.helpers.command import FEW
from tests.helpers.pairs import Normal
from zoo.settings import settings


def quiet(done, of):
    pass


@pytest.fixture(scope="module")
def exact():
    """x_n ~ Normal(loc, 1), loc ~ Normal(0, 2): 3,000 rows, and the posterior in closed form for a guide."""
    x = torch.randn(3000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 1
    pair = Normal(guide="laplace").double()
    inference.fit(pair, x, steps=30, progress=False)
    return pair, x


def test_the_scale_is_that_of_all_rows_where_some_are_scored(exact):
    pair, x = exact
    with settings.using(summary_rows=200):
        found = score(check(pair, x), 150, seed=3, progress=quiet)
    # An exact guide: log p(x, loc) - log q(loc) is the log evidence at each draw, of all 3,000 rows.
    n, total, square = len(x), float(x.sum()), float((x**2).sum())
    evidence = -0.5 * (n * math.log(2 * math.pi) + math.log(1 + 4 * n) + square - total**2 / (n + 1 / 4))
    ratio = found.posterior.stats["log_p"] - found.posterior.stats["log_q"]
    np.testing.assert_allclose(ratio, evidence, rtol=1e-9)
    assert found.some.batch.total == 3000
    rows = found.rows.numpy()
    assert len(rows) == 200
    assert (np.diff(rows) > 0).all()
    assert stats.kstest(rows / 3000, "uniform").pvalue > 0.001  # not the first ones
    assert any("200 of 3000 observations, taken at random" in note for note in found.notes)
    wanted = stats.norm.logpdf(x.numpy()[rows], found.posterior["loc"].numpy()[0][:, None], 1.0)
    np.testing.assert_allclose(found.scores[0], wanted, rtol=1e-9)


def test_a_guide_is_judged_as_python_judges_it():
    data = zoo.datasets.load("faithful")
    pair = zoo.create("gmm", guide="multivariate").double()
    inference.fit(pair, data, steps=100, progress=False)
    with settings.using(summary_rows=40):
        found = score(check(pair, data), 300, progress=quiet)
    assert found.believed.globals == inference.khat(pair, data, 300).globals
    whole = inference.log_likelihood(pair, inference.draw(pair, data, 300), data)
    torch.testing.assert_close(found.scores, whole[..., found.rows])


def slowed(monkeypatch, each):
    """Scoring a row takes so many seconds on a clock that moves only then."""
    now, real = [0.0], likelihood.scores
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def scores(given, *args, **options):
        now[0] += each * given.size
        return real(given, *args, **options)

    monkeypatch.setattr(likelihood, "scores", scores)
    return now


@pytest.mark.parametrize("seconds", [10.0, 100.0, 10_000.0])
def test_the_time_bounds_the_rows(seconds, exact, monkeypatch):
    pair, x = exact
    now = slowed(monkeypatch, each=0.2)
    found = score(check(pair, x[:1000]), 120, seconds, progress=quiet)
    assert now[0] <= seconds
    if seconds < 1000:
        assert 0.5 * 0.75 * seconds < 0.2 * len(found.rows) < seconds  # and is used
        assert len(found.rows.unique()) == len(found.rows)
        assert any(f"{len(found.rows)} of 1000 observations" in note for note in found.notes)
    else:
        assert len(found.rows) == 1000
        assert not found.notes
    wanted = stats.norm.logpdf(x.numpy()[found.rows], found.posterior["loc"].numpy()[0][:, None], 1.0)
    np.testing.assert_allclose(found.scores[0], wanted, rtol=1e-9)


def test_a_row_that_takes_long_is_scored_under_fewer_draws(exact, monkeypatch):
    pair, x = exact
    slowed(monkeypatch, each=30.0)
    found = score(check(pair, x[:100]), 200, 100.0, progress=quiet)
    assert found.posterior.size < 200
    assert found.scores.shape == (1, found.posterior.size, len(found.rows))
    assert any(f"{found.posterior.size} of 200 draws" in note for note in found.notes)


def test_a_watch_without_an_end_has_all_the_time():
    assert Watch(None).left(0.1) == math.inf
    assert 0 < Watch(10).left(0.4) <= 4


@pytest.mark.usefixtures("blank")
def test_the_command_says_which_rows_it_scored(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(300, 2))
    np.save(tmp_path / "x.npy", x)
    with settings.using(summary_rows=60):
        assert main(["fit", "gmm", "--data", "x.npy", *FEW, "--out", "run"]) == 0
    printed = capsys.readouterr().out
    assert "scores of single rows are those of 60 of 300 observations, taken at random" in printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["observations"], metrics["observations_scored"]) == (300, 60)
