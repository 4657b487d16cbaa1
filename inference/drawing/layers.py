"""A layered layout of a directed acyclic graph (Sugiyama et al. 1981)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


WIDTH, LINE, GAP, LANE = 1.75, 0.17, 0.55, 0.25  # inches: of a box, a line of text, between layers, for an arrow


@dataclass
class Place:
    """A node, or a point that an arrow passes; in inches from the top left."""

    layer: int
    width: float
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    x: float = 0.0
    top: float = 0.0
    height: float = 0.0


def laid_out(count: int, edges: Sequence[tuple[int, int]], heights: Sequence[float]) -> tuple[list[Place], list[Any]]:
    """Places of `count` nodes and of the lanes of long arrows, and for each arrow the places that it visits."""
    layers = _layers(count, edges)
    places = [Place(layer, WIDTH, height=height) for layer, height in zip(layers, heights, strict=True)]
    routes = []
    for parent, child in edges:
        route = [parent]
        for layer in range(layers[parent] + 1, layers[child]):
            places.append(Place(layer, LANE))
            route.append(len(places) - 1)
        route.append(child)
        for a, b in itertools.pairwise(route):
            places[a].below.append(b)
            places[b].above.append(a)
        routes.append(route)
    rows: list[list[int]] = [[] for _ in range(max(layers) + 1)]
    for i, place in enumerate(places):
        rows[place.layer].append(i)
    best, fewest = [list(row) for row in rows], _crossings(rows, places)
    for sweep in range(24):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            rank = {i: r for other in rows for r, i in enumerate(other)}
            row.sort(key=lambda i: _mean([rank[j] for j in _side(places[i], down)], rank[i]))
        if (crossings := _crossings(rows, places)) < fewest:
            best, fewest = [list(row) for row in rows], crossings
    _spread(best, places)
    top = 0.0
    for row in best:
        height = max(places[i].height for i in row)
        for i in row:
            places[i].top = top
            places[i].height = places[i].height or height
        top += height + GAP
    return places, routes


def _side(place: Place, above: bool) -> list[int]:
    return place.above if above else place.below


def _mean(numbers: Sequence[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def _layers(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest way down to each node, then nodes that hang together moved as one while that shortens arrows."""
    layers = [0] * count
    for _ in range(count):
        for parent, child in edges:
            layers[child] = max(layers[child], layers[parent] + 1)
    while (move := _shortening(layers, edges)) is not None:
        nodes, by = move
        layers = [layer + by * (node in nodes) for node, layer in enumerate(layers)]
    top = min(layers)
    return [layer - top for layer in layers]


def _shortening(layers: Sequence[int], edges: Sequence[tuple[int, int]]) -> tuple[set[int], int] | None:
    """Nodes joined by arrows of length one, and how far to move them; None if no move shortens the arrows in all."""
    group = {node: {node} for node in range(len(layers))}
    for parent, child in edges:
        if layers[child] - layers[parent] == 1:
            joined = group[parent] | group[child]
            group.update(dict.fromkeys(joined, joined))
    for nodes in {id(nodes): nodes for nodes in group.values()}.values():
        slack = {
            here: [layers[c] - layers[p] - 1 for p, c in edges if (p in nodes, c in nodes) == (here, not here)]
            for here in (True, False)  # out of the group, into it
        }
        if len(slack[True]) != len(slack[False]):
            down = len(slack[True]) > len(slack[False])
            return nodes, min(slack[down]) if down else -min(slack[down])
    return None


def _crossings(rows: Sequence[Sequence[int]], places: Sequence[Place]) -> int:
    total = 0
    for row in rows:
        rank = {i: r for other in rows for r, i in enumerate(other)}
        ends = [(r, rank[j]) for r, i in enumerate(row) for j in places[i].below]
        total += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for n, a in enumerate(ends) for b in ends[:n])
    return total


def _spread(rows: Sequence[Sequence[int]], places: list[Place]) -> None:
    """Give every place an x: near its neighbours, in the order of its row, without overlap."""
    for row in rows:
        _pack(row, places, [float(r) for r in range(len(row))])
    for sweep in range(40):
        for row in rows if sweep % 2 else rows[::-1]:
            near = [places[i].above + places[i].below for i in row]
            _pack(row, places, [_mean([places[j].x for j in js], places[i].x) for i, js in zip(row, near, strict=True)])
    left = min(place.x - place.width / 2 for place in places)
    for place in places:
        place.x -= left


def _pack(row: Sequence[int], places: list[Place], wanted: Sequence[float]) -> None:
    """Put a row at the places it wants, or as near as its widths allow (least squares, by pooling neighbours)."""
    offsets, at = [], 0.0
    for before, i in zip([None, *row], row, strict=False):
        at += 0.0 if before is None else (places[before].width + places[i].width) / 2 + 0.25
        offsets.append(at)
    pools: list[tuple[float, int]] = []  # mean of wanted minus offset, and how many share it
    for want, offset in zip(wanted, offsets, strict=True):
        mean, size = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, many = pools.pop()
            mean, size = (mean * size + other * many) / (size + many), size + many
        pools.append((mean, size))
    starts = [mean for mean, size in pools for _ in range(size)]
    for i, start, offset in zip(row, starts, offsets, strict=True):
        places[i].x = start + offset
