"""Chains that agree, chains that do not, and why: R-hat, switched labels, separate modes."""

from __future__ import annotations

from typing import ClassVar

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from inference.sampling import labels, mixing
from inference.sampling.sample import sample
from tests.helpers.sampling import QUICK, short
from zoo import ModelGuide


class Two(ModelGuide):
    """Two equal normals whose labels nothing tells apart."""

    dims: ClassVar = {"locs": ("component",)}

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(2))

    def model(self, batch):
        locs = pyro.sample("locs", dist.Normal(0 * self.one, 5 * self.one).to_event(1))
        with batch.plate():
            parts = dist.Normal(locs, self.one)
            return pyro.sample("x", dist.MixtureSameFamily(dist.Categorical(self.one / 2), parts), obs=batch.x)


@pytest.mark.parametrize("kind", ["mixed", "shifted", "wider"])
def test_rhat_is_that_of_arviz(kind):
    draws = np.random.default_rng(0).standard_normal((4, 101))
    draws[0] = draws[0] + 1 if kind == "shifted" else draws[0] * (3 if kind == "wider" else 1)
    assert float(mixing.rhat(torch.from_numpy(draws))) == pytest.approx(az.rhat(draws).item(), abs=1e-3)
    assert (float(mixing.rhat(torch.from_numpy(draws))) > 1.01) == (kind != "mixed")


def test_switched_labels_and_separate_modes_are_told_apart():
    torch.manual_seed(0)
    locs = torch.randn(8, 200, 2) * 0.1 + torch.tensor([-3.0, 3.0])
    dims, density = {"locs": ("component",), "rows": ("component", "other")}, torch.randn(8, 200)
    switched = locs.clone()
    switched[3:] = switched[3:].flip(-1)
    rows = switched.unsqueeze(-1) + torch.zeros(3)
    assert "labels switch along 'component'" in told({"locs": switched, "rows": rows}, dims, density)
    modes = locs.clone()
    modes[5:] += 4
    assert "several modes" in told({"locs": modes}, dims, density)
    walk = torch.randn(8, 200, 2).cumsum(1)
    assert "not mixed yet" in told({"locs": 1e-3 * walk + torch.randn(8, 200, 2) * 0.1}, dims, density)


def told(draws, dims, density):
    return mixing.disagreement(draws, dims, density, mixing.worst(draws))


def test_a_number_that_only_rounding_moves_has_mixed():
    ones = torch.ones(4, 50).double() + 1e-16 * torch.arange(4)[:, None] + torch.tensor([0.0, 2.0**-52]).repeat(25)
    assert mixing.worst({"one": ones}) == {"one": 1.0}


def test_nine_labels_are_put_into_one_order():
    torch.manual_seed(0)
    locs, moves = torch.randn(9), torch.rand(9, 9)
    orders = torch.stack([torch.randperm(9) for _ in range(6)])
    noise = 0.01 * torch.randn(6, 40, 9, 10)
    draws = {
        "locs": locs[orders].unsqueeze(1) + noise[..., 0],
        "moves": moves[orders.unsqueeze(2), orders.unsqueeze(1)].unsqueeze(1) + noise[..., 1:],
    }
    for kept in (["locs", "moves"], ["moves"]):
        found = labels.relabelled({n: draws[n] for n in kept}, {"locs": ("k",), "moves": ("k", "next_k")}, "k", 2)
        assert max(mixing.worst(found).values()) < 1.1
        torch.testing.assert_close(found["moves"][2], draws["moves"][2])
    assert "labels switch along 'k'" in told(draws, {"locs": ("k",), "moves": ("k", "next_k")}, noise[..., 0, 0])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("switched", "labels switch along 'k'"),
        ("modes", "groups far apart"),
        ("mixed", ""),
        ("slow", ""),
        ("stuck", ""),
    ],
)
def test_chains_that_stay_apart_for_good_are_told_from_slow_ones(kind, wanted):
    torch.manual_seed(0)
    locs, density = 0.1 * torch.randn(16, 50, 3) + torch.tensor([-3.0, 0.0, 3.0]), torch.randn(16, 50)
    if kind == "switched":
        locs[9:] = locs[9:, :, [2, 0, 1]]
    elif kind == "modes":
        locs[9:] += 5
    elif kind == "slow":  # each is somewhere in one wide mode, and goes a little way
        locs = 10 * torch.randn(16, 1, 3) + (0.3 * torch.randn(16, 50, 3)).cumsum(1)
    elif kind == "stuck":
        locs[0] = 4.0
    found, groups = mixing.standstill({"locs": locs}, {"locs": ("k",)}, density)
    assert (wanted in found) if wanted else (found == "")
    if kind == "slow":
        assert len(groups) > 8  # apart by now, though not for good
    else:
        assert sorted(groups) == ([list(range(9)), list(range(9, 16))] if wanted else [])


def test_separate_modes_are_not_averaged_in_silence():
    torch.manual_seed(0)
    x = torch.cat([torch.randn(4) - 4, torch.randn(4) + 4]).double()
    with (
        pytest.warns(UserWarning, match="warm-up stopped after .* labels switch along 'component'"),
        pytest.warns(UserWarning, match="chains disagree .* labels switch along 'component'"),
    ):
        found = sample(Two().double(), x, 40, 16, start="prior", max_warmup=4000, **QUICK)
    assert found.warmup < 1000  # more of it would be in vain, and a note says so
    assert "more would not bring the chains together, for labels switch" in found.notes[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:warm-up stopped after", "ignore:chains disagree")
def test_chains_in_modes_far_apart_walk_at_the_scale_of_their_own_mode():
    torch.manual_seed(0)
    n, x = 40, torch.cat([torch.randn(40) - 5, torch.randn(40) + 5]).double()
    found = sample(Two().double(), x, 50, 32, start="prior", **QUICK)
    locs = found["locs"].sort(-1).values
    away = locs - torch.stack([x[:n].sum(), x[n:].sum()]) / (n + 1 / 25)  # conjugate, as hardly a row could be of both
    sd = (n + 1 / 25) ** -0.5
    assert found.rhat["locs"] > 1.5  # both orders are there
    assert float(away.mean((0, 1)).abs().max()) < 4 * sd / 600**0.5
    assert float((locs.std((0, 1)) / sd - 1).abs().max()) < 0.1
    assert float(found.stats["n_steps"].double().mean()) < 10  # they lie 60 sd apart: dozens at that scale


class Bent(ModelGuide):
    """A long narrow ridge: one mode, and slow to walk along."""

    def __init__(self):
        super().__init__()
        self.register_buffer("one", torch.ones(()))

    def model(self, batch):
        along = pyro.sample("along", dist.Normal(0 * self.one, 10 * self.one))
        pyro.sample("across", dist.Normal(along**2 / 4, self.one / 4))
        with batch.plate():
            return pyro.sample("x", dist.Normal(0 * self.one, self.one), obs=batch.x)


@short
def test_a_slow_posterior_of_one_mode_warms_up_to_the_end():
    with pytest.warns(UserWarning, match="warm-up stopped at max_warmup="):
        found = sample(Bent().double(), torch.zeros(2), 20, 8, max_warmup=150, **QUICK)
    assert "warm-up stopped at max_warmup=" in found.notes[0]


@short
@pytest.mark.parametrize("most", [6, 13])
def test_warm_up_keeps_to_its_limit_however_short(most):
    words = f"warm-up stopped at max_warmup={most}" + (": too few to tell" if most < 10 else " with R-hat above")
    with pytest.warns(UserWarning, match=words):
        found = sample(Bent().double(), torch.zeros(2), 2, 4, max_warmup=most, **QUICK)
    assert found.warmup <= most


def autoregressions(n, rho=0.9, chains=64, numbers=5, seed=0):
    """Stationary AR(1) series of variance 1, (chains, n, numbers): chains that move slowly."""
    generator = torch.Generator().manual_seed(seed)
    x = [torch.randn(chains, numbers, generator=generator, dtype=torch.float64)]
    for _ in range(n - 1):
        x.append(rho * x[-1] + (1 - rho**2) ** 0.5 * torch.randn(chains, numbers, generator=generator).double())
    return torch.stack(x, 1)


@pytest.mark.parametrize("seed", range(5))
def test_slow_chains_are_steady_and_drifting_ones_are_not(seed):
    draws = autoregressions(400, rho=0.8, seed=seed)
    assert 1.01 < float(mixing.rhat(draws).max()) < mixing.MIXED  # too few draws, though nothing is amiss
    assert mixing.steady(draws)
    time = torch.linspace(0, 1, 400, dtype=torch.float64).view(1, -1, 1)
    assert not mixing.steady(torch.cat([draws[..., :4], draws[..., 4:] + 0.8 * time], -1))  # on their way, together
    assert not mixing.steady(torch.cat([draws[..., :4], draws[..., 4:] * (1 + 0.5 * time)], -1))  # spreading out
    assert not mixing.steady(draws[: mixing.FEW - 1])


def test_few_chains_are_told_steady_by_mistake():
    wrong = sum(not mixing.steady(autoregressions(100, chains=16, numbers=50, seed=seed)) for seed in range(20))
    assert wrong <= 6  # of 100 t-tests each, of 15 degrees of freedom: p(|t| > 4) = 0.0012 once, 0.11 in 100
