"""Draws of chains that are tuned: until they are enough, and again in smaller steps where transitions diverge.

A transition that diverges says that the steps are too long for some corner of the posterior, and draws near it too few
(Betancourt 2017, "A conceptual introduction to Hamiltonian Monte Carlo", section 6.2). Steps tuned to accept more often
follow sharper corners. The chains go on from where they stand, under the metric and for the time that they have; what
was drawn in longer steps is dropped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from inference.sampling.adaptation import StepSize, harmonic
from inference.sampling.chains import Chains, clock
from inference.sampling.effective import FIRST, Enough
from inference.sampling.hamiltonian import Metric, plan
from inference.sampling.options import Run
from inference.sampling.warmup import STEPS, warm
from inference.sampling.writer import Draws

RETUNED = 50  # transitions that find the size of smaller steps
SHARE = 0.5  # of the time that was given, after which steps stay as they are


def hmc(chains: Chains, kept: Draws, points: Tensor, metric: Metric | None, wanted: Run) -> tuple[int, float, float]:
    """Warm up until the chains agree, then draw.

    Args:
        chains: that walk.
        kept: takes the draws.
        points: to start from, (C, P).
        metric: to start with, where one is known.
        wanted: what was asked for.

    Returns:
        Transitions of warm-up, step size, trajectory length.
    """
    bar = tqdm(total=None, disable=None if wanted.progress else True, unit="draw", desc="warm-up")
    began, targets = clock(), list(wanted.targets)
    try:
        chains.target = targets.pop(0)
        chains.ahead = wanted.thin * (wanted.draws if wanted.ess is None else min(FIRST, wanted.draws))
        size, length, warmup = warm(chains, points, metric, wanted.max_warmup, bar)
        chains.spent("warmup", began)
        chains.seconds["warmup"] -= chains.seconds["compile"]
        chains.cpu["warmup"] -= chains.cpu["compile"]
        if chains.notes:  # smaller steps are no help to chains that do not agree
            targets = []
        began, compiled = clock(), (chains.seconds["compile"], chains.cpu["compile"])
        try:
            while not _draw(chains, kept, size, length, wanted, bar, bool(targets)):
                kept.restart()
                chains.target = targets.pop(0)
                size = _retuned(chains, size, length)
                warmup += RETUNED
        except KeyboardInterrupt:
            if not kept.count:
                raise
            chains.notes.append(f"interrupted: {kept.count} of {wanted.draws} draws of each chain are kept")
        except OSError as error:
            if not kept.done:
                raise
            kept.forget()
            chains.notes.append(f"store: {error}: {kept.done} of {wanted.draws} draws of each chain are kept")
        kept.flush()
        chains.spent("draws", began)
        for counted, known in ((chains.seconds, compiled[0]), (chains.cpu, compiled[1])):
            counted["draws"] -= counted["compile"] - known
    finally:
        bar.close()
    return warmup, size, length


def _draw(chains: Chains, kept: Draws, size: float, length: float, wanted: Run, bar: Any, careful: bool) -> bool:
    """Draw until there is enough of it; False where a transition diverged first, if that is looked at."""
    draws, enough = wanted.draws, None
    if wanted.ess is not None:
        least = -(-wanted.least // chains.number)
        enough = Enough(wanted.ess, chains.potential.size, least, draws if wanted.resigns else None)
    steps = min(STEPS, length / size)
    chains.weigh(chains.ahead, steps)
    bar.reset(total=draws)
    bar.set_description("sampling")
    for count in range(1, draws + 1):
        points, told = _drawn(chains, size, length, wanted.thin)
        kept.take(points, told)
        bar.update()
        if careful and not chains.deadline.over(SHARE) and bool(told["diverging"].any()):
            return False
        if enough is not None and enough(points, kept.sites):
            break
        if enough is not None and enough.looked == count:
            chains.weigh(wanted.thin * min(draws - count, (enough.missing - 1) * count), steps)
        if count < draws and chains.deadline.over():
            chains.notes.append(f"{chains.deadline.words}: {count} of {draws} draws of each chain are kept")
            break
        if enough is not None and enough.hopeless:
            chains.notes.append(enough.missed())
            break
    else:
        chains.notes += filter(None, [enough.missed()] if enough is not None else [])
    return True


def _drawn(chains: Chains, size: float, length: float, thin: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Free latents after `thin` transitions, (C, P), and what there is to tell of them, each (C,)."""
    diverging = torch.zeros(chains.number, dtype=torch.bool, device=chains.device)
    for _ in range(thin):
        used, steps = plan(length, size, chains.index, STEPS)
        chains.index += 1
        move = chains.move(chains.sizes(used), steps)
        diverging = diverging | move.diverging
    density = chains.state.log_density
    return chains.points(), {
        "acceptance_rate": move.acceptance,
        "energy": move.energy,
        "lp": density,
        "diverging": diverging,
        "n_steps": torch.full_like(density, steps, dtype=torch.long),
        "step_size": torch.full_like(density, used),
    }


def _retuned(chains: Chains, size: float, length: float) -> float:
    """The step size that accepts as often as is now wanted, metric and trajectory length being as they are."""
    step = StepSize(chains.state.z.new_tensor(size / 2), chains.target)
    for _ in range(RETUNED):
        used, steps = plan(length, float(step.size), chains.index, STEPS)
        chains.index += 1
        step.update(harmonic(chains.move(chains.sizes(used), steps).acceptance))
    return min(size, float(step.settled))
