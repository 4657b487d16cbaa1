"""The one fallback: what cannot be traced goes on as plain Pyro wherever it is met, and says so once, at the caller."""

from __future__ import annotations

import warnings
from copy import deepcopy

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import nn

import inference
import zoo
from inference.compiling.compiled import CompileError, TraceError
from inference.compiling.fallback import Fallback, Fastest
from inference.sampling.sample import sample
from zoo import Batch
from zoo.base import ModelGuide
from zoo.settings import settings


class Branching(ModelGuide):
    """z_n ~ N(0, 1), x_n ~ N(z_n, 1), by a model that looks at the value of z where it is told to."""

    def __init__(self, looks: bool = True) -> None:
        super().__init__()
        self.looks = looks
        self.slope = nn.Parameter(torch.tensor(0.3))
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.zero, 1.0))
            shift = 1.0 if self.looks and z.sum() > 1e9 else 0.0
            return pyro.sample("x", dist.Normal(z[..., None] + shift, 1.0).to_event(1), obs=batch.x)

    def guide(self, batch):
        with batch.plate():
            pyro.sample("z", dist.Normal(self.slope * batch.x[:, 0], 1.0))

    def inputs(self, n):
        return Batch(n, n, x=torch.zeros(n, 1).to(self.zero))


X = torch.linspace(-1, 1, 6)[:, None]
WORK = {
    "fitting": lambda pair: inference.fit(pair, X, steps=60, device="cpu", progress=False, initialise=False),
    "sampling": lambda pair: sample(pair, X, 10, 4, max_warmup=50, progress=False),
    "sampling by nuts": lambda pair: sample(pair, X, 4, 1, method="nuts", max_warmup=5, progress=False),
    "refining": lambda pair: inference.refine(pair, X, steps=60, samples=2),
    "annealing": lambda pair: inference.gap(pair, X, method="annealed", steps=2, temperatures=6, particles=2),
    "fitting by simulation": lambda pair: inference.fit_by_simulation(pair, steps=60, progress=False),
}


def told_by(work):
    """What was said of falling back, and where, and what came of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = work()
    return [one for one in caught if "instead" in str(one.message)], found


@pytest.mark.parametrize("doing", WORK)
def test_what_cannot_be_traced_is_said_once_at_the_callers_line(doing):
    (told,), _ = told_by(lambda: WORK[doing](Branching()))
    words = str(told.message)
    assert words.startswith("Branching: cannot be traced as one graph: it reads the value of a tensor")
    assert "test_fallback.py" in words
    assert "self.looks and z.sum()" in words
    assert words.endswith(f", after site 'z'; {doing.split(' by ')[0]} with plain Pyro instead")
    assert told.filename == __file__
    assert told_by(lambda: WORK[doing](Branching(looks=False)))[0] == []


def refined_and_simulated():
    torch.manual_seed(0)
    pair = zoo.create("gaussian_vae", features=5, latent=2, hidden=(6,), likelihood="gaussian").double()
    x = pair.simulate(8)[0].x
    diagonal, full = (inference.refine(pair, x, steps=20, covariance=c, samples=2) for c in ("diagonal", "full"))
    annealed = inference.gap(pair, x, method="annealed", steps=2, temperatures=4, particles=2)
    losses = torch.from_numpy(inference.fit_by_simulation(pair, steps=20, lr=0.01, progress=False))
    ends = [p.detach() for p in pair.parameters()]
    return [diagonal.loc, diagonal.scale, full.loc, full.tril, annealed.log_marginal, losses, *ends]


def test_graph_and_plain_pyro_refine_and_simulate_alike():
    """Steps are taken in place either way, with the same noise."""
    found = []
    for worth in (1, 10**6):
        with settings.using(worth_recording=worth):
            found.append(refined_and_simulated())
    for graph, plain in zip(*found, strict=True):
        torch.testing.assert_close(graph, plain)


def test_too_few_runs_are_not_recorded():
    with settings.using(worth_recording=70):
        assert Fastest.of(torch.sin, "x", "trying", 69).fallback.mode == "off"
        assert Fastest.of(torch.sin, "x", "trying", 70).fallback.mode == "graph"
        assert Fastest.of(torch.sin, "x", "trying", 10**6).fallback.mode == "graph"  # nobody asked for a compiler


def test_a_failed_recording_leaves_the_arguments_alone():
    """What was written before it failed was written into copies: the step is taken once."""

    def write_and_look(x):
        x.add_(1)
        return x + 1 if float(x[0]) > 0 else x

    x = torch.zeros(3)
    step = Fastest(write_and_look, Fallback("it", "trying", "graph")).bind(x)
    with pytest.warns(UserWarning, match="it: cannot be traced .*; trying with plain Pyro instead"):
        found = step()
    assert x.tolist() == [1, 1, 1]
    assert found.tolist() == [2, 2, 2]
    step()
    assert x.tolist() == [2, 2, 2]


def test_down_from_the_compiler_to_the_graph_to_plain_pyro():
    way = Fallback("it", "trying", "inductor")
    with pytest.warns(UserWarning, match="it: no compiler; trying as a graph that is not compiled instead"):
        way.down(CompileError("no compiler"))
    assert way.mode == "graph"
    with pytest.warns(UserWarning, match="it: a branch; trying with plain Pyro instead"):
        way.down(TraceError("a branch"))
    assert way.mode == "off"
    with pytest.raises(TraceError, match="another"):  # nothing is slower still
        way.down(TraceError("another"))
    with pytest.raises(CompileError, match="asked for"):
        Fallback("it", "trying", "inductor", allowed=False).down(CompileError("asked for"))


def test_errors_of_the_function_itself_pass():
    def fails(x):
        raise ValueError("the function's own")

    for mode in ("off", "graph"):
        with pytest.raises(ValueError, match="the function's own"):
            Fastest(fails, Fallback("it", "trying", mode)).bind()(torch.ones(2))


def test_global_latents_are_annealed_with_one_graph(monkeypatch):
    """One recording for all draws of the globals, and one warning where there is none."""
    real, count = inference.compiling.compiled.record, []

    def counting(*arguments):
        count.append(1)
        return real(*arguments)

    monkeypatch.setattr("inference.compiling.compiled.record", counting)
    pair = zoo.create("bayesian_vae", features=4, likelihood="gaussian", latent=2, hidden=(4,))
    inference.gap(deepcopy(pair), pair.simulate(3)[0], method="annealed", steps=2, temperatures=6, chains=2)
    assert len(count) == 1
