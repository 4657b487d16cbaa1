"""How messages count rows, steps and columns without a name: from 0 in Python, where they index; from 1 in a command's.

What a command reads and writes are files, whose rows are counted from 1 below the header.

    >>> with counted_from(1):
    ...     nth(0)
    1
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import SupportsInt

_FIRST: ContextVar[int] = ContextVar("first", default=0)


def nth(index: SupportsInt) -> int:
    """The number of a row, step or column at a place counted from 0, as the user counts."""
    return int(index) + _FIRST.get()


@contextmanager
def counted_from(first: int) -> Iterator[None]:
    """Messages count from this number on, in this thread, until the block ends."""
    token = _FIRST.set(first)
    try:
        yield
    finally:
        _FIRST.reset(token)
