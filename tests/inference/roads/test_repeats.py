"""The same seed, the same bits: twice in one process, in two processes, and however slow the machine is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.compiling.fallback import Fastest
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from inference.roads.evaluating import Evaluated
from inference.running.quiet import quietly

ROOT = Path(__file__).parents[3]


def counts(y):
    rate = pyro.sample("rate", dist.Gamma(torch.tensor(2.0).to(y), 1.0))
    with pyro.plate("row", len(y)):
        scale = pyro.sample("scale", dist.LogNormal(torch.zeros(()).to(y), 0.5))
        pyro.sample("y", dist.Poisson(rate * scale), obs=y)


def bits():
    """Of all draws, as text."""
    y = torch.tensor([3.0, 1, 4, 1, 5], dtype=torch.float64)
    posterior = inference.infer(zoo.program(counts), y, seed=3, progress=False)
    flat = torch.cat([value.flatten() for value in posterior.draws.values()])
    return posterior.road, flat.numpy().tobytes().hex()


def test_twice_in_one_process():
    assert bits() == bits()


@pytest.mark.slow
def test_in_two_processes():
    command = "from tests.inference.roads.test_repeats import bits; print(*bits())"
    found = [
        subprocess.run(
            [sys.executable, "-c", command],
            cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": str(seed)}, check=True, capture_output=True, text=True,
        ).stdout.split()
        for seed in (1, 2)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert tuple(found[0]) == bits()


@pytest.mark.parametrize("seconds", [0.0, 100.0])
def test_shapes_do_not_follow_from_the_clock(monkeypatch, seconds):
    monkeypatch.setattr(Fastest, "seconds", property(lambda run: seconds))
    seen = []
    y = torch.tensor([3.0, 1, 4], dtype=torch.float64)
    with quietly(0):
        density = ProgramPotential(outline(zoo.program(counts), (y,), {}))
        evaluate = Evaluated(density)
        bound = evaluate.run.bind()
        monkeypatch.setattr(
            evaluate.run, "bind", lambda: lambda points, *held: seen.append(len(points)) or bound(points, *held)
        )
        evaluate(density.prior(600))
        evaluate(density.prior(10))
    assert seen == [512, 512, 64]
