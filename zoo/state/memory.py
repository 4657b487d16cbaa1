"""How much memory there is, so that what cannot fit is refused by name before it is begun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONTROL = Path("/sys/fs/cgroup")  # what a container may take, on Linux
LARGE = 100_000  # numbers below this need no look
BUILD = 1 << 31  # bytes


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
        raise ValueError(f"{option}: {int(value):,} would take {_told(size)} of memory, and {_told(free)} are free")


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
        raise ValueError(f"{what}: takes more than {_told(limit)} of memory to build") from error


def _told(size: int) -> str:
    for unit, scale in (("TB", 1e12), ("GB", 1e9)):
        if size >= scale:
            return f"{size / scale:,.3g} {unit}"
    return f"{size / 1e6:,.3g} MB"
