"""Warm-up of many chains: metric, step size and trajectory length, until R-hat says that the chains agree.

Windows follow each other, each under the metric of the one before, and from some point on each twice as long. The last
is the first in which R-hat of all latents settles; or comes near to that, while all chains together stay as they are;
or in which the chains are seen to stay apart for good, each under the metric of its own mode: that of all together is
as wide as they lie apart, and would take very many steps. Chains that agree then try other trajectories.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from inference.running.pieces import pieces
from inference.sampling.adaptation import QUARTER, Moments, StepSize, Trajectory, harmonic
from inference.sampling.chains import STUCK, Chains, SamplingError, unit
from inference.sampling.course import Begun, Course
from inference.sampling.density import Density
from inference.sampling.hamiltonian import Metric, State, plan
from inference.sampling.lengths import best, worth
from inference.sampling.mixing import MIXED, SETTLED, limit, rhat, standstill, steady
from inference.sampling.options import CHECKED
from inference.sampling.store import evenly
from zoo.settings import settings

APPROACH = (15, 15, 20)  # transitions, each chain with a step size of its own; after each a new metric
SETTLE = 50  # transitions after which the metric is estimated once more
SHORTEST = 10  # transitions of a window that R-hat can be worked out from
SHORT = 8  # most leapfrog steps on the way to where the mass is
BRIEF = 16  # and in the window that first sees whether they stay in modes of their own
STEPS = 128  # most leapfrog steps of a transition
LONGEST = 8 * QUARTER  # most time of a trajectory: modes apart would make it grow for nothing
SHARE = 0.5  # of the time that was given
TRIED = 50  # transitions, at least, that a shorter trajectory is tried for
ASKED = 50  # most draws of each chain that are looked at for groups that stay apart


@dataclass
class Window:
    """The later half of a window, n transitions, and what was tuned in it."""

    watched: Tensor  # numbers of each draw, (C, n, W)
    columns: Tensor  # which they are, (W,)
    points: Tensor  # some draws, whole, (C, m, P)
    density: Tensor  # of those, (C, m)
    size: float  # of a step
    moments: Moments
    count: int  # transitions, both halves
    steps: int  # leapfrog steps of the later one


def warm(
    chains: Chains, points: Tensor, metric: Metric | None, most: int, bar: Any, course: Course | None = None
) -> tuple[float, float, int]:
    """Tune metric, step size and trajectory.

    Args:
        chains: whose metric and place are then those to go on with.
        points: to start from, (C, P).
        metric: to start with, where one is known.
        most: transitions.
        bar: to show progress on.
        course: keeps checkpoints between windows, and may hold one to go on from.

    Returns:
        Step size, trajectory length, and the number of transitions.

    Raises:
        SamplingError: no chain can move.
    """
    begun = course.warming() if course is not None else None
    if begun is None:
        begun = _begun(chains, points, metric, most, bar)
    clock, found, why, groups, total, length = begun
    while True:
        if found is not None:
            around = found.moments.metric(groups if why else (), within=bool(groups))
            _go_on(chains, chains.points(), found.moments, None if why else found.points, around)
            chains.weigh(length + chains.ahead, min(STEPS, clock.time / found.size))
        if course is not None:
            course.warmed(chains, Begun(clock, None, why, groups, total, length))
        found = _window(chains, length, clock, bar)
        total += found.count
        if length < SHORTEST:
            chains.notes.append(f"warm-up stopped at max_warmup={most}: too few to tell whether the chains agree")
            break
        rhats = rhat(found.watched).nan_to_num(nan=1.0)
        bar.set_postfix_str(f"R-hat {float(rhats.max()):.3f}")
        most_apart = float(rhats.max())
        if most_apart < limit(found.watched.shape[1]) or (most_apart < MIXED and steady(found.watched)):
            time, tried = _lengths(chains, found, clock.settled, most - total, bar)
            return found.size, time, total + tried
        if chains.deadline.over(SHARE):
            chains.notes.append(_unsettled(chains, rhats, found.columns, f"after {chains.deadline.spent:.3g} s"))
            break
        suited, (why, groups) = bool(why), _standstill(chains.potential, found)
        if why and (suited or most - total < SHORTEST):  # else once more, each chain with the metric of its mode
            chains.notes.append(
                f"warm-up stopped after {total} of at most {most} transitions: more would not bring the chains "
                f"together, for {why}"
            )
            break
        if most - total < SHORTEST:
            chains.notes.append(_unsettled(chains, rhats, found.columns, f"at max_warmup={most}"))
            break
        length = min(length if why else 2 * length, most - total)
    return found.size, clock.settled, total


def _begun(chains: Chains, points: Tensor, metric: Metric | None, most: int, bar: Any) -> Begun:
    """The way to where the mass is, and the first look at how chains agree there."""
    chains.stand(points, metric or unit(points.mean(0), torch.ones_like(points[0]), chains.number))
    first = (SETTLE,) if metric is not None else (*APPROACH, SETTLE)
    longer = min(8.0, max(1.0, math.sqrt(64 / chains.number)))  # fewer chains tell less
    factor = min(longer, most / (sum(first) + CHECKED))
    windows = [max(1, round(window * factor)) for window in first]
    while windows and sum(windows) + SHORTEST > most:  # so few that there is no way to go first
        del windows[0]
    total = sum(_approach(chains, window, bar) for window in windows[:-1] if not chains.deadline.over(SHARE))
    found, why, groups = None, "", list[list[int]]()
    if windows:
        found = _window(chains, windows[-1], Trajectory(), bar, BRIEF)
        why, groups = _standstill(chains.potential, found)
        total += found.count
    length = min(max(SHORTEST, round(CHECKED * factor)), most - total)
    return Begun(Trajectory(), found, why, groups, total, length)


def _transitions(chains: Chains, count: int) -> Iterator[bool]:
    """Of so many transitions, whether each is in the later half; when time is up a few are, from there on."""
    begin, i = count // 2, 0
    while i < count:
        if chains.deadline.over(SHARE):
            begin = min(begin, i)
            count = min(count, begin + SHORTEST)
        if i < count:
            yield i >= begin
        i += 1


def _approach(chains: Chains, count: int, bar: Any) -> int:
    """Go towards where the mass is, each chain with steps of its own size, then take on the metric found there.

    Returns how many transitions it took.
    """
    size, moments, took = StepSize(chains.first_size(), 0.8), Moments(chains.metric), 0
    kept, few = list[Tensor](), count * chains.number * chains.potential.size <= settings.memory
    for later in _transitions(chains, count):
        steps = min(SHORT, math.ceil(QUARTER / float(size.size.median())))
        move = chains.move(size.size.unsqueeze(-1), steps)
        size.update(move.acceptance)
        if later:
            moments.add(chains.state)
            if few and chains.potential.held:
                kept.append(chains.points())
        took += 1
        bar.update()
    points, lost = chains.points(), moments.lost()
    if bool(lost.any()) and not bool(lost.all()):  # these chains start again where others stand
        others = (~lost).nonzero().squeeze(-1)
        picked = torch.randint(len(others), (int(lost.sum()),), device=chains.device, generator=chains.generator)
        points[lost] = points[others[picked]]
        chains.moved += len(picked)
    _go_on(chains, points, moments, torch.stack(kept, 1) if kept else None, moments.metric())
    return took


def _go_on(chains: Chains, points: Tensor, moments: Moments, draws: Tensor | None, metric: Metric) -> None:
    """Stand under a new metric, in other coordinates where the density has better ones.

    Args:
        chains: that go on.
        points: where, (C, P).
        moments: of the draws that the metric comes from.
        draws: some of them, (C, n, P); None: coordinates stay.
        metric: of the coordinates of now.
    """
    potential = chains.potential
    if draws is None or not potential.held:
        return chains.stand(points, metric)
    whole = draws[moments.typical()]  # (C', n, P)
    moved = potential.recentre(whole.flatten(0, 1), not metric.diagonal)
    if moved is None:
        return chains.stand(points, metric)
    flat = moved(whole.flatten(0, 1))
    spread = flat.std(0)
    fresh = Moments(unit(flat.mean(0), torch.where(spread > 0, spread, 1), chains.number))
    for some in flat.unflatten(0, whole.shape[:2]).unbind(1):
        z = fresh.under.into(some)
        fresh.add(State(z, z.new_zeros(len(z)), z))
    return chains.stand(moved(points), fresh.metric())


def _window(chains: Chains, count: int, clock: Trajectory, bar: Any, most: int = STEPS) -> Window:
    """Tune step size and trajectory for a while, in transitions of at most so many steps."""
    half, size = count - count // 2, chains.potential.size
    columns = evenly(size, min(settings.rhat_numbers, 4 * settings.memory // (chains.number * half))).to(chains.device)
    kept = evenly(half, min(ASKED, max(SHORTEST, settings.memory // (chains.number * size)))).tolist()
    watched, points, density = list[Tensor](), list[Tensor](), list[Tensor]()
    step, moments = StepSize(chains.first_size().median(), chains.target), Moments(chains.metric)
    diverging = torch.zeros(chains.number, device=chains.device)
    took, travelled = 0, 0
    for later in _transitions(chains, count):
        used, steps = plan(clock.time, float(step.size), chains.index, most)
        chains.index += 1
        move = chains.move(chains.sizes(used), steps)
        step.update(harmonic(move.acceptance))
        clock.update(move, used * steps, float(step.size) / 2, min(LONGEST, float(step.size) * most))
        if later:
            moments.add(chains.state)
            now = chains.points()
            if len(watched) in kept:
                points.append(now)
                density.append(chains.state.log_density)
            watched.append(now[:, columns])
            diverging += move.diverging
            travelled += steps
        took += 1
        bar.update()
    if bool((diverging > 0.5 * len(watched)).all()):
        raise SamplingError(STUCK)
    whole, log_density = torch.stack(points, 1), torch.stack(density, 1)
    return Window(torch.stack(watched, 1), columns, whole, log_density, float(step.settled), moments, took, travelled)


def _lengths(chains: Chains, window: Window, time: float, most: int, bar: Any) -> tuple[float, int]:
    """Find the trajectory that pays best, beginning with the one that was tuned.

    Returns:
        Its time, and how many transitions that took, of at most so many.
    """
    count, took = max(TRIED, window.watched.shape[1] // 4), 0
    if window.watched.shape[1] < TRIED:
        return time, took

    def measure(time: float) -> tuple[float, float] | None:
        nonlocal took
        if took + count > most:
            return None
        watched, travelled = list[Tensor](), 0
        for _ in range(count):
            if chains.deadline.over(SHARE):
                return None
            used, steps = plan(time, window.size, chains.index, STEPS)
            chains.index += 1
            chains.move(chains.sizes(used), steps)
            watched.append(chains.points()[:, window.columns])
            travelled, took = travelled + steps, took + 1
            bar.update()
        return worth(torch.stack(watched, 1), travelled)

    return best(time, lambda: worth(window.watched, window.steps)[0], measure, window.size), took


def _standstill(potential: Density, window: Window) -> tuple[str, list[list[int]]]:
    """What keeps the chains apart for good, if anything does, and groups of them that are apart by now."""
    lead = window.density.shape
    if lead[0] < 2 or lead[1] < 4:
        return "", []
    values: dict[str, list[Tensor]] = {}
    jacobian = []
    for piece in pieces(math.prod(lead), potential.size):
        found, part = potential.constrain(window.points.flatten(0, 1)[piece])
        jacobian.append(part)
        for name, value in found.items():
            if name not in potential.local or len(potential.local) == len(found):
                values.setdefault(name, []).append(value)
    draws = {name: torch.cat(parts).unflatten(0, lead) for name, parts in values.items()}
    return standstill(draws, potential.dims, window.density - torch.cat(jacobian).unflatten(0, lead))


def _unsettled(chains: Chains, rhats: Tensor, columns: Tensor, where: str) -> str:
    """Which sites kept warm-up from ending."""
    names = []
    for block in chains.potential.blocks:
        inside = (columns >= block.begin) & (columns < block.end)
        value = float(rhats[inside].max()) if bool(inside.any()) else 1.0
        names += [f"'{block.name}' ({value:.2f})"] if value >= SETTLED else []
    return (
        f"warm-up stopped {where} with R-hat above {SETTLED} of {', '.join(names)}: step size and "
        "metric may not suit the posterior"
    )
