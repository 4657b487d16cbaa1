"""`guide="auto"`: which family is taken, what is said of it, and what is left when a fit fails."""

from __future__ import annotations

import math
import sys

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import inference
import zoo
from inference.fitting.picking import by_size
from zoo import guides
from zoo.base import Batch, ModelGuide

QUICK = {"progress": False, "compile": "graph"}
WIDTH = 0.3  # of the banana
VARIANCE = (math.sqrt(1 + 16 / WIDTH**2) - 1) * WIDTH**2 / 8  # of the best Gaussian, along it
BEST = 0.5 * math.log(VARIANCE) + 0.5 - VARIANCE / 2 - (VARIANCE / WIDTH) ** 2  # its bound


@zoo.register("test_normals")
class Normals(ModelGuide):
    """D normals of unknown means."""

    dims = {"mean": ("feature",), "x": ("feature",)}  # noqa: RUF012

    def __init__(self, features: int = 2, guide: guides.Family = "auto") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(features))

    def model(self, batch: Batch) -> torch.Tensor:
        mean = pyro.sample("mean", dist.Normal(self.zero, 3.0).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(mean, 1.0).to_event(1), obs=batch.x)


@zoo.register("test_bent")
class Bent(ModelGuide):
    """A banana around one observation, whose log evidence is that of a normal."""

    def __init__(self, guide: guides.Family = "auto") -> None:
        super().__init__(guide)
        self.register_buffer("one", torch.ones(()))

    def model(self, batch: Batch) -> torch.Tensor:
        a = pyro.sample("a", dist.Normal(0.0 * self.one, 1.0))
        pyro.sample("b", dist.Normal(a.square(), WIDTH))
        with batch.plate():
            return pyro.sample("x", dist.Normal(0.0 * self.one, 1.0), obs=batch.x)


def banana():
    """The same as a program, of evidence 1."""
    a = pyro.sample("a", dist.Normal(0.0, 1.0))
    pyro.sample("b", dist.Normal(a.square(), WIDTH))


def test_families_by_size():
    assert [by_size(n) for n in (1, 100, 101, 1000, 1001)] == ["multivariate"] * 2 + ["lowrank"] * 2 + ["normal"]


def test_a_gaussian_posterior_gets_a_gaussian(tmp_path):
    """Exact, by the evidence of the conjugate normal; saved and loaded as what it has become."""
    torch.manual_seed(0)
    pair = Normals().double()
    x = torch.randn(30, 2, dtype=torch.float64)
    told = inference.fit(pair, x, **QUICK)
    assert told.guide == "multivariate: 2 numbers, effective share of its weights 100.0%"
    assert told.guide in repr(told)
    assert pair.card["fit"]["guide"] == told.guide
    assert pair.config["guide"] == pair.guide_family == "multivariate"
    covariance = np.eye(30) + 9
    evidence = sum(scipy.stats.multivariate_normal(np.zeros(30), covariance).logpdf(x[:, k].numpy()) for k in range(2))
    found = inference.draw(pair, x, draws=500)
    np.testing.assert_allclose((found.stats["log_p"] - found.stats["log_q"]).numpy(), evidence, atol=1e-2)
    again = zoo.load(pair.save(tmp_path))
    assert again.guide_family == "multivariate"
    other = inference.draw(again, x, draws=500)
    assert torch.equal(found["mean"], other["mean"])
    assert inference.fit(pair, x, **QUICK).guide == ""  # it is of that family by now


def test_a_bent_posterior_gets_a_flow(tmp_path):
    """The bound passes that of every Gaussian, in closed form (`test_flow`)."""
    pair = Bent().double()
    told = inference.fit(pair, torch.zeros(1, dtype=torch.float64), steps=150, **QUICK)
    assert told.guide.startswith("flow: 2 numbers, effective share of its weights ")
    assert told.steps == len(told.losses) == len(told.learning_rates) == 300
    assert pair.guide_family == "flow"
    assert pair.card["fit"]["steps"] == 300
    x = torch.zeros(1, dtype=torch.float64)
    again = zoo.load(pair.save(tmp_path))
    assert again.guide_family == "flow"
    found = inference.draw(again, x, draws=2000)
    ratios = found.stats["log_p"] - found.stats["log_q"] - scipy.stats.norm.logpdf(0.0)
    assert BEST + 4 * float(ratios.std()) / 2000**0.5 < float(ratios.mean())
    assert inference.khat(pair, x).share > 0.3


def test_the_same_seed_takes_the_same_family_with_the_same_bits():
    pairs = [Bent().double() for _ in range(2)]
    told = [inference.fit(pair, torch.zeros(1, dtype=torch.float64), steps=20, seed=5, **QUICK) for pair in pairs]
    assert told[0].guide == told[1].guide
    for name, value in pairs[0].state_dict().items():
        assert torch.equal(value, pairs[1].state_dict()[name]), name


def test_a_pair_for_data_keeps_it():
    """There "auto" stands for what is read off the data, and an argument `guide` has a choice of that name."""
    x = np.random.default_rng(0).normal(size=(30, 2))
    assert inference.pair_for("gmm", x, guide="auto", components="auto").guide_family == "auto"
    assert inference.pair_for("gmm", x).guide_family == "normal"


def test_of_a_program(double):
    program = zoo.program(banana, guide="auto")
    told = inference.fit(program, steps=150, **QUICK)
    assert told.guide.startswith("flow: 2 numbers")
    found = inference.draw(program, draws=2000)
    ratios = found.stats["log_p"] - found.stats["log_q"]
    assert BEST + 4 * float(ratios.std()) / 2000**0.5 < float(ratios.mean())
    more = inference.fit(program, steps=2, **QUICK)  # goes on with the flow
    assert more.guide == ""
    assert program.fitted.pair.guide_family == "flow"


@pytest.mark.parametrize(("features", "family"), [(41, "multivariate"), (120, "lowrank"), (1001, "normal")])
def test_many_numbers(features, family):
    torch.manual_seed(0)
    pair = Normals(features)
    told = inference.fit(pair, torch.randn(20, features), steps=2, progress=False)
    assert told.guide.startswith(f"{family}: {features:,} numbers")
    assert pair.guide_family == family
    assert told.guide.endswith("a flow is for at most 40") == ("and" in told.guide)


def test_a_fit_that_fails_leaves_it_auto():
    pair = Normals()
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    x = torch.randn(10, 2)

    def breaks(*_):
        raise RuntimeError("stop")

    for error, options in (
        (ValueError, {"data": x[:, :1]}),
        (ValueError, {"data": x, "steps": -1}),
        (ValueError, {"data": x, "checkpoint": "there"}),
        (RuntimeError, {"data": x, "steps": 5, "callbacks": [breaks]}),
    ):
        with pytest.raises(error):
            inference.fit(pair, progress=False, **options)
        assert pair.guide_family == pair.config["guide"] == "auto"
        assert not pair.trained
        for name, value in pair.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert {id(p) for p in pair.parameters()} == {id(p) for p in pair.automatic.parameters()}


def test_without_zuko_the_gaussian_is_kept_and_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    pair = Bent().double()
    told = inference.fit(pair, torch.zeros(1, dtype=torch.float64), steps=150, **QUICK)
    assert told.guide.startswith("multivariate: 2 numbers")
    assert told.guide.endswith("pip install 'pyro-zoo[flows]'")


def test_what_plain_svi_found_is_gone_on_from():
    """A pair of family `auto` is factorised until then, and no start is put in the place of its Gaussian."""
    torch.manual_seed(0)
    pair = Normals().double()
    batch = pair.simulate(30)[0]
    svi = pyro.infer.SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 1e-2}), pyro.infer.Trace_ELBO())
    for _ in range(20):
        svi.step(batch)
    before = pair.automatic.gaussian()
    guides.adopt(pair, "multivariate", batch)
    after = pair.automatic.gaussian()
    assert pair.trained
    torch.testing.assert_close(after.mean, before.mean)
    torch.testing.assert_close(after.stddev, before.stddev)


def test_a_gaussian_road_picks_too():
    """`infer` leaves its Gaussian in the pair, with all correlations."""
    torch.manual_seed(0)
    pair = Normals().double()
    x = torch.randn(30, 2, dtype=torch.float64)
    found = inference.infer(pair, x, progress=False)
    assert found.trusted
    assert pair.guide_family == ("auto" if found.road == "exact" else "multivariate")
    assert inference.khat(pair, x).share > 0.9
