"""Posteriors without an integral: no seed is trusted, and what is improper is named with what to do."""

from __future__ import annotations

import importlib
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch.distributions import constraints

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads.evaluating import Evaluated
from inference.roads.modes import modes
from inference.roads.paths import FLAT, walk
from inference.roads.roads import LARGEST, by_gaussian
from inference.running.quiet import quietly
from inference.sampling import starts
from inference.sampling.chains import SamplingError

pytestmark = [pytest.mark.usefixtures("double"), pytest.mark.filterwarnings("ignore::UserWarning")]


def flat(name, support=constraints.real):
    return pyro.sample(name, dist.ImproperUniform(support, (), ()))


def two_groups(y):
    """With two groups the integral over tau diverges at infinity (Gelman 2006, "Prior distributions for variance")."""
    mu, tau = flat("mu"), flat("tau", constraints.positive)
    with pyro.plate("group", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def separable(x, y):
    """Rows that a line separates: the likelihood does not fall along it (Albert & Anderson 1984)."""
    a, b = flat("a"), flat("b")
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=a + b * x), obs=y)


def collapse(y):
    """A component that may collapse on a row, or leave them all: flat in its scale."""
    with pyro.plate("part", 2):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (2,), ()))
    mixed = dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Normal(mu, sigma))
    with pyro.plate("row", len(y)):
        pyro.sample("y", mixed, obs=y)


def only_the_sum(y):
    a, b = flat("a"), flat("b")
    pyro.sample("y", dist.Normal(a + b, 1.0), obs=y)


def of(model, *arguments, seed=0, budget=30.0):
    arguments = [torch.tensor(argument) for argument in arguments]
    return inference.infer(zoo.program(model), *arguments, seed=seed, budget=budget, progress=False)


CASES = {
    two_groups: ([1.0, 3.0],),
    separable: ([-2.0, -1.0, 0.5, 1.0], [0.0, 0.0, 1.0, 1.0]),
    collapse: ([0.0, 0.5, -0.3, 4.0, 1.0],),
    only_the_sum: (2.0,),
}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("model", "arguments"), CASES.items(), ids=lambda case: getattr(case, "__name__", ""))
def test_a_posterior_without_an_integral_is_named(model, arguments, seed):
    posterior = of(model, *arguments, seed=seed)
    assert not posterior.trusted
    assert "cannot be drawn from: where it is improper and the data do not bound it, there is no" in posterior.advice
    assert "tempered" not in posterior.advice  # there is no prior to begin at: no time leads there


@pytest.mark.parametrize("seed", range(8))
def test_a_ridge_without_an_end_is_no_gaussian(seed):
    """Whose widths across it are rounding errors in the end: such a one has no density, and no weights."""
    with quietly(seed):
        density = ProgramPotential(outline(zoo.program(only_the_sum), (torch.tensor(2.0),), {}))
        found, near = by_gaussian(density, starts.centre(density, {}), 100, seed)
    assert all(bool(mode.loc.isfinite().all()) and math.isfinite(mode.log_scale) for mode in near.modes)
    assert {ground.name for ground in found.grounds if not ground.holds} >= {"effective share", "effective draws"}


@pytest.mark.parametrize("seed", range(8))
def test_no_width_of_a_path_is_a_rounding_error_of_another(seed):
    """Along the ridge the curvature is none, and so is the middle one of two."""
    with quietly(seed):
        density = ProgramPotential(outline(zoo.program(only_the_sum), (torch.tensor(2.0),), {}))
        starting = torch.randn(4, density.size, generator=torch.Generator().manual_seed(seed))
        found = walk(Evaluated(density), starting, torch.Generator().manual_seed(seed))
    for end in found:
        widths = torch.linalg.svdvals(end.tril)
        assert float(widths.max() / widths.min()) <= 1.01 / FLAT**0.5


def test_a_road_that_comes_to_nothing_takes_no_other_with_it(monkeypatch):
    """There is a start, that of the road before, though neither prior nor program gives one."""

    def nothing(*_, **__):
        raise SamplingError("no Gaussian has a finite bound")

    monkeypatch.setattr(importlib.import_module("inference.programs.infer"), "by_gaussian", nothing)
    posterior = of(only_the_sum, 2.0, budget=2.0)
    first = posterior.tried[0]
    assert (first.road, first.failed) == ("Gaussian", "no Gaussian has a finite bound")
    assert posterior.road == "Hamiltonian"
    assert not posterior.trusted
    assert "cannot be drawn from: where it is improper and the data do not bound it, there is no" in posterior.advice


def test_chains_that_stand_still_where_digits_are_gone_are_one_mode():
    """The mean of equal numbers is another one there."""
    assert len(modes(torch.tensor([1e21 / 3, -1e21 / 3]).expand(800, 2))) == 1


def test_more_latents_than_the_gaussian_road_takes_need_a_start():
    def many(y):
        x = pyro.sample("x", dist.ImproperUniform(constraints.real, (), (LARGEST + 1,)))
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=y)

    with pytest.raises(ValueError, match="give a value to start around"):
        of(many, 2.0)


@pytest.mark.slow
def test_an_improper_prior_that_data_bound_is_no_obstacle():
    def level(y):
        mu, sigma = flat("mu"), flat("sigma", constraints.positive)
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, sigma), obs=y)

    y = [1.0, 2.0, 4.0, 3.0, 2.5, 3.5, 2.0, 1.0, 4.0, 2.0]
    posterior = of(level, y, budget=None)
    assert posterior.trusted
    # mu given y is a t of n - 2 degrees of freedom: a flat prior of the deviation.
    data = torch.tensor(y)
    n, square = len(y), float((data - data.mean()).square().sum())
    sd = (square / n / (n - 2) * (n - 2) / (n - 4)) ** 0.5
    assert abs(float(posterior["mu"].mean() - data.mean())) < 4 * sd / 20
    assert float(posterior["mu"].std()) == pytest.approx(sd, rel=0.12)
