"""What a column holds, seen piece by piece, and the form that suits it: the first of two passes over the data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.compression.forms import DIGITS, Form
from inference.compression.spelling import decimal, shortest

MARKS = frozenset({"", "?", "NA", "NaN", "nan", "null", "None", "N/A", "NULL", "<NA>", "na", "none", "-"})
_LISTED = 256  # categories of a column that no model describes
_LONG = 1 << 12  # floats in a list
_KEPT = 1 << 14  # distinct texts that are counted
_SAMPLE = 1 << 14  # numbers behind the range of equal bins
_GRIDS = range(7)  # decimals that floats are tried for
_ODD = 100  # of so many cells one may not lie on the grid


class Survey:
    """What the cells of one or more columns of a kind have in common."""

    def __init__(self) -> None:
        self.rows = self.plain = self.floats = 0
        self.counts: Counter[str] = Counter()  # of texts, as long as they are not too many
        self.many = False
        self.decimals: Counter[int] = Counter()
        self.trailing = False  # a zero at the end of a number's decimals
        self.least, self.low, self.high = DIGITS, 0, 0  # of numbers in units of 10^-DIGITS
        self.off: Counter[int] = Counter()  # by decimals, numbers that lie on no such grid
        self.finite = 0
        self.sample: list[NDArray[np.float64]] = []
        self.kind = ""
        self.floor: float = np.inf  # a whole number of whole numbers
        self.top: float = -np.inf

    def see(self, cells: NDArray[Any]) -> None:
        """Take in some cells, (B,)."""
        self.rows += len(cells)
        if cells.dtype == object:
            self._texts(cells)
        else:
            self.kind = cells.dtype.kind
            self._numbers(cells)

    def _texts(self, cells: NDArray[Any]) -> None:
        for cell, count in Counter(cells.tolist()).items():
            if not self.many:
                self.counts[cell] += count
            found = decimal(cell)
            if found is None:
                self._float(cell, count)
                continue
            number, places = found
            self.decimals[places] += count
            self.trailing |= places > 0 and cell.endswith("0")
            value = number * 10 ** (DIGITS - places)
            self.low, self.high = (value, value) if not self.plain else (min(self.low, value), max(self.high, value))
            self.plain += count
            self._keep(np.full(min(count, 64), float(cell)))
        if len(self.counts) > _KEPT:
            self.many = True
            self.counts = Counter({cell: n for cell, n in self.counts.items() if cell in MARKS})

    def _float(self, cell: str, count: int) -> None:
        """Take in a cell that is no decimal number of few digits."""
        value = shortest(cell)
        if value is not None:
            self.floats += count
            self.floor, self.top = min(self.floor, value), max(self.top, value)
            self._keep(np.full(min(count, 64), value))

    def _numbers(self, cells: NDArray[Any]) -> None:
        wide = cells.astype(np.float64)
        inside = np.isfinite(wide) if cells.dtype.kind == "f" else np.abs(wide) < 2.0**62
        some = wide[inside]
        if not len(some):
            return
        self.finite += len(some)
        self.floor, self.top = min(self.floor, cells[inside].min().item()), max(self.top, cells[inside].max().item())
        self._keep(some[:: -(-len(some) // 4096)])
        if cells.dtype.kind != "f":
            return
        for places in _GRIDS:
            if self.off[places] * _ODD > self.finite:
                continue
            with np.errstate(over="ignore"):
                scaled = np.rint(some * 10**places)
            back = (scaled / 10**places).astype(cells.dtype).astype(np.float64)
            self.off[places] += int(((back != some) | (np.abs(scaled) >= 2.0**53)).sum())

    def _keep(self, numbers: NDArray[np.float64]) -> None:
        self.sample.append(numbers)
        if len(self.sample) > _SAMPLE:
            whole = np.concatenate(self.sample)
            self.sample = [whole[:: -(-len(whole) // _SAMPLE)]]

    def form(self, categories: Sequence[Sequence[str]] | None = None, number: bool | None = None) -> Form:
        """The form that suits.

        Args:
            categories: of a column that a model knows by its categories: the texts that each may be written as.
            number: whether a model takes the column for numbers; None where no model knows it.
        """
        if self.kind:
            return self._of_numbers()
        missing = next((cell for cell, _ in self.counts.most_common() if cell in MARKS), "")
        if categories is not None:
            cells = [max(ways, key=lambda way: self.counts[way]) for ways in categories]
            if len(set(cells)) == len(cells) and missing not in cells:
                return Form("category", missing, tuple(cells))
        held = sum(count for cell, count in self.counts.items() if cell == missing)
        told = self.plain + self.floats
        if told and (number or (number is None and 10 * told >= 9 * (self.rows - held))):
            return self._of_atoms(missing) or self._of_told(missing)
        listed = [cell for cell, _ in self.counts.most_common() if cell != missing]
        if self.many or not listed or len(listed) > min(_LISTED, max(2, self.rows // 4)):
            return Form("literal", missing)
        return Form("category", missing, tuple(listed))

    def _of_atoms(self, missing: str) -> Form | None:
        """A list of numbers, where few occur, and not most of those on a grid."""
        values = {cell: float(cell) for cell in self.counts if decimal(cell) or shortest(cell) is not None}
        cells = sorted((cell for cell in values if cell != missing), key=lambda cell: values[cell])
        most, times = (_LISTED, 8) if self.plain >= self.floats else (_LONG, 2)  # a float takes some seven bytes
        if self.many or len(cells) > min(most, self.rows // times) or len(set(values.values())) < len(cells):
            return None
        if not self.floats:
            low, _, _, high = self._of_decimals(missing).range
            if 2 * len(cells) > high - low + 1:
                return None
        return Form("atoms", missing, tuple(cells))

    def _of_told(self, missing: str) -> Form:
        """Decimals, or floats where most cells have more digits."""
        if self.plain >= self.floats:
            return self._of_decimals(missing)
        start, stop = np.clip(self._quantiles(), self.floor, self.top).tolist()
        return Form("float", missing, range=(self.floor, start, stop, self.top))

    def _of_decimals(self, missing: str) -> Form:
        odd = self.plain // _ODD  # cells of more decimals, or fewer, than the others are written out
        up, down = sorted(self.decimals), sorted(self.decimals, reverse=True)
        places = next(d for d in up if sum(self.decimals[more] for more in up if more > d) <= odd)
        least = next(d for d in down if sum(self.decimals[less] for less in down if less < d) <= odd)
        least = places if least == places and self.trailing else min(least, places)
        unit = 10 ** (DIGITS - places)
        low, high = -(-self.low // unit), self.high // unit
        start, stop = self._middle(10.0**places, low, high)
        return Form("decimal", missing, (), places, least, (low, start, stop, high))

    def _of_numbers(self) -> Form:
        if not self.finite:
            return Form("decimal", range=(0, 0, 0, 0))  # one bin, in which nothing is
        places = next((p for p in _GRIDS if self.kind != "f" or self.off[p] * _ODD <= self.finite), None)
        far = self.kind == "f" and places is not None and max(-self.floor, self.top) * 10**places >= 2.0**53
        if places is None or far:
            start, stop = np.clip(self._quantiles(), self.floor, self.top).tolist()  # infinite ones too
            return Form("float", range=(float(self.floor), start, stop, float(self.top)))
        low, high = round(self.floor * 10**places), round(self.top * 10**places)
        start, stop = self._middle(10.0**places, low, high)
        return Form("decimal", "", (), places, 0, (low, start, stop, high))

    def _middle(self, scale: float, low: int, high: int) -> tuple[int, int]:
        with np.errstate(over="ignore"):
            cuts = np.clip(self._quantiles() * scale, float(low), float(high))
        start, stop = (round(cut) for cut in cuts.tolist())
        return min(max(start, low), high), min(max(stop, low), high)

    def _quantiles(self) -> NDArray[np.float64]:
        """Where all but some thousandths of the numbers lie, and half as much again on both sides."""
        sample = np.concatenate(self.sample)
        quarter = sample[:: -(-len(sample) // _SAMPLE)] / 4  # whose differences are never out of range
        low, high = np.quantile(quarter, [0.005, 0.995])
        with np.errstate(over="ignore"):
            return 4 * np.array([low - (high - low) / 4, high + (high - low) / 4])
