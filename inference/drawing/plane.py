"""Pictures in the plane: codes coloured by label, and a density over the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.drawing.style import COLOURS, INK, Array, as_array, keyed, labelled, new_figure, palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MASSES = (0.95, 0.8, 0.5, 0.2)  # probability held by the regions that `mixture_density` shades


def latent_map(codes: Any, labels: Any = None, *, names: Sequence[str] | None = None) -> Figure:
    """Codes in the plane, coloured by label.

    Args:
        codes: (N, L); with L > 2, their first two principal components are shown, with L = 1 a histogram.
        labels: (N,) whole numbers name classes, other numbers are shown on a colour scale.
        names: what to call classes 0, 1, …
    """
    points = as_array(codes).astype(float)
    if points.ndim != 2 or not len(points):
        raise ValueError(f"codes: expected shape (N, L), got {points.shape}")
    marks = None if labels is None else as_array(labels)
    if marks is not None and marks.shape != points.shape[:1]:
        raise ValueError(f"labels: expected {len(points)}, got shape {marks.shape}")
    figure, axes = new_figure(5.6, 5.0)
    points, titles = principal(points)
    classes = None if marks is None else np.unique(marks)
    if classes is not None and (len(classes) > 20 or (marks is not None and (marks % 1 != 0).any())):
        classes = None
    if points.shape[1] == 1:
        _histograms(axes, points[:, 0], marks, classes, names)
    elif marks is not None and classes is None:
        dots = axes.scatter(points[:, 0], points[:, 1], c=marks, s=8, cmap="cividis", linewidths=0)
        figure.colorbar(dots, ax=axes, label="label", shrink=0.8)
    else:
        _classes(axes, points, marks, classes, names)
    labelled(axes, titles[0], titles[1])
    return figure


def mixture_density(
    x: Any,
    log_density: Callable[[Array], Any],
    components: Sequence[tuple[Any, Any]] = (),
    *,
    labels: Any = None,
    names: tuple[str, str] = ("x[0]", "x[1]"),
    resolution: int = 160,
) -> Figure:
    """A density in the plane over the data: shades hold 95, 80, 50 and 20 % of its probability.

    Args:
        x: data, (N, 2).
        log_density: log density at M points, (M, 2) -> (M,).
        components: (mean (2,), covariance (2, 2)) of each, drawn as the ellipse that holds 90 % of it.
        labels: (N,) component of each observation, for its colour.
        names: what the two columns measure, with units.
        resolution: grid points on each axis.
    """
    points = as_array(x).astype(float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"x: expected shape (N, 2), got {points.shape}")
    low, high = np.nanmin(points, axis=0), np.nanmax(points, axis=0)
    margin = 0.12 * np.where(high > low, high - low, 1.0)
    across, up = (np.linspace(low[i] - margin[i], high[i] + margin[i], resolution) for i in (0, 1))
    grid = np.stack(np.meshgrid(across, up), axis=-1)  # (resolution, resolution, 2)
    logs = as_array(log_density(grid.reshape(-1, 2))).astype(float).reshape(grid.shape[:2])
    figure, axes = new_figure(5.8, 4.6)
    axes.contourf(
        across, up, logs, levels=[*_levels(logs), np.inf], colors=["#E3EEF6", "#BFD9EB", "#8DBBDB", "#5A9BC8"]
    )
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=10, color=INK, alpha=0.6, linewidths=0)
    else:
        marks = as_array(labels)
        for k, colour in zip(np.unique(marks), palette(), strict=False):
            axes.scatter(
                points[marks == k, 0], points[marks == k, 1], s=12, color=colour, edgecolors="white", linewidths=0.3
            )
    for (mean, covariance), colour in zip(components, palette(), strict=False):
        ellipse = _ellipse(as_array(mean), as_array(covariance), mass=0.9)
        axes.plot(*ellipse, color="white", linewidth=2.6)
        axes.plot(*ellipse, color=colour, linewidth=1.4)
    axes.set_xlim(across[0], across[-1])
    axes.set_ylim(up[0], up[-1])
    labelled(axes, *names, "shades hold 95, 80, 50 and 20 % of the density")
    return figure


def principal(points: Array, what: str = "the codes") -> tuple[Array, tuple[str, str]]:
    """Points (N, L) in at most two dimensions, and what to call these; of more than two their principal components."""
    if points.shape[1] == 1:
        return points, ("latent 0", "observations")
    if points.shape[1] == 2:
        return points, ("latent 0", "latent 1")
    centred = points - points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    shares = 100 * sizes**2 / max(float((sizes**2).sum()), np.finfo(float).tiny)
    titles = [f"principal component {i + 1} of {what} ({shares[i]:.0f} % of variance)" for i in (0, 1)]
    return centred @ directions[:2].T, (titles[0], titles[1])


def _classes(
    axes: Axes, points: Array, marks: Array | None, classes: Array | None, names: Sequence[str] | None
) -> None:
    if marks is None or classes is None:
        axes.scatter(points[:, 0], points[:, 1], s=8, color=COLOURS[0], alpha=0.6, linewidths=0)
        return
    for i, k in enumerate(classes):
        mine = points[marks == k]
        marker = "o^sD"[i // len(COLOURS) % 4]
        axes.scatter(
            mine[:, 0], mine[:, 1], s=8, color=COLOURS[i % len(COLOURS)], alpha=0.65, linewidths=0, marker=marker
        )
    from matplotlib.patheffects import withStroke

    for k in classes:
        across, up = np.median(points[marks == k], axis=0)
        text = axes.text(across, up, _name(k, names), color=INK, fontsize=11, weight="bold", ha="center", va="center")
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _histograms(
    axes: Axes, values: Array, marks: Array | None, classes: Array | None, names: Sequence[str] | None
) -> None:
    if marks is None or classes is None:
        axes.hist(values, bins=40, color=COLOURS[0])
        return
    parts = [values[marks == k] for k in classes]
    colours = palette()[: len(parts)]
    axes.hist(parts, bins=40, stacked=True, color=colours, label=[_name(k, names) for k in classes])
    keyed(axes)


def _name(k: Any, names: Sequence[str] | None) -> str:
    return f"{int(k)}" if names is None or not 0 <= int(k) < len(names) else names[int(k)]


def _levels(logs: Array) -> list[float]:
    """Log densities whose upper level sets hold `MASSES` of the probability on the grid, rising."""
    ranked = np.sort(logs[np.isfinite(logs)])[::-1]
    held = np.cumsum(np.exp(ranked - ranked[0]))
    levels = ranked[np.minimum(np.searchsorted(held / held[-1], MASSES), len(ranked) - 1)]
    return [float(level) for level in levels + 1e-9 * np.arange(len(levels))]  # contours must rise strictly


def _ellipse(mean: Array, covariance: Array, mass: float) -> Array:
    """The ellipse that holds `mass` of a bivariate Gaussian, (2, 200)."""
    turn = np.linspace(0, 2 * np.pi, 200)
    radius = np.sqrt(-2 * np.log(1 - mass))  # a squared distance from the mean is chi-squared with 2 degrees
    factor = np.linalg.cholesky(covariance.astype(float))
    return np.asarray(mean[:, None] + radius * factor @ np.stack([np.cos(turn), np.sin(turn)]))
