"""Pictures of data, fits and posteriors, as matplotlib figures that touch no global state.

Every function returns a `matplotlib.figure.Figure`, made without pyplot: no backend is chosen, no style is set, and
nothing stays open. Save one with `figure.savefig(path)`; a notebook shows it by itself. Arrays may be NumPy or torch.

Colours are those of Okabe & Ito (2008, "Color universal design"), told apart by colour-blind readers too; classes
also carry their names on the map, and bands differ in lightness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
from inference.drawing.style import (
    COLOURS,
    INK,
    MUTED,
    Array,
    as_array,
    as_images,
    as_shares,
    image_grid,
    keyed,
    labelled,
    new_figure,
    palette,
    running_mean,
    styled,
    whole_numbers,
)

MASSES = (0.95, 0.8, 0.5, 0.2)  # probability held by the regions that `mixture_density` shades


class Losses(Protocol):
    """What `loss_curve` reads of an `inference.Fit`."""

    @property
    def losses(self) -> Any:
        """Loss per observation at each step, (steps,)."""

    @property
    def validation(self) -> Sequence[tuple[int, float]]:
        """Held-out loss per observation: (step, loss) pairs."""

    @property
    def reason(self) -> str:
        """Why the fit stopped."""


def loss_curve(fit: Losses) -> Figure:
    """The loss per observation at each step, its running mean, and the held-out loss where there is one."""
    losses = as_array(fit.losses).astype(float)
    if losses.ndim != 1 or not np.isfinite(losses).any():
        raise ValueError(f"losses: expected finite values of shape (steps,), got shape {losses.shape}")
    figure, axes = new_figure(6.4, 3.6)
    steps = np.arange(1, len(losses) + 1)
    window = max(1, len(losses) // 50)
    mean = running_mean(losses, window)
    if window > 1:
        axes.plot(steps, losses, color=COLOURS[5], linewidth=0.6, alpha=0.6, label="each step")
    axes.plot(steps, mean, color=COLOURS[0], linewidth=1.8, label=f"mean of {window} steps" if window > 1 else "loss")
    shown = [mean[np.isfinite(mean)]]
    if fit.validation:
        at, held_out = np.asarray(fit.validation, dtype=float).T
        axes.plot(at, held_out, color=COLOURS[3], marker="o", markersize=3.5, linewidth=1.2, label="held out")
        shown.append(held_out[np.isfinite(held_out)])
    # The first steps are often a hundred times worse than the rest; they may leave the picture.
    values = np.concatenate(shown)
    low = min(values.min(), np.nanquantile(losses, 0.01))
    high = max(np.quantile(values, 0.95), values[0] if len(values) < 50 else -np.inf)
    room = 0.08 * (high - low) or 0.5
    axes.set_ylim(low - room, high + room)
    labelled(axes, "step", "loss (nats per observation)", f"stopped after {len(losses):,} steps: {fit.reason}")
    if len(axes.lines) > 1:
        keyed(axes)
    return figure


def reconstructions(originals: Any, reconstructed: Any, n: int = 12, *, shape: tuple[int, ...] | None = None) -> Figure:
    """The first n images, each above its reconstruction.

    Args:
        originals, reconstructed: (N, D), (N, H, W) or (N, C, H, W), on the originals' scale of grey.
        n: how many to show.
        shape: (H, W) or (C, H, W) of an image when rows are flat; a square when left out.
    """
    rows = [as_images(originals, shape)[:n], as_images(reconstructed, shape)[:n]]
    if rows[0].shape != rows[1].shape:
        raise ValueError(f"{rows[0].shape} originals, but {rows[1].shape} reconstructions")
    return image_grid(rows, ("data", "model"), scale=rows[0])


def samples(images: Any, columns: int = 10, *, shape: tuple[int, ...] | None = None) -> Figure:
    """Images in rows of `columns`; arguments as in `reconstructions`."""
    pictures = as_images(images, shape)
    return image_grid([pictures[i : i + columns] for i in range(0, len(pictures), columns)], (), scale=pictures)


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
    points, titles = _plane(points)
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


def decoded_states(
    x: Any,
    states: Any,
    times: Any = None,
    *,
    means: Any = None,
    names: tuple[str, str] = ("step", "x"),
) -> Figure:
    """A series over stripes of the state that each step was decoded to.

    Args:
        x: the series, (T,) or (T, 1); NaN leaves a gap.
        states: (T,) whole numbers.
        times: (T,) where to put each step, such as years; 0 to T - 1 when left out.
        means: (K,) mean of each state, drawn over its stretches.
        names: what the axes measure, with units.
    """
    series, path = as_array(x).astype(float).reshape(-1), as_array(states).astype(int).reshape(-1)
    at = np.arange(len(series)) if times is None else as_array(times).astype(float)
    if not len(series) == len(path) == len(at):
        raise ValueError(f"{len(series)} values, {len(path)} states and {len(at)} times: expected as many of each")
    figure, axes = new_figure(7.6, 3.2)
    # A step owns the time from halfway to the one before to halfway to the one after.
    middles = (at[1:] + at[:-1]) / 2
    edges = np.concatenate([at[:1] - (middles[:1] - at[:1]), middles, at[-1:] + (at[-1:] - middles[-1:])])
    if len(at) == 1:
        edges = np.array([at[0] - 0.5, at[0] + 0.5])
    starts = np.flatnonzero(np.diff(path, prepend=path[0] - 1))
    for begin, end in zip(starts, [*starts[1:], len(path)], strict=True):
        k = int(path[begin])
        colour = COLOURS[k % len(COLOURS)]
        axes.axvspan(edges[begin], edges[end], color=colour, alpha=0.22, linewidth=0)
        if means is not None:
            axes.hlines(as_array(means)[k], edges[begin], edges[end], color=colour, linewidth=2.2)
    axes.plot(at, series, color=INK, linewidth=0.9, marker="o", markersize=2.2)
    axes.set_xlim(edges[0], edges[-1])
    from matplotlib.patches import Patch

    handles = [Patch(color=COLOURS[k % len(COLOURS)], alpha=0.4, label=f"state {k}") for k in np.unique(path)]
    keyed(axes, handles=handles, ncols=len(handles), loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    labelled(axes, *names)
    return figure


def predictive_band(x: Any, y: Any, draws: Any, *, names: tuple[str, str] = ("x", "y")) -> Figure:
    """Observations over the posterior predictive: its median, and the bands that hold 50 and 90 % of its draws.

    Args:
        x: one covariate, (N,) or (N, 1).
        y: responses, (N,); NaN is left out.
        draws: predicted responses, (..., N).
        names: what the axes measure, with units.
    """
    at, responses = as_array(x).astype(float).reshape(-1), as_array(y).astype(float).reshape(-1)
    predicted = as_array(draws).astype(float)
    if not at.shape == responses.shape == predicted.shape[-1:]:
        raise ValueError(f"{len(at)} x, {len(responses)} y, draws {predicted.shape}: expected (N,), (N,) and (..., N)")
    order = np.argsort(at, kind="stable")
    quantiles = np.quantile(predicted.reshape(-1, len(at))[:, order], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    figure, axes = new_figure(6.4, 4.0)
    axes.fill_between(at[order], quantiles[0], quantiles[4], color="#CFE3F1", linewidth=0, label="90 % of draws")
    axes.fill_between(at[order], quantiles[1], quantiles[3], color="#8DBBDB", linewidth=0, label="50 % of draws")
    axes.plot(at[order], quantiles[2], color=COLOURS[0], linewidth=1.6, label="median")
    axes.scatter(at, responses, s=14, color=INK, alpha=0.75, linewidths=0, label="data", zorder=3)
    labelled(axes, *names)
    keyed(axes)
    return figure


def predictive_check(
    observed: Any, draws: Any, *, name: str = "value", names: Sequence[str] = (), most: int = 9
) -> Figure:
    """How often each value occurs in the data, over how often it does in data drawn from the model.

    Real-valued features get a panel each, since their units differ; counts and codes share one.

    Args:
        observed: (N, ...), features last; NaN is left out.
        draws: predicted data, (S, N, ...).
        name: what is measured, with units.
        names: what each feature is called, (D,).
        most: how many panels to show.
    """
    from matplotlib.figure import Figure

    data, drawn = as_array(observed).astype(float), as_array(draws).astype(float)
    if drawn.shape[1:] != data.shape:
        raise ValueError(f"draws: expected shape (S, {', '.join(map(str, data.shape))}), got {drawn.shape}")
    apart = data.ndim > 1 and data.shape[-1] > 1 and not (whole_numbers(data) and whole_numbers(drawn))
    total = data.shape[-1] if apart else 1
    data, drawn = data.reshape(-1, total), drawn.reshape(len(drawn), -1, total)
    shown = min(total, most)
    columns = min(shown, 3)
    rows = -(-shown // columns)
    size = (6.4, 3.6) if shown == 1 else (3.1 * columns, 2.2 * rows + 0.5)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[shown:]:
        axes.set_visible(False)
    for i, axes in enumerate(panels[:shown]):
        styled(axes)
        _compare(axes, data[:, i], drawn[..., i])
        title = (names[i] if len(names) == total else f"{name} {i}") if apart else name
        labelled(axes, title, "share of values (%)" if i % columns == 0 else "")
    if shown == 1:
        keyed(panels[0])
    else:
        handles, labels = panels[0].get_legend_handles_labels()
        if shown < total:
            labels[-1] += f"        the first {shown} of {total} features"
        figure.legend(handles, labels, fontsize=9, labelcolor=INK, edgecolor="none", ncols=3, loc="outside upper left")
    return figure


def _compare(axes: Axes, data: Array, drawn: Array) -> None:
    """Histogram of the data, (N,), over those of draws of them, (S, N)."""
    seen = data[np.isfinite(data)]
    low, high = np.nanquantile(drawn, [0.005, 0.995])
    low, high = min(low, seen.min(initial=low)), max(high, seen.max(initial=high))
    whole = whole_numbers(data) and whole_numbers(drawn) and high - low <= 60
    count = 41 if len(seen) > 400 else 25
    edges = np.arange(low - 0.5, high + 1) if whole else np.linspace(low, (high if high > low else low + 1), count)
    shares = np.stack([as_shares(row[np.isfinite(row)], edges) for row in drawn])
    bottom, middle, top = np.quantile(shares, [0.05, 0.5, 0.95], axis=0)
    axes.stairs(top, edges, baseline=bottom, fill=True, color="#BFD9EB", label="model, 90 % of draws")
    axes.stairs(middle, edges, baseline=None, color=COLOURS[0], linewidth=1.4, label="model, median")
    axes.stairs(as_shares(seen, edges), edges, baseline=None, color=INK, linewidth=1.4, label="data")
    axes.set_ylim(bottom=0)


def marginals(draws: Mapping[str, Any], *, labels: Mapping[str, Sequence[str]] | None = None, most: int = 16) -> Figure:
    """Median, 50 % and 90 % interval of every latent, a panel for each site.

    Args:
        draws: site -> (chain, draw, *event). Entries that never vary, such as a triangle of zeros, are left out.
        labels: site -> what to call its entries, in order; their indices by default.
        most: how many entries of a site to show.
    """
    if not draws:
        raise ValueError("draws: expected at least one site")
    from matplotlib.figure import Figure

    panels = {}
    for name, values in draws.items():
        drawn = as_array(values).astype(float)
        events = [", ".join(map(str, index)) for index in np.ndindex(drawn.shape[2:])]
        entries = list((labels or {}).get(name, [f"{name}[{event}]" if event else name for event in events]))
        drawn = drawn.reshape(drawn.shape[0] * drawn.shape[1], -1)
        varying = np.flatnonzero(np.ptp(drawn, axis=0) > 0)
        varying = varying if len(varying) else np.arange(len(entries))
        panels[name] = [entries[i] for i in varying[:most]], drawn[:, varying[:most]], len(varying)
    heights = [0.55 + 0.22 * len(entries) for entries, _, _ in panels.values()]
    figure = Figure(figsize=(6.4, sum(heights)), dpi=144, layout="constrained", facecolor="white")
    rows = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (entries, drawn, total) in zip(rows, panels.values(), strict=True):
        styled(axes)
        low, lower, median, upper, high = np.quantile(drawn, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        places = np.arange(len(entries))
        axes.hlines(places, low, high, color=COLOURS[0], linewidth=1.2)
        axes.hlines(places, lower, upper, color=COLOURS[0], linewidth=4)
        axes.plot(median, places, "o", color="white", markeredgecolor=COLOURS[0], markersize=4.5)
        axes.set_yticks(places, entries, color=INK)
        axes.set_ylim(len(entries) - 0.4, -0.6)
        if total > len(entries):
            axes.set_title(f"the first {len(entries)} of {total}", loc="left", color=MUTED, fontsize=9)
    rows[-1].set_xlabel("median, 50 % and 90 % of draws", color=INK, fontsize=10)
    return figure


def _plane(points: Array) -> tuple[Array, tuple[str, str]]:
    """The points in at most two dimensions, and what to call them."""
    if points.shape[1] == 1:
        return points, ("latent 0", "observations")
    if points.shape[1] == 2:
        return points, ("latent 0", "latent 1")
    centred = points - points.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    shares = 100 * sizes**2 / (sizes**2).sum()
    titles = [f"principal component {i + 1} of the codes ({shares[i]:.0f} % of their variance)" for i in (0, 1)]
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
