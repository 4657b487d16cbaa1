"""Averaging, convergence, early stopping and the learning rate by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.fitting.loop import diverged
from inference.fitting.schedule import Averaging, Convergence, Cycles, EarlyStopping, learning_rate


def test_averaging_convergence_and_schedule():
    parameter = torch.zeros(1)
    averaging = Averaging([parameter])
    for value in (1.0, 2.0, 6.0):
        parameter.fill_(value)
        averaging.add()
    averaging.apply()
    assert float(parameter) == pytest.approx(3.0)
    assert [learning_rate("cosine", step, 1000) for step in (49, 1000)] == pytest.approx([1.0, 0.0])
    noise = np.random.default_rng(0).normal(size=20_000)
    falling, flat = Convergence(1e-4), Convergence(1e-4)
    for step in range(1000):
        assert not falling.update(100 - 0.1 * step + 0.1 * noise[step])
    stages = sum(flat.update(value) for value in noise)
    assert flat.done
    assert stages > 3
    stopping = EarlyStopping(2, 0.0)
    for score, stop in ((3.0, False), (2.0, False), (2.5, False), (2.5, True)):
        parameter.fill_(10 * score)
        assert stopping.update(score, [parameter]) == stop
    stopping.restore([parameter])
    assert float(parameter) == 20.0  # what it was at the least


@pytest.mark.parametrize("limit", [7, 100, 999, 5000])
def test_the_cosine_schedule_is_that_of_torch(limit):
    """A linear rise over the first twentieth, 50 steps at most, then a cosine to zero: by torch's own schedulers."""
    rise = min(50, max(1, limit // 20))
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    linear = torch.optim.lr_scheduler.LinearLR(optimiser, start_factor=1 / rise, total_iters=rise)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=limit - rise)
    whole = torch.optim.lr_scheduler.SequentialLR(optimiser, [linear, cosine], milestones=[rise])
    # torch's rise starts at 1 / rise and would reach 1 where its cosine starts.
    wanted = []
    for step in range(limit + 1):
        wanted.append(optimiser.param_groups[0]["lr"] / 0.3 if step >= rise else (step + 1) / rise)
        optimiser.step()
        whole.step()
    found = [learning_rate("cosine", step, limit) for step in range(limit + 1)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    assert {learning_rate("constant", step, limit) for step in range(limit)} == {1.0}


@pytest.mark.parametrize(("schedule", "first"), [("constant", 1.0), ("cosine", 1 / 4)])
def test_the_first_step_is_as_long_as_the_rate(schedule, first):
    """Adam's first step moves every parameter by the rate (Kingma & Ba 2015, section 2.1)."""
    torch.manual_seed(0)
    pair = zoo.create("gaussian_vae", features=4, latent=2, hidden=()).double()
    x = torch.rand(30, 4).round()
    before = [p.detach().clone() for p in pair.parameters()]
    steps = []
    inference.fit(
        pair, x, steps=80, lr=1e-3, schedule=schedule, compile="off", progress=False, average=0.0, initialise=False,
        callbacks=[lambda *_: steps.append([p.detach().clone() for p in pair.parameters()])],
    )  # fmt: skip
    moved = torch.cat([(b - a).abs().flatten() for a, b in zip(before, steps[0], strict=True)])
    torch.testing.assert_close(moved, torch.full_like(moved, first * 1e-3), rtol=1e-3, atol=0)


def run_of(cycles):
    """Rates of the steps of one run."""
    rates = [cycles.rate]
    while not cycles.step():
        rates.append(cycles.rate)
    return rates


def test_annealed_runs_are_cosines_each_twice_as_long_as_the_last():
    cycles = Cycles(1e-4, first=50)
    for length in (50, 100, 200):
        assert run_of(cycles) == [learning_rate("cosine", step, length) for step in range(length)]
        cycles.gains(torch.zeros(32))


@pytest.mark.parametrize(
    ("noise", "tolerance", "seen"), [(0.001, 1e-3, True), (0.1, 1e-3, False), (0.001, 0.02, False)]
)
def test_runs_end_where_the_same_draws_show_no_gain(noise, tolerance, seen):
    """A gain of 0.01 is far below the noise of 1 that both ends share; what counts is how they differ besides."""
    shared = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = noise * torch.linspace(-1, 1, 32, dtype=torch.float64)  # of mean 0
    cycles = Cycles(tolerance)
    assert cycles.gains(shared + 0.01)
    assert cycles.gains(shared + own) == seen
    assert not cycles.gains(shared + own)


def test_gains_that_their_own_noise_would_hide_do_not_count_where_slow_ones_do_not():
    """Noise of 1 shows 0.14 in a window of 100 steps, 1.4 in one of 1,000: the next run is to gain 0.4^2 / 1 = 0.16."""
    shared = torch.linspace(-1.7, 1.7, 32, dtype=torch.float64)  # of deviation 1
    for slow, goes_on in ((True, True), (False, False)):
        cycles = Cycles(1e-4)
        assert cycles.gains(shared + 1.4)
        assert cycles.gains(shared + 0.4, slow=slow)
        assert cycles.gains(shared, slow=slow) == goes_on


def test_a_few_noisy_losses_have_not_diverged_and_a_climb_has():
    assert diverged([-0.9, 0.4, 1.2, 16.8, 10.6]) is None  # as high before, and down again: minibatches
    assert "went from 1 to 40" in (diverged([1.0, 2.0, 5.0, 12.0, 40.0]) or "")
    assert "went from 1 to 40" in (diverged([1.0] * 10 + [50.0] * 5 + [40.0] * 10) or "")
