"""The table of known data sets: each loader registers itself, with what a reader should know of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo.config import nearest

Arrays = dict[str, NDArray[Any]]  # batch field (x, y, lengths) -> values
Loader = Callable[[], Arrays]


@dataclass(frozen=True)
class Description:
    """What is known of a data set without loading it.

    Args:
        name: what `load` takes.
        what: one sentence.
        rows: number of observations N.
        columns: names of the columns of `x`, in order; of the steps' features for a sequence.
        source: who measured it and where it was published.
        licence: the terms of the data.
        target: what `y` holds, empty when there is none.
        needs: what must be installed for it, empty when it comes with the zoo.
        start: of a series with dates, the first, and
        freq: how often its steps are, in pandas' words.
    """

    name: str
    what: str
    rows: int
    columns: tuple[str, ...]
    source: str
    licence: str
    target: str = ""
    needs: str = ""
    start: str = ""
    freq: str = ""


_known: dict[str, tuple[Description, Loader]] = {}


def dataset(description: Description) -> Callable[[Loader], Loader]:
    """Make a loader known to `zoo.datasets.load`; a function decorator.

    Raises:
        ValueError: another data set already has that name.
    """

    def add(loader: Loader) -> Loader:
        known = _known.get(description.name)
        if known is not None and known[0] != description:
            raise ValueError(f"two data sets called '{description.name}': '{known[0].what}', '{description.what}'")
        _known[description.name] = description, loader
        return loader

    return add


def names() -> list[str]:
    """Names of the known data sets, sorted."""
    return sorted(_known)


def describe(name: str) -> Description:
    """What is known of the data set called `name`.

    Raises:
        ValueError: unknown name, with the nearest that exists.
    """
    return _find(name)[0]


def arrays(name: str) -> Arrays:
    """The values of the data set called `name`, by batch field."""
    return {field: np.asarray(value) for field, value in _find(name)[1]().items()}


def _find(name: str) -> tuple[Description, Loader]:
    if name not in _known:
        raise ValueError(f"unknown data set '{name}'{nearest(name, _known)}; known: {', '.join(names())}")
    return _known[name]
