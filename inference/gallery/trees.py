"""A tree as a picture: its questions, the shares of the data that go each way, and its answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inference.data.check import check
from inference.drawing.style import COLOURS, INK, MUTED
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from zoo.abilities import TreeLike
from zoo.base import ModelGuide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDEST = 20  # letters of a covariate's name that a node has room for


def picture(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    *,
    tree: int = 0,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    draws: int | None = 200,
) -> Figure:
    """A fitted tree, averaged over the posterior: what each node asks, how sure the cut is, and what leaves say.

    A node names the covariates that hold its weight, and the cut in the units of x where one covariate holds most of
    it, else in ranks, with its 90 % interval. A branch is as thick as the share of rows that take it. A leaf says
    what it adds to the mean of y, with its 90 % interval, or its classes.

    Args:
        pair: one that lays its trees open (`TreeLike`).
        posterior: draws of its global latents.
        data: rows to send through the tree.
        tree: which, in a forest.
        names: of the covariates, D.
        classes: names of the outputs, K.
        draws: use only so many draws of each chain.

    Raises:
        ValueError: a pair without trees, or no such tree.
    """
    from matplotlib.figure import Figure

    if not isinstance(pair, TreeLike):
        raise ValueError(f"{pair.name} has no trees to draw")
    given = check(pair, data, complete=False)
    batch, posterior = given.batch, check_posterior(given, posterior, draws)
    names = batch.columns if names is None else names
    found = pair.anatomy(posterior.flat(), batch)
    count = found.cut.shape[1]
    if not 0 <= tree < count:
        raise ValueError(f"tree: expected 0 to {count - 1}, got {tree}")
    weight, cut, value = (part[:, tree].cpu() for part in (found.weight, found.cut, found.value))
    share, leaf = found.share[:, tree].mean(0).cpu(), found.leaf[:, tree].cpu()
    names = list(names) if names is not None else [f"x{d}" for d in range(weight.shape[-1])]
    depth = (cut.shape[1] + 1).bit_length() - 1
    figure = Figure(figsize=(max(6.0, 1.65 * 2**depth), 1.5 + 1.5 * depth), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(-0.45, depth + 0.35))
    axes.axis("off")
    mass = _node_shares(share, depth)
    for level in range(depth):
        for j in range(2**level):
            i = 2**level - 1 + j
            at = ((j + 0.5) / 2**level, float(depth - level))
            for side in (0, 1):
                below = ((2 * j + side + 0.5) / 2 ** (level + 1), depth - level - 1.0)
                thick = 0.6 + 9 * float(mass[2 * i + 1 + side])
                axes.plot(*zip(at, below, strict=True), color="#B8C9D6", linewidth=thick, zorder=1)
                axes.text(
                    (at[0] + below[0]) / 2, (at[1] + below[1]) / 2, "no" if side == 0 else "yes",
                    ha="center", va="center", fontsize=8, color=MUTED, zorder=2,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0},
                )  # fmt: skip
            _box(axes, at, question(weight[:, i].mean(0), cut[:, i], value[:, i], names), COLOURS[0])
    for m in range(2**depth):
        _box(axes, ((m + 0.5) / 2**depth, 0.0), answer(leaf[:, m], float(share[m]), classes), COLOURS[1])
    return figure


def question(weight: Tensor, cut: Tensor, value: Tensor, names: Sequence[str]) -> str:
    """What a node asks: weights (D,), and draws of its cut in ranks, (S,), and in units, (S, D)."""
    order = weight.argsort(descending=True).tolist()
    alone = bool(weight[order[0]] > 0.75)
    kept = order[:1] if alone else [d for d in order if weight[d] > 0.15][:3] or order[:1]
    shown = [names[d] if len(names[d]) <= _WIDEST else names[d][: _WIDEST - 1] + "…" for d in kept]
    weighted = shown[0] if alone else "\n+ ".join(f"{weight[d]:.2f} {n}" for d, n in zip(kept, shown, strict=True))
    middle = value[:, order[0]] if alone else 100 * cut
    levels = torch.tensor([0.05, 0.5, 0.95], dtype=middle.dtype)
    low, mid, high = (f"{end:.4g}" if alone else f"{end:.0f}" for end in torch.quantile(middle, levels).tolist())
    return f"{weighted} > {mid}?\n({low} to {high})" if alone else f"{weighted}\n> rank {mid} %?\n({low} to {high})"


def answer(leaf: Tensor, share: float, classes: Sequence[str] | None) -> str:
    """What a leaf says: draws (S, K), and the share of rows that end there."""
    mean = leaf.mean(0)
    if leaf.shape[-1] == 1:
        low, high = torch.quantile(leaf[:, 0], torch.tensor([0.05, 0.95], dtype=leaf.dtype)).tolist()
        said = f"{mean[0]:.4g}\n({low:.4g} to {high:.4g})"
    else:
        best = mean.argsort(descending=True).tolist()[:2]
        said = "\n".join(f"{classes[k] if classes else f'class {k}'}: {mean[k]:.2f}" for k in best)
    return f"{said}\n{share:.0%} of rows"


def _node_shares(share: Tensor, depth: int) -> Tensor:
    """Shares of rows at every node and leaf, level by level, from those of the leaves."""
    levels = [share]
    for _ in range(depth):
        levels.append(levels[-1].unflatten(-1, (-1, 2)).sum(-1))
    return torch.cat(levels[::-1])


def _box(axes: Axes, at: tuple[float, float], text: str, colour: str) -> None:
    axes.text(
        *at, text, ha="center", va="center", fontsize=8.5, color=INK, zorder=3, linespacing=1.35,
        bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": colour, "linewidth": 1.4},
    )  # fmt: skip
