"""Points coloured by anything: numbers on a scale with its bar, categories in colours with their names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.drawing.style import COLOURS, GRID, INK, Array, keyed, labelled, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 10  # categories that have a colour of their own; whole numbers of more values are numbers
_LONGEST = 24  # letters of a name in a legend


@dataclass(frozen=True)
class Colour:
    """What points are coloured by.

    Args:
        name: of the column.
        values: (N,) numbers, or codes of the categories; NaN where missing.
        categories: their names; none for numbers.
    """

    name: str
    values: Array
    categories: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, cells: Sequence[Any]) -> Colour:
        """From cells of any kind, None or NaN where missing; of many categories the rarest become one.

        Raises:
            ValueError: all are missing.
        """
        known = [None if cell is None or (isinstance(cell, float) and math.isnan(cell)) else cell for cell in cells]
        seen = [cell for cell in known if cell is not None]
        if not seen:
            raise ValueError(f"color{' ' + repr(name) if name else ''}: all cells are missing")
        distinct = set(seen)
        numeric = all(isinstance(cell, (int, float, np.number)) for cell in distinct)
        whole = numeric and all(float(cell).is_integer() for cell in distinct)
        if numeric and not (whole and len(distinct) <= MOST):
            return cls(name, np.array([np.nan if cell is None else float(cell) for cell in known]))
        ordered = sorted(distinct) if numeric or all(isinstance(cell, str) for cell in distinct) else list(distinct)
        ordered = sorted(ordered, key=str) if not numeric else ordered
        codes: dict[Any, int] = {cell: k for k, cell in enumerate(ordered)}
        names = [f"{cell:g}" if isinstance(cell, float) else str(cell) for cell in ordered]
        if len(ordered) > MOST:
            common = sorted(ordered, key=lambda cell: -seen.count(cell))[: MOST - 1]
            kept = [cell for cell in ordered if cell in common]
            codes = {cell: kept.index(cell) if cell in kept else MOST - 1 for cell in ordered}
            names = [*map(str, kept), f"{len(ordered) - len(kept)} others"]
        return cls(name, np.array([np.nan if cell is None else float(codes[cell]) for cell in known]), tuple(names))


def coloured_map(points: Array, titles: tuple[str, str], colour: Colour | None = None, about: str = "") -> Figure:
    """Points in the plane, or along a line where they have one dimension.

    Args:
        points: (N, 1) or (N, 2).
        titles: what to call the axes; of points along a line the second is not used.
        colour: what to colour them by.
        about: a line above the picture.
    """
    if colour is not None and colour.categories:
        beside = 0.4 + 0.085 * max(len(_short(name)) for name in (*colour.categories, colour.name))
    else:
        beside = 0.9 if colour is not None else 0.0
    figure, axes = new_figure(5.2 + beside, 5.0)
    if points.shape[1] == 1:
        up = _line(axes, points[:, 0], colour)
    else:
        up = titles[1]
        _scatter(figure, axes, points, colour)
    labelled(axes, titles[0], up, about)
    return figure


def _scatter(figure: Figure, axes: Axes, points: Array, colour: Colour | None) -> None:
    size = float(np.clip(2000 / max(1, len(points)), 6, 22))
    if colour is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, color=COLOURS[0], alpha=0.6, linewidths=0)
        return
    there = np.isfinite(colour.values)
    if not there.all():  # below the others
        label = "missing" if colour.categories else None
        x, y = points[~there].T
        axes.scatter(x, y, s=size, color=GRID, edgecolors="#BBBBBB", linewidths=0.4, label=label)
    # In no order, so that no category lies above all others.
    order = np.random.default_rng(0).permutation(np.flatnonzero(there))
    (x, y), values = points[order].T, colour.values[order]
    if not colour.categories:
        dots = axes.scatter(x, y, c=values, s=size, cmap="viridis", linewidths=0)
        bar = figure.colorbar(dots, ax=axes, shrink=0.85, pad=0.02)
        bar.set_label(_short(colour.name), color=INK, fontsize=10)
        bar.ax.tick_params(labelsize=9)
        return
    axes.scatter(x, y, c=[COLOURS[int(k)] for k in values], s=size, alpha=0.75, linewidths=0)
    for k, name in enumerate(colour.categories):
        axes.scatter([], [], s=28, color=COLOURS[k], label=_short(name))
    _legend(axes, colour)


def _line(axes: Axes, values: Array, colour: Colour | None) -> str:
    """A histogram of codes of one dimension, stacked by category, or their numbers above them; what is up."""
    if colour is not None and not colour.categories:
        axes.scatter(values, colour.values, s=9, color=COLOURS[0], alpha=0.6, linewidths=0)
        return _short(colour.name)
    if colour is None:
        axes.hist(values, bins=40, color=COLOURS[0])
    else:
        parts = [values[colour.values == k] for k in range(len(colour.categories))]
        labels = [_short(name) for name in colour.categories]
        axes.hist(parts, bins=40, stacked=True, color=COLOURS[: len(parts)], label=labels)
        _legend(axes, colour)
    return "rows"


def _legend(axes: Axes, colour: Colour) -> None:
    keyed(axes, loc="upper left", bbox_to_anchor=(1.01, 1.0), title=_short(colour.name) or None, alignment="left")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}…{name[-_LONGEST // 2 + 1 :]}"
