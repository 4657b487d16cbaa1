"""What cannot be sampled is refused by name, and what cannot be compiled says so."""

from __future__ import annotations

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.compiling.compiled import CompileError, TraceError
from inference.sampling.potential import Potential
from inference.sampling.sample import SamplingError, sample
from tests.helpers.sampling import QUICK, Normals, short
from zoo import Batch, ModelGuide
from zoo.settings import settings


class Wall(dist.Normal):
    """Of density zero everywhere."""

    def expand(self, shape, _instance=None):
        return Wall(self.loc.expand(shape), self.scale.expand(shape))

    def log_prob(self, value):
        return super().log_prob(value) - math.inf


class Awkward(ModelGuide):
    """What `kind` says is wrong with it."""

    def __init__(self, kind: str = "none"):
        super().__init__()
        self.kind = "none"
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        one = self.one
        if self.kind == "discrete":
            pyro.sample("switch", dist.Bernoulli(one / 2))
        loc = pyro.sample("loc", dist.Normal(one, one)) if self.kind != "empty" else one
        if self.kind == "infinite":
            pyro.sample("wall", Wall(one, one))
        if self.kind == "improper":
            pyro.sample("flat", dist.ImproperUniform(dist.constraints.real, (), ()))
        if self.kind == "branch" and loc.sum() > 1e9:
            loc = loc + 1
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, one), obs=batch.x)


def awkward(kind):
    pair = Awkward().double()
    pair.kind = kind
    return pair


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("discrete", "discrete site 'switch' has no gradient"),
        ("empty", "no latents"),
        ("infinite", "not finite at site 'wall'"),
        ("improper", r"site 'flat' cannot be drawn from .*ImproperUniform"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(kind, message):
    with pytest.raises(ValueError, match=message):
        sample(awkward(kind), torch.zeros(3), 10, 4, **QUICK)


def test_a_part_of_the_data_is_refused():
    with pytest.raises(ValueError, match="all observations at once, got 3 of 10"):
        sample(Normals(), Batch(3, 10, torch.zeros(3)), 10, 4, **QUICK)


@pytest.mark.parametrize(
    "options", [{"draws": 0}, {"chains": 1.5}, {"thin": 0}, {"start": "here"}, {"method": "gibbs"}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        sample(Normals(), torch.zeros(3), **options, **QUICK)


@short
def test_a_model_that_branches_on_a_value_runs_as_plain_pyro():
    with pytest.warns(UserWarning, match="sampling with plain Pyro instead"):
        found = sample(awkward("branch"), torch.zeros(3), 10, 4, max_warmup=20, **QUICK)
    assert found.compile == "off"


def test_a_graph_that_was_asked_for_is_not_given_up_in_silence():
    with pytest.raises(
        TraceError, match=r"test_refusals\.py:\d+: if self\.kind == .branch. and loc\.sum\(\).*, after site 'loc'"
    ):
        sample(awkward("branch"), torch.zeros(3), 10, 4, compile="graph", max_warmup=20, **QUICK)


@pytest.mark.parametrize("asked", ["auto", "inductor"])
@settings.using(worth_compiling=1)
def test_inductor_that_fails(asked, monkeypatch):
    def fail(*arguments, **options):
        raise PermissionError("cache folder is not writable")

    monkeypatch.setattr("torch._inductor.compile", fail)
    options = {"draws": 40, "chains": 8, "max_warmup": 200, "compile": asked, **QUICK}
    if asked == "inductor":
        with pytest.raises(CompileError, match="cache folder is not writable"):
            sample(Normals().double(), torch.zeros(3), **options)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = sample(Normals().double(), torch.zeros(3), **options)
    (told,) = [one for one in caught if "sampling as a graph that is not compiled instead" in str(one.message)]
    assert told.filename == __file__
    assert found.compile == "graph"


def test_chains_that_cannot_move_end_in_words(monkeypatch):
    pair = Normals().double()
    real = Potential.value_and_gradient
    monkeypatch.setattr(Potential, "value_and_gradient", lambda p, u: (real(p, u)[0], torch.full_like(u, torch.nan)))
    with pytest.raises(SamplingError, match="every chain diverges or stands still"):
        sample(pair, torch.zeros(3), 10, 4, **QUICK)
