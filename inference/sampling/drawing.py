"""Draws of chains that are tuned: until they are enough, and again in smaller steps where transitions diverge.

A transition that diverges says that the steps are too long for some corner of the posterior, and draws near it too few
(Betancourt 2017, "A conceptual introduction to Hamiltonian Monte Carlo", section 6.2). Steps tuned to accept more often
follow sharper corners. The chains go on from where they stand, under the metric and for the time that they have; what
was drawn in longer steps is dropped.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from inference.sampling.adaptation import StepSize, harmonic
from inference.sampling.chains import Chains, clock
from inference.sampling.course import Course, Drawing
from inference.sampling.effective import FIRST, Enough
from inference.sampling.hamiltonian import Metric, plan
from inference.sampling.options import Run
from inference.sampling.warmup import STEPS, warm
from inference.sampling.writer import Draws

RETUNED = 50  # transitions that find the size of smaller steps
SHARE = 0.5  # of the time that was given, after which steps stay as they are


def hmc(
    chains: Chains, kept: Draws, points: Tensor, metric: Metric | None, wanted: Run, course: Course | None = None
) -> tuple[int, float, float]:
    """Warm up until the chains agree, then draw.

    Args:
        chains: that walk.
        kept: takes the draws.
        points: to start from, (C, P).
        metric: to start with, where one is known.
        wanted: what was asked for.
        course: keeps checkpoints, and may hold one to go on from.

    Returns:
        Transitions of warm-up, step size, trajectory length.
    """
    bar = tqdm(total=None, disable=None if wanted.progress else True, unit="draw", desc="warm-up")
    began, targets = clock(), list(wanted.targets)
    try:
        how = course.drawing() if course is not None else None
        if how is None:
            target = targets.pop(0)
            if course is None or course.found is None:
                chains.target = target
                chains.ahead = wanted.thin * (wanted.draws if wanted.ess is None else min(FIRST, wanted.draws))
            size, length, warmup = warm(chains, points, metric, wanted.max_warmup, bar, course)
            chains.spent("warmup", began)
            chains.seconds["warmup"] -= chains.seconds["compile"]
            chains.cpu["warmup"] -= chains.cpu["compile"]
            if chains.notes:  # smaller steps are no help to chains that do not agree
                targets = []
            how = Drawing(size, length, warmup, targets, "")
        began, compiled = clock(), (chains.seconds["compile"], chains.cpu["compile"])
        try:
            with course.signals if course is not None else nullcontext():
                while not _draw(chains, kept, how, wanted, bar, course):
                    kept.restart()
                    chains.target, *targets = how.targets
                    size = _retuned(chains, how.size, how.length)
                    how = Drawing(size, how.length, how.warmup + RETUNED, targets, "")
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
    return how.warmup, how.size, how.length


def _draw(chains: Chains, kept: Draws, how: Drawing, wanted: Run, bar: Any, course: Course | None) -> bool:
    """Draw until there is enough of it; False where a transition diverged first, if that is looked at."""
    draws, steps = wanted.draws, min(STEPS, how.length / how.size)
    enough = _enough(chains, wanted, steps, course)
    bar.reset(total=draws)
    bar.set_description("sampling")
    bar.update(kept.count)
    ended = how.ended
    for count in range(kept.count + 1, (0 if ended else draws) + 1):
        if course is not None:
            course.drew(chains, kept, how, enough, last=False)
        points, told = _drawn(chains, how.size, how.length, wanted.thin)
        kept.take(points, told)
        bar.update()
        if how.targets and not chains.deadline.over(SHARE) and bool(told["diverging"].any()):
            return False
        if enough is not None and enough(points, kept.sites):
            ended = "enough"
        else:
            if enough is not None and enough.looked == count:
                chains.weigh(wanted.thin * min(draws - count, (enough.missing - 1) * count), steps)
            if count < draws and chains.deadline.over():
                ended = "late"
            elif enough is not None and enough.hopeless:
                ended = "hopeless"
        if ended:
            break
    if course is not None:
        for_good = "" if ended == "late" else ended  # with more time there may be more
        course.drew(chains, kept, how._replace(ended=for_good), enough, last=True)
    if ended == "late":
        chains.notes.append(f"{chains.deadline.words}: {kept.count} of {draws} draws of each chain are kept")
    elif enough is not None and ended != "enough":
        chains.notes += filter(None, [enough.missed()])
    return True


def _enough(chains: Chains, wanted: Run, steps: float, course: Course | None) -> Enough | None:
    """What says when draws are enough, where that is asked; of a run that goes on in their midst, as it was then."""
    enough = None
    if wanted.ess is not None:
        least = -(-wanted.least // chains.number)
        enough = Enough(wanted.ess, chains.potential.size, least, wanted.draws if wanted.resigns else None)
    if course is None or course.drawing() is None:
        chains.weigh(chains.ahead, steps)
        return enough
    if enough is not None:
        course.enough(enough)
    course.over()
    return enough


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
