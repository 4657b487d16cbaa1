"""How much memory there is, so that what cannot fit is refused by name before it is begun."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

from zoo.settings import settings

_CONTROL = Path("/sys/fs/cgroup")  # what a container may take, on Linux
LARGE = 100_000  # numbers below this need no look
BUILD = 1 << 31  # bytes
_TRIED = 1 << 24  # bytes that a smaller pair of its kind may take, which tells what the large one would
_TRIED_OPERATIONS = 6000  # and those that it may take
_STEP = 4  # from one size that is tried to the next
_SOME = 4096  # things, of which a pair can be built if it can be at all


def available() -> int:
    """Bytes that a process can still have: of the machine, and of the container that it runs in."""
    found = [1 << 62]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError, IndexError):
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # not Linux: what there is, taken or not
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    try:
        limit, used = (
            (_CONTROL / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current")
        )
        found += [max(0, int(limit) - int(used))] if limit != "max" else []
    except (OSError, ValueError):
        pass
    return min(found)


def check_room(option: str, value: int, size: int) -> None:
    """Refuse a number of things that take so many bytes together, where there is no room for them.

    Args:
        option: what was asked for, as it is called.
        value: how many.
        size: bytes of the result.

    Raises:
        ValueError: naming the option and the memory it would take.
    """
    if size < LARGE:
        return
    free = available()
    if size > free:
        raise ValueError(f"{option}: {int(value):,} would take {told(size)} of memory, and {told(free)} are free")


def large(config: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments that are, or hold, whole numbers of at least `LARGE`."""
    return {name: value for name, value in config.items() if _largest(value) >= LARGE}


def foresee(what: str, build: Callable[..., Any], config: Mapping[str, Any]) -> None:
    """Refuse what would take more than `BUILD` bytes, or than there are, by what smaller ones of its kind take.

    All large arguments are scaled down together: to 4 for the largest, then to four times as much, and so on, until
    16 MB were taken. From one to the next what it takes grows by some power, which is taken to go on. Nothing is
    said where 16 MB do for the whole, or it has another fault, which building it shows.

    Args:
        what: what is built, as the error calls it.
        build: makes it of such arguments.
        config: the arguments, some of them large.

    Raises:
        ValueError: saying what takes more.
    """
    most = max(map(_largest, config.values()))
    if not _tried(build, config)[0]:
        return
    size, sizes, found = _STEP, list[int](), list[tuple[int, int]]()
    spent = operations = 0
    while size < most and spent < _TRIED and operations < _TRIED_OPERATIONS:
        passed, used = _tried(build, {name: _scaled(value, most, size) for name, value in config.items()})
        if passed or (passed is None and (found or size > _SOME)):
            break
        if passed is not None:
            sizes.append(size)
            found.append(used)
            spent, operations = spent + used[0], operations + used[1]
        size *= _STEP
    limit = min(BUILD, available())
    if len(found) > 1:
        if _continued(sizes, [used for used, _ in found], most) > limit:
            raise ValueError(_more(what, limit))
        if _continued(sizes, [many for _, many in found], most) > settings.build_operations:
            most_operations = f"{settings.build_operations:,} operations"
            raise ValueError(f"{what}: takes more than {most_operations} to build (settings.build_operations)")


def _continued(sizes: Sequence[int], costs: Sequence[int], size: int) -> float:
    """What a size costs where sizes that are four times each other cost so much: a + b size^p through the last three.

    Of two sizes, or where costs do not rise, a is 0.
    """
    steps = [float(later - before) for before, later in itertools.pairwise(costs)][-2:]
    free = len(steps) == 2 and min(steps) > 0
    few, many = steps if free else map(float, costs[-2:])
    if not 0 < few < many:
        return costs[-1]
    power = math.log(many / few) / math.log(_STEP)
    risen = many / (1 - _STEP**-power) if free else many
    return costs[-1] + risen * (math.exp(min(700, power * math.log(size / sizes[-1]))) - 1)


def _tried(build: Callable[..., Any], config: Mapping[str, Any]) -> tuple[bool | None, tuple[int, int]]:
    """Whether a build takes more than 16 MB or some thousand operations, None where it fails; and what it took."""
    from zoo.state.budget import Budget
    from zoo.threads.randomness import apart

    budget, passed = Budget(_TRIED, _TRIED_OPERATIONS), None
    try:
        with apart(), budget:
            build(**config)
        passed = False
    except Exception as error:  # of any kind: the whole build raises it again
        if any(isinstance(cause, MemoryError) or "allocate" in str(cause) for cause in (error, error.__cause__)):
            passed = True
    return passed, (budget.used, budget.operations)


@contextmanager
def within(what: str) -> Iterator[None]:
    """Within this, tensor operations may make `BUILD` bytes together, where there are as many; more is refused first.

    Raises:
        ValueError: saying what takes more.
    """
    from zoo.state.budget import Budget

    limit = min(BUILD, available())
    try:
        with Budget(limit):
            yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        raise ValueError(_more(what, limit)) from error


def _more(what: str, limit: int) -> str:
    return f"{what}: takes more than {told(limit)} of memory to build"


def _largest(value: Any) -> int:
    """The largest whole number that an argument is or holds, or 0."""
    if isinstance(value, (list, tuple)):
        return max(map(_largest, value), default=0)
    return int(value) if isinstance(value, Integral) else 0


def _scaled(value: Any, most: int, size: int) -> Any:
    """An argument whose large numbers are scaled as `most` is to `size`."""
    if isinstance(value, (list, tuple)):
        return tuple(_scaled(item, most, size) for item in value)
    return max(1, int(value) * size // most) if isinstance(value, Integral) and int(value) >= LARGE else value


def told(size: float) -> str:
    """Bytes in words."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9)):
        if size >= scale:
            return f"{size / scale:,.3g} {unit}"
    return f"{size / 1e6:,.3g} MB"
