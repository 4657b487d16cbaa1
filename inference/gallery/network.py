"""A picture of a network: its arrows, and what is believed of every node, given what is known.

Nodes lie in layers, parents above children (Sugiyama, Tagawa & Toda 1981): each layer is put in the order that crosses
few arrows, by turns from above and from below, and arrows that pass a layer keep a lane there. Works for any pair that
`inference.questions.queries` can ask and that lists its `edges`; the figure touches no global state
(see `inference.drawing.plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from inference.drawing.layers import LINE, WIDTH, Place, laid_out
from inference.drawing.style import COLOURS, INK, MUTED
from inference.posterior.draws import Posterior
from inference.questions.evidence import Rows, accepted
from inference.questions.queries import Answer, marginals
from zoo.abilities import Network
from zoo.base import ModelGuide
from zoo.settings import settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FACE, SEEN, SET = "#F7F7F7", "#DCE9F2", "#FBE3D2"


def network(
    pair: ModelGuide,
    posterior: Posterior | None = None,
    evidence: Mapping[str, Any] | None = None,
    *,
    given: Mapping[str, Any] | None = None,
    do: Mapping[str, Any] | None = None,
    mass: float = 0.9,
    seed: int = 0,
) -> Figure:
    """The graph, with the probabilities of the states of each node in its box; means and deviations of real nodes.

    What is known is shaded, what was set has lost the arrows into it. Where tables are uncertain, thin lines are
    intervals. Arguments and errors are those of `inference.questions.queries.query`; besides:

    Raises:
        ValueError: the pair is no network, or has more nodes than `settings.picture_nodes`.
    """
    if not isinstance(pair, Network) or pair.schema is None:
        raise ValueError(f"{pair.name} is no network that can be drawn")
    names = pair.schema.names
    most = settings.picture_nodes
    if len(names) > most:
        raise ValueError(f"a picture of {len(names)} nodes cannot be read; at most {most}")
    seen, do = accepted(pair, evidence, given), dict(do or {})
    if isinstance(seen, Rows):
        raise ValueError(f"evidence: a picture shows one case, got {seen.size} rows; give one of them, frame.iloc[0]")
    beliefs = marginals(pair, posterior, seen, do=do, mass=mass, seed=seed)
    used = [(names.index(parent), names.index(child)) for parent, child in pair.edges]
    lines = [min(len(c.categories), settings.picture_states + 1) or 1 for c in pair.schema.used]
    places, routes = laid_out(len(names), used, [LINE * (1.6 + n) for n in lines])
    return _drawn(names, places, routes, beliefs, seen, do)


def _drawn(
    names: Sequence[str],
    places: Sequence[Place],
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


def _box(axes: Axes, place: Place, colour: str) -> None:
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
    shown = settings.picture_states
    states = list(zip(answer.states[0], answer.mean.tolist(), low.tolist(), high.tolist(), strict=True))
    for line, (state, mean, bottom, upper) in enumerate(states[:shown]):
        y = top + LINE * line
        axes.text(left + 0.08, y, _short(str(state), 9), **text)
        axes.barh(y, full * mean, left=begin, height=LINE * 0.62, color=COLOURS[0], alpha=0.75, zorder=3)
        if not sure:
            axes.plot([begin + full * bottom, begin + full * upper], [y, y], color=INK, linewidth=0.9, zorder=4)
        axes.text(left + WIDTH - 0.06, y, f"{mean:.1%}", ha="right", **text)
    if len(states) > shown:
        axes.text(left + 0.08, top + LINE * shown, f"… {len(states) - shown} more states", **text)


def _arrow(axes: Axes, route: Sequence[Place], cut: bool) -> None:
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
