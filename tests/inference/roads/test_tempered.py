"""Sequential Monte Carlo and bridge sampling, against evidences in closed form and modes of known weight."""

from __future__ import annotations

import json
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import zoo
from inference.data.check import check
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads import tempered
from inference.roads.bridge import bridge
from inference.roads.modes import mixture, modes, shares
from inference.roads.particles import conditional, effective, log_mean, next_beta, normalised, systematic
from inference.roads.tempering import FromNormal, FromPrior
from inference.running.quiet import quietly
from inference.sampling.chains import SamplingError
from inference.sampling.hamiltonian import Metric
from inference.sampling.potential import Potential
from tests.helpers.places import REFERENCE
from tests.helpers.programs import conjugate, schools
from tests.helpers.sampling import Normals, data_of

TWO = torch.tensor([[-5.0, 0.0], [5.0, 0.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)


def two_modes():
    """Two standard normals 10 deviations apart, of weights 0.3 and 0.7, under a wide prior: the evidence is 1."""
    prior = dist.Normal(torch.zeros(2, dtype=torch.float64), 10.0).to_event(1)
    u = pyro.sample("u", prior)
    log_p = (dist.Normal(TWO, 1.0).to_event(1).log_prob(u) + WEIGHTS.log()).logsumexp(0)
    pyro.factor("seen", log_p - prior.log_prob(u))


def gauss_mix(y):
    """posteriordb's `low_dim_gauss_mix`, labels free."""
    theta = pyro.sample("theta", dist.Beta(torch.tensor(5.0).to(y), 5.0))
    with pyro.plate("part", 2):
        mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0).to(y), 2.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(torch.tensor(2.0).to(y)))
    with pyro.plate("row", len(y)):
        z = pyro.sample("z", dist.Categorical(torch.stack([theta, 1 - theta])))
        pyro.sample("y", dist.Normal(mu[z], sigma[z]), obs=y)


def density_of(program, *args):
    return ProgramPotential(outline(zoo.program(program), args, {}), recentred=True)


def run(program, *args, seed=0, **options):
    with quietly(seed):
        return tempered.run(FromPrior(density_of(program, *args)), **options)


@pytest.mark.parametrize("seed", range(3))
def test_two_modes_far_apart_have_their_weights_and_their_evidence(seed):
    found = run(two_modes, seed=seed)
    assert abs(found.log_evidence) < 0.02
    left = float((found["u"][..., 0] < 0).double().mean())
    assert left == pytest.approx(0.3, abs=0.03)
    assert sum(share for share, _ in found.modes) == pytest.approx(1)
    assert abs(log_mean(torch.tensor(found.of_islands))[0]) < 0.35  # the weights of the particles alone, ± 0.08
    right = found["u"][found["u"][..., 0] > 0]
    np.testing.assert_allclose(right.mean(0).numpy(), [5, 0], atol=0.2)
    np.testing.assert_allclose(right.std(0).numpy(), [1, 1], atol=0.15)


@pytest.mark.parametrize("path", ["prior", "normal"])
def test_a_pair_from_its_prior_and_from_a_gaussian(path):
    pair = Normals().double()
    batch = data_of(pair, 6)
    potential = Potential(check(pair, batch))
    wide = Metric(torch.zeros(1, dtype=torch.float64), torch.full((1,), 8.0, dtype=torch.float64))
    with quietly(0, pair):
        found = tempered.run(FromPrior(potential) if path == "prior" else FromNormal(potential, wide))
    x = batch.x.numpy()
    wanted = scipy.stats.multivariate_normal.logpdf(x, np.ones(6), 4 * np.eye(6) + 9)
    assert found.log_evidence == pytest.approx(wanted, abs=5 * found.error + 1e-3)
    assert found.error < 0.01
    precision = 6 / 4 + 1 / 9
    mean, sd = (x.sum() / 4 + 1 / 9) / precision, precision**-0.5
    assert float(found["loc"].mean()) == pytest.approx(mean, abs=5 * sd / 20)
    assert float(found["loc"].std()) == pytest.approx(sd, rel=0.15)
    values, jacobian = potential.constrain(found.points)
    torch.testing.assert_close(found["loc"].flatten(), values["loc"])
    torch.testing.assert_close(found.stats["log_p"].flatten(), potential.log_density(found.points) - jacobian)


def test_the_weights_of_the_particles_alone_are_an_estimate_with_an_error():
    y = torch.linspace(1, 3, 30, dtype=torch.float64)
    wanted = scipy.stats.multivariate_normal.logpdf(y.numpy(), cov=np.eye(30) + 25)
    z = []
    for seed in range(6):
        value, error = log_mean(torch.tensor(run(conjugate, y, seed=seed, particles=64).of_islands))
        z.append((value - wanted) / error)
    assert abs(np.mean(z)) < 4 / math.sqrt(6)
    assert np.abs(z).max() < 5


def test_the_same_seed_gives_the_same_draws_and_nothing_outside_changes():
    before = torch.get_rng_state()
    one, other, third = run(schools, particles=16), run(schools, particles=16), run(schools, particles=16, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one["mu"], other["mu"])
    assert one.log_evidence == other.log_evidence
    assert not torch.equal(one["mu"], third["mu"])


def test_eight_schools():
    found = run(schools)
    assert found.log_evidence == pytest.approx(-31.3113, abs=0.06)
    assert found.betas[0] == 0
    assert found.betas[-1] == 1
    assert list(found.betas) == sorted(found.betas)
    assert found["theta"].shape == (8, 128, 8)
    assert found.method == "smc"


def test_particles_outside_the_posterior_have_no_weight():
    def cut():
        u = pyro.sample("u", dist.Normal(torch.tensor(0.0).double(), 1.0))
        pyro.factor("seen", torch.where(u > 1, 0.0, -math.inf))

    found = run(cut)
    assert found.log_evidence == pytest.approx(scipy.stats.norm.logsf(1), abs=0.1)
    assert bool((found["u"] > 1).all())

    def nowhere():
        u = pyro.sample("u", dist.Normal(torch.tensor(0.0).double(), 1.0))
        pyro.factor("seen", torch.where(u > 99, 0.0, -math.inf))

    with pytest.raises(SamplingError, match="nowhere: no particle has a posterior density"):
        run(nowhere)


def test_weights_and_temperatures():
    torch.manual_seed(0)
    weights = normalised(torch.randn(3, 50).double())
    ratio = 30 * torch.randn(3, 50).double()
    np.testing.assert_allclose(weights.exp().sum(-1), 1)
    np.testing.assert_allclose(effective(weights), 1 / weights.exp().square().sum(-1) / 50)
    beta = next_beta(weights, ratio, 0.2, 0.6)
    share = conditional(weights, (beta - 0.2) * ratio)
    w, g = weights.exp().numpy(), np.exp((beta - 0.2) * ratio.numpy())
    np.testing.assert_allclose(share, (w * g).sum(-1) ** 2 / (w * g * g).sum(-1))
    assert float(share.min()) == pytest.approx(0.6, abs=1e-3)
    assert next_beta(weights, 1e-9 * ratio, 0.2, 0.6) == 1
    count = torch.stack([torch.bincount(row, minlength=50) for row in systematic(weights, torch.Generator())])
    assert bool(((count - 50 * weights.exp()).abs() < 1).all())


def test_modes_are_cut_where_they_do_not_overlap():
    torch.manual_seed(0)
    one = torch.randn(2000, 3).double() @ torch.tensor([[1.0, 0.9, 0], [0, 0.4, 0], [0, 0, 3]]).double()
    assert len(modes(one)) == 1
    two = torch.cat([one[:500], one[500:] + torch.tensor([8.0, 0, 0]).double()])
    assert [len(group) for group in modes(two)] == pytest.approx([1500, 500], abs=5)
    proposal = mixture(two)
    wanted = scipy.stats.multivariate_normal(
        proposal.parts[0].centre, proposal.parts[0].scale @ proposal.parts[0].scale.T
    )
    np.testing.assert_allclose(
        proposal.log_density(two)[:, 0], float(proposal.log_weights[0]) + wanted.logpdf(two.numpy()), rtol=1e-8
    )  # fmt: skip
    told = shares(proposal, lambda u: proposal.log_density(u).logsumexp(-1), two, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(told.shares, proposal.log_weights.exp(), atol=1e-3)


def test_bridge_sampling_of_correlated_draws_says_how_far_it_may_be_off():
    rng = np.random.default_rng(0)
    draws = np.zeros((4, 2000, 2))
    for t in range(1, 2000):  # an autoregression, stationary at a standard normal: some 200 effective draws
        draws[:, t] = 0.9 * draws[:, t - 1] + math.sqrt(1 - 0.81) * rng.normal(size=(4, 2))
    points = torch.from_numpy(draws[:, 100:])

    def log_p(u):
        return dist.Normal(0.0, 1.0).log_prob(u).sum(-1) + 7.0

    found = bridge(points, log_p(points), log_p, torch.Generator().manual_seed(1))
    assert found.value == pytest.approx(7, abs=4 * found.error + 1e-6)
    assert found.error < 0.02
    with pytest.raises(ValueError, match="effective draws"):
        bridge(points[:1, :12], log_p(points[:1, :12]), log_p, torch.Generator())


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the folder of reference posteriors is not there")
@pytest.mark.parametrize("seed", range(3))
def test_a_mixture_whose_labels_are_free(seed):
    folder = REFERENCE / "posteriordb" / "low_dim_gauss_mix-low_dim_gauss_mix"
    y = torch.tensor(json.loads((folder / "data.json").read_text())["y"], dtype=torch.float64)
    found = run(gauss_mix, y, seed=seed, share=0.5, at_once=128)
    assert found.log_evidence == pytest.approx(-2115.68064 + math.log(2), abs=0.05)
    first = float((found["mu"][..., 0] < 0).double().mean())
    assert first == pytest.approx(0.5, abs=0.03)
