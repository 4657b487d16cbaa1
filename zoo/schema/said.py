"""What the cells of a column do not say themselves: the order of levels, and which numbers stand for missing."""

from __future__ import annotations

import shlex
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from zoo.notes import DataWarning
from zoo.schema.column import listed, plain

_STAND_INS = frozenset({-9, -99, -999, -9999, -99999, -999.25, 99, 999, 9999, 99999})  # by long habit
_LEAST = 3  # other numbers that there are to be, to tell what is far from them


def in_order(name: str, order: Sequence[Any], distinct: Sequence[Any]) -> list[Any]:
    """The levels in the order that was said, each as the cells have it.

    Raises:
        ValueError: a level of the column that was not said.
    """
    by_text = {str(cell): cell for cell in distinct}
    found = [plain(level) for level in order]
    found = [level if level in distinct else by_text.get(str(level), level) for level in found]
    if lacking := [cell for cell in distinct if cell not in found]:
        raise ValueError(f"column '{name}': {lacking[0]!r} is none of the levels that were given: {listed(found)}")
    return found


def tell_order(name: str, distinct: Sequence[Any]) -> None:
    """Warn of levels that are texts and have no order but that of the alphabet."""
    levels = ",".join(map(str, distinct))
    warnings.warn(
        f"column '{name}': its levels are taken in alphabetical order, {listed(distinct)}; where that is not theirs, "
        f"say it: --kind {shlex.quote(f'{name}=ordinal:{levels}')} in their order (an ordered Categorical, or "
        f"{name}=('ordinal', [...]), in Python)",
        DataWarning,
        stacklevel=5,
    )


def tell_stand_ins(name: str, cells: Sequence[Any]) -> None:
    """Warn of a number such as -999 that comes back and lies farther from the others than they from one another."""
    for value, count in Counter(cells).most_common(2):
        if count < 2 or isinstance(value, bool) or value not in _STAND_INS:
            continue
        others = [cell for cell in cells if cell != value]
        low, high = (min(others), max(others)) if others else (value, value)
        if len(set(others)) >= _LEAST and max(low - value, value - high) > high - low:
            warnings.warn(
                f"column '{name}': {count} rows hold {value:g}, far from all others ({low:g} to {high:g}), and it is "
                "taken as it stands: empty these cells if it means missing",
                DataWarning,
                stacklevel=5,
            )
