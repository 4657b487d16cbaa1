"""Directed acyclic graphs over named nodes: arrows as an argument, parents, topological order, and cycles by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from zoo.config import nearest


class Edge(NamedTuple):
    """An arrow from a parent to its child."""

    parent: str
    child: str

    def __str__(self) -> str:
        """As an arrow."""
        return f"{self.parent} -> {self.child}"


class Edges(tuple[Edge, ...]):
    """Arrows in order: the parents of a node are in the order of its arrows, and so are the dimensions of its table."""

    __slots__ = ()

    @classmethod
    def of(cls, value: Any) -> Edges:
        """Arrows from (parent, child) pairs, or from a mapping of each child to its parents.

        Raises:
            ValueError: neither of these, an arrow twice, or from a node to itself.
        """
        if isinstance(value, Mapping):
            for child, parents in value.items():
                if isinstance(parents, str) or not isinstance(parents, Sequence):
                    raise ValueError(f"expected a list of the parents of '{child}', got {parents!r}")
            value = [(parent, child) for child, parents in value.items() for parent in parents]
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ValueError(f"expected (parent, child) pairs or a mapping of children to parents, got {value!r}")
        edges: list[Edge] = []
        for item in value:
            pair = isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2
            if not pair or not all(isinstance(name, str) for name in item):
                raise ValueError(f"expected a (parent, child) pair of names, got {item!r}")
            edge = Edge(*item)
            if edge.parent == edge.child:
                raise ValueError(f"'{edge.child}' cannot be its own parent")
            if edge in edges:
                raise ValueError(f"the arrow {edge} is there twice")
            edges.append(edge)
        return cls(edges)


class Graph:
    """Nodes 0, 1, ... by name, and their arrows.

    Args:
        names: of the nodes.
        edges: arrows between them.

    Raises:
        ValueError: an arrow at a node that does not exist (with the nearest that does), or a cycle, spelled out.
    """

    def __init__(self, names: Sequence[str], edges: Edges) -> None:
        self.names = tuple(names)
        index = {name: i for i, name in enumerate(names)}
        found: list[list[int]] = [[] for _ in names]
        for edge in edges:
            for name in edge:
                if name not in index:
                    known = ", ".join(names)
                    raise ValueError(f"arrow {edge}: no node '{name}'{nearest(name, names)}; nodes: {known}")
            found[index[edge.child]].append(index[edge.parent])
        self.parents = tuple(map(tuple, found))
        self.order = self._sorted()

    def _sorted(self) -> tuple[int, ...]:
        """Parents before children (Kahn 1962); of those that may come next, the first named."""
        left = {node: set(parents) for node, parents in enumerate(self.parents)}
        order: list[int] = []
        while left:
            ready = next((node for node, parents in left.items() if not parents), None)
            if ready is None:
                raise ValueError(f"the graph has a cycle: {' -> '.join(self._cycle(left))}")
            order.append(ready)
            del left[ready]
            for parents in left.values():
                parents.discard(ready)
        return tuple(order)

    def _cycle(self, left: Mapping[int, set[int]]) -> list[str]:
        """Names along one cycle among nodes that each have a parent left, the first named again at its end."""
        walk = [min(left)]
        while walk.count(walk[-1]) < 2:
            walk.append(min(left[walk[-1]]))
        loop = walk[walk.index(walk[-1]) :][::-1]
        first = loop.index(min(loop))
        loop = loop[first:-1] + loop[:first]
        return [self.names[node] for node in [*loop, loop[0]]]

    def ancestors(self, nodes: Iterable[int], cut: Iterable[int] = ()) -> set[int]:
        """These nodes and all that they descend from, arrows into the nodes of `cut` taken away."""
        found: set[int] = set()
        waiting, cut = list(nodes), set(cut)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(() if node in cut else self.parents[node])
        return found

    def components(self, among: Iterable[int] | None = None) -> list[list[int]]:
        """Nodes that hang together, arrows read both ways, each in topological order; only those of `among`."""
        chosen = set(range(len(self.names)) if among is None else among)
        group = {node: {node} for node in chosen}
        for child in chosen:
            for parent in chosen.intersection(self.parents[child]):
                joined = group[child] | group[parent]
                group.update(dict.fromkeys(joined, joined))
        place = {node: i for i, node in enumerate(self.order)}
        distinct = {id(nodes): nodes for nodes in (group[node] for node in self.order if node in chosen)}
        return [sorted(nodes, key=place.__getitem__) for nodes in distinct.values()]
