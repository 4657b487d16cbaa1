"""Plates that take all of their rows, though they say `subsample_size`: for a while, and in one thread.

Pyro's `plate` draws its rows as it is made and keeps their number to itself, so that no handler can ask for all. What
makes the draw is wrapped once; elsewhere, and outside of `all_rows`, it is as it was. A plate whose rows are given,
`subsample=…`, has those.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pyro.poutine.subsample_messenger import SubsampleMessenger


class _Asked(threading.local):
    """How often a thread has asked for all rows."""

    depth = 0


_asked = _Asked()


@contextmanager
def all_rows() -> Iterator[None]:
    """Inside, in this thread, plates take all of their rows."""
    _asked.depth += 1
    try:
        yield
    finally:
        _asked.depth -= 1


def install() -> None:
    """Wrap it; once for the process, and again to no effect."""
    own: Any = SubsampleMessenger._subsample
    if getattr(own, "takes_all", False):
        return

    def subsample(
        name: str, size: Any = None, subsample_size: Any = None, subsample: Any = None, *rest: Any, **named: Any
    ) -> Any:
        if _asked.depth and size is not None and subsample is None:
            subsample_size = None
        return own(name, size, subsample_size, subsample, *rest, **named)

    subsample.takes_all = True  # type: ignore[attr-defined]
    SubsampleMessenger._subsample = staticmethod(subsample)  # type: ignore[method-assign]
