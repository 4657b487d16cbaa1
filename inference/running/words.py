"""Names and numbers as error messages spell them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from zoo.config import digits


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Refuse what is no whole number of at least `least`.

    Raises:
        ValueError: by name.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ValueError(f"{name}: expected a whole number of at least {least}, got {told(value)}")
    check_bits(name, value)


def check_number(name: str, value: Any, least: float = 0) -> None:
    """Refuse what is no finite number of at least `least`.

    Raises:
        ValueError: by name.
    """
    if not (_is_number(value) and least <= value < math.inf):
        raise ValueError(f"{name}: expected a finite number of at least {least:g}, got {told(value)}")
    check_bits(name, value)


def check_bits(name: str, value: Any) -> None:
    """Refuse a whole number of more than 64 bits, of which neither torch nor a float can be told.

    Raises:
        ValueError: by name.
    """
    if isinstance(value, Integral) and abs(int(value)) > sys.maxsize:
        raise ValueError(f"{name}: expected a number that 64 bits hold, got one of {digits(int(value))} digits")


def check_bool(name: str, value: Any) -> None:
    """Refuse what is neither True nor False.

    Raises:
        ValueError: by name.
    """
    if value is not True and value is not False:
        raise ValueError(f"{name}: expected True or False, got {told(value)}")


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
    if isinstance(value, int) and abs(value) > sys.maxsize:
        return f"a whole number of {digits(value)} digits"
    plain = value is None or isinstance(value, (bool, int, float, complex, str))
    return repr(value) if plain and len(repr(value)) <= 60 else type(value).__name__


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
