"""The posterior in ArviZ's style: densities with their intervals, chains by ranks, weights of draws, k̂ of rows.

ArviZ 0.x draws by pyplot and ArviZ 1.x otherwise, so figures are made here, without either; kernel densities and
intervals are those of arviz-stats.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.drawing import style
from inference.drawing.style import COLOURS, INK, MUTED, Array
from inference.posterior.units import entries

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from inference.posterior.loo import LeaveOneOut

MASS = 0.94  # as ArviZ's own pictures have it
SHOWN = 40  # entries in the summary
_EACH = 4  # that every latent keeps, however long the others are
_PANELS, _CHAINED = 9, 6
_FACTORS = ("cholesky", "factor")


def of_globals(posterior: Any, most: int = SHOWN) -> tuple[dict[str, Array], int]:
    """Entries of the global latents by name, (chain, draw) each, and how many there are in all.

    Of many entries the first of each latent are kept, of all latents some. Those that never vary are left out.

    Args:
        posterior: the group `posterior` of a container.
        most: entries.
    """
    found: dict[str, list[tuple[str, Array]]] = {}
    total = 0
    for name, variable in posterior.data_vars.items():
        if "obs" in variable.dims or variable.dims[:2] != ("chain", "draw") or variable.dtype.kind not in "fiub":
            continue
        values = np.asarray(variable.values, dtype=float).reshape(*variable.shape[:2], -1)
        varying = np.flatnonzero(np.ptp(values.reshape(-1, values.shape[-1]), axis=0) > 0)
        total += len(varying)
        some = varying[:most]
        if len(some):
            labels = entries(str(name), {str(dim): variable.coords[dim].values for dim in variable.dims[2:]})
            found[str(name)] = [(labels[k], values[..., k]) for k in some]
    keep = {name: len(each) for name, each in found.items()}
    for name in reversed(list(keep)):
        over = sum(keep.values()) - most
        if over > 0:
            keep[name] = max(min(keep[name], _EACH), keep[name] - over)
    kept = dict(pair for name, each in found.items() for pair in each[: keep[name]])
    return dict(list(kept.items())[:most]), total


def densities(draws: Mapping[str, Array]) -> Figure:
    """A panel for each of the first entries: its density, its mean, and the interval that holds 94 % of it."""
    from arviz_stats import base

    stats: Any = base

    shown = list(draws.items())[:_PANELS]
    _check_some(shown)
    figure, panels = _grid(len(shown), f"the first {len(shown)} of {len(draws)}" if len(draws) > len(shown) else "")
    for axes, (name, values) in zip(panels, shown, strict=False):
        flat = values.ravel()
        _check_enough(flat)
        x, y, _ = stats.array_stats.kde(flat)
        low, high = stats.array_stats.hdi(flat, MASS)
        axes.fill_between(x, 0, y, color=COLOURS[0], alpha=0.15, linewidth=0)
        axes.plot(x, y, color=COLOURS[0], linewidth=1.5)
        axes.hlines(0, low, high, color=INK, linewidth=3)
        axes.plot([flat.mean()], [0], "o", color="white", markeredgecolor=INK, markersize=4.5, clip_on=False, zorder=3)
        axes.set_title(_short(name), loc="left", color=INK, fontsize=9)
        axes.set_xlabel(f"{flat.mean():.3g}  [{low:.3g}, {high:.3g}]", color=MUTED, fontsize=8)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)
        axes.locator_params(axis="x", nbins=4)
    return figure


def chains(draws: Mapping[str, Array], worst: Mapping[str, float]) -> Figure:
    """How far the ranks of each chain's draws are from even ones, of the entries whose R-hat is highest.

    Were all chains alike, the share of a chain's draws below each rank would be that rank: the difference is drawn, and
    the band in which 99 % of it would be at each rank, of independent draws.

    Args:
        draws: entry -> (chain, draw).
        worst: entry -> R-hat.
    """
    order = sorted(draws, key=lambda name: -np.nan_to_num(worst.get(name, 0.0), nan=np.inf))[:_CHAINED]
    _check_some(order)
    figure, panels = _grid(len(order), "share of a chain's draws below a rank, minus that rank; highest R-hat first")
    at = np.linspace(0, 1, 101)
    for axes, name in zip(panels, order, strict=False):
        values = draws[name]
        _check_enough(values.ravel())
        ranks = _ranks(values) / values.size
        band = 2.576 * np.sqrt(at * (1 - at) / values.shape[1])
        axes.fill_between(at, -band, band, color="#DDDDDD", linewidth=0)
        for k, chain in enumerate(ranks):
            share = np.searchsorted(np.sort(chain), at, side="right") / len(chain)
            axes.plot(at, share - at, color=COLOURS[k % len(COLOURS)], linewidth=0.9, alpha=0.8)
        axes.set_title(f"{_short(name)}, R-hat {worst.get(name, np.nan):.3f}", loc="left", color=INK, fontsize=9)
        axes.set_xlabel("rank", color=MUTED, fontsize=8)
        axes.locator_params(nbins=4)
    return figure


def weights(log_weights: Array) -> Figure:
    """Which share of all weight the heaviest draws carry.

    Args:
        log_weights: log p - log q of each draw, (S,).
    """
    ratios = np.asarray(log_weights, dtype=float).ravel()
    _check_enough(ratios)
    if not np.isfinite(ratios).all():
        raise ValueError("weights of these draws are not finite: a guide that is a point has no density")
    each = np.sort(np.exp(ratios - ratios.max()))[::-1]
    share = np.concatenate([[0.0], np.cumsum(each) / each.sum()])
    figure, axes = style.new_figure(5.2, 3.6)
    at = np.linspace(0, 100, len(share))
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle="--", label="a perfect guide")
    axes.plot(at, 100 * share, color=COLOURS[0], linewidth=1.8, label="these draws")
    style.labelled(axes, "heaviest draws (% of all)", "weight that they carry (%)")
    style.keyed(axes, loc="lower right")
    return figure


def left_out(scores: LeaveOneOut) -> Figure:
    """Pareto k̂ of each row, left out, and the threshold that it is held against."""
    k = np.asarray(scores.pareto_k, dtype=float)
    figure, axes = style.new_figure(6.4, 3.2)
    high = k > scores.threshold
    rows = np.arange(1, len(k) + 1)
    axes.plot(rows[~high], k[~high], "o", color=COLOURS[0], markersize=3, alpha=0.7)
    axes.plot(rows[high], k[high], "x", color=COLOURS[3], markersize=6)
    axes.axhline(scores.threshold, color=INK, linewidth=1, linestyle="--")
    style.labelled(axes, "row", "Pareto k̂", f"threshold {scores.threshold:.2f}; {int(high.sum())} rows above it")
    return figure


def _ranks(values: Array) -> Array:
    """Ranks among all draws, from 1 on; equal ones get their mean rank."""
    from scipy.stats import rankdata

    ranks: Array = rankdata(values, method="average").reshape(values.shape)
    return ranks


def _grid(number: int, about: str) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    across = min(3, number)
    down = -(-number // across)
    figure = Figure(figsize=(2.6 * across + 0.4, 1.9 * down + 0.4), dpi=144, layout="constrained", facecolor="white")
    panels = list(figure.subplots(down, across, squeeze=False).ravel())
    for axes in panels:
        style.styled(axes)
    for axes in panels[number:]:
        axes.set_visible(False)
    if about:
        figure.suptitle(about, color=MUTED, fontsize=9, x=0.02, ha="left")
    return figure, panels


def _short(name: str) -> str:
    return name if len(name) <= 30 else f"{name[:14]}…{name[-15:]}"


def _check_some(shown: Any) -> None:
    if not shown:
        raise ValueError("no latent that varies: all of them are points")


def _check_enough(values: Array, least: int = 20) -> None:
    if values.size < least:
        raise ValueError(f"too few draws for this picture: expected at least {least}, got {values.size}")
