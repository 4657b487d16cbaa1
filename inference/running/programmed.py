"""Public functions that take any Pyro program in the place of a pair: `inference.sample(zoo.program(model), x)`."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from zoo.programs import Program

P = ParamSpec("P")
R = TypeVar("R")


def or_program(home: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function of a pair that also takes a `zoo.program`, and its arguments in the place of data.

    Args:
        home: the module of `inference.programs` that has the function of the same name for those. It stands floors
            above, and is found by name when it is needed: a program is the exception, and a pair does not wait for it.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def either(*args: P.args, **kwargs: P.kwargs) -> R:
            if args and isinstance(args[0], Program):
                return cast(R, of_program(home, function.__name__)(*args, **kwargs))
            return function(*args, **kwargs)

        return either

    return wrap


def of_program(home: str, name: str) -> Callable[..., Any]:
    """A function of `inference.programs`, by its module and name."""
    found: Callable[..., Any] = getattr(importlib.import_module(f"inference.programs.{home}"), name)
    return found
