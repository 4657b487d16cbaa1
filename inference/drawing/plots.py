"""Pictures of fits, images, series, predictions and posteriors; those of the plane stand in `plane.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

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
    running_mean,
    styled,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_UNLIKE = 20  # times the narrowest interval that the widest of one scale may be


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
        compare(axes, data[:, i], drawn[..., i])
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


def compare(axes: Axes, data: Array, drawn: Array) -> None:
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
    """Median, 50 % and 90 % interval of every latent, a panel for each site; where the intervals of its entries differ
    in width by more than 20 times, as coefficients in units do, a panel with a scale of its own for each.

    Args:
        draws: site -> (chain, draw, *event). Entries that never vary, such as a triangle of zeros, are left out.
        labels: site -> what to call its entries, in order; their indices by default.
        most: how many entries of a site to show.
    """
    if not draws:
        raise ValueError("draws: expected at least one site")
    from matplotlib.figure import Figure

    panels: list[tuple[list[str], Array, str]] = []  # names, draws, and a word above
    for name, values in draws.items():
        drawn = as_array(values).astype(float)
        events = [", ".join(map(str, index)) for index in np.ndindex(drawn.shape[2:])]
        entries = list((labels or {}).get(name, [f"{name}[{event}]" if event else name for event in events]))
        drawn = drawn.reshape(drawn.shape[0] * drawn.shape[1], -1)
        varying = np.flatnonzero(np.ptp(drawn, axis=0) > 0)
        varying = varying if len(varying) else np.arange(len(entries))
        shown = varying[:most]
        note = f"the first {len(shown)} of {len(varying)}" if len(shown) < len(varying) else ""
        wide = np.diff(np.quantile(drawn[:, shown], [0.05, 0.95], axis=0), axis=0)[0]
        apart = wide.min() * _UNLIKE < wide.max()
        for i, some in enumerate(np.split(shown, len(shown)) if apart else [shown]):
            panels.append(([entries[k] for k in some], drawn[:, some], "" if i else note))
    heights = [0.55 + 0.22 * len(entries) for entries, _, _ in panels]
    figure = Figure(figsize=(6.4, sum(heights)), dpi=144, layout="constrained", facecolor="white")
    rows = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (entries, drawn, note) in zip(rows, panels, strict=True):
        styled(axes)
        low, lower, median, upper, high = np.quantile(drawn, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
        places = np.arange(len(entries))
        axes.hlines(places, low, high, color=COLOURS[0], linewidth=1.2)
        axes.hlines(places, lower, upper, color=COLOURS[0], linewidth=4)
        axes.plot(median, places, "o", color="white", markeredgecolor=COLOURS[0], markersize=4.5)
        axes.set_yticks(places, entries, color=INK)
        axes.set_ylim(len(entries) - 0.4, -0.6)
        if note:
            axes.set_title(note, loc="left", color=MUTED, fontsize=9)
    rows[-1].set_xlabel("median, 50 % and 90 % of draws", color=INK, fontsize=10)
    return figure
