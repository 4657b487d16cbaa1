"""Which way a function of tensors runs, decided in one place: compiled, as a plain graph, or as it is.

How often it will run says what recording and compiling repay (`choose_mode`). Where a way fails, the next slower one is
taken with a warning that says why (`Fallback`); a way that was asked for fails with an error instead.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from inference.compiling import compiled
from inference.compiling.compiled import CompileError, Mode, Traced
from inference.compiling.recording import TraceError, somebodys, unready
from zoo.settings import settings

FAILED = (TraceError, CompileError)
_HOW: dict[Mode, str] = {"graph": "as a graph that is not compiled", "off": "with plain Pyro"}


def choose_mode(asked: str, runs: int | None, compiles: bool = True) -> tuple[Mode, str]:
    """The mode for so many runs, and why.

    Args:
        asked: `auto`, or one of the modes.
        runs: how often the function will run, None where nobody knows.
        compiles: whether `auto` may compile.
    """
    if asked != "auto":
        return asked, "asked for"  # type: ignore[return-value]
    if runs is not None and runs < settings.worth_recording:
        return "off", f"recording pays from {settings.worth_recording} runs on"
    if runs is None or runs < settings.worth_compiling or not compiles:
        return "graph", f"compiling pays from some {settings.worth_compiling} runs on"
    if not torch.cuda.is_available() and not unready() and compiled.compiler() is None:
        return "graph", "no C++ compiler found"
    return "inductor", f"{runs} runs repay compiling"


class Fallback:
    """The way that somebody's work runs now: `mode`.

    Args:
        name: whose work it is, for the warning.
        doing: what it does, the same: "fitting".
        mode: to begin with.
        allowed: whether there may be another.
    """

    def __init__(self, name: str, doing: str, mode: Mode, allowed: bool = True) -> None:
        self.name, self.doing, self.mode, self.allowed = name, doing, mode, allowed

    def down(self, error: Exception) -> None:
        """Go on the next slower way after this error, and say so.

        Raises:
            Exception: the error itself, where there is no slower way or the mode was asked for.
        """
        if self.mode == "off" or not self.allowed:
            raise error
        self.mode = "graph" if isinstance(error, CompileError) else "off"
        told = f"{self.name}: {error}; {self.doing} {_HOW[self.mode]} instead"
        warnings.warn(told, stacklevel=somebodys_level())


class Fastest:
    """A function of (nested) tensors, run without gradients of its own the fastest way that works; see `Traced`.

    Args:
        function: of tensors; what it writes into its arguments it writes either way.
        fallback: says which way, and goes down from there.
    """

    def __init__(self, function: Callable[..., Any], fallback: Fallback) -> None:
        self.function, self.fallback = function, fallback
        self._traced: dict[Mode, Traced] = {}

    @classmethod
    def of(cls, function: Callable[..., Any], name: str, doing: str, runs: int) -> Fastest:
        """For so many runs, where nobody is asked how."""
        return cls(function, Fallback(name, doing, choose_mode("auto", runs, compiles=False)[0]))

    @property
    def seconds(self) -> float:
        """Spent on recording and compiling so far."""
        return sum(traced.seconds for traced in self._traced.values())

    def bind(self, *arguments: Any) -> Callable[..., Any]:
        """The function of what follows these arguments, whose tensors stay."""
        ways: dict[Mode, Callable[..., Any]] = {}

        def call(*rest: Any) -> Any:
            while True:
                mode = self.fallback.mode
                if mode not in ways:
                    ways[mode] = self._way(mode, arguments)
                try:
                    return ways[mode](*rest)
                except FAILED as error:
                    self.fallback.down(error)

        return call

    def _way(self, mode: Mode, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        if mode == "off":
            return torch.no_grad()(partial(self.function, *arguments))
        if mode not in self._traced:
            self._traced[mode] = Traced(self.function, mode)
        return self._traced[mode].bind(*arguments)


def somebodys_level() -> int:
    """The `stacklevel`, for whoever calls this, at which somebody's own line stands."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and not somebodys(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level
