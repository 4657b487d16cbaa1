"""Leapfrog steps are compiled where what is still to come repays it, by counts that no clock changes."""

import types

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.sampling.worth import EACH, LOADING, NUMBER, OPERATION, SAVED, Worth
from zoo.settings import settings

pytestmark = pytest.mark.usefixtures("double")


def line(x, y):
    slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


def density(function, size):
    return types.SimpleNamespace(
        size=size, dtype=torch.float64, device=torch.device("cpu"), value_and_gradient=function
    )


def test_steps_are_told_by_what_they_write():
    worth = Worth(density(lambda points: ((points + 1).exp().sum(-1), points * 2), 7), 64)
    assert worth.step == pytest.approx(4 * OPERATION + (7 + 7 + 1 + 7) * 64 * NUMBER)
    assert worth.compiling == pytest.approx(LOADING + 4 * EACH)
    even = worth.compiling / (SAVED * worth.step)
    assert worth.pays(1.01 * even)
    assert not worth.pays(0.99 * even)
    with settings.using(worth_compiling=2 * settings.worth_compiling):
        assert not worth.pays(1.01 * even)
        assert worth.pays(2.02 * even)


@pytest.fixture
def compiled(monkeypatch):
    """What is handed to Inductor, which costs seconds; it comes back as it is."""

    seen = []

    def take(graph, inputs, **options):
        seen.append(graph)
        return graph

    monkeypatch.setattr("torch._inductor.compile", take)
    monkeypatch.setattr("inference.compiling.compiled.compiler", lambda: "c++")
    return seen


@pytest.mark.filterwarnings("ignore")  # few draws tell little
def test_what_pays_is_compiled_once_and_draws_the_same(compiled):
    x = torch.linspace(-1, 1, 20)
    options = {"draws": 60, "progress": False}
    plain = inference.sample(zoo.program(line), x, x, **options)
    assert plain.compile == "graph"
    assert not compiled
    with settings.using(worth_compiling=1):
        quick = inference.sample(zoo.program(line), x, x, **options)
    assert quick.compile == "inductor"
    assert len(compiled) == 1
    assert torch.allclose(plain["slope"], quick["slope"], rtol=1e-9)
    with settings.using(worth_compiling=1):
        asked = inference.sample(zoo.program(line), x, x, compile="graph", **options)
    assert asked.compile == "graph"
    assert len(compiled) == 1


@pytest.mark.filterwarnings("ignore")
def test_so_many_draws_that_it_pays_and_a_time_that_no_clock_has(compiled, monkeypatch):
    monkeypatch.setattr("inference.sampling.worth.LOADING", 0.0)
    monkeypatch.setattr("inference.sampling.worth.EACH", 1e-3)
    x = torch.linspace(-1, 1, 20)
    found = [inference.sample(zoo.program(line), x, x, draws=draws, progress=False) for draws in (20, 400)]
    assert [one.compile for one in found] == ["graph", "inductor"]
    assert all(value >= 0 for one in found for value in (*one.seconds.values(), *one.cpu.values()))
