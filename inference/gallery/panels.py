"""What the pictures of observations share: which site is shown, and how its columns are laid out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from inference.drawing import style
from inference.drawing.style import INK, MUTED, Array
from inference.running.cells import Cells
from inference.running.checked import Checked
from zoo.base import FIELDS, Batch
from zoo.schema.column import Column
from zoo.settings import settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


IMAGE = 16  # a square number of features above this are pixels


LIGHT, PALE = "#8DBBDB", "#CFE3F1"


def shown_site(given: Checked) -> str:
    """The first field that the pair observes."""
    return next(name for name in FIELDS if name in given.observed)


def as_pixels(given: Checked) -> bool:
    """Whether observations are images: of a pair made for them, or flat square ones, which are no sequences."""
    site = given.observed[shown_site(given)]
    if site.name == "x" and given.pair.image is not None:
        return True
    if site.name != "x" or given.pair.schema is not None or len(site.event_shape) != 1:
        return False
    if given.batch.lengths is not None or given.example.lengths is not None:
        return False
    return site.event_shape[0] > IMAGE and math.isqrt(site.event_shape[0]) ** 2 == site.event_shape[0]


def spread_over(batch: Batch) -> Batch:
    """At most `settings.picture_rows` observations, evenly spaced."""
    most = settings.picture_rows
    if batch.size <= most:
        return batch
    device = next(iter(batch.fields().values())).device
    return batch.select(torch.linspace(0, batch.size - 1, most).round().long().to(device)).but(total=most)


def headed(figure: Figure, text: str) -> Figure:
    """Put a line above a figure that is wide enough for it."""
    if figure.get_figwidth() > 4:  # a title is not wrapped
        figure.axes[0].set_title(text, loc="left", color=MUTED, fontsize=9)
    return figure


def image_rows(
    images: Array, heads: Sequence[str], names: Sequence[str], shape: tuple[int, ...] | None = None
) -> Figure:
    """Rows of images, (R, C, D), with a word above each column and before each row; square unless a shape is given."""
    pictures = [style.as_images(row, shape) for row in images]
    figure = style.image_grid(pictures, names, scale=np.concatenate(pictures))
    axes, (high, wide) = figure.axes[0], pictures[0].shape[1:3]
    step = wide + max(1, high // 14)  # as in `style.image_grid`
    axes.xaxis.tick_top()
    axes.set_xticks([i * step + wide / 2 - 0.5 for i in range(len(heads))], heads, color=INK, fontsize=9)
    axes.tick_params(length=0, labelsize=9)
    left, top = (0.15 + 0.066 * max(map(len, names)), 0.5) if names else (0.1, 0.3)
    if names:
        axes.set_title("standard deviations of the codes", loc="left", color=MUTED, fontsize=9)
    # Placed by hand: the layout engine leaves long names of rows outside, where the aspect of an image is fixed.
    across, down = figure.get_size_inches()
    across -= 0.6 * bool(names)
    size = (left + across + 0.1, top + down)
    figure.set_layout_engine("none")
    figure.set_size_inches(*size)
    axes.set_position((left / size[0], 0.05 / size[1], across / size[0], (down - 0.05) / size[1]))
    return figure


def panel_grid(shown: Cells, about: str) -> tuple[Figure, list[Axes]]:
    """A panel for each of the first columns, its name above it."""
    from matplotlib.figure import Figure

    number = min(len(shown), settings.picture_columns)
    across = 2 if number in (2, 4) else min(3, number)
    down = -(-number // across)
    size = (3.1 * across + 0.2, 2.3 * down + 0.4)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = list(figure.subplots(down, across, squeeze=False).ravel())
    for axes in panels[number:]:
        axes.set_visible(False)
    for axes, (column, _) in zip(panels, shown, strict=False):
        style.styled(axes)
        axes.set_title(shortened(column.name, 34), loc="left", color=INK, fontsize=10)
    note = f" (the first {number} of {len(shown)} columns)" if number < len(shown) else ""
    figure.suptitle(
        "\n".join(textwrap.wrap(about + note, int(14 * size[0]))), color=MUTED, fontsize=9, x=0.02, ha="left"
    )
    return figure, panels


def shortened(text: str, most: int) -> str:
    """The beginning and the end of a long text, since names that begin alike may end apart."""
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def calmed(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Few enough ticks of numbers, and short ones, so that they do not touch."""
    axes.locator_params(axis=axis, nbins=5)
    axes.ticklabel_format(axis=axis, scilimits=(-3, 5))
    (axes.xaxis if axis == "x" else axes.yaxis).get_offset_text().set(color=MUTED, fontsize=8)


def grouped(column: Column, weight: Array, most: int) -> tuple[list[str], Array]:
    """Names of categories, at most so many, and the group of each: itself, or the last for the rarest, in order.

    Args:
        column: with K categories.
        weight: how common each is, (K,).
        most: groups.

    Returns:
        names, and the group of each category, (K,).
    """
    names = [shortened(str(category), 14) for category in column.categories]
    if len(names) <= most:
        return names, np.arange(len(names))
    kept = np.sort(np.argsort(-weight, kind="stable")[: most - 1])
    group = np.full(len(names), most - 1)
    group[kept] = np.arange(most - 1)
    return [*(names[k] for k in kept), f"{len(names) - most + 1} others"], group


def counted(codes: Array, size: int) -> Array:
    """How often each of `size` codes occurs; missing ones are left out."""
    seen = codes[np.isfinite(codes)].astype(int)
    return np.bincount(seen, minlength=size)[:size].astype(float)


def name_ticks(axes: Axes, names: Sequence[str], inches: float) -> None:
    """Category names along the bottom, turned where they would touch."""
    axes.set_xticks(range(len(names)), names, color=INK, fontsize=8)
    if max(map(len, names)) * 0.065 > 0.95 * inches / len(names):
        for tick in axes.get_xticklabels():
            tick.set(rotation=35, ha="right", rotation_mode="anchor")
