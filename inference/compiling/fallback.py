"""Run a function as a graph where that works and pays, else as it is: the one place that decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference.compiling.compiled import Traced, TraceError

WORTH_TRACING = 200  # calls that repay the second or two of tracing


def traced(function: Callable[..., Any], calls: int) -> Callable[..., Any]:
    """The function as one graph where it can be traced and so many calls repay that, else as it is."""
    current: Callable[..., Any] = Traced(function) if calls >= WORTH_TRACING else function

    def call(*arguments: Any) -> Any:
        nonlocal current
        try:
            return current(*arguments)
        except TraceError:
            current = function
            return function(*arguments)

    return call
