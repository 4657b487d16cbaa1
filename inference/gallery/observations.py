"""Pictures of what a fitted pair makes of observations: samples, and reconstructions of those it was given.

Which are images, and what every picture of this package keeps to, stands at the top of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inference.codes import encoding
from inference.codes.reading import Codes
from inference.data.check import check, example
from inference.drawing import plots, style
from inference.drawing.style import COLOURS, INK, MUTED, Array
from inference.gallery.panels import (
    as_pixels,
    calmed,
    counted,
    grouped,
    headed,
    name_ticks,
    panel_grid,
    shown_site,
    spread_over,
)
from inference.posterior.draws import Posterior, generate
from inference.running.cells import as_cells
from inference.running.expectation import expected
from inference.running.pieces import share
from inference.running.quiet import quietly
from inference.running.words import check_count
from zoo.base import ModelGuide
from zoo.schema.column import Column
from zoo.settings import settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def samples(
    pair: ModelGuide, number: int | None = None, *, posterior: Posterior | None = None, seed: int = 0
) -> Figure:
    """New observations: images, or how often each value occurs among them.

    An image is the expected observation of a code from the prior where there are codes, without the noise of pixels.

    Args:
        pair: a fitted pair.
        number: how many to draw; by default 60 images, 6 sequences, or 1,000 rows of a table.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds everything drawn.

    Raises:
        ValueError: `number` below 1.
    """
    if number is not None:
        check_count("number", number)
    given = example(pair)
    if as_pixels(given):
        if not given.continuous_locals:
            return plots.samples(generate(pair, number or 60, posterior=posterior, seed=seed)["x"])
        figure = plots.samples(_expected_images(pair, number or 60, posterior, seed), shape=pair.image)
        return headed(figure, "expected images of codes from the prior")
    if given.example.lengths is not None:
        return _series(generate(pair, number or 6, posterior=posterior, seed=seed))
    shown = as_cells(given, generate(pair, number or 1000, posterior=posterior, seed=seed))
    figure, panels = panel_grid(shown, f"{number or 1000:,} rows drawn from the model")
    for axes, (column, values) in zip(panels, shown, strict=False):
        _histogram(axes, column, values)
    return figure


def reconstructions(pair: ModelGuide, data: Any, number: int = 12, *, seed: int = 0) -> Figure:
    """Observations and what their codes tell of them: images above theirs, or a table column by column.

    Numbers are shown reconstructed against observed. Of categories, each column of the map says how those observed as
    one were reconstructed, in per cent.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; of a table up to 5,000 rows are shown, whatever `number` is.
        number: of images, the first ones.
        seed: seeds what is drawn.

    Raises:
        ValueError: the pair has no codes, or the data do not fit it.
    """
    check_count("number", number)
    given = check(pair, data)
    batch = given.batch
    Codes.of(given)
    if as_pixels(given):
        some = batch.select(slice(0, number)).but(total=min(number, batch.size))
        again = encoding.reconstruct(pair, given.but(some), seed=seed)
        return plots.reconstructions(some.x, again, number, shape=pair.image)
    some = spread_over(batch)
    again = encoding.reconstruct(pair, given.but(some), seed=seed)
    site = shown_site(given)
    originals = as_cells(given, {site: getattr(some, site)})
    about = f"reconstructed (up) against observed (across), {some.size:,} rows"
    if any(column.categories for column, _ in originals):
        about += "; of categories, per cent"
    told = as_cells(given, {site: again})
    figure, panels = panel_grid(originals, about)
    for axes, (column, values), (_, decoded) in zip(panels, originals, told, strict=False):
        seen = np.isfinite(values)
        (_confusion if column.categories else _against)(axes, column, values[seen], decoded[seen])
    return figure


def _expected_images(pair: ModelGuide, number: int, posterior: Posterior | None, seed: int) -> Tensor:
    """E[x | codes], (M, D): codes from the prior, each under a draw of the globals of its own."""
    codes = Codes.of(example(pair))
    kept = []
    with quietly(seed, pair):
        batch = pair.inputs(number).to(pair.device, pair.dtype)
        globals_ = codes.global_draws(codes.given.example, posterior, draws=min(number, 30))
        for s, where in share(number, len(globals_)):
            for _, part in codes.rows(batch.select(where)):
                sites = codes.model_given(part, 1, {}, globals_[s])
                kept.append(expected(sites["x"]["fn"])[0])
    return torch.cat(kept)


def _series(found: Mapping[str, Tensor]) -> Figure:
    """Sequences, (M, T) or (M, T, D), one below the other."""
    from matplotlib.figure import Figure

    x = style.as_array(found["x"]).astype(float)
    shown = min(len(x), settings.picture_columns)
    size = (6.4, 0.95 * shown + 0.5)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = figure.subplots(shown, 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, series in zip(panels, x, strict=False):
        style.styled(axes)
        features = series.reshape(len(series), -1).T
        for feature, colour in zip(features, style.palette(), strict=False):
            axes.plot(feature, color=colour, linewidth=0.9, marker="o", markersize=1.8)
    panels[-1].set_xlabel("step", color=INK, fontsize=10)
    figure.suptitle("sequences drawn from the model", color=MUTED, fontsize=9, x=0.02, ha="left")
    return figure


def _histogram(axes: Axes, column: Column, values: Array) -> None:
    seen = values[np.isfinite(values)]
    if column.categories:
        names, group = grouped(column, counted(seen, len(column.categories)), 12)
        shares = 100 * counted(group[seen.astype(int)], len(names)) / max(1, len(seen))
        axes.barh(range(len(names)), shares, color=COLOURS[0], height=0.7)
        axes.set_yticks(range(len(names)), names, color=INK, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("%", color=INK, fontsize=9)
        return
    # A few draws from a long tail may leave the picture.
    low, high = np.quantile(seen, [0.005, 0.995]) if len(seen) > 100 else (seen.min(), seen.max())
    whole = style.whole_numbers(seen) and high - low <= 40
    bins = 25 if len(seen) > 200 else 12
    edges = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, high if high > low else low + 1, bins + 1)
    axes.stairs(style.as_shares(seen, edges), edges, fill=True, color=COLOURS[0])
    axes.set_ylabel("%", color=INK, fontsize=9)
    axes.set_ylim(bottom=0)
    calmed(axes, "x")


def _against(axes: Axes, _column: Column, observed: Array, told: Array) -> None:
    """Reconstructed over observed numbers, with the line where they are the same."""
    ends = [np.min([observed, told], initial=np.inf), np.max([observed, told], initial=-np.inf)]
    axes.plot(ends, ends, color=MUTED, linewidth=0.9, zorder=1)
    alpha = float(np.clip(60 / np.sqrt(max(1, len(observed))) / 5, 0.15, 0.7))
    axes.scatter(observed, told, s=9, color=COLOURS[0], alpha=alpha, linewidths=0)
    calmed(axes, "x")
    calmed(axes, "y")


def _confusion(axes: Axes, column: Column, observed: Array, told: Array) -> None:
    """Of those observed as one category (across), how many were reconstructed as each (up), in per cent."""
    names, group = grouped(column, counted(observed, len(column.categories)), settings.picture_categories)
    table = np.zeros((len(names), len(names)))
    np.add.at(table, (group[told.astype(int)], group[observed.astype(int)]), 1)
    shares = 100 * table / np.maximum(1, table.sum(0))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=130, origin="lower", aspect="auto")
    for (up, across), value in np.ndenumerate(shares):
        if value >= 0.5:
            axes.text(across, up, f"{value:.0f}", ha="center", va="center", color=INK, fontsize=8)
    axes.grid(visible=False)
    axes.set_yticks(range(len(names)), names, color=INK, fontsize=8)
    name_ticks(axes, names, 2.2)
