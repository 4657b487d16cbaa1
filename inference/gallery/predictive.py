"""A posterior predictive check: the data over data drawn from the model, a picture for each kind of data.

    images          the first ones, each above the mean of what the model draws in its place
    series          over time: the bands that hold 50 and 90 % of the drawn series, and the observed one
    tables          a panel for each column, in the user's units and category names: those of networks too
    texts, states   how often each letter or category occurs

Numbers are shown as shares of values, with the band that holds 90 % of draws; categories as bars, with that interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inference.data.check import check
from inference.drawing import plots, style
from inference.drawing.style import COLOURS, INK, MUTED, Array
from inference.gallery.panels import LIGHT, PALE, as_pixels, calmed, counted, grouped, panel_grid
from inference.running.cells import Cells, as_cells
from inference.running.checked import Checked
from zoo.abilities import Text
from zoo.base import ModelGuide
from zoo.schema.column import Column

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PATHS = 6  # series that are shown one below the other
_SPACES = {" ": "space", "\n": "new line", "\t": "tab"}  # letters that could not be seen
_CODES = 60  # categories of a step that are counted one by one


def predictive(
    pair: ModelGuide, data: Any, drawn: Mapping[str, Any], *, columns: Sequence[str] = (), target: str = "y"
) -> Figure:
    """The data, and what the model draws in their place.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        drawn: observed site -> draws, (S, N, *event), as `inference.predict` gives them, chains joined.
        columns: names of the columns of x, of a pair without a schema.
        target: what y is called.

    Raises:
        ValueError: no draws of an observed site, or of another shape than the data.
    """
    given = check(pair, data)
    batch = given.batch
    if columns and batch.x is not None and batch.x.shape[-1] == len(columns):
        batch = batch.but(columns=tuple(columns))
        given = given.but(batch)
    seen = {name: getattr(batch, name) for name in given.observed if getattr(batch, name) is not None}
    made: dict[str, Array] = {}
    for name, value in seen.items():
        if name in drawn:
            made[name] = style.as_array(drawn[name]).astype(float)
            if made[name].shape[1:] != tuple(value.shape):
                raise ValueError(
                    f"'{name}': expected draws (S, {', '.join(map(str, value.shape))}), got {made[name].shape}"
                )
    if not made:
        raise ValueError(f"expected draws of {' or '.join(seen)}, got {', '.join(drawn) or 'none'}")
    seen = {name: seen[name] for name in made}
    if as_pixels(given) and "x" in made:
        return plots.reconstructions(seen["x"], made["x"].mean(0), shape=pair.image)
    if batch.lengths is not None:
        (name,) = made
        return _sequences(given, style.as_array(seen[name]).astype(float), made[name])
    observed, told = as_cells(given, seen), as_cells(given, {n: torch.as_tensor(v) for n, v in made.items()})
    if "y" in seen and pair.target is None:
        observed = [(column._replace(name=target) if column.name == "y" else column, v) for column, v in observed]
    return _columns(observed, told)


def _columns(observed: Cells, told: Cells) -> Figure:
    """A panel for each column: shares of values in the data and in the draws."""
    _, draws = told[0]
    figure, panels = _panels(observed, f"{len(draws[0]):,} rows of data, and as many in each of {len(draws)} draws")
    for axes, (column, seen), (_, made) in zip(panels, observed, told, strict=False):
        if column.categories:
            _bars(axes, column, seen, made)
        else:
            _shares(axes, seen, made)
    _key(figure, panels[0])
    return figure


def _panels(shown: Cells, about: str) -> tuple[Figure, list[Axes]]:
    """A panel for each column; one alone is wider."""
    figure, panels = panel_grid(shown, about)
    if len(shown) == 1:
        figure.set_size_inches(6.4, 3.8)
        figure.suptitle(about, color=MUTED, fontsize=9, x=0.02, ha="left")
    return figure, panels


def _shares(axes: Axes, seen: Array, made: Array) -> None:
    from matplotlib.ticker import MaxNLocator

    plots.compare(axes, seen.ravel(), made.reshape(len(made), -1))
    axes.set_ylabel("share of values (%)", color=INK, fontsize=8)
    if style.whole_numbers(seen) and style.whole_numbers(made):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins="auto"))  # no half a category, no half a count
    else:
        calmed(axes, "x")


def _bars(axes: Axes, column: Column, seen: Array, made: Array) -> None:
    """Shares of categories by name: bars of the data, and over them the median and 90 % interval of the draws."""
    names, group = grouped(column, counted(seen, len(column.categories)), 12)
    data = _of_groups(seen, group, len(names))
    low, middle, high = np.quantile([_of_groups(row, group, len(names)) for row in made], [0.05, 0.5, 0.95], axis=0)
    places = np.arange(len(names))
    axes.barh(places, data, color="#D9D9D9", edgecolor=MUTED, linewidth=0.6, height=0.7, label="data")
    axes.hlines(places, low, high, color=COLOURS[0], linewidth=3, label="model, 90 % of draws")
    axes.plot(middle, places, "o", color="white", markeredgecolor=COLOURS[0], markersize=4.5, label="model, median")
    axes.set_yticks(places, names, color=INK, fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("%", color=INK, fontsize=8)


def _of_groups(codes: Array, group: Array, size: int) -> Array:
    """Per cent of the codes that are not missing, by group."""
    count = np.bincount(group, weights=counted(codes, len(group)), minlength=size)
    shares: Array = 100 * count / max(1.0, count.sum())
    return shares


def _sequences(given: Checked, seen: Array, made: Array) -> Figure:
    """Series over time; of steps that are codes, how often each occurs."""
    lengths = given.batch.lengths
    steps = style.as_array(lengths) if lengths is not None else np.full(len(seen), seen.shape[1])
    over = np.arange(seen.shape[1]) >= steps[:, None]  # (N, T)
    seen, made = seen.reshape(*over.shape, -1), made.reshape(len(made), *over.shape, -1)  # (N, T, D), (S, N, T, D)
    if letters := _letters(given):
        column, inside = Column("letter" if isinstance(given.pair, Text) else "value", "categorical", letters), ~over
        codes = made[:, inside][..., 0]
        figure, panels = _panels([(column, seen)], "how often each occurs, in the data and in draws of them")
        _bars(panels[0], column, seen[inside][..., 0], codes)
        _key(figure, panels[0])
        return figure
    return _fans(given, np.where(over[..., None], np.nan, seen), made, steps)


def _letters(given: Checked) -> tuple[Any, ...]:
    """What the codes of a step stand for, where steps are categories; else nothing."""
    if isinstance(given.pair, Text) and given.pair.alphabet is not None:
        return tuple(_SPACES.get(letter, letter) for letter in given.pair.alphabet)
    site = next(iter(given.observed.values()))
    support = site.fn.support
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    top = getattr(support, "upper_bound", None)
    if not site.discrete or top is None or not np.isfinite(float(torch.as_tensor(top).max())):
        return ()
    count = int(torch.as_tensor(top).max()) + 1
    return tuple(range(count)) if count <= _CODES else ()


def _fans(given: Checked, seen: Array, made: Array, steps: Array) -> Figure:
    """A panel for each series and feature: the bands of the draws over time, and the observed steps."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    N, _, D = seen.shape
    names = given.batch.columns if given.batch.columns and len(given.batch.columns) == D else None
    places = [(n, d) for n in range(N) for d in range(D)][:_PATHS]
    size = (6.8, 1.5 * len(places) + 1.3)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = figure.subplots(len(places), 1, squeeze=False)[:, 0]
    for axes, (n, d) in zip(panels, places, strict=True):
        style.styled(axes)
        at = np.arange(1, steps[n] + 1)
        low, lower, median, upper, high = np.nanquantile(
            made[:, n, : steps[n], d], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0
        )
        axes.fill_between(at, low, high, color=PALE, linewidth=0, label="model, 90 % of draws")
        axes.fill_between(at, lower, upper, color=LIGHT, linewidth=0, label="50 %")
        axes.plot(at, median, color=COLOURS[0], linewidth=1.2, label="median")
        marker = {"marker": "o", "markersize": 2.0} if len(at) <= 200 else {}
        axes.plot(at, seen[n, : steps[n], d], color=INK, linewidth=0.9, label="data", **marker)
        feature = str(names[d]) if names else f"feature {d + 1}" if D > 1 else ""
        title = ", ".join(filter(None, [f"series {n + 1}" if N > 1 else "", feature]))
        axes.set_title(title, loc="left", color=INK, fontsize=9)
        axes.set_xlim(at[0] - 0.5, at[-1] + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins="auto"))
    panels[-1].set_xlabel("step", color=INK, fontsize=9)
    left = N * D - len(places)
    if left:
        panels[-1].text(
            1.0, -0.35, f"and {left:,} more", transform=panels[-1].transAxes, ha="right", color=MUTED, fontsize=8
        )
    _key(figure, panels[0])
    return figure


def _key(figure: Figure, axes: Axes) -> None:
    """One legend for all panels."""
    handles, labels = axes.get_legend_handles_labels()
    across = min(len(labels), max(1, int(figure.get_figwidth() / 1.7)))
    figure.legend(handles, labels, fontsize=8, labelcolor=INK, edgecolor="none", ncols=across, loc="outside lower left")
