"""Guides that run the model themselves, Pyro's messengers: what the model observes is no part of them."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoHierarchicalNormalMessenger, AutoNormalMessenger, AutoRegressiveMessenger

import inference
import zoo
from inference.programs.guided import Guided
from inference.programs.outline import outline
from tests.helpers.programs import conjugate

GUIDES = (AutoNormalMessenger, AutoHierarchicalNormalMessenger, AutoRegressiveMessenger)
Y = torch.randn(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5

pytestmark = pytest.mark.usefixtures("double")


def seen_in_part(y):
    """Plates of a part of the rows, local latents, a factor, a deterministic site."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.LogNormal(0.0, 1.0))
    twice = pyro.deterministic("twice", 2 * mu)
    pyro.factor("penalty", -0.5 * (twice - 1.0) ** 2)
    with pyro.plate("row", len(y), subsample_size=7) as rows:
        z = pyro.sample("z", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])


@pytest.mark.parametrize("kind", GUIDES)
@pytest.mark.parametrize("wrapped", [False, True])
def test_the_bound_and_its_gradients_are_pyros(kind, wrapped):
    guide = kind(seen_in_part)
    guide(Y)  # Pyro's messengers make their parameters in their first run

    def within(y):
        guide(y)

    guided = Guided(
        outline(zoo.program(seen_in_part), (Y,), {}, sampled=False, whole=False), within if wrapped else guide
    )
    assert set(guided.sites) == {"mu", "tau", "z"}
    for seed in range(3):
        torch.manual_seed(seed)
        bound = guided.bound(torch.zeros(1))
        torch.manual_seed(seed)
        loss = Trace_ELBO().differentiable_loss(seen_in_part, guide, Y)
        assert float(bound.detach()) == pytest.approx(-float(loss.detach()), rel=1e-12)
        leaves = list(guided.leaves.values())
        for one, other in zip(torch.autograd.grad(bound, leaves), torch.autograd.grad(loss, leaves), strict=True):
            assert torch.allclose(one, -other, rtol=1e-10)


@pytest.mark.parametrize("mode", ["graph", "off"])
def test_a_posterior_is_found_and_its_draws_hold_latents_alone(mode):
    """The posterior of mu is Normal(sum(y) / precision, 1 / precision), of precision N + 1 / 25."""
    program = zoo.program(conjugate, guide=AutoNormalMessenger(conjugate))
    inference.fit(program, Y, steps=800, lr=0.05, compile=mode, progress=False)
    found = inference.draw(program, Y, draws=2000)
    assert set(found.draws) == {"mu"}
    precision = len(Y) + 1 / 25
    deviation = precision**-0.5
    assert float(found["mu"].mean()) == pytest.approx(float(Y.sum()) / precision, abs=0.2 * deviation)
    assert float(found["mu"].std()) == pytest.approx(deviation, rel=0.1)
    assert inference.khat(program, Y).share > 0.9


def test_a_guide_of_ones_own_that_observes_the_data_too_weighs_its_latents_alone():
    """A guide that is the posterior, and observes `y` besides: log p - log q is the log evidence in every draw."""
    precision = len(Y) + 1 / 25

    def exact(y):
        pyro.sample("mu", dist.Normal(pyro.param("loc", y.sum() / precision), precision**-0.5))
        pyro.sample("y", dist.Normal(0.0, 1.0).expand(y.shape).to_event(1), obs=y)

    stats = inference.draw(zoo.program(conjugate, exact), Y, draws=50).stats
    covariance = torch.eye(len(Y)) + 25 * torch.ones(len(Y), len(Y))
    evidence = dist.MultivariateNormal(torch.zeros(len(Y)), covariance).log_prob(Y)
    assert torch.allclose(stats["log_p"] - stats["log_q"], evidence.expand(1, 50), rtol=1e-10)


def test_a_factor_of_the_guides_own_counts_as_pyro_has_it():
    def model(y):
        pyro.factor("shared", torch.tensor(0.3))
        conjugate(y)

    def guide(y):
        loc = pyro.param("loc", torch.tensor(4.0))
        mu = pyro.sample("mu", dist.Normal(loc, 0.5))
        pyro.factor("shared", -0.1 * mu**2, has_rsample=True)
        pyro.factor("own", math.log(2.0) * mu, has_rsample=True)

    guided = Guided(outline(zoo.program(model), (Y,), {}, sampled=False), guide)
    torch.manual_seed(3)
    bound = guided.bound(torch.zeros(1))
    torch.manual_seed(3)
    assert float(bound.detach()) == pytest.approx(-Trace_ELBO().loss(model, guide, Y), rel=1e-12)
