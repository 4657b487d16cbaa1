"""Averaging, convergence, early stopping and the learning rate by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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
    assert [stopping.update(score, [parameter]) for score in (3.0, 2.0, 2.5, 2.5)] == [False, False, False, True]
