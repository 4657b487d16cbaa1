"""The form of a column: its cells as symbols of a small alphabet, and what a symbol leaves open of them; exact.

    category    a list of cells; the symbol is a place in it
    atoms       numbers of which a few occur again and again; the symbol is a place in their list, in their order
    decimal     whole multiples of 10^-decimals, such as 3.60; zeros at the end are written from `least` decimals on
    float       numbers that lie on no such grid, by their bits
    literal     texts that no symbol stands for, as names are: each is written out

The symbol of a number is its bin: one number where there are at most `bins`, else one of so many equal pieces of the
range of most cells, or of the ever wider ones beyond. A bin is a range of *keys*, whole numbers in the order of the
numbers; the rest of the key, its `offset`, is coded as all alike probable in the bin. So whatever number stands in a
column can be coded. A cell is `REGULAR`, `MISSING` (the marks are the form's), or an `ESCAPE`, that is written out:
no cell of the list, or a number that is not written as the others, as 1e3, -0 or 007.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError
from inference.compression.integers import Ints

Keys = NDArray[np.uint64]
KINDS = ("category", "atoms", "decimal", "float", "literal")
REGULAR, MISSING, ESCAPE = 0, 1, 2
BINS = 512
FINE = 4096  # bins of a column whose model needs no table of them
DIGITS = 15  # of a decimal number, so that a float64 tells them apart
MOST = 1 << 16  # cells of a list
_ZERO = 1 << 63  # the key of 0
_LISTS = ("category", "atoms")


class Cells(NamedTuple):
    """What a column is in symbols: flags (B,), and of regular cells symbols and offsets; escapes are written out."""

    flags: Ints  # (B,)
    symbols: Ints  # (B,), 0 where not regular
    offsets: Keys  # (B,), 0 where not regular
    escapes: list[str]


@dataclass(frozen=True)
class Form:
    """How the cells of a column are spelled; see the top of this file.

    Args:
        kind: one of `KINDS`.
        missing: the text that stands for a missing cell; of arrays NaN does.
        cells: of a category, or of atoms.
        decimals, least: of decimals.
        range: of numbers: the least, where equal bins begin and end, and the greatest; in units of the last decimal,
            or floats.
        bins: equal ones.
    """

    kind: str
    missing: str = ""
    cells: tuple[str, ...] = ()
    decimals: int = 0
    least: int = 0
    range: tuple[float, float, float, float] | tuple[int, int, int, int] = (0, 0, 1, 1)
    bins: int = BINS

    @classmethod
    def of(cls, record: Any) -> Form:
        """The form that a header tells.

        Raises:
            CompressionError: it is none.
        """
        try:
            form = cls(**{**record, "cells": tuple(record["cells"]), "range": tuple(record["range"])})
            good = form.kind in KINDS and all(isinstance(cell, str) for cell in (form.missing, *form.cells))
            good &= all(type(n) is int and 0 <= n <= DIGITS for n in (form.decimals, form.least))
            good &= type(form.bins) is int and form.bins in (BINS, FINE)
            good &= len(set(form.cells)) == len(form.cells) <= MOST and (form.kind not in _LISTS or bool(form.cells))
            if form.kind == "atoms":
                good = good and bool((np.diff(form.numbers) > 0).all() and np.isfinite(form.numbers).all())
            whole = form.kind != "float"
            low, start, stop, high = form.range
            good &= all(type(n) is int if whole else type(n) is float for n in form.range)
            good &= low <= start <= stop <= high and (not whole or max(abs(low), abs(high)) < 1 << 62)
            good &= all(math.isfinite(n) for n in form.range)
        except (TypeError, ValueError, KeyError) as error:
            raise CompressionError(f"the header describes no column ({error!r:.100})") from None
        if not good:
            raise CompressionError(f"the header describes no column: {record!r:.100}")
        return form

    def record(self) -> dict[str, Any]:
        """For the header."""
        return asdict(self)

    @property
    def numeric(self) -> bool:
        """Whether its symbols are bins of numbers."""
        return self.kind in ("decimal", "float")

    @property
    def measured(self) -> bool:
        """Whether its symbols stand for numbers, in their order."""
        return self.numeric or self.kind == "atoms"

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The numbers that symbols stand for, of atoms and of decimals in bins of one, (C,)."""
        if self.kind == "atoms":
            return np.array([float(cell) for cell in self.cells])
        return np.asarray(self.cuts[:-1] / 2 + self.cuts[1:] / 2)

    @property
    def size(self) -> int:
        """The number of symbols."""
        return len(self.edges) - 1 if self.numeric else max(1, len(self.cells))

    @cached_property
    def edges(self) -> Keys:
        """The keys at which bins begin, and the end of the last, (C + 1,)."""
        if self.kind == "decimal":
            low, start, stop, high = (int(n) for n in self.range)
            marks = _whole_marks(low, start, stop, high, self.bins)
            return np.array([mark + _ZERO for mark in marks], dtype=np.uint64)
        low_, start_, stop_, high_ = map(float, self.range)
        marks_ = _float_marks(low_, start_, stop_, high_, self.bins)
        keys = np.unique(float_keys(np.array(marks_)))
        return np.append(keys[keys <= float_keys(np.array([self.range[3]]))], float_keys(np.array([self.range[3]])) + 1)

    @cached_property
    def cuts(self) -> NDArray[np.float64]:
        """The numbers between which each symbol lies, (C + 1,): half a step below the least of a bin of decimals."""
        if self.kind == "atoms":
            numbers = self.numbers
            if len(numbers) == 1:
                return np.array([numbers[0] - 0.5, numbers[0] + 0.5])
            middle = numbers[:-1] / 2 + numbers[1:] / 2
            with np.errstate(over="ignore"):  # infinite ones are ends too
                return np.array([2 * numbers[0] - middle[0], *middle, 2 * numbers[-1] - middle[-1]])
        if self.kind == "decimal":
            whole = np.array([int(edge) - _ZERO for edge in self.edges], dtype=np.float64)
            cuts: NDArray[np.float64] = (whole - 0.5) / 10.0**self.decimals
            return cuts
        return key_floats(self.edges)

    @property
    def step(self) -> float:
        """How far apart the numbers lie; 0 of floats."""
        return 10.0**-self.decimals if self.kind == "decimal" else 0.0

    def placed(self, keys: Keys) -> tuple[Ints, Keys]:
        """Bins and offsets of keys in range."""
        bins = np.searchsorted(self.edges, keys, side="right") - 1
        return bins.astype(np.int64), keys - self.edges[bins]

    def widths(self, symbols: Ints) -> Keys:
        """How many keys the bins hold; of no number, 1."""
        if not self.numeric:
            return np.ones(len(symbols), dtype=np.uint64)
        found: Keys = np.diff(self.edges)[symbols]
        return found


def float_keys(numbers: NDArray[np.float64]) -> Keys:
    """Whole numbers in the order of floats."""
    bits = np.ascontiguousarray(numbers, dtype=np.float64).view(np.uint64)
    found: Keys = np.where(bits >> np.uint64(63), ~bits, bits | np.uint64(_ZERO))
    return found


def key_floats(keys: Keys) -> NDArray[np.float64]:
    """The floats of keys."""
    bits = np.where(keys >> np.uint64(63), keys & np.uint64(_ZERO - 1), ~keys)
    return np.ascontiguousarray(bits).view(np.float64)


def _whole_marks(low: int, start: int, stop: int, high: int, bins: int) -> list[int]:
    """Whole numbers at which bins begin, and the end of the last."""
    if high - low < bins:
        return [*range(low, high + 2)]
    span = stop - start + 1
    inner = [start + span * i // bins for i in range(bins)] if span > bins else [*range(start, stop + 1)]
    found, step = [*inner, stop + 1], max(1, span // bins)
    below, above = start, stop + 1
    while below > low:
        below, above, step = max(low, below - step), min(high + 1, above + step), 2 * step
        found += [below, above]
    while above < high + 1:
        above, step = min(high + 1, above + step), 2 * step
        found.append(above)
    return sorted(set(found))


def _float_marks(low: float, start: float, stop: float, high: float, bins: int) -> list[float]:
    """The same of floats, all of them at most `high`."""
    step = (stop - start) / bins
    found = [low, high, start, stop, *(start + step * i for i in range(1, bins))]
    below, above, step = start - step, stop + step, max(step, 1e-300)
    for _ in range(2 * BINS):
        if below <= low and above >= high:
            break
        found += [max(low, below), min(high, above)]
        below, above, step = below - 2 * step, above + 2 * step, 2 * step
    return [mark for mark in found if low <= mark <= high]
