"""Names and numbers as error messages spell them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        ValueError: by name.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {told(value)}")


def check_number(name: str, value: Any, least: float = 0) -> None:
    """Refuse what is no finite number of at least `least`.

    Raises:
        ValueError: by name.
    """
    if not (_is_number(value) and least <= value < math.inf):
        raise ValueError(f"{name}: expected a finite number of at least {least:g}, got {told(value)}")


def check_mass(value: Any, name: str = "mass") -> None:
    """Refuse what is no number strictly between 0 and 1.

    Raises:
        ValueError: by name.
    """
    if not (_is_number(value) and 0 < value < 1):
        raise ValueError(f"{name}: expected a number between 0 and 1, got {told(value)}")


def listed(names: Iterable[str]) -> str:
    """Names in quotes, or "nothing"."""
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def told(value: Any) -> str:
    """What was given: a small plain value as it is, anything else by its type."""
    plain = value is None or isinstance(value, (bool, int, float, complex, str))
    return repr(value) if plain and len(repr(value)) <= 60 else type(value).__name__


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
