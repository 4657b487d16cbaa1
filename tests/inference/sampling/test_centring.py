"""Coordinates of latents whose scale other latents decide: densities in closed form, which are chosen, and a funnel."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.data.check import check
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads.judging import asked, judged
from inference.running.deadline import Deadline
from inference.sampling.adaptation import Moments
from inference.sampling.centring import better, placed, shifted
from inference.sampling.chains import Chains
from inference.sampling.chains import unit as unit_metric
from inference.sampling.potential import Potential
from inference.sampling.sample import sampled
from inference.sampling.warmup import _go_on
from tests.helpers.programs import SCHOOLS, SIGMA
from zoo import Batch, ModelGuide

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


class Centred(ModelGuide):
    """Eight schools as they are first written: y_n ~ Normal(theta_n, x_n), theta_n ~ Normal(mu, tau)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("five", torch.tensor(5.0))

    def inputs(self, n):
        return Batch(n, n, x=torch.full((n, 1), 10.0).to(self.five))

    def model(self, batch):
        mu, tau = pyro.sample("mu", dist.Normal(0.0, self.five)), pyro.sample("tau", dist.HalfCauchy(self.five))
        with batch.plate():
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            return pyro.sample("y", dist.Normal(theta, batch.x[:, 0]), obs=batch.y)


def of_pair(recentred=True):
    pair = Centred().double()
    return Potential(check(pair, Batch.of(x=SIGMA[:, None], y=SCHOOLS)), recentred=recentred)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_of_a_pair_too_the_density_is_that_of_the_other_parametrisation(share):
    own = of_pair()
    assert own.centrable == {"theta"}
    points = torch.randn(4, 10)
    own.shares = torch.tensor([1.0, 1.0] + 8 * [share])
    mu, log_tau, z = points[:, :1], points[:, 1:2], points[:, 2:]
    theta = mu + ((1 - share) * log_tau).exp() * (z - share * mu)
    true = dist.Normal(0.0, 5.0).log_prob(mu) + dist.HalfCauchy(5.0).log_prob(log_tau.exp()) + log_tau
    true = true.squeeze(1) + dist.Normal(share * mu, (share * log_tau).exp()).log_prob(z).sum(1)
    true = true + dist.Normal(theta, SIGMA).log_prob(SCHOOLS).sum(1)
    for value in (own.value_and_gradient(points)[0], own.value_and_gradient(points, own.shares)[0]):
        assert torch.allclose(value, true, rtol=1e-12)
    values, jacobian = own.constrain(points)
    assert torch.allclose(values["theta"], theta, rtol=1e-12)
    assert torch.allclose(jacobian, (log_tau + 8 * (1 - share) * log_tau).squeeze(1), rtol=1e-12)
    half = torch.full((4,), 0.5)
    prior, likelihood, _ = own.parts(points, half, *own.held)
    assert torch.allclose(prior + likelihood, true, rtol=1e-12)


def test_values_of_a_pair_stay_when_coordinates_change():
    own = of_pair()
    tau = torch.randn(500, 1)
    mu = 3 * torch.randn(500, 1)
    points = torch.cat([mu, tau, mu + tau.exp() * torch.randn(500, 8)], 1)
    before, _ = own.constrain(points)
    moved = own.recentre(points, dense=True)
    assert moved is not None
    assert own.shares.tolist() == [1, 1] + 8 * [0]
    after, _ = own.constrain(moved(points))
    for name, value in before.items():
        assert torch.allclose(after[name], value, rtol=1e-9), name
    assert of_pair(recentred=False).held == ()


def test_a_pair_with_a_funnel_is_believed_and_right():
    """Mean of mu and of log tau by a grid: given both, y_j ~ Normal(mu, sigma_j^2 + tau^2)."""
    given = check(Centred().double(), Batch.of(x=SIGMA[:, None], y=SCHOOLS))
    found = sampled(given, asked(1000, 0, False, None), Deadline())
    short = [str(ground) for ground in judged(found).grounds if not ground.holds]
    assert not short
    assert found.warmup < 1000
    mu, log_tau = torch.linspace(-25, 30, 401)[:, None], torch.linspace(-14, 6, 801)
    log_p = dist.Normal(0.0, 5.0).log_prob(mu) + dist.HalfCauchy(5.0).log_prob(log_tau.exp()) + log_tau
    for value, error in zip(SCHOOLS, SIGMA, strict=True):
        log_p = log_p + dist.Normal(mu, torch.hypot(error, log_tau.exp())).log_prob(value)
    weight = (log_p - log_p.logsumexp((0, 1))).exp()
    for draws, true in ((found["mu"], mu), (found["tau"].log(), log_tau)):
        error = float(draws.mean(1).std()) / math.sqrt(found.chains)
        assert abs(float(draws.mean()) - float((weight * true).sum())) < 4 * error
