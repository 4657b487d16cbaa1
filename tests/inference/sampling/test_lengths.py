"""Which trajectory pays best: what is known of Gaussians, and chains on tails that ChEES climbs along."""

import math

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.stats import norm

import inference
import zoo
from inference.sampling import warmup
from inference.sampling.lengths import BEYOND, FEWEST, PAYS, TAILS, best, worth

pytestmark = pytest.mark.usefixtures("double")


def known(time):
    """Effective draws for each draw of a standard normal: of its mean, its square and its 5 % quantile, t spread over
    [t/2, 3t/2]. After a time s, z' = z cos s + v sin s, of which E[He_k(z') | z] = cos(s)^k He_k(z) (Mehler)."""
    spread = np.cos(np.linspace(time / 2, 3 * time / 2, 401))
    order = np.arange(1, 61)
    rate = np.array([(spread**k).mean() for k in order])
    at = norm.ppf(0.05)
    polynomials = [1.0, at]
    for k in order[1:]:
        polynomials.append(at * polynomials[-1] - (k - 1) * polynomials[-2])
    weight = (norm.pdf(at) * np.array([polynomials[k - 1] / math.sqrt(math.factorial(k)) for k in order])) ** 2
    slow = (1 + rate) / (1 - rate)
    left = 0.05 * 0.95 - weight.sum()  # of higher orders, which are forgotten at once
    return 1 / slow[0], 1 / slow[1], 0.05 * 0.95 / (weight @ slow + left)


def test_times_are_those_of_a_gaussian():
    times = np.arange(0.5, 2.5, 0.02)
    of_each = np.array([known(time) for time in times])
    quantiles = times[of_each[:, 2].argmax()]
    chees = times[np.argmax([1 - np.mean(np.cos(np.linspace(t / 2, 3 * t / 2, 401)) ** 2) for t in times])]
    assert pytest.approx(quantiles, abs=0.06) == TAILS
    assert pytest.approx(quantiles / chees, abs=0.06) == BEYOND


@pytest.mark.parametrize("time", [1.43, 1.8])
def test_a_gaussian_is_known_as_well_as_theory_says(time):
    """Exact flows of a standard normal, in 64 chains: their effective sizes by ArviZ against closed forms."""
    made = torch.Generator().manual_seed(4)
    z, draws = torch.randn(64, generator=made), []
    for _ in range(1000):
        s = time * (0.5 + float(torch.rand((), generator=made)))
        z = z * math.cos(s) + torch.randn(64, generator=made) * math.sin(s)
        draws.append(z)
    found = torch.stack(draws, 1).numpy()
    mean, _, tail = known(time)
    assert float(az.ess(found, method="mean")) / found.size == pytest.approx(mean, rel=0.1)
    assert float(az.ess(found, method="quantile", prob=0.05)) / found.size == pytest.approx(tail, rel=0.1)


def test_worth_is_of_bulk_and_tails_for_each_gradient():
    draws = torch.randn(16, 100, 3, generator=torch.Generator().manual_seed(1)).cumsum(1) * 0.3
    values = draws.numpy()
    least = [min(float(az.ess(values[..., i], method=m)) for i in range(3)) for m in ("bulk", "tail")]
    score, each = worth(draws, 50)
    assert score == pytest.approx(math.sqrt(least[0] * least[1]) / 50, rel=1e-9)
    assert each == pytest.approx(least[0] / 16, rel=1e-9)


def test_shorter_trajectories_are_taken_while_they_pay():
    asked = []

    def measure(time):
        asked.append(time)
        return {16.0: (2.0, 9.0), 8.0: (3.0, 9.0), 4.0: (3.0 * PAYS - 0.01, 9.0), 2.0: (100.0, 9.0)}[time]

    assert best(32.0, lambda: 1.0, measure, 0.1) == 8.0
    assert asked == [16.0, 8.0, 4.0]
    assert best(32.0, lambda: 1.0, measure, 10.0) == 16.0  # not below a step
    assert best(32.0, lambda: 1.0, lambda _: (9.0, FEWEST - 0.01), 0.1) == 32.0  # too few to tell
    assert best(32.0, lambda: 1.0, lambda _: None, 0.1) == 32.0  # no time
    assert best(1.0, lambda: 1 / 0, measure, 0.1) == BEYOND  # as of a Gaussian: nothing is tried
    assert best(1.7, lambda: 1 / 0, measure, 0.1) == TAILS


def tails():
    """The log of a gamma has a tail that falls as e^(0.3 u): ChEES sees ever more of it."""
    with pyro.plate("numbers", 6):
        pyro.sample("x", dist.Gamma(0.3 * torch.ones(6), 1.0))


def test_chains_on_heavy_tails_are_not_left_with_a_length_that_drifts(monkeypatch):
    def drawn():
        found = inference.sample(zoo.program(tails), draws=100, compile="graph", progress=False)
        return found, worth(found["x"], int(found.stats["n_steps"][0].sum()))[0]

    found, score = drawn()
    monkeypatch.setattr(warmup, "_lengths", lambda chains, window, time, most, bar: (time, 0))
    drifted, lower = drawn()
    assert found.trajectory == drifted.trajectory / 2 < 2 * TAILS
    assert found.warmup == drifted.warmup + warmup.TRIED
    assert score > 1.4 * lower
    mean = found["x"].mean((0, 1))
    assert torch.allclose(mean, torch.full_like(mean, 0.3), atol=0.04)  # of Gamma(0.3, 1), by definition
