"""Paths through code space: interpolations between observations, and traversals of one dimension.

Codes are moved along straight lines. The case for great circles (White 2016, "Sampling generative networks") is that
draws from N(0, I) in many dimensions lie near a sphere; encoder means do not, since a dimension that is not used stays
near 0, and codes with another prior (a mixture, or none) have no centre to turn around.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from inference.codes import collapse, encoding
from inference.codes.reading import Codes
from inference.data.check import check, example
from inference.drawing import style
from inference.drawing.style import COLOURS, INK, MUTED, Array
from inference.gallery.panels import (
    PALE,
    as_pixels,
    calmed,
    counted,
    grouped,
    image_rows,
    shortened,
    spread_over,
)
from inference.running.cells import Cells, as_cells
from inference.running.checked import Checked
from inference.running.quiet import quietly
from inference.running.words import check_count
from zoo.base import ModelGuide
from zoo.settings import settings
from zoo.state.memory import check_room

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REACH = 2.5  # standard deviations that a traversal goes to either side


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
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    codes.check_continuous("interpolations", density=False)
    if batch.size < 2:
        raise ValueError(f"interpolations: expected at least two observations, got {batch.size}")
    pairs = min(pairs, batch.size // 2)
    picked = torch.randperm(batch.size, generator=torch.Generator().manual_seed(int(seed)))[: 2 * pairs]
    check_room("steps", steps, steps * pairs * codes.width * pair.dtype.itemsize)
    ends = batch.select(picked.to(pair.device)).but(total=2 * pairs)
    mean = encoding.encode(pair, given.but(ends), seed=seed).mean
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
    if as_pixels(given):
        here = style.as_array(ends.x)  # (2P, D)
        rows = np.concatenate([here[:pairs, None], _decoded(pair, path, seed), here[pairs:, None]], 1)
        return image_rows(rows, ["observed", *[""] * steps, "observed"], [], pair.image)
    fields = {name: getattr(ends, name) for name in codes.observed}
    return _path_panels(given, path, as_cells(given, fields), seed, ends=True)


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
            active (`inference.codes.collapse.active_units`), up to 10 for images and 4 for tables.
        steps: codes on the way.
        seed: seeds what is drawn.

    Raises:
        ValueError: the guide draws no codes, there is no such dimension, or the data do not fit the pair.
    """
    check_count("steps", steps, least=2)
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    codes.check_continuous("traversals", density=False)
    check_room("steps", steps, steps * codes.width * pair.dtype.itemsize)
    chosen = _dimensions(pair, codes, dimensions)
    batch = spread_over(batch)
    known = encoding.encode(pair, given.but(batch), seed=seed)
    mean = {name: known.mean[name].double() for name in codes.drawn}
    spread = torch.cat([(m.var(0, correction=0) + known.sd[n].square().mean(0)).flatten() for n, m in mean.items()])
    activity, unit = torch.cat([m.var(0, correction=0).flatten() for m in mean.values()]), "variance {:.2g}"
    active = activity > 0.01  # as in `collapse.active_units`
    if not codes.points:
        kl = collapse.code_kl(pair, given.but(batch), seed=seed)
        if all(kl[name].shape == m.shape[1:] for name, m in mean.items()):
            activity, unit = torch.cat([kl[name].flatten() for name in mean]).to(activity), "KL {:.2f} nats"
    order = activity.argsort(descending=True).tolist()
    if chosen is None:
        chosen = [i for i in order if active[i]][: 10 if as_pixels(given) else 4] or order[:1]
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
    if as_pixels(given):
        return image_rows(
            _decoded(pair, path, seed),
            [f"{t:+.1f}".replace("-", "−") if t else "0" for t in path.at],
            names,
            pair.image,
        )
    fields = {name: getattr(batch, name) for name in codes.observed}
    return _path_panels(given, path, as_cells(given, fields), seed)


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


def _decoded(pair: ModelGuide, path: _Path, seed: int) -> Array:
    """Expected images on the way, (G, S, D)."""
    found = encoding.decode(pair, path.flat(), seed=seed)["x"]
    return style.as_array(found).reshape(len(path.names), len(path.at), -1)


def _draw(pair: ModelGuide, path: _Path, seed: int) -> dict[str, Tensor]:
    """Draws of what is observed given the codes on the way, site -> (S, M, *event)."""
    codes = Codes.of(example(pair))
    values = path.flat()
    count = len(next(iter(values.values())))
    kept: dict[str, list[Tensor]] = {name: [] for name in codes.observed}
    with quietly(seed, pair):
        batch = pair.inputs(count).to(pair.device, pair.dtype)
        globals_ = codes.global_draws(codes.given.example, None)
        for some, fixed in codes.draws(settings.picture_draws, batch, globals_):
            size = some.stop - some.start
            given = {name: value.expand(size, *value.shape) for name, value in values.items()}
            sites = codes.model_given(batch, size, given, fixed)
            for name, parts in kept.items():
                value = sites[name]["value"]
                parts.append(value.expand(size, count, *value.shape[2:]))
    return {name: torch.cat(parts) for name, parts in kept.items()}


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
            raise ValueError(f"dimensions: {pair.name} has codes 0 to {codes.size - 1}, got {i!r}")
    if not chosen:
        raise ValueError("dimensions: expected at least one")
    return chosen


def _path_panels(given: Checked, path: _Path, data: Cells, seed: int, ends: bool = False) -> Figure:
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
    drawn = as_cells(given, _draw(given.pair, path, seed))  # (S, G S) of each column
    means = as_cells(given, encoding.decode(given.pair, path.flat(), seed=seed))
    shown = min(settings.picture_columns, len(data))
    size = (max(1.75 * lines, 3.5) + 1.9, 1.25 * shown + 0.7)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = figure.subplots(shown, lines, squeeze=False, sharex=True, sharey="row")
    for row, ((column, seen), (_, draws), (_, mean)) in enumerate(zip(data[:shown], drawn, means, strict=False)):
        draws = draws.reshape(-1, lines, steps)  # noqa: PLW2901 - (S, G, S)
        counts = counted(draws, len(column.categories)) if column.categories else np.empty(0)
        names, group = grouped(column, counts, settings.picture_categories)
        for i, axes in enumerate(panels[row]):
            style.styled(axes)
            axes.tick_params(labelsize=8)
            if column.categories:
                _category_path(axes, path.at, group[draws[:, i].astype(int)], names)
                if ends:
                    _category_ends(axes, path.at, seen[[i, lines + i]], group)
            else:
                low, high = np.quantile(draws[:, i], [0.05, 0.95], axis=0)
                axes.fill_between(path.at, low, high, color=PALE, linewidth=0)
                axes.plot(path.at, mean.reshape(lines, steps)[i], color=COLOURS[0], linewidth=1.5)
                calmed(axes, "y")
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
    return f"{shortened(name[:cut].rstrip(), 16)}\n{shortened(name[cut:], 16)}"


def _category_path(axes: Axes, at: Array, drawn: Array, names: Sequence[str]) -> None:
    """Probabilities of categories, in per cent, on the way: draws (S, steps)."""
    for k, (name, colour) in enumerate(zip(names, style.palette(), strict=False)):
        axes.plot(at, 100 * (drawn == k).mean(0), color=colour, linewidth=1.5, label=name)


def _category_ends(axes: Axes, at: Array, seen: Array, group: Array) -> None:
    """A dot at 100 % in the colour of what was observed at each end."""
    for place, code in zip(at[[0, -1]], seen, strict=True):
        if np.isfinite(code):
            colour = COLOURS[int(group[int(code)]) % len(COLOURS)]
            axes.plot(place, 100, "o", color=colour, markeredgecolor=INK, markersize=4.5, clip_on=False)
