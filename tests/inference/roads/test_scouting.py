"""Modes that no path finds by itself, numbers that are no labels, and draws that leave out a known mode."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads.covering import covering
from inference.roads.evaluating import Evaluated
from inference.roads.gaussian import gaussian, smooth
from inference.roads.grounds import Inferred, Tried
from inference.roads.judging import judged
from inference.roads.labelling import _log_p, are_free, are_labels, in_order, interchangeable
from inference.roads.modes import mixture, shares
from inference.roads.paths import Gaussian, walk
from inference.roads.roads import by_gaussian, wanted
from inference.running.quiet import quietly
from inference.sampling import starts
from inference.sampling.engine import Sampled
from tests.helpers.unseen import mixed
from tests.helpers.unseen_cases import UNSEEN

pytestmark = pytest.mark.usefixtures("double")


def density_of(model, *args):
    with quietly(0):
        return ProgramPotential(outline(zoo.program(model), args, {}), recentred=True)


def found_by_gaussian(case, seed):
    program, arguments, *_ = case
    density = density_of(program, *arguments)
    with quietly(seed):
        return density, gaussian(density, starts.centre(density, {}), seed)


@pytest.mark.parametrize("seed", range(3))
def test_a_far_mode_of_little_mass_is_found(seed):
    """By quadrature the mode at -11.5 holds 0.0018 of the posterior, and makes its deviation 1.25, not 0.51."""
    case = UNSEEN["far_cauchy"]()
    _, found = found_by_gaussian(case, seed)
    assert len(found.modes) == 2
    assert found.stretch == pytest.approx(np.log(case[2]["mu"][1] / 0.51), abs=0.1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "elsewhere"), [("far_five", 0.1), ("swapped", 0.3), ("far_fifty", 0.4)])
def test_what_other_modes_hold_is_told(name, elsewhere, seed):
    """Modes of spherical Gaussians of known weights; two that differ in the order of two numbers are two."""
    _, found = found_by_gaussian(UNSEEN[name](), seed)
    assert found.elsewhere == pytest.approx(elsewhere, abs=0.01)


def test_a_point_that_stands_still_on_a_saddle_is_no_mode():
    program, arguments, *_ = UNSEEN["saddle"]()
    density = Evaluated(density_of(program, *arguments))
    ends = walk(density, torch.zeros(1, 2), torch.Generator().manual_seed(0))
    # x_1 x_2 = 2 - 0.01 at the mode, where d/dx (x^2 + (2 - x^2)^2 / 0.02) = 0.
    at = ends[0].loc
    assert abs(float(at.prod())) > 0.5
    assert float(density(at[None])[0]) > float(density(torch.zeros(1, 2))[0]) + 50


def test_numbers_alike_that_are_no_labels_stay_as_they_are():
    def alike(y):
        with pyro.plate("group", len(y)):
            theta = pyro.sample("theta", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    density = density_of(alike, torch.zeros(4))
    draws = {"theta": torch.randn(2, 500, 4, generator=torch.Generator().manual_seed(0)) / 2**0.5}
    assert interchangeable(density, draws, "group")
    found, told = in_order(density, draws)
    assert told == []
    assert torch.equal(found["theta"], draws["theta"])


def batting(at_bats, hits):
    m = pyro.sample("m", dist.Uniform(0.0, 1.0))
    kappa = pyro.sample("kappa", dist.Pareto(1.0, 1.5))  # whose tail goes on to numbers that leave no digits
    with pyro.plate("player", len(hits)):
        pyro.sample("hits", dist.BetaBinomial(m * kappa, (1 - m) * kappa, at_bats), obs=hits)


def test_where_the_density_is_rounding_errors_there_is_no_mode():
    density = density_of(batting, torch.full((5,), 45.0), torch.tensor([18.0, 17.0, 16.0, 15.0, 14.0]))
    wide = torch.eye(2)
    m, far = torch.tensor([-0.8, 3.0]), torch.tensor([-0.8, 30.0])  # free: kappa is 1 + exp
    values = density.constrain(torch.stack([m, far]))[0]
    assert float(values["kappa"][1]) > 1e13  # lgamma is 3e14 there, in steps of a sixteenth
    at_the_mode, among_errors = Gaussian(m, 0.3 * wide), Gaussian(far, 0.1 * wide)
    with quietly(0):
        assert smooth(Evaluated(density), [at_the_mode, among_errors]) == [at_the_mode]


def test_a_density_with_kinks_or_jumps_has_modes():
    def kinked():
        pyro.sample("x", dist.Laplace(0.0, 1.0).expand([3]).to_event(1))
        step = pyro.sample("step", dist.Normal(0.0, 1.0))
        pyro.factor("jump", (step > 0.5).double() * 5)

    density = density_of(kinked)
    known = Gaussian(torch.zeros(4), torch.eye(4))
    with quietly(0):
        assert smooth(Evaluated(density), [known]) == [known]


def funnel():
    v = pyro.sample("v", dist.Normal(0.0, 3.0))  # Neal (2003)
    with pyro.plate("i", 9):
        pyro.sample("x", dist.Normal(0.0, (v / 2).exp()))


def test_latents_alike_that_are_no_labels_do_not_keep_chains_away():
    density = density_of(funnel)
    with quietly(0):
        made = by_gaussian(density, starts.centre(density, {}), 1000, 0)
    assert made is not None
    found = made[0]
    assert interchangeable(density, found.draws, "i")
    tried = Tried("Gaussian", found.grounds, 0.0, 0.0)
    assert not tried.holds
    assert wanted("Hamiltonian", [tried])


def heavy():
    s = pyro.sample("s", dist.HalfCauchy(1.0))
    with pyro.plate("i", 40):
        pyro.sample("x", dist.StudentT(1.0, 0.0, s))


@pytest.mark.parametrize("seed", range(3))
def test_few_draws_of_large_weights_make_no_labels(seed):
    """One to eleven of them are effective, and so narrow that some of forty numbers alike lie apart."""
    density = density_of(heavy)
    with quietly(seed):
        made, found = by_gaussian(density, starts.centre(density, {}), 1000, seed)
    assert found.apart
    assert found.weighed.share * len(found.weighed.points) < 50
    assert wanted("Hamiltonian", [Tried("Gaussian", made.grounds, 0.0, 0.0)])


@pytest.mark.slow
def test_the_funnel_is_believed_by_chains_and_is_as_wide_as_it_is():
    found = inference.infer(zoo.program(funnel), progress=False)
    assert (found.road, found.trusted) == ("Hamiltonian", True)
    v = found.draws["v"].flatten()
    assert float(v.std()) == pytest.approx(3.0, rel=0.05)
    assert float(v.mean()) == pytest.approx(0.0, abs=0.3)


def test_free_latents_and_the_density_are_of_the_coordinates_of_now():
    """log p(v) of values does not depend on the coordinates, and is that of the distributions."""

    def nested():
        m, s = pyro.sample("m", dist.Normal(1.0, 1.0)), pyro.sample("s", dist.LogNormal(0.0, 1.0))
        with pyro.plate("part", 2):
            pyro.sample("x", dist.Normal(m, s))

    density = density_of(nested)
    points = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    values = density.constrain(points)[0]
    density.visit.shares = torch.tensor([1.0, 1.0, 0.25, 0.0])
    again = density.free(values)
    assert not torch.allclose(again, points)
    for name, value in density.constrain(again)[0].items():
        torch.testing.assert_close(value, values[name])
    wanted = (
        dist.Normal(1.0, 1.0).log_prob(values["m"]) + dist.LogNormal(0.0, 1.0).log_prob(values["s"])
        + dist.Normal(values["m"][:, None], values["s"][:, None]).log_prob(values["x"]).sum(-1)
    )  # fmt: skip
    torch.testing.assert_close(_log_p(density, {name: value[None] for name, value in values.items()}), wanted)
    assert interchangeable(density, {name: value[None] for name, value in values.items()}, "part")


def test_chains_in_modes_that_differ_in_order_do_not_agree_where_the_density_tells_them_apart():
    program, *_ = mixed([0.3, 0.7], [[-4.0, 4.0], [4.0, -4.0]], [1.0, 1.0])
    signs = torch.tensor([-1.0, 1.0, 1.0, -1.0])[:, None, None] * torch.tensor([4.0, -4.0])
    draws = {"u": signs + torch.randn(4, 200, 2, generator=torch.Generator().manual_seed(0))}
    found = Sampled(draws, frozenset(), {}, "mcmc", 4, 200, rhat={"u": 3.0})
    told = judged(found, lambda: density_of(program))
    assert told.grounds[0].name == "R-hat"
    assert not told.grounds[0].holds
    program, *_ = mixed([0.5, 0.5], [[-4.0, 4.0], [4.0, -4.0]], [1.0, 1.0])
    assert "labels of 'u_dim_0' in one order" in judged(found, lambda: density_of(program)).grounds[0].name


def test_chains_that_never_move_hold_no_draws():
    draws = {"a": torch.full((4, 200), 1e200)}
    told = judged(Sampled(draws, frozenset(), {}, "mcmc", 4, 200, rhat={"a": 1.0}))
    assert [ground.name for ground in told.grounds if not ground.holds] == ["bulk ESS", "tail ESS"]


def test_draws_that_leave_out_a_known_mode_are_not_believed():
    density, found = found_by_gaussian(UNSEEN["far_five"](), 0)
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(2, 500, 5, generator=generator) - 2
    other = 0.7 * torch.randn(2, 500, 5, generator=generator) + 4
    both = torch.where(torch.rand(2, 500, 1, generator=generator) < 0.1, other, one)
    for draws, missed in ((one, 1), (both, 0)):
        made = covering(Inferred({"u": draws}, frozenset(), {}, "mcmc", 2, 500), density, found.modes)
        assert made.grounds[-1].value == missed


def test_a_mode_counts_by_its_share_of_the_evidence_and_not_of_the_bounds():
    """Of a normal, whose evidence is 1: e^-6 of it is little, though the other Gaussian's bound is lower still."""

    def normal():
        pyro.sample("u", dist.Normal(0.0, 1.0).expand([2]).to_event(1))

    density = density_of(normal)
    draws = torch.randn(4, 500, 2, generator=torch.Generator().manual_seed(0))
    ill = Gaussian(torch.zeros(2), 0.01 * torch.eye(2), -6.5)
    for bound, missed in ((-6.0, 0), (-1.0, 1)):
        far = Gaussian(torch.tensor([7.0, 0.0]), 0.1 * torch.eye(2), bound)
        made = covering(Inferred({"u": draws}, frozenset(), {}, "mcmc", 4, 500), density, [ill, far])
        assert made.grounds[-1].value == missed


def test_draws_that_leave_out_a_mode_of_little_mass_far_off_are_not_believed():
    """The mode at -11.5 of 0.0018, 50 deviations off, of which 1000 draws may well have none."""
    density, found = found_by_gaussian(UNSEEN["far_cauchy"](), 0)
    draws = 14.4 + 0.5 * torch.randn(1, 1000, generator=torch.Generator().manual_seed(0))
    for few, missed in ((0, 1), (2, 0)):
        draws[:, :few] = -11.5
        made = covering(Inferred({"mu": draws}, frozenset(), {}, "smc", 1, 1000), density, found.modes)
        assert made.grounds[-1].value == missed


def test_slices_of_a_bent_mode_are_not_weighed_as_modes():
    """A valley y ~ Normal(2 x^2, 0.1): Gaussians of its slices do not reach its ends."""
    generator = torch.Generator().manual_seed(0)
    told = []
    for _ in range(20):
        x = torch.randn(1024, generator=generator)
        cloud = torch.stack([x, 2 * x**2 + 0.1 * torch.randn(1024, generator=generator)], -1)

        def log_p(u):
            return dist.Normal(0.0, 1.0).log_prob(u[:, 0]) + dist.Normal(2 * u[:, 0] ** 2, 0.1).log_prob(u[:, 1])

        proposal = mixture(cloud)
        if len(proposal.parts) > 1 and (found := shares(proposal, log_p, cloud, generator)) is not None:
            weights = found.weights(cloud).softmax(0)
            mean = weights @ cloud[:, 1]
            told.append(float((weights @ (cloud[:, 1] - mean).square()).sqrt()) / 8.01**0.5 - 1)
    # Of a chi-square of one degree, whose kurtosis is 15, a deviation of 1024 draws is off by 0.058.
    assert all(abs(error) < 4 * 0.058 for error in told)
    assert not told or abs(sum(told)) / len(told) < 4 * 0.058 / len(told) ** 0.5


def test_the_mode_of_data_in_other_units_is_found_from_the_one_at_the_prior():
    """A million deviations off, under a Cauchy prior: chains that begin near the prior never see where all mass is."""
    (_, _, known, evidence), (_, found) = UNSEEN["wrong_units"](), found_by_gaussian(UNSEEN["wrong_units"](), 0)
    mean, deviation = known["mu"]
    assert float(found.guide.loc[0]) == pytest.approx(float(mean), abs=0.1 * float(deviation))
    assert found.guide.bound == pytest.approx(evidence, abs=0.5)
    assert found.elsewhere < 1e-6


def test_labels_keep_chains_away_beside_a_component_that_is_empty():
    """Two of three components lie apart, and the third is as wide as its prior, near to both."""

    def mixed_of_three(y):
        with pyro.plate("part", 3):
            mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        pyro.factor("y", (dist.Normal(mu, 1.0).log_prob(y[:, None]).logsumexp(-1)).sum())

    density = density_of(mixed_of_three, torch.tensor([-5.0, -5.2, -4.7, 5.1, 4.8, 5.0]))
    noise = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    draws = {"mu": (torch.tensor([-5.0, 0.0, 5.0]) + torch.tensor([0.5, 10.0, 0.5]) * noise)[None]}
    assert not are_labels(density, draws, "part")
    assert are_free(density, draws, "part")
    alike = {"mu": (torch.tensor([0.1, 0.0, -0.1]) + noise)[None]}
    assert not are_free(density, alike, "part")
