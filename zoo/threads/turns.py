"""One thread at a time for each pair; different pairs run side by side."""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar

from zoo.threads.handlers import apart_from_callers

P = ParamSpec("P")
R = TypeVar("R")


class Turn:
    """A lock that its own thread may take again. A forked child gets a free one, since no other thread lives there."""

    _all: ClassVar[weakref.WeakSet[Turn]] = weakref.WeakSet()

    def __init__(self) -> None:
        self._lock = threading.RLock()
        Turn._all.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: Any) -> None:
        self._lock.release()

    @classmethod
    def _renew(cls) -> None:
        for turn in list(cls._all):
            turn._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Turn._renew)


def in_turn(function: Callable[P, R]) -> Callable[P, R]:
    """A function of a pair, its first argument: called from several threads, each waits for the one before.

    Of a program of Pyro that calls it, it is no part: that program's handlers see none of its sites.

    What is no pair has no turn: the function itself says what is wrong with it.
    """

    @functools.wraps(function)
    def queued(*args: P.args, **kwargs: P.kwargs) -> R:
        turn = getattr(args[0] if args else kwargs.get("pair"), "turn", None)
        if not isinstance(turn, Turn):
            return function(*args, **kwargs)
        with turn, apart_from_callers():
            return function(*args, **kwargs)

    return queued
