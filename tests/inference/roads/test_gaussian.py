"""The Gaussian road against scipy, closed forms, and posteriors that are no Gaussian."""

from __future__ import annotations

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads.evaluating import Evaluated
from inference.roads.gaussian import gaussian
from inference.roads.paths import Gaussian
from inference.roads.roads import by_gaussian
from inference.roads.weighing import weigh
from inference.running.quiet import quietly
from inference.sampling import starts


@pytest.fixture(autouse=True)
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def road(model, *arguments, seed=0):
    with quietly(seed):
        potential = ProgramPotential(outline(zoo.program(model), arguments, {}))
        return potential, gaussian(potential, starts.centre(potential, {}), seed)


def test_of_a_normal_it_is_exact():
    covariance = torch.tensor([[4.0, 1.9], [1.9, 1.0]]) * 100
    loc = torch.tensor([1000.0, -3.0])

    def model():
        pyro.sample("x", dist.MultivariateNormal(loc, covariance_matrix=covariance))

    _, found = road(model)
    torch.testing.assert_close(found.guide.loc, loc, rtol=1e-6, atol=1e-3)
    torch.testing.assert_close(found.guide.tril @ found.guide.tril.mT, covariance, rtol=1e-4, atol=1e-3)
    assert abs(found.weighed.log_evidence) < 1e-6
    assert found.weighed.share > 0.9999
    assert found.elsewhere == 0


def test_log_evidence_and_moments_of_a_conjugate_scale():
    """1 / s² ~ Gamma: in its logarithm no normal distribution, so the weights have something to repair."""
    y = torch.tensor([0.3, -1.2, 2.0, 0.7, -0.4])

    def model(y):
        precision = pyro.sample("precision", dist.Gamma(2.0, 1.0))
        pyro.sample("y", dist.Normal(0.0, precision.rsqrt()).expand([len(y)]).to_event(1), obs=y)

    potential, found = road(model, y)
    shape, rate = 2 + len(y) / 2, 1 + float(y.square().sum()) / 2
    exact = math.lgamma(shape) - math.lgamma(2) - shape * math.log(rate) - len(y) / 2 * math.log(2 * math.pi)
    weighed = found.weighed
    assert abs(weighed.log_evidence - exact) < 4 * weighed.error
    assert weighed.error < 0.02
    assert weighed.bound < exact
    picked = weighed.resampled(4000, np.random.default_rng(0))
    draws = potential.constrain(weighed.points[picked])[0]["precision"].numpy()
    known = stats.gamma(shape, scale=1 / rate)
    assert abs(draws.mean() - known.mean()) < 0.1 * known.std()
    assert abs(draws.std() / known.std() - 1) < 0.1


def test_a_heavy_tail_is_seen():
    def model():
        pyro.sample("x", dist.Cauchy(0.0, 1.0))

    with quietly(0):
        potential = ProgramPotential(outline(zoo.program(model), (), {}))
        found, _ = by_gaussian(potential, starts.centre(potential, {}), 100, 0)
    assert [ground.name for ground in found.grounds if not ground.holds]


def two_modes(smaller, apart, scale):
    """A program whose posterior is two Gaussians of deviation 1, so far apart, the first with so much of the mass."""
    weights, places = torch.tensor([smaller, 1 - smaller]), torch.tensor([-apart / 2, apart / 2])
    mixture = dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(places, 1.0))

    def model():
        prior = dist.Normal(0.0, scale)
        x = pyro.sample("x", prior)
        pyro.factor("instead", mixture.log_prob(x) - prior.log_prob(x))

    return model


def test_modes_apart_are_weighed():
    """Ten deviations apart, 0.3 and 0.7: one Gaussian has one of them, and the rest is told."""
    model = two_modes(0.3, 10.0, 6.0)
    found = [road(model, seed=seed)[1] for seed in range(4)]
    assert all(abs(one.elsewhere - 0.3) < 0.02 for one in found)


@pytest.mark.parametrize("seed", range(3))
def test_a_mode_of_little_mass_is_told_where_it_is_far_off(seed):
    """0.2 % of the mass, 50 deviations away: they make the whole posterior 2.4 times as wide."""
    model = two_modes(0.002, 50.0, 30.0)
    with quietly(seed):
        potential = ProgramPotential(outline(zoo.program(model), (), {}))
        made, found = by_gaussian(potential, starts.centre(potential, {}), 100, seed)
    assert found.elsewhere == pytest.approx(0.002, abs=0.0003)
    assert found.stretch == pytest.approx(0.5 * math.log(1 + 0.002 * 0.998 * 50**2), abs=0.07)
    assert [ground.name for ground in made.grounds if not ground.holds] == ["other modes widen by"]


def test_wider_draws_are_weighed_by_their_mixture():
    """A guide half as wide as the density: its weights have no variance, those of the mixture tell the evidence."""

    def model():
        pyro.sample("x", dist.Normal(torch.zeros(2), 2.0).to_event(1))

    with quietly(0):
        density = Evaluated(ProgramPotential(outline(zoo.program(model), (), {})))
        weighed = weigh(density, Gaussian(torch.zeros(2), torch.eye(2)), 0)
    assert len(weighed.points) > 1024
    assert abs(weighed.log_evidence) < 4 * weighed.error
    bound = stats.norm(0, 2).logpdf(np.zeros(1))[0] * 2 - 2 * 0.5 / 4 + math.log(2 * math.pi) + 1  # E_q, by hand
    assert weighed.bound == pytest.approx(bound, abs=0.02)


def test_a_gaussian_without_a_density_has_no_weights():
    """Equal ones, of which no draw tells anything, would make it the posterior."""

    def level():
        pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))

    with quietly(0):
        density = Evaluated(ProgramPotential(outline(zoo.program(level), (), {})))
        flat = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        weighed = weigh(density, Gaussian(torch.zeros(2), flat), 0)
    assert weighed.share == 0
    assert weighed.k == math.inf
    assert weighed.log_evidence == -math.inf
    assert weighed.error == math.inf


@pytest.mark.parametrize("seed", range(3))
def test_raw_dollars_on_inches_from_far_off(seed):
    """Flat priors, slopes of thousands: the closed form is that of least squares."""
    rng = np.random.default_rng(1)
    x = np.stack([np.ones(400), rng.normal(67, 4, 400)], 1)
    y = x @ np.array([-60_000.0, 1_260.0]) + 19_000 * rng.standard_normal(400)

    def model(x, y):
        beta = pyro.sample("beta", dist.ImproperUniform(dist.constraints.real, (), event_shape=(2,)))
        sigma = pyro.sample("sigma", dist.ImproperUniform(dist.constraints.positive, (), ()))
        pyro.sample("y", dist.Normal(x @ beta, sigma).to_event(1), obs=y)

    _, found = road(model, torch.as_tensor(x), torch.as_tensor(y), seed=seed)
    best, residual, *_ = np.linalg.lstsq(x, y, rcond=None)
    freedom = 400 - 3  # sigma is flat
    variance = residual[0] / (freedom - 2) * np.linalg.inv(x.T @ x).diagonal()
    weighed = found.weighed
    weights = weighed.log_weights.exp() / weighed.log_weights.exp().sum()
    mean = weights @ weighed.points[:, :2]
    spread = (weights @ (weighed.points[:, :2] - mean).square()).sqrt()
    assert (np.abs(mean.numpy() - best) < 0.05 * np.sqrt(variance)).all()
    np.testing.assert_allclose(spread.numpy(), np.sqrt(variance), rtol=0.05)
    assert weighed.share > 0.9
