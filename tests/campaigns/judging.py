"""Whether an answer to bad data is right: a refusal before step one that says where, or a finite and right result."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import inference
import zoo
from tests.campaigns.corruptions import Given
from zoo.base import FIELDS

OWN = [Path(module.__file__).parent for module in (zoo, inference)]
LONGEST = 600  # of a message: what is longer was dumped from below


class Wrong(Exception):
    """What is wrong about an answer."""


def judge(call: Callable[[], Any], given: Given, field: str, columns: Iterable[str] | None, begun: list[int]) -> str:
    """What is wrong about how `call` deals with the data, in words; an empty text where nothing is.

    `call` raises `Wrong` where its result is; `begun` is no longer empty once a step was taken.
    """
    try:
        call()
    except Wrong as wrong:
        return str(wrong)
    except ValueError as error:
        return _refusal(error, given, field, columns, begun)
    except Exception as error:  # that is what is looked for
        return f"{type(error).__name__}: {_short(error)}"
    return "accepted, and it holds no numbers" if given.meaning is None else ""


def _refusal(error: ValueError, given: Given, field: str, columns: Iterable[str] | None, begun: list[int]) -> str:
    said, frame = str(error), traceback.extract_tb(error.__traceback__)[-1]
    if begun:
        return f"refused after a step: {_short(error)}"
    if isinstance(error, inference.NonFiniteError):
        return f"not refused before step one: {_short(error)}"
    if not any(Path(frame.filename).is_relative_to(folder) for folder in OWN):
        return f"raised from below ({Path(frame.filename).name}): {_short(error)}"
    if len(said) > LONGEST or "\n" in said:
        return f"a message of {len(said)} characters: {_short(error)}"
    return _unnamed(said, error, given, field, columns)


def _unnamed(said: str, error: ValueError, given: Given, field: str, columns: Iterable[str] | None) -> str:
    # Where whole fields do not go together, either may be named.
    fields = FIELDS if not given.cell else (field,)
    if given.field and not any(_names_field(said, name, columns) for name in fields):
        return f"the field is not named: {_short(error)}"
    if not _names_cell(said, given, columns):
        return f"row or column is not named: {_short(error)}"
    return ""


def _names_field(said: str, field: str, columns: Iterable[str] | None) -> bool:
    return bool(re.search(rf"\b{field}\b", said)) or any(f"column '{name}'" in said for name in columns or ())


def _names_cell(said: str, given: Given, columns: Iterable[str] | None) -> bool:
    if not given.cell or "expected shape" in said:
        return True
    row, column = given.cell[0], given.cell[-1] if len(given.cell) > 1 else None
    if row is not None and not re.search(rf"\brow {row}\b", said):
        return False
    if column is None:
        return True
    named = [f"column {column}", f"step {column}", f"column 'x{column + 1}'"]
    named += [f"column '{list(columns)[column]}'"] if columns else []
    return any(re.search(rf"{re.escape(name)}(?!\w)", said) for name in named)


def _short(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if len(said) <= 160 else f"{said[:160]}…"


def check_meaning(found: torch.Tensor | None, given: Given) -> None:
    """Whether the model sees the numbers that the data say, to the precision of its type."""
    if given.meaning is None:
        return
    if found is None:
        raise Wrong("the field is not seen")
    seen = found.detach().cpu().numpy()
    if seen.shape != given.meaning.shape:
        raise Wrong(f"shape {seen.shape} is seen, not {given.meaning.shape}")
    with np.errstate(over="ignore", under="ignore"):
        meant = given.meaning.astype(seen.dtype)
    near = np.isclose(seen, meant, rtol=1e-6, atol=1e-44, equal_nan=True)  # two steps of the least numbers of float32
    if not near.all():
        at = tuple(np.argwhere(~near)[0])
        raise Wrong(f"{seen[at]:g} is seen at {tuple(map(int, at))}, not {meant[at]:g}")


def check_finite(values: dict[str, Any], what: str) -> None:
    """Whether all these numbers are finite."""
    for name, value in values.items():
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            at = tuple(map(int, np.argwhere(~np.isfinite(array))[0]))
            raise Wrong(f"{what} '{name}' holds {array[at]:g} at {at}")
