"""Pictures of completed observations, with their intervals and probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.drawing import style
from inference.drawing.style import COLOURS, INK, MUTED, Array
from inference.running.words import check_count
from zoo.schema.column import Column
from zoo.schema.schema import Schema
from zoo.settings import settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from inference.codes.imputation import Imputation
from inference.gallery.panels import LIGHT, calmed, counted, grouped, name_ticks, shortened


def imputations(imputation: Imputation, schema: Schema, *, most: int = 40) -> Figure:
    """What the missing cells of each column may hold: a line a cell, in the order of what was filled in.

    Of a number, the value filled in and the intervals that hold 50 and 90 % of its draws, over those observed. Of a
    category, bars for the probabilities of all, over the shares observed. Rows are counted from 1.

    Args:
        imputation: from `inference.codes.imputation.impute`.
        schema: of the pair.
        most: how many cells of a column to show, evenly spaced in their order.

    Raises:
        ValueError: nothing is missing, or a schema of another width.
    """
    check_count("most", most)
    observed = style.as_array(imputation.observed).astype(float)
    if len(schema.used) != observed.shape[1]:
        raise ValueError(f"schema: expected {observed.shape[1]} columns that are used, got {len(schema.used)}")
    rows, places = style.as_array(imputation.rows), style.as_array(imputation.columns)
    if not len(rows):
        raise ValueError("imputation: nothing is missing, so nothing was imputed")
    from matplotlib.figure import Figure

    draws = style.as_array(imputation.values).astype(float)
    draws = draws.reshape(-1, len(rows))  # (S, M)
    points = style.as_array(imputation.point()).astype(float)[rows, places]
    cells = {place: np.flatnonzero(places == place) for place in range(len(schema.used))}
    # Panels of like height stand side by side.
    holed = sorted((place for place, mine in cells.items() if len(mine)), key=lambda place: -len(cells[place]))
    shown = holed[: settings.picture_columns]
    across = 2 if len(shown) in (2, 4) else min(3, len(shown))
    tall = [0.95 + _height(min(most, len(cells[shown[i]]))) for i in range(0, len(shown), across)]
    size = (4.1 * across + 0.4, sum(tall) + 0.4)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = figure.subplots(len(tall), across, squeeze=False, height_ratios=tall).ravel()
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    for axes, place in zip(panels, shown, strict=False):
        column, mine = schema.used[place], cells[place]
        some, seen = draws[:, mine], observed[:, place][np.isfinite(observed[:, place])]
        style.styled(axes)
        parts = _probabilities(column, some, points[mine], seen) if column.categories else None
        order = np.argsort(points[mine], kind="stable") if parts is None else parts.order
        order = order[np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)]
        strip = _lines(axes, rows[mine][order], total=len(mine), name=column.name)
        if parts is None:
            _intervals(axes, column, some[:, order], points[mine][order], seen, strip)
        else:
            _bars(axes, parts, order, strip)
    named = [bool(schema.used[place].categories) for place in shown]
    note = f"the {len(shown)} of {len(holed)} columns with most missing" if len(shown) < len(holed) else ""
    _keys(figure, numbers=not all(named), categories=any(named), note=note)
    return figure


# Imputations ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Probabilities:
    """Of the groups of categories of M cells."""

    names: list[str]
    each: Array  # (M, G)
    observed: Array  # (G,)
    filled: Array  # (M,), group of the category filled in
    order: Array  # (M,), by that category


def _probabilities(column: Column, draws: Array, points: Array, seen: Array) -> _Probabilities:
    size = len(column.categories)
    weight = np.stack([counted(draws[:, m], size) for m in range(draws.shape[1])])  # (M, K)
    names, group = grouped(column, weight.sum(0), settings.picture_categories)
    each = np.stack([weight[:, group == g].sum(1) for g in range(len(names))], 1) / len(draws)
    counts = counted(group[seen.astype(int)], len(names))
    first = group[points.astype(int)]
    order = np.lexsort((-each[np.arange(len(first)), first], first))
    return _Probabilities(names, each, counts / max(1, len(seen)), first, order)


def _height(cells: int) -> float:
    """Inches for so many lines and the strip of what was observed."""
    return (cells + 2.2) * (0.17 if cells <= 20 else 0.095)


def _lines(axes: Axes, rows: Array, total: int, name: str) -> float:
    """A line a cell from the top, a strip for what was observed at the bottom; returns where that strip is."""
    number = len(rows)
    strip = number + 0.6
    labels = [str(row + 1) for row in rows] if number <= 20 else [""] * number
    axes.set_yticks([*range(number), strip], [*labels, "observed"], color=INK, fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(strip + 1.0, -0.8)
    axes.grid(visible=False, axis="y")
    some = f"{number} of {total} cells" if number < total else f"{total} cell{'s' if total > 1 else ''}"
    axes.set_title(f"{shortened(name, 30)}: {some}", loc="left", color=INK, fontsize=10)
    axes.set_ylabel("row" if number <= 20 else "", color=MUTED, fontsize=8)
    return strip


def _intervals(axes: Axes, column: Column, draws: Array, points: Array, seen: Array, strip: float) -> None:
    low, lower, upper, high = np.quantile(draws, [0.05, 0.25, 0.75, 0.95], axis=0)
    at = np.arange(len(points))
    thick = 4.0 if len(points) <= 20 else 2.6
    axes.hlines(at, low, high, color=LIGHT, linewidth=thick / 2.5)
    axes.hlines(at, lower, upper, color=LIGHT, linewidth=thick)
    axes.plot(points, at, "o", color=COLOURS[0], markersize=thick * 0.9)
    some = seen[np.linspace(0, len(seen) - 1, min(len(seen), 400)).astype(int)]
    jitter = np.random.default_rng(0).uniform(-0.45, 0.45, len(some)) * max(1.0, len(points) / 25)
    axes.scatter(some, strip + jitter, s=4, color=MUTED, alpha=0.45, linewidths=0)
    if column.kind == "positive" and high.max() > 100 * low.min():
        axes.set_xscale("log")
    else:
        calmed(axes, "x")


def _bars(axes: Axes, parts: _Probabilities, order: Array, strip: float) -> None:
    """In a slot for each category, bars as wide as its probabilities."""
    for g in range(len(parts.names)):
        each = parts.each[order, g]
        colours = [COLOURS[0] if filled else LIGHT for filled in parts.filled[order] == g]
        axes.barh(range(len(order)), 0.9 * each, left=g - 0.45, height=0.72, color=colours)
        axes.barh(strip, 0.9 * parts.observed[g], left=g - 0.45, height=0.9, color=MUTED, alpha=0.6)
        axes.axvline(g - 0.45, color=MUTED, linewidth=0.6)
        axes.axvline(g + 0.45, color="#CCCCCC", linewidth=0.6)
    axes.set_xlim(-0.5, len(parts.names) - 0.5)
    axes.grid(visible=False)
    name_ticks(axes, parts.names, 3.2)


def _keys(figure: Figure, numbers: bool, categories: bool, note: str) -> None:
    """What the marks mean, above the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = []
    if numbers:
        handles += [
            Line2D([], [], color=COLOURS[0], marker="o", linestyle="", markersize=4, label="filled in"),
            Line2D([], [], color=LIGHT, linewidth=4, label="50 % of draws"),
            Line2D([], [], color=LIGHT, linewidth=1.6, label="90 %"),
        ]
    if categories:
        handles += [
            Patch(color=COLOURS[0], label="category filled in"),
            Patch(color=LIGHT, label="others (a full slot is 100 %)"),
        ]
    if note:
        handles.append(Line2D([], [], linestyle="", label=note))
    wide = max(1, int(figure.get_figwidth() / 1.7))
    figure.legend(handles=handles, fontsize=8, ncols=wide, labelcolor=INK, edgecolor="none", loc="outside upper left")
