"""Arguments of a pair, checked against the signature and type hints of its class before anything is built."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import sys
import types
import typing
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple

from zoo.abilities import FromJSON


class AtLeast(NamedTuple):
    """The least that a number may be, among the annotations of an argument: `Annotated[float, AtLeast(0)]`."""

    least: float


class Above(NamedTuple):
    """What a number must be above, among the annotations of an argument: `Annotated[float, Above(0)]`."""

    bound: float


Positive = Annotated[float, Above(0)]  # a scale, a rate, a concentration


def nearest(word: str, known: Iterable[str]) -> str:
    """', did you mean …?' when a known word is close, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f", did you mean '{close[0]}'?" if close else ""


def hints(init: Callable[..., None]) -> dict[str, Any]:
    """Resolved type hints of the arguments of `init`, by name, without what is noted beside them."""
    return _hints(init, extras=False)


def declared(init: Callable[..., None]) -> dict[str, Any]:
    """The same with what is noted beside them, such as `AtLeast`."""
    return _hints(init, extras=True)


def _hints(init: Callable[..., None], extras: bool) -> dict[str, Any]:
    found = typing.get_type_hints(inspect.unwrap(init), include_extras=extras)
    return {name: found.get(name, Any) for name in list(inspect.signature(init).parameters)[1:]}


def check_config(name: str, init: Callable[..., None], args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    """Bind arguments to the signature, fill defaults, and check each against its type hint.

    Numbers: a `float` is any finite number, and an `int` at least 1, or any where its default is less. Other bounds
    are declared: `Annotated[float, AtLeast(0)]`, `Annotated[float, Above(0)]`, which `Positive` is short for, and
    `Annotated[int, AtLeast(2)]`. A `Literal` is one of its values.

    Raises:
        ValueError: an argument that does not exist (with the nearest that does), is missing or is out of range.
    """
    signature = inspect.signature(init)
    known = list(signature.parameters)[1:]
    for key in given:
        if key not in known:
            takes = ", ".join(known) or "none"
            raise ValueError(f"{name}: no argument '{key}'{nearest(key, known)}; it takes: {takes}")
    try:
        bound = signature.bind(None, *args, **given)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
    bound.apply_defaults()
    config = dict(list(bound.arguments.items())[1:])
    expected = declared(init)
    for key, parameter in signature.parameters.items():
        if expected.get(key) is int and isinstance(parameter.default, int) and parameter.default < 1:
            expected[key] = Annotated[int, AtLeast(-math.inf)]
    return {key: _check(f"{name}: argument '{key}'", value, expected[key]) for key, value in config.items()}


def _check(where: str, value: Any, hint: Any) -> Any:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Annotated:
        bound = bound_of(hint)
        return _check(where, value, options[0]) if bound is None else _number(where, value, options[0], bound)
    if origin is Literal:
        if value not in options:
            listed = ", ".join(repr(option) for option in options)
            close = nearest(str(value), [str(option) for option in options])
            raise ValueError(f"{where}: expected one of {listed}, got {value!r}{close}")
        return options[options.index(value)]
    if origin in (types.UnionType, typing.Union):
        errors = []
        for option in options:
            try:
                return _check(where, value, option)
            except ValueError as error:
                errors.append(str(error))
        # That None would do as well is no cure for whoever gave something.
        raise ValueError("; or ".join(errors[: len(errors) - (options[-1] is types.NoneType and len(errors) > 1)]))
    if origin in (tuple, list):
        if not isinstance(value, (tuple, list)):
            raise ValueError(f"{where}: expected a list, got {value!r}")
        inner = options[0] if options else Any
        return tuple(_check(f"{where}[{i}]", item, inner) for i, item in enumerate(value))
    return _check_scalar(where, value, hint)


def _check_scalar(where: str, value: Any, hint: Any) -> Any:
    if isinstance(hint, FromJSON):
        try:
            return hint.of(value)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    if hint is types.NoneType and value is not None:
        raise ValueError(f"{where}: expected None, got {value!r}")
    if hint in (int, float):
        return _number(where, value, hint, AtLeast(1 if hint is int else -math.inf))
    if hint is bool and type(value).__module__ == "numpy" and getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return bool(value)
    if isinstance(hint, type) and not isinstance(value, hint):
        raise ValueError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def _number(where: str, value: Any, kind: type, bound: AtLeast | Above) -> float:
    """A number of this kind within its bound, as one of Python's own: it may have been NumPy's."""
    words = "whole number" if kind is int else "number"
    if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
        raise ValueError(f"{where}: expected a {words}, got {value!r}{_alone(value)}")
    if isinstance(value, Integral):
        value = operator.index(value)
        if kind is int and abs(value) > sys.maxsize:
            raise ValueError(f"{where}: expected a whole number that 64 bits hold, got one of {digits(value)} digits")
    else:
        value = float(value)  # a float32 cannot be held against the largest float64
    within = value > bound.bound if isinstance(bound, Above) else value >= bound.least
    if not (within and abs(value) <= (sys.float_info.max if kind is float else math.inf)):
        if kind is int and bound == AtLeast(1):
            raise ValueError(f"{where}: expected at least 1, got {value}")
        huge = isinstance(value, int) and abs(value) > sys.float_info.max
        got = f"one of {digits(value)} digits" if huge else value
        raise ValueError(f"{where}: expected a {words if kind is int else 'finite number'}{bounded(bound)}, got {got}")
    found: float = kind(value)
    return found


def digits(value: int) -> int:
    """About how many digits a whole number has, of any size: Python prints no more than 4,300."""
    return int(abs(value).bit_length() * math.log10(2)) + 1


def bound_of(hint: Any) -> AtLeast | Above | None:
    """The bound that an annotated number declares."""
    kind, *notes = typing.get_args(hint)
    return next((note for note in notes if isinstance(note, (AtLeast, Above)) and kind in (int, float)), None)


def bounded(bound: AtLeast | Above) -> str:
    """A bound in words that follow "number"."""
    if isinstance(bound, Above):
        return f" above {bound.bound:g}"
    return "" if bound.least == -math.inf else f" of at least {bound.least:g}"


def _alone(value: Any) -> str:
    """How to give the one entry of a list where no list is taken."""
    return f"; give {value[0]!r}, without the list" if isinstance(value, (list, tuple)) and len(value) == 1 else ""
