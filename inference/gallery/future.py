"""The end of each series and its forecast: the median, and the bands that its intervals make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.data.check import check
from inference.drawing import style
from inference.drawing.style import COLOURS, INK, Array
from zoo.base import ModelGuide
from zoo.dates.calendar import Calendar

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_PANELS = 6  # series that are shown one below the other
_SHOWN, _LEAST = 4, 24  # so many horizons of the past, and no fewer steps


def future(pair: ModelGuide, data: Any, table: pd.DataFrame) -> Figure:
    """The end of the first few series, then what `inference.forecast_table` says of the steps ahead.

    Args:
        pair: the pair that the forecasts are of.
        data: the series that were continued.
        table: their forecasts, with one interval or several.

    Raises:
        ValueError: a table of other series.
    """
    batch = check(pair, data).batch
    values = batch.y if batch.y is not None and pair.simulate(1)[0].y is not None else batch.x
    lengths = batch.lengths
    if values is None or lengths is None:
        raise ValueError(f"{pair.name}: expected series")
    past = style.as_array(values).astype(float).reshape(batch.size, values.shape[1], -1)  # (N, T, D)
    horizon, features = int(table["step"].max()), past.shape[2]
    if len(table) != batch.size * horizon * features:
        raise ValueError(f"table: expected the forecasts of {batch.size} series, got {len(table)} lines")
    calendar = batch.when if isinstance(batch.when, Calendar) else None
    panels = [(n, d) for n in range(batch.size) for d in range(features)][:_PANELS]
    figure = _figure(len(panels))
    for axes, (n, d) in zip(figure.axes, panels, strict=True):
        length = int(lengths[n])
        begin = max(0, length - max(_SHOWN * horizon, _LEAST))
        at = np.arange(length + horizon) if calendar is None else _times(calendar, n, length + horizon)
        lines = table.iloc[n * horizon * features + d : (n + 1) * horizon * features : features]
        _panel(axes, at[begin:], past[n, begin:length, d], lines)
        title = str(lines["series"].iloc[0]) if calendar is not None else f"series {n + 1}"
        title += f", {lines['feature'].iloc[0]}" if features > 1 else ""
        dated = calendar is not None and calendar.starts is not None
        style.labelled(axes, "" if dated else "step", "", title)
    more = batch.size * features - len(panels)
    style.keyed_above(figure, figure.axes[0], f"and {more} more" if more > 0 else "")
    return figure


def _figure(panels: int) -> Figure:
    from matplotlib.figure import Figure

    height = 3.4 if panels == 1 else 2.2 * panels
    figure = Figure(figsize=(7.6, height), dpi=144, layout="constrained", facecolor="white")
    for axes in figure.subplots(panels, squeeze=False)[:, 0]:
        style.styled(axes)
    return figure


def _times(calendar: Calendar, row: int, steps: int) -> Array:
    """When steps are, as Matplotlib takes it; their numbers without dates."""
    every = calendar.dates(row, steps)
    if every is None:
        return np.arange(steps)
    stamps = every.to_timestamp() if hasattr(every, "to_timestamp") else every.tz_localize(None)
    return np.asarray(stamps.to_numpy())


def _panel(axes: Any, at: Array, past: Array, lines: pd.DataFrame) -> None:
    """One series: what was, and from its last known step on what may be."""
    ahead = at[len(past) :]
    lows = [name for name in lines.columns if name.startswith("low")]
    widest = sorted(lows, key=lambda name: -float((lines[name.replace("low", "high")] - lines[name]).mean()))
    for i, low in enumerate(widest):
        mass = f", {low[4:]} %" if low != "low" else ""
        band = lines[low].to_numpy(), lines[low.replace("low", "high")].to_numpy()
        shade = {"alpha": 0.18 + 0.17 * i, "linewidth": 0, "label": f"forecast{mass}"}
        axes.fill_between(ahead, *band, color=COLOURS[0], **shade)
    axes.plot(at[: len(past)], past, color=INK, linewidth=1.2, label="data")
    axes.plot(ahead, lines["median"].to_numpy(), color=COLOURS[0], linewidth=1.6, label="median")
    if len(ahead) == 1:
        axes.plot(ahead, lines["median"].to_numpy(), color=COLOURS[0], marker="o", markersize=3)
