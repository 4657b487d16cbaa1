"""Integer rules: all that is computed while symbols are coded, the same on any machine and for any batch.

Numbers are int64, so sums and products are exact in any order; logs are fixed point, their tables come from integer
square roots. A *log table* is what is stored of a distribution: -log2 of each mass, in units of 1 / 64 bit, int16.
Coding takes cumulative frequencies of `TOTAL`, strictly rising, which `cumulative` makes of it.

    >>> cumulative(np.array([[64, 128, 128]], dtype=np.int16)).tolist()  # masses 1/2, 1/4, 1/4
    [[0, 8388608, 12582912, 16777216]]
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError

Ints = NDArray[np.int64]
PRECISION = 24  # bits of a frequency; constriction's own
TOTAL = 1 << PRECISION
UNIT = 64  # parts of a bit in a log table
RARE = 40 * UNIT  # the least mass that a log table tells, 2^-40; frequencies have a floor of their own
FINE = 1 << 16  # parts of a bit in a log weight
_ONE = 30  # bits of a power


def log_table(masses: NDArray[np.float64]) -> NDArray[np.int16]:
    """Masses (..., C), not negative, as a log table; done once, before any symbol is coded."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = masses / masses.sum(-1, keepdims=True)
        logs = np.rint(-UNIT * np.log2(shares))
    known = np.isfinite(shares).all(-1, keepdims=True)  # of no mass anywhere nothing is known: all alike
    alike = round(UNIT * math.log2(masses.shape[-1]))
    return np.where(known, np.clip(np.nan_to_num(logs, nan=0.0, posinf=RARE), 0, RARE), alike).astype(np.int16)


def cumulative(logs: NDArray[np.int16]) -> Ints:
    """Cumulative frequencies (..., C + 1) of a log table (..., C): from 0 to TOTAL, each symbol at least 1."""
    C = logs.shape[-1]
    if (logs < 0).any():
        raise CompressionError("a table holds a mass above one")
    shares = exp2(logs.astype(np.int64) * (FINE // UNIT))
    whole = shares.sum(-1, keepdims=True)
    if (whole >= 1 << 38).any():
        raise CompressionError("a table holds more than one in all")
    # A table in which all is rarer than 2^-30 comes out as zeros: all alike then.
    shares, whole = np.where(whole == 0, 1, shares), np.where(whole == 0, C, whole)
    return spread(np.concatenate([np.zeros_like(whole), shares.cumsum(-1)], -1))


def spread(edges: Ints) -> Ints:
    """Rising edges (..., C + 1), from 0 to at most 2^38, rescaled to 0 to TOTAL such that no symbol has less than 1."""
    C = edges.shape[-1] - 1
    found: Ints = edges * (TOTAL - C) // edges[..., -1:] + np.arange(C + 1)
    return found


def mixed(weights: Ints, edges: Ints) -> Ints:
    """Cumulative frequencies (B, C + 1) of a mixture: weights (B, K) that sum to TOTAL, tables (K, C + 1)."""
    # Sums are below 2^48, so float64 products are exact in any order.
    found: Ints = (weights.astype(np.float64) @ edges.astype(np.float64)).astype(np.int64) >> PRECISION
    return found


def shares(logs: Ints) -> Ints:
    """Weights (B, K) that sum to TOTAL, of log weights (B, K) in units of 1 / FINE bit: the higher, the likelier."""
    powers = exp2(logs.max(-1, keepdims=True) - logs)  # the greatest is 2^30
    K = logs.shape[-1]
    found: Ints = powers * (TOTAL - K) // powers.sum(-1, keepdims=True)
    best = logs.argmax(-1)  # the first of equals
    rows = np.arange(len(found))
    found[rows, best] += TOTAL - found.sum(-1)
    return found


def exp2(exponent: Ints) -> Ints:
    """2^30 times 2^-(exponent / FINE), for exponents from 0; 0 below 2^-30."""
    coarse, fine = _powers()
    low = exponent & (FINE - 1)
    power = (coarse[low >> 8] * fine[low & 255]) >> _ONE
    found: Ints = power >> np.minimum(exponent >> 16, 62)
    return found


@cache
def _powers() -> tuple[Ints, Ints]:
    """2^30 times 2^-(i / 256) and 2^-(i / 65536), i = 0..255, by integer square roots."""
    bits = 120
    roots = [1 << (bits - 1)]  # 2^-1, 2^-(1/2), 2^-(1/4), ...
    for _ in range(16):
        roots.append(math.isqrt(roots[-1] << bits))

    def power(number: int, first: int) -> int:
        product = 1 << bits
        for place in range(8):
            if number >> (7 - place) & 1:
                product = product * roots[first + place] >> bits
        return (product + (1 << (bits - _ONE - 1))) >> (bits - _ONE)

    return (
        np.array([power(i, 1) for i in range(256)], dtype=np.int64),
        np.array([power(i, 9) for i in range(256)], dtype=np.int64),
    )


def log2(numbers: Ints) -> Ints:
    """log2 of whole numbers from 1 to 2^31, in units of 1 / FINE bit, rounded down."""
    exponent = np.frexp(numbers.astype(np.float64))[1].astype(np.int64) - 1  # exact: numbers are below 2^53
    mantissa = numbers.astype(np.uint64) << (31 - exponent).astype(np.uint64)  # from 2^31, below 2^32
    found = exponent.copy()
    for _ in range(16):
        mantissa = mantissa * mantissa >> np.uint64(31)
        bit = mantissa >> np.uint64(32)
        mantissa >>= bit
        found = 2 * found + bit.astype(np.int64)
    return found
