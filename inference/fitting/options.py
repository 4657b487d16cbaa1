"""The options of a fit: checked before the pair, the data or the random state is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import torch

from inference.running.words import check_bits, told
from zoo import guides
from zoo.base import ModelGuide

_CHOICES = {
    "method": ("svi", "em"),
    "schedule": ("auto", "constant", "cosine", "plateau"),
    "objective": ("elbo", "iwae"),
    "compile": ("auto", "inductor", "graph", "off"),
}


def _positive(value: float) -> bool:
    return value > 0


def _not_negative(value: float) -> bool:
    return value >= 0


def _fraction(value: float) -> bool:
    return 0 <= value <= 1


# Options, what bounds them, whether None is one, their kind, and that in words.
_NUMBERS: tuple[tuple[tuple[str, ...], Callable[[Any], bool], bool, Any, str], ...] = (
    (("steps", "batch_size", "particles"), _positive, True, Integral, "a whole number above 0"),
    (("max_steps", "patience", "log_every"), _positive, False, Integral, "a whole number above 0"),
    (("epochs", "lr", "clip", "max_seconds"), _positive, True, Real, "a finite number above 0"),
    (("anneal",), _not_negative, False, Integral, "a whole number of at least 0"),
    (("free_bits", "tolerance"), _not_negative, False, Real, "a finite number of at least 0"),
    (("average",), _fraction, False, Real, "a fraction from 0 to 1"),
)


def check_options(given: Mapping[str, Any]) -> None:
    """Refuse what `inference.fit` can do nothing with.

    Raises:
        ValueError: by name of the option, with what was expected and what was given.
    """
    for name, options in _CHOICES.items():
        if given[name] not in options:
            raise ValueError(f"{name}: expected one of {', '.join(options)}, got {given[name]!r}")
    for names, least, optional, kind, expected in _NUMBERS:
        for name in names:
            value: Any = given[name]
            if value is None and optional:
                continue
            if isinstance(value, kind):
                check_bits(name, value)
            if not isinstance(value, kind) or isinstance(value, bool) or not least(value) or not math.isfinite(value):
                raise ValueError(f"{name}: expected {expected}, got {value!r}")
    if given["epochs"] is not None and given["steps"] is not None:
        raise ValueError("give epochs or steps, not both")
    for name, values in (("initialise", (None, True, False)), ("progress", (True, False))):
        if not any(given[name] is value for value in values):
            raise ValueError(f"{name}: expected one of {', '.join(map(str, values))}, got {given[name]!r}")
    for name in ("callbacks", "loggers"):
        _check_functions(name, given[name])


def device_of(device: torch.device | str) -> torch.device:
    """The device that `device` names; `auto` is a GPU when there is one.

    Raises:
        ValueError: no device of that name, or one that is not here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        raise ValueError(f"device: expected 'auto', 'cpu' or 'cuda', got {told(device)}") from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device: '{found}' was asked for, and PyTorch sees no GPU here")
    if found.type == "meta":
        raise ValueError("device: expected 'auto', 'cpu' or 'cuda', got 'meta', which holds no numbers")
    try:
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # as torch's backends say it
        raise ValueError(f"device: '{found}' was asked for, and PyTorch cannot use it here") from error
    return found


def _check_functions(name: str, given: Any) -> None:
    if not isinstance(given, (list, tuple)):
        raise ValueError(f"{name}: expected a list of functions, got {type(given).__name__}")
    for i, function in enumerate(given):
        if not callable(function):
            raise ValueError(f"{name}: expected functions, got {function!r} at position {i}")


def usual_particles(pair: ModelGuide, objective: str) -> int:
    """Draws a step, where nobody says how many."""
    return 10 if objective == "iwae" else guides.PARTICLES.get(pair.guide_family, 1)
