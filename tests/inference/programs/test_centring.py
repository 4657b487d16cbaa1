"""Coordinates of latents whose scale other latents decide: densities in closed form, which are chosen, and a funnel."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.programs.centring import better, placed, shifted
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.sampling.adaptation import Moments
from inference.sampling.chains import Chains
from inference.sampling.chains import unit as unit_metric
from inference.sampling.warmup import _go_on

pytestmark = pytest.mark.usefixtures("double")


def funnel(seen=None):
    """Neal (2003), "Slice sampling", section 8."""
    v = pyro.sample("v", dist.Normal(0.0, 3.0))
    with pyro.plate("part", 5):
        x = pyro.sample("x", dist.Normal(v, (v / 2).exp()))
        if seen is not None:
            pyro.sample("y", dist.Normal(x, 0.01), obs=seen)


def potential(model=funnel, *args):
    return ProgramPotential(outline(zoo.program(model), args, {}), required=True, recentred=True)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_density_is_that_of_the_other_parametrisation(share):
    """Of z = c v + e^(c v / 2) e with e standard normal."""
    own = potential()
    own.visit.shares = torch.cat([torch.ones(1), torch.full((5,), share)])
    points = torch.randn(4, 6).requires_grad_()
    v, z = points[:, 0], points[:, 1:]
    true = dist.Normal(0.0, 3.0).log_prob(v)
    true = true + dist.Normal(share * v, (share * v / 2).exp()).log_prob(z.T).sum(0)
    value, gradient = own.value_and_gradient(points.detach())
    assert torch.allclose(value, true, rtol=1e-12)
    assert torch.allclose(gradient, torch.autograd.grad(true.sum(), points)[0], rtol=1e-11, atol=1e-12)
    plain = ProgramPotential(own.seen, recorded=False, recentred=True)
    plain.visit.shares = own.visit.shares
    assert torch.allclose(plain.value_and_gradient(points.detach())[1], gradient, rtol=1e-11, atol=1e-12)


def test_values_stay_when_coordinates_change():
    own = potential()
    shares = own.visit.shares = torch.tensor([1.0, 1.0, 0.5, 0.5, 0.25, 0.0])
    v, z = 3 * torch.randn(500, 1), torch.randn(500, 5)
    points = torch.cat([v, shifted(z, (v, v / 2), 0 * shares[1:], shares[1:])], -1)
    before, _ = own.constrain(points)
    moved = own.recentre(points, dense=True)
    assert moved is not None
    assert own.visit.shares.tolist() == [1, 0, 0, 0, 0, 0]
    after, _ = own.constrain(moved(points))
    for name, value in before.items():
        assert torch.allclose(after[name], value, rtol=1e-12), name


@pytest.mark.parametrize("unit", [-8.0, 0.0, 8.0])
@pytest.mark.parametrize("dense", [False, True])
def test_a_prior_is_standardised_and_what_is_seen_stays_as_it_is(dense, unit):
    """Whatever units the numbers are in."""
    v, one = 3 * torch.randn(4000, 1), math.exp(unit)
    place = (one * v, unit + v / 2)
    share = torch.ones(1)
    assert float(better(one * (v + (v / 2).exp() * torch.randn(4000, 1)), place, share, dense)) == 0
    seen = one * (2 + 0.01 * torch.randn(4000, 1))  # whatever v is
    assert float(better(seen, place, share, dense)) == 1
    assert float(better(shifted(seen, place, share, 0 * share), place, 0 * share, dense)) == 1


def test_latents_of_fixed_scale_keep_their_coordinates():
    def model():
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        pyro.sample("scale", dist.HalfNormal(loc.exp()))
        pyro.sample("x", dist.Normal(loc, 1.0))

    own = potential(model)
    assert own.held == ()
    assert own.recentre(torch.randn(100, 3), dense=True) is None


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (dist.Normal(1.0, 2.0).expand([3]).to_event(1), (1, 2)),
        (dist.LogNormal(1.0, 2.0).expand([3]), (1, 2)),
        (dist.StudentT(4.0, 1.0, 2.0).expand([3]).mask(False), (1, 2)),
        (dist.HalfNormal(torch.ones(3)), None),
        (dist.TransformedDistribution(dist.Normal(torch.ones(3), 1.0), [dist.transforms.ExpTransform()]), None),
        (dist.Normal(torch.zeros(2, 1), 1.0), None),  # along a latent that is summed out
    ],
)
def test_places_are_those_of_free_numbers(fn, expected):
    found = placed(fn, torch.Size([3]))
    if expected is None:
        assert found is None
    else:
        loc, log_scale = found
        assert loc.tolist() == [expected[0]] * 3
        assert log_scale.exp().tolist() == pytest.approx([expected[1]] * 3)


def test_a_funnel_is_drawn_whole():
    """v is standard normal times 3, whatever stands below it; in its own coordinates chains do not reach the neck."""
    found = inference.sample(zoo.program(funnel), draws=300, chains=32, progress=False)
    v = found["v"]
    assert float(v.std()) == pytest.approx(3, rel=0.05)
    assert abs(float(v.mean())) < 5 * float(v.mean(1).std()) / math.sqrt(32)
    assert max(found.rhat.values()) < 1.02
    inside = (found["x"] - v.unsqueeze(-1)) * (-v / 2).exp().unsqueeze(-1)
    assert float(inside.std()) == pytest.approx(1, rel=0.03)


def test_a_funnel_of_data_is_drawn_where_they_are():
    """Of data this near there is no funnel left: the posterior of v by its own density on a grid."""
    y = torch.tensor([1.0, -2.0, 4.0, 0.5, 3.0])
    found = inference.sample(zoo.program(funnel), y, draws=300, chains=32, progress=False)
    grid = torch.linspace(-15, 20, 20001)
    spread = torch.hypot((grid / 2).exp(), torch.tensor(0.01))
    log_p = dist.Normal(0.0, 3.0).log_prob(grid) + dist.Normal(grid, spread).log_prob(y.unsqueeze(-1)).sum(0)
    weight = (log_p - log_p.logsumexp(0)).exp()
    mean = float((weight * grid).sum())
    v = found["v"]
    assert float(v.mean()) == pytest.approx(mean, abs=5 * float(v.mean(1).std()) / math.sqrt(32))
    assert float(v.std()) == pytest.approx(float((weight * (grid - mean) ** 2).sum().sqrt()), rel=0.05)


def test_a_number_that_never_moved_keeps_a_finite_scale():
    def model():
        funnel()
        pyro.sample("w", dist.Normal(0.0, 1.0))

    own = potential(model)
    v = 3 * torch.randn(320, 1)
    draws = torch.cat([v, v + (v / 2).exp() * torch.randn(320, 5), torch.zeros(320, 1)], -1).unflatten(0, (32, 10))
    chains = Chains(own, 32, 0, "graph", True)
    around = unit_metric(torch.zeros(7), torch.ones(7), 32)
    chains.stand(draws[:, -1], around)
    moments = Moments(around)
    moments.add(chains.state)
    _go_on(chains, draws[:, -1], moments, draws, around)
    assert float(own.visit.shares[1:6].max()) == 0
    assert bool(chains.metric.scale.isfinite().all())
    assert bool((chains.metric.scale.diagonal() > 0).all())
    assert bool(chains.state.z.isfinite().all())
