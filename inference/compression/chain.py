"""Hidden Markov chains: symbols of steps whose columns are independent given a state that moves from step to step.

    P(x_t | x_1, ..., x_t-1) = sum_k r_tk prod_d p_kd(x_td),    r_t+1 in proportion to (r_t p_k(x_t)) A

the forward filter (Rabiner 1989) in whole numbers: weights of 24 bits times frequencies of 24 bits, summed over states,
and fixed-point logs in between. A series stands in the columns of a row, one lane for each row; or down the rows, one
lane in all, which begins anew with each chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError
from inference.compression.integers import PRECISION, Ints, cumulative, log2, shares
from inference.compression.mixture import Arrays, one_of

_LEFT = 2 * PRECISION - 31  # bits of a product that a log does not take


class Chain:
    """The frozen model.

    Args:
        initial: log table of the first state, (K,).
        moves: log tables of the next state, (K, K).
        tables: log tables of each of D features given the state, (K, C) each.
        steps: in a row, T; 0 where time runs down the rows.

    Raises:
        CompressionError: they do not belong together.
    """

    kind: ClassVar = "chain"

    def __init__(
        self, initial: NDArray[np.int16], moves: NDArray[np.int16], tables: Sequence[NDArray[np.int16]], steps: int
    ) -> None:
        K = len(initial) if initial.ndim == 1 else 0
        if (
            not K
            or moves.shape != (K, K)
            or not tables
            or any(t.ndim != 2 or len(t) != K or not t.size for t in tables)
        ):
            raise CompressionError("the tables of a chain do not belong together")
        if not 0 <= steps <= 1 << 22:
            raise CompressionError(f"a chain of {steps} steps")
        self.initial, self.moves, self.tables, self.steps = initial, moves, tuple(tables), steps
        self.start = log2(np.diff(cumulative(initial)))  # (K,)
        self.matrix = np.diff(cumulative(moves)).astype(np.float64)  # rows sum to TOTAL
        self.edges = [cumulative(table) for table in tables]
        self.logs = [log2(np.diff(edges)) for edges in self.edges]

    @classmethod
    def of(cls, arrays: Arrays) -> Chain:
        """From the arrays of a file."""
        steps = arrays["steps"]
        if steps.shape != (1,):
            raise CompressionError("the tables of a chain do not belong together")
        tables = [arrays[f"table_{d}"] for d in range(len(arrays) - 3)]
        return cls(arrays["initial"], arrays["moves"], tables, int(steps[0]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is, for the file."""
        known: dict[str, NDArray[Any]] = {
            "initial": self.initial,
            "moves": self.moves,
            "steps": np.array([self.steps], np.int32),
        }
        return {**known, **{f"table_{d}": table for d, table in enumerate(self.tables)}}

    @property
    def sizes(self) -> list[int]:
        """How many symbols each column has."""
        return [table.shape[1] for table in self.tables] * max(1, self.steps)

    def code(self, coder: Any, symbols: Ints, seen: NDArray[np.bool_]) -> Ints:
        """Write symbols (B, T D) where they are seen, or read them; they are returned, 0 elsewhere."""
        shape, D = symbols.shape, len(self.tables)
        lanes = shape[0] if self.steps else 1
        symbols, seen = symbols.reshape(lanes, -1, D), seen.reshape(lanes, -1, D)
        found = np.zeros_like(symbols)
        logs = np.tile(self.start, (lanes, 1))
        for t in range(symbols.shape[1]):
            if t:
                logs = self.moved(logs)
            for d in range(D):
                rows = np.flatnonzero(seen[:, t, d])
                if len(rows):
                    some = one_of(coder, self.edges[d], logs[rows], symbols[rows, t, d])
                    logs[rows] += self.logs[d][:, some].T
                    found[rows, t, d] = some
        return found.reshape(shape)

    def moved(self, logs: Ints) -> Ints:
        """Log weights of the states a step later; sums of products are below 2^48, so exact in any order."""
        ahead = (shares(logs).astype(np.float64) @ self.matrix).astype(np.int64) >> _LEFT
        return log2(np.maximum(ahead, 1))
