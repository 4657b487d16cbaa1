"""One Hamiltonian transition keeps its target; step, metric and length of the way settle where they should."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from inference.sampling import adaptation, hamiltonian
from inference.sampling.sample import sample
from tests.helpers.sampling import QUICK, Normals, short


def normal_step(scale):
    """Leapfrog on independent normals of these scales."""

    def value_and_gradient(u):
        return -0.5 * (u / scale).square().sum(-1), -u / scale**2

    metric = hamiltonian.Metric(torch.zeros_like(scale), torch.ones_like(scale))
    step = hamiltonian.leapfrog(value_and_gradient)
    return lambda *arguments: step(metric.centre, metric.scale, *arguments)


def stationary(transition, chains=20_000):
    """Chains that start in the target of `normal_step` and should stay: z-score of their second moments."""
    torch.manual_seed(0)
    scale = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    step, z = normal_step(scale), torch.randn(chains, 3, dtype=torch.float64) * scale
    size = torch.full((chains, 1), 0.8, dtype=torch.float64)
    _, _, density, gradient = step(z, z, z, 0 * size)
    state = hamiltonian.State(z, density, gradient)
    for _ in range(10):
        state, _ = transition(step, state, torch.randn_like(z), torch.rand_like(density).log(), size, 2)
    square = (state.z / scale).square()
    return float(((square.mean(0) - 1).abs() / (square.std(0) / math.sqrt(chains))).max())


def test_a_transition_keeps_the_target_and_the_check_sees_a_planted_fault():
    assert stationary(hamiltonian.transition) < 4

    def always(step, state, noise, log_uniform, size, steps):
        return hamiltonian.transition(step, state, noise, log_uniform - 1e9, size, steps)

    def halved(step, state, noise, log_uniform, size, steps):
        return hamiltonian.transition(step, state, 0.8 * noise, log_uniform, size, steps)

    assert stationary(always) > 4
    assert stationary(halved) > 4


def test_leapfrog_goes_back_the_way_it_came():
    step = normal_step(torch.tensor([0.3, 2.0], dtype=torch.float64))
    z, momentum = torch.randn(2, 4, 2, dtype=torch.float64)
    size = torch.full((4, 1), 0.1, dtype=torch.float64)
    _, _, _, gradient = step(z, momentum, z, 0 * size)
    there = (z, momentum, gradient)
    for _ in range(7):
        found = step(*there, size)
        there = (found[0], found[1], found[3])
    back = (there[0], -there[1], there[2])
    for _ in range(7):
        found = step(*back, size)
        back = (found[0], found[1], found[3])
    torch.testing.assert_close(back[0], z)
    torch.testing.assert_close(-back[1], momentum)


@pytest.mark.parametrize("dense", [True, False])
def test_the_metric_whitens_its_draws(dense):
    torch.manual_seed(0)
    factor = torch.tensor([[2.0, 0.0], [1.5, 0.1]], dtype=torch.float64)
    scale = torch.eye(2).double() if dense else torch.ones(2).double()
    metric = hamiltonian.Metric(torch.ones(2).double(), 3 * scale)
    draws = 5 + torch.randn(200, 50, 2, dtype=torch.float64) @ factor.mT
    for _ in range(2):
        moments = adaptation.Moments(metric)
        for u in draws:
            moments.add(hamiltonian.State(metric.into(u), torch.randn(50).double(), u))
        metric = moments.metric()
    z = metric.into(draws.flatten(0, 1))
    torch.testing.assert_close(metric.out(z), draws.flatten(0, 1))
    assert z.mean(0).abs().max() < 1e-6
    covariance = z.mT @ z / len(z)
    torch.testing.assert_close(covariance.diagonal(), torch.ones(2).double(), rtol=1e-2, atol=0)
    assert (covariance[0, 1].abs() < 0.05) == dense


@pytest.mark.parametrize("dense", [True, False])
def test_chains_in_modes_of_their_own_get_the_metric_of_their_mode(dense):
    torch.manual_seed(0)
    scale = torch.eye(2).double() if dense else torch.ones(2).double()
    metric = hamiltonian.Metric(torch.zeros(2).double(), 3 * scale)
    centres, sds = torch.tensor([[9.0, -9.0], [-9.0, 9.0]]).double(), torch.tensor([[2.0, 0.1], [0.1, 2.0]]).double()
    mode = torch.tensor([0, 1, 1, 0, 1] * 4)
    draws = centres[mode] + sds[mode] * torch.randn(400, 20, 2, dtype=torch.float64)
    groups = [torch.nonzero(mode == 1).flatten().tolist(), torch.nonzero(mode == 0).flatten().tolist()]
    for _ in range(2):  # from a metric of all, then from one of each
        moments = adaptation.Moments(metric)
        for u in draws:
            moments.add(hamiltonian.State(metric.into(u), torch.randn(20).double(), u))
        together, within = moments.metric(), moments.metric(within=True)
        metric = moments.metric(groups, within=True)
        diagonal = metric.scale if metric.diagonal else metric.scale.diagonal(dim1=-2, dim2=-1)
        torch.testing.assert_close(metric.centre, centres[mode], atol=0.1, rtol=0)
        torch.testing.assert_close(diagonal, sds[mode], rtol=0.03, atol=0)
        shared = [found.scale if found.diagonal else found.scale.norm(dim=-1) for found in (together, within)]
        assert float(shared[0].min()) > 8  # as far as the modes lie apart, (0.4 * 0.6)^(1/2) * 18
        torch.testing.assert_close(shared[1], (0.4 * sds[0] ** 2 + 0.6 * sds[1] ** 2).sqrt(), rtol=0.03, atol=0)
        torch.testing.assert_close(metric.out(metric.into(draws[0])), draws[0])


def test_trajectory_grows_to_the_quarter_period():
    torch.manual_seed(0)
    clock, z = adaptation.Trajectory(time=0.3), torch.randn(64, 5)
    for i in range(400):
        time = math.prod(hamiltonian.plan(clock.time, 0.1, i, 512))
        momentum = torch.randn_like(z)
        end, speed = z * math.cos(time) + momentum * math.sin(time), momentum * math.cos(time) - z * math.sin(time)
        one = torch.ones(64)
        clock.update(hamiltonian.Move(one, one, one < 0, end, speed, z), time, 0.01, 100)
        z = end
    assert 1.2 < clock.settled < 1.7  # 1.43 maximises ChEES of a normal under this jitter


@short
def test_divergences_are_reported(monkeypatch):
    step, z = normal_step(torch.ones(2)), torch.ones(4, 2)
    state = hamiltonian.State(z, -z.square().sum(-1) / 2, -z)
    new, move = hamiltonian.transition(step, state, z, torch.zeros(4) - 1, torch.full((4, 1), 50.0), 3)
    assert move.diverging.all()
    assert torch.equal(new.z, z)

    def diverging(*arguments):
        state, move = hamiltonian.transition(*arguments)
        return state, replace(move, diverging=torch.arange(len(state.z)) == 1)

    monkeypatch.setattr("inference.sampling.chains.transition", diverging)
    with pytest.warns(UserWarning, match="30 of 120 transitions diverged"):
        found = sample(Normals().double(), torch.linspace(0, 1, 5), 30, 4, max_warmup=40, **QUICK)
    assert (found.stats["diverging"].sum(1) == torch.tensor([0, 30, 0, 0])).all()
    assert any("diverged" in note for note in found.notes)
