"""Averaging, convergence, early stopping and the learning rate by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.fitting.schedule import Averaging, Convergence, EarlyStopping, learning_rate


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
