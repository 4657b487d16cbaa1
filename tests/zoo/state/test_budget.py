"""What a saved record may ask for is bounded before it is built."""

from __future__ import annotations

import resource
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from torch import nn

import zoo
from zoo.settings import settings
from zoo.state.budget import Budget


def test_budget() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for demand in (
        lambda: torch.empty(10**9),
        lambda: torch.eye(10**5),
        lambda: torch.arange(10**10),
        lambda: torch.ones(10**5)[:, None] * torch.ones(10**5),
        lambda: torch.ones(3).repeat(10**9),
        lambda: [torch.zeros(1000) for _ in range(1000)],
        lambda: torch.randn(10**9, generator=torch.Generator()),
        lambda: torch.linspace(0, 1, 10**9),
        lambda: torch.ones(3).new_zeros(10**9),
        lambda: dist.Normal(0.0, torch.ones(3)).expand([10**9, 3]).sample(),
        lambda: nn.Linear(10**5, 10**5),
    ):
        with pytest.raises(MemoryError, match="do not justify"), Budget(10**6):
            demand()
    with Budget(10**6) as budget:
        base = torch.ones(1000)
        for _ in range(1000):
            base.add_(1).view(10, 100).mT.expand(5, 100, 10)
        assert base.nonzero().shape == (1000, 1)
    assert 4000 <= budget.used < 50_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB
    with settings.using(build_operations=500), pytest.raises(MemoryError, match="500 operations"), Budget(10**6):
        nn.Sequential(*(nn.Linear(1, 1) for _ in range(1000)))


def test_building_stays_far_below_the_budget(tmp_path: Path) -> None:
    # The bound must never refuse an honest pair.
    for name in zoo.names():
        with Budget(1 << 30) as budget:
            zoo.create(name)
        assert budget.used < (1 << 30) / 8, name
        assert budget.operations < 20_000, name
