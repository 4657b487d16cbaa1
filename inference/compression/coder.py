"""The entropy coder: symbols under cumulative frequencies of whole numbers, in constriction's range coder.

`Writer` and `Reader` have the same two methods, which return the symbols: a codec is one function that runs alike in
both directions, so that what is read was computed as what was written. Lanes are rows: one call codes a symbol in each.

constriction takes probabilities. Weights f - 1 that are whole numbers, and sum to 2^24 - C, make its fast road (one
free part for each symbol, the rest by truncated multiples of a scale that is then exactly 1) give each symbol the
frequency f, without rounding: a test compares it with a range coder of integers.

A codec of latents (bits back) needs a stack in the place of this queue, constriction's `AnsCoder`: a class with the
same two methods, and `pop`, which reads under a distribution what was written before.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError, entropy_coder
from inference.compression.integers import Ints

WIDE = 16  # bits of a uniform digit


class Writer:
    """Takes symbols."""

    def __init__(self) -> None:
        stream = entropy_coder()
        self._coder = stream.queue.RangeEncoder()
        self._tables, self._even = stream.model.Categorical(perfect=False), stream.model.Uniform()

    def code(self, edges: Ints, symbols: Ints) -> Ints:
        """Symbols (B,) under cumulative frequencies (B, C + 1), or (C + 1,) of all; one symbol alone takes no bits."""
        if len(symbols) and edges.shape[-1] > 2:
            lanes = [self._tables, _weights(edges)] if edges.ndim == 2 else [_alike(edges)]
            self._coder.encode(symbols.astype(np.int32), *lanes)
        return symbols

    def even(self, sizes: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Numbers from 0, each below its size, all alike probable."""
        for shift, size, some in _digits(sizes):
            digit = (values[some] >> shift) % size.astype(np.uint64)  # the first is below its size
            self._coder.encode(digit.astype(np.int32), self._even, size)
        return values

    def bytes(self) -> bytes:
        """All that was written."""
        words: NDArray[np.uint32] = self._coder.get_compressed()
        return words.astype("<u4").tobytes()


class Reader:
    """Gives symbols back."""

    def __init__(self, data: bytes) -> None:
        if len(data) % 4:
            raise CompressionError(f"a chunk of {len(data)} bytes: expected whole words of 4")
        stream = entropy_coder()
        self._coder = stream.queue.RangeDecoder(np.frombuffer(data, dtype="<u4").astype(np.uint32))
        self._tables, self._even = stream.model.Categorical(perfect=False), stream.model.Uniform()

    def code(self, edges: Ints, symbols: Ints) -> Ints:
        """The symbols (B,) that were written under these cumulative frequencies; of `symbols` the number counts."""
        if not len(symbols) or edges.shape[-1] <= 2:
            return np.zeros(len(symbols), dtype=np.int64)
        if edges.ndim == 1:
            return self._read(_alike(edges), len(symbols))
        return self._read(self._tables, _weights(edges))

    def even(self, sizes: NDArray[np.uint64], values: Any = None) -> NDArray[np.uint64]:
        """The numbers that were written; `values` is not looked at."""
        found = np.zeros(len(sizes), dtype=np.uint64)
        for shift, size, some in _digits(sizes):
            found[some] |= self._read(self._even, size).astype(np.uint64) << shift
        if (found >= np.maximum(sizes, 1)).any():
            raise CompressionError("a chunk holds a number that is out of its range")
        return found

    def _read(self, model: Any, parameters: Any) -> Ints:
        try:
            found: Ints = self._coder.decode(model, parameters).astype(np.int64)
        except AssertionError as error:
            raise CompressionError(f"a chunk holds no valid code ({error})") from None
        return found


def _alike(edges: Ints) -> Any:
    return entropy_coder().model.Categorical(_weights(edges), perfect=False)


def _weights(edges: Ints) -> NDArray[np.float64]:
    return (np.diff(edges, axis=-1) - 1).astype(np.float64)


def _digits(sizes: NDArray[np.uint64]) -> Any:
    """The digits of numbers below `sizes`, the first ones first: shifts, sizes of the digits, and which lanes.

    The first digit has 16 bits at most, and at least 15 where more follow, so that what is wasted is below 2^-15 bits.
    """
    most = (sizes - np.uint64(1)).astype(np.uint64)
    length = np.zeros(len(sizes), dtype=np.int64)
    for step in (32, 16, 8, 4, 2, 1):  # bits of the greatest number
        more = most >> length.astype(np.uint64) >> np.uint64(step) != 0
        length += np.where(more, step, 0)
    shift = np.maximum(length + 1 - WIDE, 0)
    first = (most >> shift.astype(np.uint64)).astype(np.int64) + 1
    some = np.flatnonzero(first > 1)
    if len(some):
        yield shift[some].astype(np.uint64), first[some].astype(np.int32), some
    while len(some := np.flatnonzero(shift > 0)):
        width = np.minimum(shift[some], WIDE)
        shift[some] -= width
        yield shift[some].astype(np.uint64), (1 << width).astype(np.int32), some
