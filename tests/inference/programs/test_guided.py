"""Guides of the user's own that only `fit` can do: discrete draws, latents of rows that are taken in part."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from torch.distributions import constraints

import inference
import zoo
from inference.programs.flat import Climbed
from inference.programs.guided import Guided
from inference.programs.outline import outline
from tests.helpers.programs import noise

Y = torch.tensor([0.2, -0.4, 3.1, 2.7, 0.1])


pytestmark = pytest.mark.usefixtures("double")


def parts(y):
    """Rows of two kinds, and a common discrete shift that stands in no plate."""
    loc = pyro.param("loc", torch.tensor(2.0))
    shift = pyro.sample("shift", dist.Categorical(torch.tensor([0.5, 0.3, 0.2])))
    with pyro.plate("row", len(y)):
        kind = pyro.sample("kind", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(kind * loc + 0.5 * shift, 1.0), obs=y)


def kinds(y):
    weights = pyro.param("weights", torch.tensor([0.3, 0.3, 0.4]), constraint=constraints.simplex)
    odds = pyro.param("odds", torch.linspace(-1.0, 1.0, len(y)))
    pyro.sample("shift", dist.Categorical(weights))
    with pyro.plate("row", len(y)):
        pyro.sample("kind", dist.Bernoulli(logits=odds))


def means(guided, groups, draws):
    """Mean and standard error of the bound and of its gradients, over groups of draws that are mapped."""
    leaves = list(guided.leaves.values())
    climbed = Climbed(guided.bound, torch.zeros(1), leaves, "parts", True, True)
    found = []
    for _ in range(groups):
        bound = climbed(torch.zeros(draws, 1), leaves).mean()
        slopes = torch.autograd.grad(bound, leaves)
        found.append(torch.cat([bound.detach()[None], *(slope.flatten() for slope in slopes)]))
    values = torch.stack(found)
    return values.mean(0), values.std(0) / math.sqrt(groups)


def test_gradients_of_discrete_draws_are_in_expectation_those_of_pyro_which_sums_them_out():
    """`TraceEnum_ELBO` over the enumerated guide is the expectation itself."""
    guided = Guided(outline(zoo.program(parts), (Y,), {}, sampled=False), kinds)
    assert guided.scored == ["shift", "kind"]
    torch.manual_seed(0)
    mean, error = means(guided, 20, 200)
    exact = -TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(
        config_enumerate(parts), config_enumerate(kinds, "parallel"), Y
    )
    slopes = torch.autograd.grad(exact, list(guided.leaves.values()))
    wanted = torch.cat([exact.detach()[None], *(slope.flatten() for slope in slopes)])
    assert ((mean - wanted).abs() < 4 * error).all(), (mean, wanted, error)
    assert (error < 0.1).all()


def test_one_discrete_latent_drawn_and_another_summed_out():
    def rest(y):
        weights = pyro.param("weights", torch.tensor([0.3, 0.3, 0.4]), constraint=constraints.simplex)
        pyro.sample("shift", dist.Categorical(weights))

    guided = Guided(outline(zoo.program(parts), (Y,), {}, sampled=False), rest)
    torch.manual_seed(1)
    mean, error = means(guided, 20, 200)
    exact = -TraceEnum_ELBO(max_plate_nesting=1).differentiable_loss(
        config_enumerate(parts), config_enumerate(rest, "parallel"), Y
    )
    slopes = torch.autograd.grad(exact, list(guided.leaves.values()))
    wanted = torch.cat([exact.detach()[None], *(slope.flatten() for slope in slopes)])
    assert ((mean - wanted).abs() < 4 * error).all(), (mean, wanted, error)


def test_gradients_end_where_the_function_says_so():
    """Recorded, mapped and differentiated: a `detach` changes no number, and is no operation to leave out."""
    scale = torch.tensor(3.0, requires_grad=True)

    def function(point):
        held = (point * scale).exp().detach()
        return (point.detach() * point + held * scale + (point * 1.0).detach().view(1) * scale.detach()).sum()

    climbed = Climbed(function, torch.zeros(1), [scale], "function", True, True)
    points = torch.tensor([[0.5], [-1.0]], requires_grad=True)
    for some in (points, points[:1]):
        slope, of_scale = torch.autograd.grad(climbed(some, [scale]).sum(), (points, scale))
        wanted = torch.autograd.grad(sum(function(point) for point in some), (points, scale))
        assert torch.allclose(slope, wanted[0], rtol=1e-12)
        assert torch.allclose(of_scale, wanted[1], rtol=1e-12)


def counted(y):
    number = pyro.sample("number", dist.Poisson(6.0))
    pyro.sample("y", dist.Normal(number, 1.0).expand([len(y)]).to_event(1), obs=y)


def count(y):
    pyro.sample("number", dist.Poisson(pyro.param("rate", torch.tensor(5.0), constraint=constraints.positive)))


def test_a_count_that_nobody_can_enumerate_is_fitted_to_the_highest_bound():
    """Of a Poisson guide, whose bound is a sum over counts, written out."""
    y = torch.tensor([9.3, 8.1, 10.2])
    program = zoo.program(counted, count)
    inference.fit(program, y, steps=1000, lr=0.01, compile="graph", progress=False)
    numbers, rates = torch.arange(60.0), torch.linspace(4.0, 14.0, 2001)[:, None]
    log_p = dist.Poisson(6.0).log_prob(numbers) + dist.Normal(numbers[:, None], 1.0).log_prob(y).sum(-1)
    log_q = dist.Poisson(rates).log_prob(numbers)
    bounds = (log_q.exp() * (log_p - log_q)).sum(-1)
    found = float(pyro.param("rate").detach())
    at = (dist.Poisson(found).log_prob(numbers).exp() * (log_p - dist.Poisson(found).log_prob(numbers))).sum()
    assert float(at) == pytest.approx(float(bounds.max()), abs=0.05)
    drawn = inference.draw(program, y, draws=2000)["number"]
    assert float(drawn.mean()) == pytest.approx(found, abs=4 * math.sqrt(found / 2000))


def of_rows(y):
    with pyro.plate("row", len(y), subsample_size=10) as rows:
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])


def read_off(y):
    slope = pyro.param("slope", torch.tensor(0.0))
    width = pyro.param("width", torch.tensor(1.0), constraint=constraints.positive)
    with pyro.plate("row", len(y), subsample_size=10) as rows:
        pyro.sample("z", dist.Normal(slope * y[rows], width))


def test_latents_of_rows_taken_in_part_are_read_off_the_rows_by_a_guide_of_ones_own():
    """The posterior of each is Normal(y / 2, 1 / 2), which this guide holds."""
    inference.fit(zoo.program(of_rows, read_off), noise(60) * 2, steps=1500, compile="graph", progress=False)
    assert float(pyro.param("slope").detach()) == pytest.approx(0.5, abs=0.03)
    assert float(pyro.param("width").detach()) == pytest.approx(0.5**0.5, abs=0.03)


def far(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1000.0))
    with pyro.plate("row", len(y), subsample_size=5) as rows:
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y[rows])


def near(y):
    pyro.sample("mu", dist.Normal(pyro.param("centre", torch.tensor(0.0)), 0.1))


def test_a_fit_whose_noise_hides_that_it_still_falls_is_not_called_converged():
    """A part of the rows differs from the next by a hundred times what 200 steps of 2e-4 gain."""
    y = 30 + 10 * noise(500)
    result = inference.fit(zoo.program(far, near), y, lr=2e-4, max_steps=2600, compile="graph", progress=False)
    assert float(pyro.param("centre").detach()) < 1  # of 30
    assert result.reason == "not converged after max_steps=2600"


def test_a_fit_that_stands_still_is_called_converged():
    y = noise(40)
    result = inference.fit(zoo.program(far, near), y, lr=0.02, compile="graph", progress=False)
    assert result.reason == "the ELBO has converged"
    assert float(pyro.param("centre").detach()) == pytest.approx(float(y.mean()), abs=0.1)
