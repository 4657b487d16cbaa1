"""Roads one after the other, the cheapest first, until the evidence of one holds or the time is over."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from inference.fitting.loop import NonFiniteError
from inference.roads.grounds import Inferred, Tried
from inference.running.deadline import Deadline
from inference.sampling.chains import SamplingError, clock

TAIL, FAR = 0.05, 20.0  # left out at either end; nats of a ratio: half a billion
Road = Callable[[float | None], "Inferred | None"]  # of the seconds left; None where it is no road for this posterior


def always(road: str, tried: Sequence[Tried]) -> bool:
    """Whether a road is to be taken after those tried: any is."""
    return True


def climb(
    name: str,
    roads: Sequence[tuple[str, Road]],
    deadline: Deadline,
    wanted: Callable[[str, Sequence[Tried]], bool] = always,
    improper: Sequence[str] = (),
    note: str = "",
) -> Inferred:
    """The first posterior whose evidence holds; else the one of which most does, not trusted.

    Args:
        name: whose posterior it is.
        roads: by name, in order.
        deadline: no road begins after it.
        wanted: whether a road is one to take, of its name and of what was tried before it.
        improper: latents whose prior cannot be drawn from, and may have no integral: then the posterior may have none.
        note: what else is to be changed, where none is trusted: of roads that are not among these.

    Raises:
        SamplingError: no road gave a single draw.
    """
    best: Inferred | None = None
    tried: list[Tried] = []
    left: list[str] = []
    short: list[str] = []
    for road, take in roads:
        if not wanted(road, tried):
            continue
        if deadline.over() and tried:
            left.append(road)
            continue
        began = clock()
        try:
            rest = None if deadline.seconds is None else max(0.1, deadline.seconds - deadline.spent)
            found, failed = take(rest), ""
        except (SamplingError, NonFiniteError) as error:
            found, failed = None, str(error)
        seconds, cpu = (now - then for now, then in zip(clock(), began, strict=True))
        if found is None and not failed:
            continue
        mine = Tried(road, found.grounds if found else (), seconds, cpu, failed)
        tried.append(mine)
        if found is not None and (best is None or _short_of(found) <= _short_of(best)):
            best = replace(found, road=road, trusted=mine.holds)
        if found is not None and not _judged(found):
            short.append(f"the {road} road ended with {found.size} draws a chain, too few to be judged")
        if mine.holds:
            break
    if best is None:
        told = "; ".join(str(one) for one in tried) or "there was no time for any"
        if left:
            told += f"; the budget of {deadline.seconds:g} s left no time for the {', '.join(left)} road: give it more"
        raise SamplingError(f"{name}: no road led to a posterior: {told}")
    advice = "" if best.trusted else _advice(best, left, short, deadline, improper, note)
    return replace(best, tried=tuple(tried), advice=advice)


def _judged(found: Inferred) -> bool:
    """Whether each number of the evidence is one."""
    return not any(math.isnan(ground.value) for ground in found.grounds)


def running_away(found: Inferred) -> list[str]:
    """Global latents above 0 whose draws, without the outer 5 % at either end, go over many powers of ten, in words.

    So do those of a scale whose posterior has no integral, wherever its chains were stopped.
    """
    told = []
    for name in sorted(found.globals):
        value = found.draws[name].double().reshape(found.chains * found.size, -1)  # (S, numbers)
        if not value.numel() or not bool((value > 0).all()):
            continue
        ends = value.new_tensor([TAIL, 1 - TAIL])
        low, high = value[:: -(-len(value) // 10_000)].log().quantile(ends, dim=0)
        worst = int((high - low).argmax())
        if float(high[worst] - low[worst]) > FAR:
            told.append(f"'{name}' runs away, from {float(low[worst].exp()):.1g} to {float(high[worst].exp()):.1g}")
    return told


def _short_of(found: Inferred) -> tuple[bool, int]:
    """Whether nothing is known of it, and how much of the evidence does not hold."""
    return not _judged(found), sum(not ground.holds for ground in found.grounds)


def _advice(
    best: Inferred, left: list[str], short: list[str], deadline: Deadline, improper: Sequence[str], note: str
) -> str:  # fmt: skip
    """What to change."""
    told = list(short)
    if short and deadline.seconds is not None:
        told[-1] += f": the budget of {deadline.seconds:g} s cut it short, give it more"
    if left:
        told.append(f"the budget of {deadline.seconds:g} s left no time for the {', '.join(left)} road: give it more")
    told += [f"{words}: is its prior proper, and do the data bound it?" for words in running_away(best)]
    if improper:
        told.append(
            f"the prior of {', '.join(map(repr, improper))} cannot be drawn from: where it is improper and the data do "
            "not bound it, there is no posterior; a proper prior, however wide, tells"
        )
    if best.advice:
        told.append(best.advice)
    if note:
        told.append(note)
    return ". ".join(one[0].upper() + one[1:] for one in told)
