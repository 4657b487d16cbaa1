"""Texts that are numbers with a mark: units, currencies, marks of thousands, another land's decimal mark."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Sequence
from typing import Any

from zoo.notes import DataWarning

_FEW = 10  # distinct texts that are levels rather than measurements, where each comes back
_NUMBER = r"(?:\d{1,3}(?:[,.'’_\s]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d*)?|[.,]\d+)(?:[eEdD][+-]?\d+)?"
_BEFORE = r"(?:[^\w\s.,:;()/#+-]{1,2}|[A-Z]{3})"  # €, $, USD, ~, <
_AFTER = r"[^\d\s,.:;()/#_+-][^\d\s]{0,9}(?:/\w{1,4})?"  # %, kg, °C, mmol/l, kg/m2
_MARKED = re.compile(rf"(?:{_BEFORE}\s?)?[+-]?(?:{_NUMBER})(?:\s?{_AFTER})?")


def is_marked(cell: str) -> bool:
    """Whether a text is a number with a mark or a fraction; digits alone may be a code."""
    text = cell.strip()
    return not text.isdigit() and _MARKED.fullmatch(text) is not None


def check_marks(name: str, cells: Sequence[Any]) -> None:
    """Refuse a column most of whose cells are numbers with a mark: as categories there would be one of each.

    Ten levels or fewer that come back, such as doses `10 mg` and `20 mg`, are categories.

    Raises:
        ValueError: see above; an example and what to do are named.
    """
    distinct = set(cells)
    if len(distinct) <= _FEW and 2 * len(distinct) <= len(cells):
        return
    marked = [cell for cell in cells if isinstance(cell, str) and is_marked(cell)]
    if 2 * len(marked) > len(cells):
        choice = shlex.quote(f"{name}=categorical")
        raise ValueError(
            f"column '{name}': expected numbers, got {marked[0]!r} and the like in {len(marked)} of {len(cells)} "
            "cells: write numbers alone, with one decimal mark throughout and without units or marks of thousands; "
            f"or say what the column is, as --kind {choice} (kinds= in Python)"
        )


def tell_codes(name: str, cells: Sequence[Any], distinct: Sequence[Any], kind: str) -> None:
    """Warn of texts that begin with digits and nearly all differ: they say which row it is, or measure something."""
    if len(distinct) <= _FEW or 10 * len(distinct) < 9 * len(cells):
        return
    if 2 * sum(isinstance(cell, str) and cell[:1].isdigit() for cell in cells) > len(cells):
        warnings.warn(
            f"column '{name}': {len(distinct)} of {len(cells)} texts are distinct and most begin with a digit, as "
            f"{cells[0]!r}: it is taken as {kind}; ignore it if it counts rows, write numbers if it measures",
            DataWarning,
            stacklevel=5,
        )
