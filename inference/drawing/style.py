"""Colours, axes and image grids that every picture shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Array = np.ndarray[Any, Any]
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#7F7F7F", "#B5BD00", "#332288")


INK, MUTED, GRID = "#222222", "#666666", "#E4E4E4"


def whole_numbers(values: Array) -> bool:
    """Whether every finite value is a whole number."""
    return bool((values[np.isfinite(values)] % 1 == 0).all())


def as_shares(values: Array, edges: Array) -> Array:
    """Per cent of the values between one edge and the next."""
    return 100 * np.histogram(values, edges)[0] / max(1, len(values))


def as_array(values: Any) -> Array:
    """NumPy values of an array or a tensor."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes in the house style, registered nowhere."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, layout="constrained", facecolor="white")
    axes = figure.subplots()
    styled(axes)
    return figure, axes


def styled(axes: Axes) -> None:
    """Give axes the house style."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def literal(figure: Figure) -> Figure:
    """The figure with every text as it stands: no `$…$` is mathematics, since names of columns come from data.

    Control characters, for which no font has a picture, are shown escaped.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            formatter = axis.get_major_formatter()
            if isinstance(formatter, FuncFormatter):  # of labels that were set
                axis.set_major_formatter(FuncFormatter(_printed(formatter)))
            for tick in axis.get_major_ticks():
                tick.label1.set_parse_math(False)
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(_printable(text.get_text()))
    return figure


def _printed(formatter: Callable[..., str]) -> Callable[..., str]:
    return lambda value, place=None: _printable(formatter(value, place))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def labelled(axes: Axes, across: str, up: str, title: str = "") -> None:
    """Name both axes, and say what is seen."""
    axes.set_xlabel(across, color=INK, fontsize=10)
    axes.set_ylabel(up, color=INK, fontsize=10)
    axes.set_title(title, loc="left", color=MUTED, fontsize=9)


def keyed(axes: Axes, **options: Any) -> None:
    """Add a legend in the house style."""
    axes.legend(fontsize=9, labelcolor=INK, framealpha=0.9, edgecolor="none", **options)


def keyed_above(figure: Figure, axes: Axes, title: str = "") -> None:
    """Add a legend of the axes above the figure, in a line, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=9, labelcolor=INK, edgecolor="none", ncols=len(handles), loc="outside upper left",
        title=title or None, alignment="left",
    )  # fmt: skip


def palette() -> list[str]:
    """The colours, over and over."""
    return list(COLOURS) * 10


def running_mean(values: Array, window: int) -> Array:
    """Mean over the `window` steps around each, leaving NaN out; fewer at the two ends."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    middle = np.arange(len(values))
    begin, end = np.maximum(middle - window // 2, 0), np.minimum(middle + (window + 1) // 2, len(values))
    count = counts[end] - counts[begin]
    return np.where(count > 0, (sums[end] - sums[begin]) / np.maximum(count, 1), np.nan)


def as_images(values: Any, shape: tuple[int, ...] | None) -> Array:
    """(N, D), (N, H, W) or (N, C, H, W) -> (N, H, W) or (N, H, W, 3); channels that are no colours are averaged."""
    pictures = as_array(values).astype(float)
    if shape is not None:
        pictures = pictures.reshape(len(pictures), *shape)
    elif pictures.ndim == 2:
        side = round(pictures.shape[1] ** 0.5)
        if side * side != pictures.shape[1]:
            raise ValueError(f"images of {pictures.shape[1]} values are not square: give shape=(H, W)")
        pictures = pictures.reshape(len(pictures), side, side)
    if pictures.ndim == 4:
        pictures = np.moveaxis(pictures, 1, -1) if pictures.shape[1] == 3 else pictures.mean(1)
    if pictures.ndim not in (3, 4) or not len(pictures):
        raise ValueError(f"images: expected (N, D), (N, H, W) or (N, C, H, W), got {as_array(values).shape}")
    return pictures


def image_grid(rows: Sequence[Array], names: Sequence[str], scale: Array) -> Figure:
    """Rows of images on the scale of `scale`, made into a single picture with gaps between them."""
    from matplotlib.figure import Figure

    high, wide = rows[0].shape[1:3]
    columns, colours = max(len(row) for row in rows), rows[0].shape[3:]
    gap, low, top = max(1, high // 14), np.nanmin(scale), np.nanmax(scale)
    sheet = np.full((len(rows) * (high + gap) - gap, columns * (wide + gap) - gap, *colours), np.nan)
    for i, row in enumerate(rows):
        for j, picture in enumerate(row):
            sheet[i * (high + gap) :, j * (wide + gap) :][:high, :wide] = picture
    if colours:
        sheet = np.where(np.isnan(sheet), 1.0, np.clip((sheet - low) / ((top - low) or 1.0), 0.0, 1.0))
    width = min(0.75 * columns, 9.0)
    figure = Figure(
        figsize=(width + 0.6 * bool(names), width * sheet.shape[0] / sheet.shape[1] + 0.1),
        dpi=144,
        layout="constrained",
        facecolor="white",
    )
    axes = figure.subplots()
    axes.imshow(sheet, cmap="gray_r", vmin=low, vmax=top, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([i * (high + gap) + high / 2 - 0.5 for i in range(len(names))], names, color=INK, fontsize=10)
    axes.tick_params(length=0)
    return figure
