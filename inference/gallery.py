"""Pictures of what a fitted pair makes of observations: samples, reconstructions, paths between codes, imputations.

Observations are shown as images where they are rows of a square number of features, more than 16, without a schema
(8x8, 28x28); else as a panel for each column, in the user's units and category names. Every function returns a
`matplotlib.figure.Figure` made without pyplot, and refuses what it cannot draw with a ValueError, before work.

Codes are moved along straight lines. The case for great circles (White 2016, "Sampling generative networks") is that
draws from N(0, I) in many dimensions lie near a sphere; encoder means do not, since a dimension that is not used stays
near 0, and codes with another prior (a mixture, or none) have no centre to turn around.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from inference import amortised, plots
from inference.codes import Codes, check_count, expected, name_of, share
from inference.data import as_batch, check_sites, column_names
from inference.memory import quietly
from inference.plots import COLOURS, INK, MUTED, Array
from inference.posterior import Posterior, generate
from zoo.base import FIELDS, Batch, ModelGuide
from zoo.datasets.column import Column
from zoo.datasets.schema import Schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from inference.amortised import Imputation

IMAGE = 16  # a square number of features above this are pixels
PANELS = 12  # columns of a table that are shown
ROWS = 5000  # observations that are looked at, evenly spaced
NAMED = 8  # categories with a name of their own; the rarest others are shown together
REACH = 2.5  # standard deviations that a traversal goes to either side
DRAWS = 1000  # of observations given a code, for bands and for the probabilities of categories
LIGHT, PALE = "#8DBBDB", "#CFE3F1"

Cells = list[tuple[Column, Array]]  # columns, and the numbers in them


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
    if _pixels(pair):
        if not any(site.local and not (site.observed or site.enumerated) for site in pair.sites().values()):
            return plots.samples(generate(pair, number or 60, posterior=posterior, seed=seed)["x"])
        figure = plots.samples(_expected_images(pair, number or 60, posterior, seed))
        return _headed(figure, "expected images of codes from the prior")
    if check_sites(pair).lengths is not None:
        return _series(generate(pair, number or 6, posterior=posterior, seed=seed))
    shown = _cells(pair, generate(pair, number or 1000, posterior=posterior, seed=seed))
    figure, panels = _panels(shown, f"{number or 1000:,} rows drawn from the model")
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
    batch = as_batch(pair, data)
    Codes.of(pair, batch)
    if _pixels(pair):
        some = batch.select(slice(0, number)).but(total=min(number, batch.size))
        return plots.reconstructions(some.x, amortised.reconstruct(pair, some, seed=seed), number)
    some = _spread(batch)
    again = amortised.reconstruct(pair, some, seed=seed)
    site = _site(pair)
    originals = _cells(pair, {site: getattr(some, site)}, column_names(data))
    about = f"reconstructed (up) against observed (across), {some.size:,} rows"
    if any(column.categories for column, _ in originals):
        about += "; of categories, per cent"
    told = _cells(pair, {site: again})
    figure, panels = _panels(originals, about)
    for axes, (column, values), (_, decoded) in zip(panels, originals, told, strict=False):
        seen = np.isfinite(values)
        (_confusion if column.categories else _against)(axes, column, values[seen], decoded[seen])
    return figure


def interpolations(pair: ModelGuide, data: Any, pairs: int = 5, steps: int = 9, *, seed: int = 0) -> Figure:
    """Straight lines between the codes of two observations, decoded, with the observations at both ends.

    Of images, a row for each two. Of tables, a column of panels for each two: the mean of numbers in a band that holds
    90 % of draws, and the probabilities of categories.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        pairs: how many, picked at random.
        steps: codes on the way, ends included.
        seed: picks the observations, and seeds what is drawn.

    Raises:
        ValueError: the guide draws no codes, fewer than two observations, or the data do not fit the pair.
    """
    check_count("pairs", pairs)
    check_count("steps", steps, least=2)
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    codes.check_continuous("interpolations", density=False)
    if batch.size < 2:
        raise ValueError(f"interpolations: expected at least two observations, got {batch.size}")
    pairs = min(pairs, batch.size // 2)
    picked = torch.randperm(batch.size, generator=torch.Generator().manual_seed(seed))[: 2 * pairs]
    ends = batch.select(picked.to(pair.device)).but(total=2 * pairs)
    mean = amortised.encode(pair, ends, seed=seed).mean
    at = torch.linspace(0, 1, steps, device=pair.device)
    values = {}
    for name in codes.drawn:
        first, last = mean[name][:pairs, None], mean[name][pairs:, None]
        way = at.to(first).reshape(1, steps, *[1] * (first.ndim - 2))
        values[name] = first + way * (last - first)  # (P, S, *event)
    if codes.enumerated:  # the class of the nearer end
        classes = mean[codes.enumerated].argmax(-1)
        values[codes.enumerated] = torch.where(at < 0.5, classes[:pairs, None], classes[pairs:, None])
    names = [f"row {int(a) + 1} to {int(b) + 1}" for a, b in zip(picked[:pairs], picked[pairs:], strict=True)]
    path = _Path(values, names, at.cpu().numpy(), "share of the way")
    if _pixels(pair):
        here = plots._array(ends.x)  # (2P, D)
        rows = np.concatenate([here[:pairs, None], _decoded(pair, path, seed), here[pairs:, None]], 1)
        return _image_rows(rows, ["observed", *[""] * steps, "observed"], [])
    fields = {name: getattr(ends, name) for name in codes.observed}
    return _path_panels(pair, path, _cells(pair, fields, column_names(data)), seed, ends=True)


def traversals(
    pair: ModelGuide, data: Any, dimensions: int | Sequence[int] | None = None, steps: int = 9, *, seed: int = 0
) -> Figure:
    """What the dimensions of the code stand for: each moved by itself away from the mean code, and decoded.

    A dimension goes 2.5 standard deviations to either side, those of all codes of the data together (the aggregate
    posterior; the prior's may be another, or there may be none). Of images, a row for each dimension; of tables, a
    column of panels, as in `interpolations`. Dimensions carry their KL divergence from the prior, the mean over the
    data in nats; where that does not split over dimensions, the variance of the codes' means instead.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; up to 5,000 rows are encoded.
        dimensions: which, counted through all sites in order; or how many of the most active ones. By default those
            active (`inference.amortised.active_units`), up to 10 for images and 4 for tables.
        steps: codes on the way.
        seed: seeds what is drawn.

    Raises:
        ValueError: the guide draws no codes, there is no such dimension, or the data do not fit the pair.
    """
    check_count("steps", steps, least=2)
    batch = as_batch(pair, data)
    codes = Codes.of(pair, batch)
    codes.check_continuous("traversals", density=False)
    chosen = _dimensions(pair, codes, dimensions)
    batch = _spread(batch)
    known = amortised.encode(pair, batch, seed=seed)
    mean = {name: known.mean[name].double() for name in codes.drawn}
    spread = torch.cat([(m.var(0, correction=0) + known.sd[n].square().mean(0)).flatten() for n, m in mean.items()])
    activity, unit = torch.cat([m.var(0, correction=0).flatten() for m in mean.values()]), "variance {:.2g}"
    active = activity > 0.01  # as in `amortised.active_units`
    if not codes.points:
        kl = amortised.code_kl(pair, batch, seed=seed)
        if all(kl[name].shape == m.shape[1:] for name, m in mean.items()):
            activity, unit = torch.cat([kl[name].flatten() for name in mean]).to(activity), "KL {:.2f} nats"
    order = activity.argsort(descending=True).tolist()
    if chosen is None:
        chosen = [i for i in order if active[i]][: 10 if _pixels(pair) else 4] or order[:1]
    elif isinstance(chosen, int):
        chosen = order[:chosen]
    at = torch.linspace(-REACH, REACH, steps, dtype=spread.dtype, device=spread.device)
    moved = torch.zeros(len(chosen), steps, len(spread)).to(spread)
    for row, i in enumerate(chosen):
        moved[row, :, i] = at * spread[i].sqrt()
    centre = torch.cat([m.mean(0).flatten() for m in mean.values()])
    parts = (centre + moved).split([m[0].numel() for m in mean.values()], -1)
    values = {n: p.unflatten(-1, m.shape[1:]).to(pair.dtype) for (n, m), p in zip(mean.items(), parts, strict=True)}
    if codes.enumerated:  # the most common class
        values[codes.enumerated] = known.mean[codes.enumerated].mean(0).argmax().expand(len(chosen), steps)
    labels = _entries(mean)
    names = [f"{labels[i]}: {unit.format(float(activity[i]))}" for i in chosen]
    path = _Path(values, names, at.cpu().numpy(), "standard deviations")
    if _pixels(pair):
        return _image_rows(
            _decoded(pair, path, seed), [f"{t:+.1f}".replace("-", "−") if t else "0" for t in path.at], names
        )
    fields = {name: getattr(batch, name) for name in codes.observed}
    return _path_panels(pair, path, _cells(pair, fields, column_names(data)), seed)


def imputations(imputation: Imputation, schema: Schema, *, most: int = 40) -> Figure:
    """What the missing cells of each column may hold: a line a cell, in the order of what was filled in.

    Of a number, the value filled in and the intervals that hold 50 and 90 % of its draws, over those observed. Of a
    category, bars for the probabilities of all, over the shares observed. Rows are counted from 1.

    Args:
        imputation: from `inference.amortised.impute`.
        schema: of the pair.
        most: how many cells of a column to show, evenly spaced in their order.

    Raises:
        ValueError: nothing is missing, or a schema of another width.
    """
    check_count("most", most)
    observed = plots._array(imputation.observed).astype(float)
    if len(schema.used) != observed.shape[1]:
        raise ValueError(f"schema: expected {observed.shape[1]} columns that are used, got {len(schema.used)}")
    rows, places = plots._array(imputation.rows), plots._array(imputation.columns)
    if not len(rows):
        raise ValueError("imputation: nothing is missing, so nothing was imputed")
    from matplotlib.figure import Figure

    draws = plots._array(imputation.values).astype(float)
    draws = draws.reshape(-1, len(rows))  # (S, M)
    points = plots._array(imputation.point()).astype(float)[rows, places]
    cells = {place: np.flatnonzero(places == place) for place in range(len(schema.used))}
    # Panels of like height stand side by side.
    holed = sorted((place for place, mine in cells.items() if len(mine)), key=lambda place: -len(cells[place]))
    shown = holed[:PANELS]
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
        plots._style(axes)
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


# What to draw --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Path:
    """Codes on the way of G lines of S steps: site -> (G, S, *event)."""

    codes: Mapping[str, Tensor]
    names: Sequence[str]  # (G,)
    at: Array  # (S,)
    across: str

    def flat(self) -> dict[str, Tensor]:
        """Site -> (G S, *event)."""
        return {name: value.flatten(0, 1) for name, value in self.codes.items()}


def _site(pair: ModelGuide) -> str:
    """The first field that the pair observes."""
    observed = {name for name, site in pair.sites(check_sites(pair)).items() if site.observed}
    return next(name for name in FIELDS if name in observed)


def _pixels(pair: ModelGuide) -> bool:
    """Whether observations are flat square images."""
    site = pair.sites(check_sites(pair))[_site(pair)]
    if site.name != "x" or pair.schema is not None or len(site.event_shape) != 1:
        return False
    return site.event_shape[0] > IMAGE and math.isqrt(site.event_shape[0]) ** 2 == site.event_shape[0]


def _spread(batch: Batch) -> Batch:
    """At most `ROWS` observations, evenly spaced."""
    if batch.size <= ROWS:
        return batch
    device = next(iter(batch.fields().values())).device
    return batch.select(torch.linspace(0, batch.size - 1, ROWS).round().long().to(device)).but(total=ROWS)


def _expected_images(pair: ModelGuide, number: int, posterior: Posterior | None, seed: int) -> Tensor:
    """E[x | codes], (M, D): codes from the prior, each under a draw of the globals of its own."""
    codes = Codes.of(pair)
    kept = []
    with quietly(seed, pair):
        batch = pair.inputs(number).to(pair.device, pair.dtype)
        globals_ = codes.global_draws(check_sites(pair), posterior, draws=min(number, 30))
        for s, where in share(number, len(globals_)):
            for _, part in codes.rows(batch.select(where)):
                sites = codes.model_given(part, 1, {}, globals_[s])
                kept.append(expected(sites["x"]["fn"])[0])
    return torch.cat(kept)


def _decoded(pair: ModelGuide, path: _Path, seed: int) -> Array:
    """Expected images on the way, (G, S, D)."""
    found = amortised.decode(pair, path.flat(), seed=seed)["x"]
    return plots._array(found).reshape(len(path.names), len(path.at), -1)


def _draw(pair: ModelGuide, path: _Path, seed: int) -> dict[str, Tensor]:
    """Draws of what is observed given the codes on the way, site -> (S, M, *event)."""
    codes = Codes.of(pair)
    values = path.flat()
    count = len(next(iter(values.values())))
    kept: dict[str, list[Tensor]] = {name: [] for name in codes.observed}
    with quietly(seed, pair):
        batch = pair.inputs(count).to(pair.device, pair.dtype)
        globals_ = codes.global_draws(check_sites(pair), None)
        for s, where in share(DRAWS, len(globals_)):
            for piece in codes.draws_at_once(where.stop - where.start, batch):
                size = piece.stop - piece.start
                given = {name: value.expand(size, *value.shape) for name, value in values.items()}
                sites = codes.model_given(batch, size, given, globals_[s])
                for name, parts in kept.items():
                    value = sites[name]["value"]
                    parts.append(value.expand(size, count, *value.shape[2:]))
    return {name: torch.cat(parts) for name, parts in kept.items()}


def _cells(pair: ModelGuide, values: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Cells:
    """The columns of observations, site -> (..., D) or (...): their names and kinds, and numbers (...)."""
    found: Cells = []
    for site, value in values.items():
        numbers = plots._array(value).astype(float)
        if site == "x" and pair.schema is not None:
            found += [(column, numbers[..., i]) for i, column in enumerate(pair.schema.used)]
        elif site == "y" and pair.target is not None:
            found.append((pair.target, numbers))
        elif pair.sites(check_sites(pair))[site].event_shape.numel() == 1:
            name = names[0] if names and len(names) == 1 else site
            found.append((Column(name, "real"), numbers.reshape(numbers.shape[: value.ndim - _rank(pair, site)])))
        else:
            wide = numbers.shape[-1]
            called = names if names and len(names) == wide else [f"{site}_{i + 1}" for i in range(wide)]
            found += [(Column(str(called[i]), "real"), numbers[..., i]) for i in range(wide)]
    return found


def _rank(pair: ModelGuide, site: str) -> int:
    return len(pair.sites(check_sites(pair))[site].event_shape)


def _entries(values: Mapping[str, Tensor]) -> list[str]:
    """What to call each entry of codes (N, *event), site after site."""
    return [
        f"{name} {', '.join(map(str, index))}".strip()
        for name, value in values.items()
        for index in np.ndindex(tuple(value.shape[1:]))
    ]


def _dimensions(pair: ModelGuide, codes: Codes, wanted: int | Sequence[int] | None) -> int | list[int] | None:
    """Which dimensions of the code to show, or how many.

    Raises:
        ValueError: there is no such dimension, or none is asked for.
    """
    if wanted is None:
        return None
    if isinstance(wanted, int):
        check_count("dimensions", wanted)
        return min(wanted, codes.size)
    chosen = list(wanted)
    for i in chosen:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < codes.size:
            raise ValueError(f"dimensions: {name_of(pair)} has codes 0 to {codes.size - 1}, got {i!r}")
    if not chosen:
        raise ValueError("dimensions: expected at least one")
    return chosen


# Images --------------------------------------------------------------------------------------------------------------


def _headed(figure: Figure, text: str) -> Figure:
    if figure.get_figwidth() > 4:  # a title is not wrapped
        figure.axes[0].set_title(text, loc="left", color=MUTED, fontsize=9)
    return figure


def _image_rows(images: Array, heads: Sequence[str], names: Sequence[str]) -> Figure:
    """Rows of images, (R, C, D), with a word above each column and before each row."""
    pictures = [plots._images(row, None) for row in images]
    figure = plots._image_grid(pictures, names, scale=np.concatenate(pictures))
    axes, (high, wide) = figure.axes[0], pictures[0].shape[1:3]
    step = wide + max(1, high // 14)  # as in `plots._image_grid`
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


def _series(found: Mapping[str, Tensor]) -> Figure:
    """Sequences, (M, T) or (M, T, D), one below the other."""
    from matplotlib.figure import Figure

    x = plots._array(found["x"]).astype(float)
    shown = min(len(x), PANELS)
    size = (6.4, 0.95 * shown + 0.5)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = figure.subplots(shown, 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axes, series in zip(panels, x, strict=False):
        plots._style(axes)
        features = series.reshape(len(series), -1).T
        for feature, colour in zip(features, plots._cycle(), strict=False):
            axes.plot(feature, color=colour, linewidth=0.9, marker="o", markersize=1.8)
    panels[-1].set_xlabel("step", color=INK, fontsize=10)
    figure.suptitle("sequences drawn from the model", color=MUTED, fontsize=9, x=0.02, ha="left")
    return figure


# Panels of a table ---------------------------------------------------------------------------------------------------


def _panels(shown: Cells, about: str) -> tuple[Figure, list[Axes]]:
    """A panel for each of the first columns, its name above it."""
    from matplotlib.figure import Figure

    number = min(len(shown), PANELS)
    across = 2 if number in (2, 4) else min(3, number)
    down = -(-number // across)
    size = (3.1 * across + 0.2, 2.3 * down + 0.4)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = list(figure.subplots(down, across, squeeze=False).ravel())
    for axes in panels[number:]:
        axes.set_visible(False)
    for axes, (column, _) in zip(panels, shown, strict=False):
        plots._style(axes)
        axes.set_title(_short(column.name, 34), loc="left", color=INK, fontsize=10)
    note = f" (the first {number} of {len(shown)} columns)" if number < len(shown) else ""
    figure.suptitle(
        "\n".join(textwrap.wrap(about + note, int(14 * size[0]))), color=MUTED, fontsize=9, x=0.02, ha="left"
    )
    return figure, panels


def _short(text: str, most: int) -> str:
    """The beginning and the end of a long text, since names that begin alike may end apart."""
    return text if len(text) <= most else f"{text[: (most - 1) // 2]}…{text[len(text) - most // 2 :]}"


def _calm(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Few enough ticks of numbers, and short ones, so that they do not touch."""
    axes.locator_params(axis=axis, nbins=5)
    axes.ticklabel_format(axis=axis, scilimits=(-3, 5))
    (axes.xaxis if axis == "x" else axes.yaxis).get_offset_text().set(color=MUTED, fontsize=8)


def _grouped(column: Column, weight: Array, most: int) -> tuple[list[str], Array]:
    """Names of categories, at most so many, and the group of each: itself, or the last for the rarest, in order.

    Args:
        column: with K categories.
        weight: how common each is, (K,).
        most: groups.

    Returns:
        names, and the group of each category, (K,).
    """
    names = [_short(str(category), 14) for category in column.categories]
    if len(names) <= most:
        return names, np.arange(len(names))
    kept = np.sort(np.argsort(-weight, kind="stable")[: most - 1])
    group = np.full(len(names), most - 1)
    group[kept] = np.arange(most - 1)
    return [*(names[k] for k in kept), f"{len(names) - most + 1} others"], group


def _counts(codes: Array, size: int) -> Array:
    seen = codes[np.isfinite(codes)].astype(int)
    return np.bincount(seen, minlength=size)[:size].astype(float)


def _name_ticks(axes: Axes, names: Sequence[str], inches: float) -> None:
    """Category names along the bottom, turned where they would touch."""
    axes.set_xticks(range(len(names)), names, color=INK, fontsize=8)
    if max(map(len, names)) * 0.065 > 0.95 * inches / len(names):
        for tick in axes.get_xticklabels():
            tick.set(rotation=35, ha="right", rotation_mode="anchor")


def _histogram(axes: Axes, column: Column, values: Array) -> None:
    seen = values[np.isfinite(values)]
    if column.categories:
        names, group = _grouped(column, _counts(seen, len(column.categories)), 12)
        shares = 100 * _counts(group[seen.astype(int)], len(names)) / max(1, len(seen))
        axes.barh(range(len(names)), shares, color=COLOURS[0], height=0.7)
        axes.set_yticks(range(len(names)), names, color=INK, fontsize=8)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("%", color=INK, fontsize=9)
        return
    # A few draws from a long tail may leave the picture.
    low, high = np.quantile(seen, [0.005, 0.995]) if len(seen) > 100 else (seen.min(), seen.max())
    whole = plots._whole(seen) and high - low <= 40
    bins = 25 if len(seen) > 200 else 12
    edges = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, high if high > low else low + 1, bins + 1)
    axes.stairs(plots._shares(seen, edges), edges, fill=True, color=COLOURS[0])
    axes.set_ylabel("%", color=INK, fontsize=9)
    axes.set_ylim(bottom=0)
    _calm(axes, "x")


def _against(axes: Axes, _column: Column, observed: Array, told: Array) -> None:
    """Reconstructed over observed numbers, with the line where they are the same."""
    ends = [np.min([observed, told], initial=np.inf), np.max([observed, told], initial=-np.inf)]
    axes.plot(ends, ends, color=MUTED, linewidth=0.9, zorder=1)
    alpha = float(np.clip(60 / np.sqrt(max(1, len(observed))) / 5, 0.15, 0.7))
    axes.scatter(observed, told, s=9, color=COLOURS[0], alpha=alpha, linewidths=0)
    _calm(axes, "x")
    _calm(axes, "y")


def _confusion(axes: Axes, column: Column, observed: Array, told: Array) -> None:
    """Of those observed as one category (across), how many were reconstructed as each (up), in per cent."""
    names, group = _grouped(column, _counts(observed, len(column.categories)), NAMED)
    table = np.zeros((len(names), len(names)))
    np.add.at(table, (group[told.astype(int)], group[observed.astype(int)]), 1)
    shares = 100 * table / np.maximum(1, table.sum(0))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=130, origin="lower", aspect="auto")
    for (up, across), value in np.ndenumerate(shares):
        if value >= 0.5:
            axes.text(across, up, f"{value:.0f}", ha="center", va="center", color=INK, fontsize=8)
    axes.grid(visible=False)
    axes.set_yticks(range(len(names)), names, color=INK, fontsize=8)
    _name_ticks(axes, names, 2.2)


def _path_panels(pair: ModelGuide, path: _Path, data: Cells, seed: int, ends: bool = False) -> Figure:
    """Rows of panels for columns, and columns of panels for lines of codes.

    Args:
        pair: the pair.
        path: G lines of S codes.
        data: observed; with `ends` the G observations at the beginnings, and then those at the ends of the lines.
        seed: seeds the draws.
        ends: mark them.
    """
    from matplotlib.figure import Figure

    lines, steps = len(path.names), len(path.at)
    drawn = _cells(pair, _draw(pair, path, seed))  # (S, G S) of each column
    means = _cells(pair, amortised.decode(pair, path.flat(), seed=seed))
    shown = min(PANELS, len(data))
    size = (max(1.75 * lines, 3.5) + 1.9, 1.25 * shown + 0.7)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = figure.subplots(shown, lines, squeeze=False, sharex=True, sharey="row")
    for row, ((column, seen), (_, draws), (_, mean)) in enumerate(zip(data[:shown], drawn, means, strict=False)):
        draws = draws.reshape(-1, lines, steps)  # noqa: PLW2901 - (S, G, S)
        counts = _counts(draws, len(column.categories)) if column.categories else np.empty(0)
        names, group = _grouped(column, counts, NAMED)
        for i, axes in enumerate(panels[row]):
            plots._style(axes)
            axes.tick_params(labelsize=8)
            if column.categories:
                _category_path(axes, path.at, group[draws[:, i].astype(int)], names)
                if ends:
                    _category_ends(axes, path.at, seen[[i, lines + i]], group)
            else:
                low, high = np.quantile(draws[:, i], [0.05, 0.95], axis=0)
                axes.fill_between(path.at, low, high, color=PALE, linewidth=0)
                axes.plot(path.at, mean.reshape(lines, steps)[i], color=COLOURS[0], linewidth=1.5)
                _calm(axes, "y")
                if ends:
                    axes.plot(path.at[[0, -1]], seen[[i, lines + i]], "o", color=INK, markersize=4, clip_on=False)
        panels[row, 0].set_ylabel(
            _two_lines(column.name) + ("\n(%)" if column.categories else ""), color=INK, fontsize=8
        )
        if column.categories:
            panels[row, 0].set_ylim(-4, 104)
            panels[row, -1].legend(
                fontsize=7.5, labelcolor=INK, edgecolor="none", loc="center left", bbox_to_anchor=(1.0, 0.5),
                handlelength=1.0, borderaxespad=0.2, labelspacing=0.25,
            )  # fmt: skip
    for axes, name in zip(panels[0], path.names, strict=True):
        axes.set_title(name, color=INK, fontsize=9)
    figure.supxlabel(path.across, color=INK, fontsize=9)
    told = ["lines are means, in the band of 90 % of draws"]
    told += ["of categories, probabilities"] if any(column.categories for column, _ in data[:shown]) else []
    told += ["dots are what was observed"] if ends else []
    told += [f"the first {shown} of {len(data)} columns"] if shown < len(data) else []
    figure.suptitle("\n".join(textwrap.wrap("; ".join(told), int(13 * size[0]))), color=MUTED, fontsize=9)
    return figure


def _two_lines(name: str) -> str:
    """A long name cut in two, at an underscore or a space where there is one."""
    if len(name) <= 16:
        return name
    middle = len(name) // 2
    cuts = [i + 1 for i, letter in enumerate(name[:-1]) if letter in "_ -."] or [middle]
    cut = min(cuts, key=lambda i: abs(i - middle))
    return f"{_short(name[:cut].rstrip(), 16)}\n{_short(name[cut:], 16)}"


def _category_path(axes: Axes, at: Array, drawn: Array, names: Sequence[str]) -> None:
    """Probabilities of categories, in per cent, on the way: draws (S, steps)."""
    for k, (name, colour) in enumerate(zip(names, plots._cycle(), strict=False)):
        axes.plot(at, 100 * (drawn == k).mean(0), color=colour, linewidth=1.5, label=name)


def _category_ends(axes: Axes, at: Array, seen: Array, group: Array) -> None:
    """A dot at 100 % in the colour of what was observed at each end."""
    for place, code in zip(at[[0, -1]], seen, strict=True):
        if np.isfinite(code):
            colour = COLOURS[int(group[int(code)]) % len(COLOURS)]
            axes.plot(place, 100, "o", color=colour, markeredgecolor=INK, markersize=4.5, clip_on=False)


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
    weight = np.stack([_counts(draws[:, m], size) for m in range(draws.shape[1])])  # (M, K)
    names, group = _grouped(column, weight.sum(0), NAMED)
    each = np.stack([weight[:, group == g].sum(1) for g in range(len(names))], 1) / len(draws)
    counts = _counts(group[seen.astype(int)], len(names))
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
    axes.set_title(f"{_short(name, 30)}: {some}", loc="left", color=INK, fontsize=10)
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
        _calm(axes, "x")


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
    _name_ticks(axes, parts.names, 3.2)


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
