"""Bounded memory: work over draws and rows runs in pieces that hold at most about `settings.memory` numbers at a time.

What one draw of one row holds is measured, not guessed: `width` runs guide and model on two rows and on three, and
takes the growth of the largest tensor. Outputs of a decoder, mostly: 256 numbers for each pixel of a categorical one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from zoo.base import Batch
from zoo.settings import settings

_ROW = 4096  # numbers: what networks may hold of a row, where measuring it would cost more than the work


def share(total: int, among: int) -> Iterator[tuple[int, slice]]:
    """Deal `total` draws out evenly: (which of `among`, its slice), those with none left out."""
    bounds = [round(s * total / among) for s in range(among + 1)]
    for s in range(among):
        if bounds[s + 1] > bounds[s]:
            yield s, slice(bounds[s], bounds[s + 1])


def chunks(batch: Batch, rows: int) -> Iterator[tuple[slice, Batch]]:
    """The batch in consecutive pieces of at most `rows` observations."""
    for begin in range(0, batch.size, rows):
        piece = slice(begin, min(begin + rows, batch.size))
        yield piece, batch.select(piece)


def pieces(total: int, cost: int) -> Iterator[slice]:
    """Consecutive slices of `total` items that cost `cost` numbers each, within `settings.memory`."""
    count = max(1, min(total, settings.memory // max(1, cost)))
    for begin in range(0, total, count):
        yield slice(begin, min(begin + count, total))


def draws_of_globals(total: int, each: int) -> Iterator[slice]:
    """Consecutive slices of draws of `each` numbers that are taken on a row or two, within `settings.memory`."""
    return pieces(total, max(_ROW, each))


def rows_at_once(batch: Batch, width: int, draws: int | None = None) -> int:
    """How many observations to take at a time, when a draw of one holds `width` numbers and there are `draws`."""
    together = settings.draws_at_once if draws is None else min(draws, settings.draws_at_once)
    return max(1, min(batch.size, settings.memory // together // max(1, width)))


def held(values: Mapping[str, Tensor]) -> int:
    """Numbers in one draw of these global latents: each particle repeats them."""
    return sum(value[0].numel() for value in values.values())
