"""Columns in turn, each given columns before it and, where there is one, a class: tables and linear-Gaussian equations.

    P(row) = sum_k w_k prod_d P(x_d | k, parents),

    a column of categories    a table for each class k and configuration u of its parents
    a column of numbers       Normal(loc_ku + sum_j slope_kuj x_j, scale_ku) between the edges of its bins

The normal distribution function is a table of whole numbers, linear between its nodes; numbers are fixed point in units
of their column, and a parent counts as the middle of its bin. A missing parent of categories, or one that the model
does not know, leads to a row of its own, the last; a missing number counts as the centre of its column. Both cost bits,
no more. The class is summed out as in `mixture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError
from inference.compression.integers import PRECISION, Ints, cumulative, log2, shares, spread
from inference.compression.mixture import BLOCK, Arrays

POINT = 16  # bits after the point of a number, in units of its column
STEEP = 24  # ... of an inverse scale
FAR = 1 << 30  # the farthest number
_FINE = 20  # bits after the point of a quantile
_NODE = 6  # ... of one that is a node
_END = 8  # deviations from the middle, beyond which there is nothing
_MASS = 36  # bits of the distribution function


class Node(NamedTuple):
    """A column given others.

    Args:
        switches: its parents of categories, by their place among the nodes.
        parents: those of numbers.
        table: of categories: log tables, (K, U + 1, C).
        loc, scale: of numbers: fixed point, and inverse, (K, U + 1).
        slopes: (K, U + 1, P).
        marks: of categories, the code that a symbol stands for, or -1, (C,); of numbers the edges of bins, (C + 1,).
        states: of categories, how many codes there are, in the data or not, (1,); of numbers (0,).
    """

    switches: NDArray[np.int32]
    parents: NDArray[np.int32]
    table: NDArray[np.int16]
    loc: Ints
    scale: Ints
    slopes: Ints
    marks: Ints
    states: Ints

    @property
    def numeric(self) -> bool:
        """Whether it is a column of numbers."""
        return not self.table.size

    @property
    def size(self) -> int:
        """How many symbols it has."""
        return len(self.marks) - int(self.numeric)


class Network:
    """The frozen model.

    Args:
        weights: log table of the classes, (K,).
        nodes: parents before children.

    Raises:
        CompressionError: they do not belong together.
    """

    kind: ClassVar = "network"

    def __init__(self, weights: NDArray[np.int16], nodes: Sequence[Node]) -> None:
        if weights.ndim != 1 or not len(weights) or not nodes:
            raise CompressionError("the parts of a network do not belong together")
        self.weights, self.nodes = weights, tuple(nodes)
        self.states = [int(node.states.max(initial=0)) for node in nodes]
        for d, node in enumerate(nodes):
            _check(len(weights), d, node, self)
        self.start = log2(np.diff(cumulative(weights)))
        self.edges = [None if node.numeric else cumulative(node.table) for node in nodes]
        self.values = [_middles(node) for node in nodes]

    @classmethod
    def of(cls, arrays: Arrays) -> Network:
        """From the arrays of a file."""
        count = (len(arrays) - 1) // len(Node._fields)
        nodes = [Node(*(arrays[f"{d}.{name}"] for name in Node._fields)) for d in range(count)]
        return cls(arrays["weights"], nodes)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All that it is, for the file."""
        parts = {f"{d}.{name}": part for d, node in enumerate(self.nodes) for name, part in node._asdict().items()}
        return {"weights": self.weights, **parts}

    @property
    def sizes(self) -> list[int]:
        """How many symbols each column has."""
        return [node.size for node in self.nodes]

    def code(self, coder: Any, symbols: Ints, seen: NDArray[np.bool_]) -> Ints:
        """Write symbols (B, D) where they are seen, or read them; they are returned, 0 elsewhere."""
        found = np.zeros_like(symbols)
        logs = np.tile(self.start, (len(symbols), 1))  # (B, K)
        for d, node in enumerate(self.nodes):
            rows = np.flatnonzero(seen[:, d])
            if not len(rows):
                continue
            config = self.config(node, found[rows], seen[rows])
            way = self._number if node.numeric else self._category
            some, mass = way(coder, d, config, found[rows], seen[rows], logs[rows], symbols[rows, d])
            found[rows, d] = some
            if len(self.weights) > 1:
                logs[rows] += log2(mass)
        return found

    def config(self, node: Node, symbols: Ints, seen: NDArray[np.bool_]) -> Ints:
        """The configuration of the parents of categories, (B,); the last where one is missing or unknown."""
        config, known = np.zeros(len(symbols), dtype=np.int64), np.ones(len(symbols), dtype=bool)
        for parent in node.switches.tolist():
            code = self.nodes[parent].marks[symbols[:, parent]]
            known &= seen[:, parent] & (code >= 0)
            config = config * self.states[parent] + code
        rows = (node.loc if node.numeric else node.table).shape[1]
        return np.where(known, config, rows - 1)

    def _category(
        self, coder: Any, d: int, config: Ints, symbols: Ints, seen: Any, logs: Ints, wanted: Ints
    ) -> tuple[Ints, Ints]:
        """Symbols (B,), and frequencies of these in each class, (B, K)."""
        edges = self.edges[d]
        given = edges[:, config]  # type: ignore[index]  # (K, B, C + 1)
        some = np.asarray(coder.code(given[0] if len(given) == 1 else _blend(shares(logs), given) >> PRECISION, wanted))
        at = np.arange(len(some))
        return some, (given[:, at, some + 1] - given[:, at, some]).T

    def _number(
        self, coder: Any, d: int, config: Ints, symbols: Ints, seen: Any, logs: Ints, wanted: Ints
    ) -> tuple[Ints, Ints]:
        """The same of numbers: block, then place in it."""
        node = self.nodes[d]
        mean = node.loc[:, config]  # (K, B)
        for j, parent in enumerate(node.parents.tolist()):
            value = np.where(seen[:, parent], self.values[parent][symbols[:, parent]], 0)
            mean = mean + (node.slopes[:, config, j] * value >> POINT)
        mean, steep = np.clip(mean, -FAR, FAR), node.scale[:, config]
        weights = shares(logs)

        def edges(places: Ints) -> Ints:
            """Cumulative frequencies of bins that begin at places (C + 1,) or (B, C + 1)."""
            below = _below((node.marks[places] - mean[..., None]) * steep[..., None])  # (K, B, C + 1)
            blended = (_blend(weights, below) >> PRECISION) + np.arange(below.shape[-1])
            return spread(blended - blended[:, :1])

        C = node.size
        if C <= BLOCK:
            some = np.asarray(coder.code(edges(np.arange(C + 1)), wanted))
        else:
            block = np.asarray(coder.code(edges(np.minimum(np.arange(0, C + BLOCK, BLOCK), C)), wanted // BLOCK))
            places = np.minimum(block[:, None] * BLOCK + np.arange(BLOCK + 1), C)
            some = block * BLOCK + np.asarray(coder.code(edges(places), wanted % BLOCK))
            if (some >= C).any():
                raise CompressionError("a chunk holds a symbol that its column does not have")
        low, high = (_below((node.marks[some + step] - mean) * steep) for step in (0, 1))
        mass: Ints = (high - low + 1 >> _MASS - 30).T + 1
        return some, mass


def _blend(weights: Ints, tables: Ints) -> Ints:
    """sum_k w_bk t_kbc, (B, C)."""
    found: Ints = weights[:, :1] * tables[0]
    for k in range(1, len(tables)):
        found += weights[:, k : k + 1] * tables[k]
    return found


def _below(product: Ints) -> Ints:
    """The normal distribution function, in 2^-36, of quantiles with POINT + STEEP bits after the point."""
    nodes = _nodes()
    place = np.clip(product >> POINT + STEEP - _FINE, -_END << _FINE, (_END << _FINE) - 1) + (_END << _FINE)
    low, part = place >> _FINE - _NODE, place & (1 << _FINE - _NODE) - 1
    found: Ints = nodes[low] + ((nodes[low + 1] - nodes[low]) * part >> _FINE - _NODE)
    return found


@cache
def _nodes() -> Ints:
    """The distribution function at -8, -8 + 1/64, ..., 8, by its series (Abramowitz & Stegun 26.2.11) in decimals."""
    count, half = _END << _NODE, []
    with localcontext() as context:
        context.prec = 50
        root = (2 * Decimal("3.14159265358979323846264338327950288419716939937510")).sqrt()
        for i in range(count + 1):
            z = Decimal(i) / (1 << _NODE)
            term = total = z
            n = 1
            while term > Decimal(10) ** -30:
                n += 2
                term = term * z * z / n
                total += term
            above = Decimal("0.5") - (-z * z / 2).exp() / root * total
            half.append(int((max(above, Decimal(0)) * (1 << _MASS)).to_integral_value()))
    return np.array([*half[::-1], *((1 << _MASS) - mass for mass in half[1:])], dtype=np.int64)


def _middles(node: Node) -> Ints:
    """The number that each symbol counts as, (C,)."""
    return np.asarray((node.marks[:-1] + node.marks[1:]) >> 1 if node.numeric else node.marks)


def _check(K: int, d: int, node: Node, network: Network) -> None:
    """Refuse parts that would be read beyond their ends, or whose products would be."""
    before = [*node.switches.tolist(), *node.parents.tolist()]
    good = node.switches.ndim == node.parents.ndim == node.marks.ndim == 1 and all(0 <= p < d for p in before)
    good = good and node.size > 0
    rows = 1 + int(np.prod([network.states[p] for p in node.switches.tolist()], dtype=object)) if good else 0
    good = good and all(not network.nodes[p].numeric and network.states[p] > 0 for p in node.switches.tolist())
    if good and node.numeric:
        P = len(node.parents)
        shaped = node.loc.shape == node.scale.shape == (K, rows) and node.slopes.shape == (K, rows, P) and P <= 64
        good = shaped and all(network.nodes[p].numeric for p in node.parents.tolist())
        good = good and bool((np.abs(node.marks) <= FAR).all() and (np.diff(node.marks) >= 0).all())
        good = good and bool((np.abs(node.loc) <= FAR).all() and (np.abs(node.slopes) <= 1 << 26).all())
        good = good and bool((node.scale > 0).all() and (node.scale <= 1 << STEEP).all())
    elif good:
        good = node.table.shape == (K, rows, node.size) and not len(node.parents) and node.states.shape == (1,)
        good = good and bool(((node.marks >= -1) & (node.marks < node.states)).all())
    if not good:
        raise CompressionError("the parts of a network do not belong together")
