"""Reports of a fit: their terms against Pyro's own estimators and closed forms; loggers; a fit that is cut short."""

from __future__ import annotations

import csv
import math
import sys

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.data.check import check
from inference.fitting.objective import choose
from inference.fitting.watching import terms
from zoo import ModelGuide

QUICK = {"progress": False, "compile": "off"}


class Normals(ModelGuide):
    """x_n ~ Normal(loc, 2), loc ~ Normal(1, 3), and y_n ~ Normal(loc, 1)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.one, 3 * self.one))
        with batch.plate():
            pyro.sample("y", dist.Normal(loc, self.one), obs=batch.y)
            return pyro.sample("x", dist.Normal(loc, 2 * self.one), obs=batch.x)


def normals():
    torch.manual_seed(0)
    pair = Normals().double()
    return pair, zoo.Batch.of(torch.randn(6).double(), torch.randn(6).double())


def autoencoder():
    torch.manual_seed(0)
    return zoo.create("gaussian_vae", features=3, latent=2, hidden=[4], likelihood="gaussian").double()


def test_terms_are_the_closed_forms():
    """Of a normal guide: E log Normal(x; t, s) = log Normal(x; m, s) - v / 2 s^2, and KL(Normal || Normal)."""
    pair, data = normals()
    given = check(pair, data)
    objective = choose(pair, given.batch)
    m = float(pair.auto.centre + pair.auto.unit * pair.auto.loc)
    scale = float(pair.auto.unit * pair.auto.scale)
    likelihood, kl = terms(pair, objective, given.batch, 0, particles=4000)
    for name, sd in (("x", 2.0), ("y", 1.0)):
        each = -0.5 * ((data.fields()[name] - m) / sd) ** 2 - math.log(sd) - 0.5 * math.log(2 * math.pi)
        wanted = float(each.mean()) - scale**2 / (2 * sd**2)
        slope = abs(float((data.fields()[name] - m).mean())) / sd**2
        assert likelihood[name] == pytest.approx(wanted, abs=4 * (slope * scale + scale**2 / sd**2) / 4000**0.5)
    divergence = math.log(3 / scale) + (scale**2 + (m - 1) ** 2) / 18 - 0.5
    error = (1 + abs(m - 1) * scale / 9) / 4000**0.5  # of the mean of log q - log p
    assert kl == {"loc": pytest.approx(divergence / 6, abs=4 * error / 6)}


@pytest.mark.parametrize(
    ("name", "config", "latents"),
    [
        ("gaussian_vae", {"features": 3, "latent": 2, "hidden": [4], "likelihood": "gaussian"}, {"z"}),
        pytest.param("gmm", {"features": 2, "components": 3}, {"globals"}, marks=pytest.mark.slow),
        pytest.param("hmm", {"features": 1, "states": 2}, {"globals"}, marks=pytest.mark.slow),
    ],
)
def test_terms_add_up_to_the_bound_of_pyro(name, config, latents):
    """At many draws, within four standard errors; and the entries are called after the sites."""
    torch.manual_seed(1)
    pair = zoo.create(name, **config).double()
    given = check(pair, pair.simulate(7)[0])
    objective = choose(pair, given.batch)
    likelihood, kl = terms(pair, objective, given.batch, 0, particles=400)
    torch.manual_seed(2)
    estimator = objective.pyro()
    with torch.no_grad():
        losses = torch.tensor([float(estimator.loss(pair.model, pair.guide, given.batch)) for _ in range(200)]) / 7
    error = float(losses.std()) * (1 / 200 + 1 / 400) ** 0.5
    assert sum(kl.values()) - sum(likelihood.values()) == pytest.approx(float(losses.mean()), abs=4 * error)
    assert set(likelihood) == {"x"}
    assert set(kl) == latents


def test_a_fit_that_is_watched_is_the_fit_that_is_not():
    pair = autoencoder()
    data = pair.simulate(20)[0]
    options = {"validation": data, "progress": False, "compile": "graph"}
    alone = inference.fit(pair, data, steps=30, **options)
    watched, told = autoencoder(), []
    found = inference.fit(watched, data, steps=30, loggers=[told.append], log_every=10, **options)
    assert (found.losses == alone.losses).all()
    assert [report.step for report in told] == [1, 10, 20, 30]
    for report in told:
        assert report.loss == alone.losses[report.step - 1]
        assert report.learning_rate == alone.learning_rates[report.step - 1]
        assert 0 < report.seconds <= found.seconds
        assert set(report.likelihood) == {"x"}
        assert set(report.kl) == {"z"}
        assert report.validation is None  # worked out at every hundredth step


def test_the_last_validation_is_told_and_a_logger_may_stop_the_fit():
    pair, data = normals()
    told = []
    found = inference.fit(pair, data, steps=300, validation=data, loggers=[told.append], log_every=150, **QUICK)
    assert [report.validation for report in told] == [None, found.validation[0][1], found.validation[2][1]]
    stopped = inference.fit(pair, data, steps=300, loggers=[lambda report: report.step == 20], log_every=10, **QUICK)
    assert (stopped.steps, stopped.reason) == (20, "stopped by a logger")


def test_a_csv_log(tmp_path):
    pair, data = normals()
    told = []
    log = inference.CSVLogger(tmp_path / "course.csv")
    inference.fit(pair, data, steps=25, loggers=[log, told.append], log_every=10, **QUICK)
    with (tmp_path / "course.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("step", "loss", "validation", "learning_rate", "seconds", "likelihood[y]", "likelihood[x]", "kl[loc]")
    ]
    assert [int(row["step"]) for row in rows] == [1, 10, 20, 25]
    for row, report in zip(rows, told, strict=True):
        assert row["validation"] == ""
        assert float(row["loss"]) == pytest.approx(report.loss, rel=1e-8)
        assert float(row["kl[loc]"]) == pytest.approx(report.kl["loc"], rel=1e-8)
    with pytest.raises(ValueError, match="is there already; replace=True "):
        inference.CSVLogger(tmp_path / "course.csv")
    with pytest.raises(ValueError, match=r"no folder '.*none' to write 'a\.csv' into"):
        inference.CSVLogger(tmp_path / "none" / "a.csv")
    inference.fit(pair, data, steps=1, loggers=[inference.CSVLogger(log.path, replace=True)], **QUICK)
    assert len(log.path.read_text().splitlines()) == 2


def test_a_tensorboard_log(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pair, data = normals()
    told = []
    inference.fit(pair, data, steps=3, loggers=[inference.TensorBoardLogger(tmp_path), told.append], **QUICK)
    read = events.EventAccumulator(str(tmp_path)).Reload()
    assert set(read.Tags()["scalars"]) == {"loss", "learning_rate", "seconds", "likelihood/x", "likelihood/y", "kl/loc"}
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [
        (report.step, pytest.approx(report.loss, rel=1e-6)) for report in told
    ]


def test_tensorboard_is_asked_for_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'pyro-zoo\[tensorboard\]'"):
        inference.TensorBoardLogger(tmp_path)


@pytest.mark.parametrize("options", [{}, {"steps": 10**6}])
def test_a_fit_stops_at_the_step_after_its_time(options, ticking):
    """And its parameters are the mean of those of the last half of the time, not those of the last step."""
    pair, seen = autoencoder(), []
    data = pair.simulate(20)[0]

    def callback(step, loss, pair):
        seen.append(float(next(pair.parameters()).flatten()[0]))

    options = {"lr": 0.5, "schedule": "constant", "average": 0.5, **options}
    found = inference.fit(pair, data, max_seconds=100, callbacks=[callback], max_steps=10**6, **options, **QUICK)
    assert found.reason == "stopped after 101 s"  # the clock ticks whenever it is looked at
    assert len(seen) == found.steps == 50
    left = float(next(pair.parameters()).flatten()[0])
    means = [sum(seen[begin:]) / len(seen[begin:]) for begin in range(1, len(seen))]
    assert min(abs(mean - left) for mean in means[22:27]) < 1e-12
    assert left != seen[-1]


def test_a_fit_without_time_takes_one_step():
    pair = autoencoder()
    assert inference.fit(pair, pair.simulate(20)[0], steps=50, max_seconds=1e-9, **QUICK).steps == 1
