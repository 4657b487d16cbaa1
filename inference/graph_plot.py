"""A picture of a network: its arrows, and what is believed of every node, given what is known.

Nodes lie in layers, parents above children (Sugiyama, Tagawa & Toda 1981): each layer is put in the order that crosses
few arrows, by turns from above and from below, and arrows that pass a layer keep a lane there. Works for any pair that
`inference.queries` can ask and that lists its `edges`; the figure touches no global state (see `inference.plots`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from inference.plots import COLOURS, INK, MUTED
from inference.posterior import Posterior
from inference.queries import Answer, marginals
from zoo.base import ModelGuide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LINE, GAP, LANE = 1.75, 0.17, 0.55, 0.25  # inches: of a box, a line of text, between layers, for an arrow
SHOWN = 8  # states of a node
MOST = 200  # nodes
FACE, SEEN, SET = "#F7F7F7", "#DCE9F2", "#FBE3D2"


@dataclass
class _Place:
    """A node, or a point that an arrow passes; in inches from the top left."""

    layer: int
    width: float
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    x: float = 0.0
    top: float = 0.0
    height: float = 0.0


def network(
    pair: ModelGuide,
    posterior: Posterior | None = None,
    evidence: Mapping[str, Any] | None = None,
    *,
    do: Mapping[str, Any] | None = None,
    mass: float = 0.9,
    seed: int = 0,
) -> Figure:
    """The graph, with the probabilities of the states of each node in its box; means and deviations of real nodes.

    What is known is shaded, what was set has lost the arrows into it. Where tables are uncertain, thin lines are
    intervals. Arguments and errors are those of `inference.queries.query`; besides:

    Raises:
        ValueError: the pair is no network, or has more than 200 nodes.
    """
    edges = getattr(pair, "edges", None)
    if edges is None or pair.schema is None:
        raise ValueError(f"{pair.registry_name or type(pair).__name__} is no network that can be drawn")
    names = pair.schema.names
    if len(names) > MOST:
        raise ValueError(f"a picture of {len(names)} nodes cannot be read; at most {MOST}")
    evidence, do = dict(evidence or {}), dict(do or {})
    beliefs = marginals(pair, posterior, evidence, do=do, mass=mass, seed=seed)
    used = [(names.index(parent), names.index(child)) for parent, child in edges]
    lines = [min(len(c.categories), SHOWN + 1) or 1 for c in pair.schema.used]
    places, routes = _layout(len(names), used, [LINE * (1.6 + n) for n in lines])
    return _drawn(names, places, routes, beliefs, evidence, do)


def _layout(count: int, edges: Sequence[tuple[int, int]], heights: Sequence[float]) -> tuple[list[_Place], list[Any]]:
    """Places of `count` nodes and of the lanes of long arrows, and for each arrow the places that it visits."""
    layers = _layers(count, edges)
    places = [_Place(layer, WIDTH, height=height) for layer, height in zip(layers, heights, strict=True)]
    routes = []
    for parent, child in edges:
        route = [parent]
        for layer in range(layers[parent] + 1, layers[child]):
            places.append(_Place(layer, LANE))
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


def _side(place: _Place, above: bool) -> list[int]:
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


def _crossings(rows: Sequence[Sequence[int]], places: Sequence[_Place]) -> int:
    total = 0
    for row in rows:
        rank = {i: r for other in rows for r, i in enumerate(other)}
        ends = [(r, rank[j]) for r, i in enumerate(row) for j in places[i].below]
        total += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for n, a in enumerate(ends) for b in ends[:n])
    return total


def _spread(rows: Sequence[Sequence[int]], places: list[_Place]) -> None:
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


def _pack(row: Sequence[int], places: list[_Place], wanted: Sequence[float]) -> None:
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


def _drawn(
    names: Sequence[str],
    places: Sequence[_Place],
    routes: Sequence[Sequence[int]],
    beliefs: Mapping[str, Answer],
    evidence: Mapping[str, Any],
    do: Mapping[str, Any],
) -> Figure:
    from matplotlib.figure import Figure

    wide = max(place.x + place.width / 2 for place in places)
    high = max(place.top + place.height for place in places)
    figure = Figure(figsize=(wide + 0.4, high + 0.4), dpi=144, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.2, wide + 0.2), ylim=(high + 0.2, -0.2))
    axes.set_axis_off()
    for route in routes:
        _arrow(axes, [places[i] for i in route], cut=names[route[-1]] in do)
    for name, place in zip(names, places, strict=False):
        left = place.x - place.width / 2
        _box(axes, place, SEEN if name in evidence else SET if name in do else FACE)
        axes.text(
            left + 0.08, place.top + LINE * 0.75, _short(name, 22), color=INK, fontsize=8.5, weight="bold", va="center"
        )
        if name in beliefs:
            _belief(axes, left, place.top + LINE * 1.9, beliefs[name])
        else:
            told = f"= {evidence[name]}" if name in evidence else f"set to {do[name]}"
            axes.text(left + 0.08, place.top + LINE * 1.9, _short(told, 24), color=INK, fontsize=8, va="center")
    return figure


def _box(axes: Axes, place: _Place, colour: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    corner = place.x - place.width / 2, place.top
    style = "round,pad=0,rounding_size=0.07"
    box = FancyBboxPatch(
        corner, place.width, place.height, boxstyle=style, facecolor=colour, edgecolor=MUTED, linewidth=0.8, zorder=2
    )
    axes.add_patch(box)


def _belief(axes: Axes, left: float, top: float, answer: Answer) -> None:
    """Bars of the states, a line each; or the mean of a real node."""
    low, high = answer.interval
    sure = len(answer.draws) == 1
    text: dict[str, Any] = {"fontsize": 7, "va": "center", "color": INK}
    if answer.sd is not None:
        spread = float((answer.sd.square().mean() + answer.draws.var(correction=0)).sqrt())
        axes.text(left + 0.08, top, f"{float(answer.mean[0]):.4g} ± {spread:.2g}", **text)
        return
    begin, full = left + 0.76, 0.58
    states = list(zip(answer.states[0], answer.mean.tolist(), low.tolist(), high.tolist(), strict=True))
    for line, (state, mean, bottom, upper) in enumerate(states[:SHOWN]):
        y = top + LINE * line
        axes.text(left + 0.08, y, _short(str(state), 9), **text)
        axes.barh(y, full * mean, left=begin, height=LINE * 0.62, color=COLOURS[0], alpha=0.75, zorder=3)
        if not sure:
            axes.plot([begin + full * bottom, begin + full * upper], [y, y], color=INK, linewidth=0.9, zorder=4)
        axes.text(left + WIDTH - 0.06, y, f"{mean:.1%}", ha="right", **text)
    if len(states) > SHOWN:
        axes.text(left + 0.08, top + LINE * SHOWN, f"… {len(states) - SHOWN} more states", **text)


def _arrow(axes: Axes, route: Sequence[_Place], cut: bool) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    first, *middle, last = route
    points = [(first.x, first.top + first.height)]
    for place in middle:
        points += [(place.x, place.top), (place.x, place.top + place.height)]
    points.append((last.x, last.top))
    path, codes = [points[0]], [Path.MOVETO]
    for i in range(0, len(points) - 1, 2):
        (x0, y0), (x1, y1) = points[i], points[i + 1]
        bend = (y1 - y0) / 2
        path += [(x0, y0 + bend), (x1, y1 - bend), (x1, y1)]
        codes += [Path.CURVE4] * 3
        if i + 2 < len(points):
            path.append(points[i + 2])
            codes.append(Path.LINETO)
    style: dict[str, Any] = {"linestyle": (0, (2, 2)), "alpha": 0.35} if cut else {}
    arrow = FancyArrowPatch(
        path=Path(path, codes), arrowstyle="-|>", mutation_scale=9, color=MUTED, linewidth=0.9, zorder=1, **style
    )
    axes.add_patch(arrow)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
