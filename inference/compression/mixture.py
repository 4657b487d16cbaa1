"""Rows whose columns are independent given a class: P(row) = sum_k w_k prod_d p_kd(symbol of column d).

Coded column by column, each under the mixture that the columns before it have left,

    P(x_d = c | x_1, ..., x_d-1) = sum_k r_k p_kd(c),    r_k in proportion to w_k prod_{j < d} p_kj(x_j)

with r in fixed-point logs: no class is lost in a row of a thousand columns, as it is where weights of 24 bits multiply.
A cell that is missing leaves r as it is. One class is a table for each column, whatever it depends on: *marginals*.

Alphabets of more than `BLOCK` symbols are coded in two steps, block and place, so that a cell takes 2 sqrt(C) sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError
from inference.compression.integers import Ints, cumulative, log2, mixed, shares, spread

BLOCK = 64  # symbols
Arrays = Mapping[str, NDArray[Any]]


class Mixture:
    """The frozen model.

    Args:
        weights: log table of the classes, (K,).
        tables: log tables, (K, C) each.
        use: which table a column has, (D,).

    Raises:
        CompressionError: they do not belong together.
    """

    kind: ClassVar = "mixture"

    def __init__(self, weights: NDArray[np.int16], tables: Sequence[NDArray[np.int16]], use: NDArray[np.int32]) -> None:
        good = weights.ndim == use.ndim == 1 and len(weights) > 0 and all(t.ndim == 2 and t.size for t in tables)
        if not good or any(len(table) != len(weights) for table in tables) or not _within(use, len(tables)):
            raise CompressionError("the tables of a mixture do not belong together")
        self.weights, self.tables, self.use = weights, tuple(tables), use
        self.start = log2(np.diff(cumulative(weights)))  # (K,)
        self.edges = [cumulative(table) for table in tables]  # (K, C + 1)
        self.logs = [log2(np.diff(edges)) for edges in self.edges]  # (K, C)

    @classmethod
    def of(cls, arrays: Arrays) -> Mixture:
        """From the arrays of a file."""
        tables = [arrays[f"table_{t}"] for t in range(len(arrays) - 2)]
        return cls(arrays["weights"], tables, arrays["use"])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is, for the file."""
        return {"weights": self.weights, "use": self.use, **{f"table_{t}": a for t, a in enumerate(self.tables)}}

    @property
    def sizes(self) -> list[int]:
        """How many symbols each column has."""
        return [self.tables[t].shape[1] for t in self.use.tolist()]

    def code(self, coder: Any, symbols: Ints, seen: NDArray[np.bool_]) -> Ints:
        """Write symbols (B, D) where they are seen, or read them; they are returned, 0 elsewhere."""
        found = np.zeros_like(symbols)
        logs = np.tile(self.start, (len(symbols), 1))  # (B, K)
        for d, t in enumerate(self.use.tolist()):
            rows = np.flatnonzero(seen[:, d])
            some = self.cell(coder, t, logs[rows], symbols[rows, d])
            if self.logs[t].shape[0] > 1:
                logs[rows] += self.logs[t][:, some].T
            found[rows, d] = some
        return found

    def cell(self, coder: Any, t: int, logs: Ints, symbols: Ints) -> Ints:
        """One symbol a row, (B,), under table t and the log weights (B, K)."""
        return one_of(coder, self.edges[t], logs, symbols)


def one_of(coder: Any, edges: Ints, logs: Ints, symbols: Ints) -> Ints:
    """A symbol a row, (B,), of the mixture of cumulative frequencies (K, C + 1) with log weights (B, K)."""
    if len(edges) == 1:
        return np.asarray(coder.code(edges[0], symbols))
    weights, C = shares(logs), edges.shape[1] - 1
    if C <= BLOCK:
        return np.asarray(coder.code(mixed(weights, edges), symbols))
    cuts = np.minimum(np.arange(0, C + BLOCK, BLOCK), C)
    block = coder.code(mixed(weights, edges[:, cuts]), symbols // BLOCK)
    places = np.minimum(block[:, None] * BLOCK + np.arange(BLOCK + 1), C)  # (B, BLOCK + 1)
    inside = np.zeros_like(places)
    for k in range(len(edges)):
        inside += weights[:, k : k + 1] * edges[k][places]
    place = coder.code(spread((inside >> 24) - (inside[:, :1] >> 24)), symbols % BLOCK)
    found: Ints = block * BLOCK + place
    if (found >= C).any():
        raise CompressionError("a chunk holds a symbol that its table does not have")
    return found


def _within(use: NDArray[Any], count: int) -> bool:
    return not len(use) or bool(0 <= use.min() <= use.max() < count)
