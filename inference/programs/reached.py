"""Where in a program a run of it failed: exceptions keep their type and text, and say which site they came from."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Number
from typing import Any

from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor

from inference.running.words import listed


class _Reached(Messenger):
    """Remembers the site or plate that a run met last, and whether it was through with it."""

    def __init__(self) -> None:
        super().__init__()
        self.message: Any = None
        self.through = False

    def _pyro_sample(self, message: Any) -> None:
        self.message, self.through = message, False

    def _pyro_post_sample(self, message: Any) -> None:
        self.message, self.through = message, True


class TellingError(ValueError):
    """An error that needs no more words."""


@contextmanager
def naming_where(
    name: str, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Iterator[None]:
    """What a run within raises says where it was raised, and which arguments are of no usual type.

    Args:
        name: of what runs.
        function: what runs.
        args, kwargs: what it is given.

    Raises:
        ValueError: a plate of no rows.
    """
    reached = _Reached()
    try:
        with reached:
            yield
    except Exception as error:
        message = reached.message
        if message is None:
            add(error, f"in {name}, before its first site{_odd(function, args, kwargs)}")
            raise
        plate = isinstance(message["fn"], _Subsample)
        if plate and message["fn"].size == 0 and isinstance(error, ZeroDivisionError):
            raise ValueError(f"{name}: plate '{message['name']}' is empty, its size is 0: there are no rows") from error
        told = f"plate '{message['name']}'" if plate else _told(message)
        where = "after" if reached.through else "at"
        add(error, f"in {name}, {where} {told}{_odd(function, args, kwargs)}")
        raise


@contextmanager
def naming_density(name: str, trace: Any) -> Iterator[None]:
    """What fails while densities of a trace are worked out within says at which site."""
    try:
        yield
    except Exception as error:
        for node in trace.nodes.values():
            if node["type"] == "sample" and "log_prob" not in node:
                shape, value = tuple(node["fn"].batch_shape + node["fn"].event_shape), node["value"]
                given = f"has shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"is {_kind(value)}"
                add(error, f"in {name}, at {_told(node)}, whose value {given}, its distribution shape {shape}")
                break
        raise


def _told(node: Any) -> str:
    """A site, and the plates that it stands in."""
    plates = [frame.name for frame in node["cond_indep_stack"] if frame.vectorized]
    inside = f" in plate {listed(plates)}" if plates else ""
    return f"site '{node['name']}'{inside}"


def add(error: Exception, where: str) -> None:
    """Put words behind an exception's own, in place."""
    if isinstance(error, TellingError) or "sites named" in str(error):
        return
    if len(error.args) != 1 or not isinstance(error.args[0], str):
        error.add_note(where)
        return
    told = error.args[0].partition("\nTrace Shapes")[0]  # Pyro adds the shapes of all sites
    error.args = (f"{' '.join(told.split(chr(10))).rstrip('. ')}, {where}",)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _odd(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Which arguments are neither numbers, arrays nor containers of some, in words."""
    try:
        given = dict(inspect.signature(function).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # of what has no signature
        given = {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    usual = (Tensor, Number, Mapping, list, tuple, range)
    odd = {
        name: _kind(value)
        for name, value in given.items()
        if not isinstance(value, usual) and not hasattr(value, "__array__") and not callable(value)
    }
    return "".join(f"; argument '{name}' is {kind}" for name, kind in odd.items())
