"""Public functions that take any Pyro program in the place of a pair: `inference.sample(zoo.program(model), x)`."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from zoo.base import ModelGuide
from zoo.programs import Program

P = ParamSpec("P")
R = TypeVar("R")
PACKAGE = "inference.programs"


def or_program(home: str, package: str = PACKAGE) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function of a pair that also takes a `zoo.program`, and its arguments in the place of data.

    Args:
        home: the module of `inference.programs` that has the function of the same name for those. It stands floors
            above, and is found by name when it is needed: a program is the exception, and a pair does not wait for it.
        package: another that has the module.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def either(*args: P.args, **kwargs: P.kwargs) -> R:
            if not args or isinstance(args[0], ModelGuide):
                return function(*args, **kwargs)
            if not isinstance(args[0], Program):
                check_pair: Callable[[Any], None] = importlib.import_module("inference.data.check").check_pair
                check_pair(args[0])  # before what follows is taken for options
                return function(*args, **kwargs)
            own = of_program(home, function.__name__, package)
            _check_names(own, args, kwargs)
            return cast(R, own(*args, **kwargs))

        help_ = _HELP.format(f"{package}.{home}", function.__name__)
        either.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{help_}"
        return either

    return wrap


_HELP = """Of any Pyro program, `zoo.program(model)`, the model's arguments stand in the place of data:
`inference.{1}(program, x, y=y)`. Options and what is returned: `help({0}.{1})`."""


def _check_names(function: Callable[..., Any], args: Sequence[Any], given: Mapping[str, Any]) -> None:
    """Refuse an option that the model takes too, under the same name: nobody knows whose it is.

    Raises:
        ValueError: by name.
    """
    options, program = inspect.signature(function), args[0]
    try:
        taken = inspect.signature(program.model)
        placed = taken.bind_partial(*options.bind_partial(*args).arguments.get("args", ())).arguments.keys()
    except (TypeError, ValueError):  # of what has no signature, or does not take so much: the run will tell
        return
    bound = program.model.keywords if isinstance(program.model, functools.partial) else {}
    named = {n for n, p in taken.parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in (named - placed - bound.keys()) & given.keys() & options.parameters.keys():
        raise ValueError(
            f"{name}: the model of {program.name} has an argument of this name, and so has "
            f"inference.{function.__name__}: give the model its own by position, or bind it before, "
            f"functools.partial(model, {name}=…)"
        )


def of_program(home: str, name: str, package: str = PACKAGE) -> Callable[..., Any]:
    """A function of `inference.programs`, or of another package, by its module and name."""
    found: Callable[..., Any] = getattr(importlib.import_module(f"{package}.{home}"), name)
    return found
