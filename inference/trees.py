"""What a fitted tree or forest says: which covariates matter, how sure that is, and what a tree looks like.

`importance` asks nothing of a pair but that it explains y by x, so it serves every regression; `picture` draws pairs
that can lay their trees open (`TreeLike`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from inference.data import as_batch, chunks
from inference.memory import pieces, quietly, rows_at_once, width
from inference.posterior import Posterior, vectorised
from zoo.base import Batch, ModelGuide

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, BLUE, ORANGE = "#222222", "#666666", "#0072B2", "#E69F00"
_WIDEST = 20  # letters of a covariate's name that a node has room for


class Trees(Protocol):
    """S draws of T trees of I = 2^H - 1 nodes, level by level from the root, and L = 2^H leaves from left to right.

    A row goes right at node i where its weighted covariates, in ranks, are above the cut.
    """

    @property
    def weight(self) -> Tensor:
        """Weight of each covariate at each node, (S, T, I, D); they sum to one."""

    @property
    def cut(self) -> Tensor:
        """The threshold of each node, in ranks from 0 to 1, (S, T, I)."""

    @property
    def value(self) -> Tensor:
        """The same in units of each covariate, (S, T, I, D)."""

    @property
    def share(self) -> Tensor:
        """Share of the rows that end in each leaf, (S, T, L)."""

    @property
    def leaf(self) -> Tensor:
        """What a leaf says, (S, T, L, K)."""


@runtime_checkable
class TreeLike(Protocol):
    """A pair that can lay its trees open."""

    def anatomy(self, values: Mapping[str, Tensor], batch: Batch) -> Trees:
        """The trees of S draws of the global latents, each site (S, *event), over the rows of a batch."""


@dataclass(frozen=True)
class Importance:
    """How much of what the model says depends on each covariate, draw by draw.

    Args:
        names: of the covariates, D.
        draws: total effects, (S, D): 0 where the covariate is not used, 1 where nothing else is.
    """

    names: tuple[str, ...]
    draws: Tensor

    @property
    def mean(self) -> Tensor:
        """Posterior mean, (D,)."""
        return self.draws.mean(0)

    def interval(self, mass: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central posterior intervals: lower and upper ends, (D,)."""
        tail = torch.tensor([(1 - mass) / 2, (1 + mass) / 2], dtype=self.draws.dtype, device=self.draws.device)
        low, high = torch.quantile(self.draws, tail, dim=0)
        return low, high

    def __str__(self) -> str:
        low, high = self.interval()
        wide = max(len(name) for name in self.names)
        lines = [
            f"{self.names[d]:<{wide}}  {self.mean[d]:6.1%}  ({low[d]:.1%} to {high[d]:.1%})"
            for d in self.mean.argsort(descending=True).tolist()
        ]
        return "\n".join(lines)

    def plot(self) -> Figure:
        """The covariates, most important on top, with 50 % and 90 % intervals."""
        from matplotlib.figure import Figure

        order = self.mean.argsort().tolist()
        figure = Figure(figsize=(6.4, 0.8 + 0.32 * len(order)), layout="constrained")
        axes = figure.subplots()
        for mass, thick in ((0.9, 1.5), (0.5, 5.0)):
            low, high = (100 * end[order].cpu() for end in self.interval(mass))
            axes.hlines(range(len(order)), low.tolist(), high.tolist(), color=BLUE, linewidth=thick)
        mean = 100 * self.mean[order].cpu()
        axes.plot(mean.tolist(), range(len(order)), "o", color="white", markeredgecolor=BLUE, markersize=6)
        axes.set_yticks(range(len(order)), [self.names[d] for d in order])
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the model's variance that is lost without it (%), with 50 % and 90 % intervals")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#E4E4E4")
        axes.set_axisbelow(True)
        return figure


def importance(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    *,
    names: Sequence[str] | None = None,
    draws: int | None = 200,
    seed: int = 0,
) -> Importance:
    r"""Total effect of each covariate on the mean of y (on class probabilities), under each posterior draw.

    T_d = E[(f(x) - f(x with x_d from another row))^2] / (2 Var f(x)), over the rows (Jansen 1999; Saltelli et al.
    2010, table 2). Total effects count interactions with each covariate in them, so their sum may exceed one; and
    they take covariates to be independent, as permutation importance does.

    Args:
        pair: one that observes y given x.
        posterior: draws of its global latents.
        data: rows with the covariates of interest, as a rule the training data.
        names: of the covariates; by default those of a frame, or x0, x1, ...
        draws: use only so many draws of each chain.
        seed: of the permutations; the same for every draw, so that differences between draws are the posterior's.

    Raises:
        ValueError: the pair explains no y, or has local latents.
    """
    sites = pair.sites()
    if "y" not in sites or not sites["y"].observed:
        raise ValueError(f"{pair.registry_name}: explains no y, so no covariate of it is important")
    if any(site.local and not site.observed for site in sites.values()):
        raise ValueError(f"{pair.registry_name}: has local latents; importance is of covariates given the globals")
    if names is None and hasattr(data, "columns"):
        names = [str(column) for column in data.columns]
    batch = as_batch(pair, data, complete=False)
    x = batch.x
    if x is None or x.ndim != 2:
        raise ValueError(f"{pair.registry_name}: importance needs covariates x of shape (N, D)")
    if batch.size < 2:
        raise ValueError("importance needs at least 2 rows")
    batch = batch.but(y=None, total=batch.size)
    D = x.shape[1]
    names = tuple(names) if names is not None else tuple(f"x{d}" for d in range(D))
    if len(names) != D:
        raise ValueError(f"names: expected {D}, one a covariate, got {len(names)}")
    posterior = posterior if draws is None else posterior.thin(draws)
    generator = torch.Generator().manual_seed(seed)
    with quietly(seed, pair):
        f = _means(pair, posterior, batch)  # (S, N, K)
        variance = f.var(1, correction=0).sum(-1)  # (S)
        effects = []
        for d in range(D):
            other = x.clone()
            other[:, d] = x[torch.randperm(batch.size, generator=generator).to(x.device), d]
            change = (f - _means(pair, posterior, batch.but(x=other))).square().sum(-1).mean(1)  # (S)
            effects.append(torch.where(variance > 0, change / (2 * variance), torch.zeros_like(change)))
    return Importance(names, torch.stack(effects, -1))


def _means(pair: ModelGuide, posterior: Posterior, batch: Batch) -> Tensor:
    """The mean of y, or the probability of each class, at each row under each draw, (S, N, K)."""
    values, total = posterior.flat(), posterior.chains * posterior.size
    kept, per_row = [], width(pair, batch)
    for _, part in chunks(batch, rows_at_once(batch, per_row)):
        rows = []
        for piece in pieces(total, part.size * per_row):
            here = {name: value[piece] for name, value in values.items()}
            fn = vectorised(pair.model, part, piece.stop - piece.start, here, frozenset()).nodes["y"]["fn"]
            mean = fn.probs if fn.support.is_discrete and hasattr(fn, "probs") else fn.mean.unsqueeze(-1)
            rows.append(mean.expand(piece.stop - piece.start, part.size, mean.shape[-1]))
        kept.append(torch.cat(rows))
    return torch.cat(kept, 1)


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
        raise ValueError(f"{pair.registry_name} has no trees to draw")
    if names is None and hasattr(data, "columns"):
        names = [str(column) for column in data.columns]
    batch = as_batch(pair, data, complete=False)
    found = pair.anatomy((posterior if draws is None else posterior.thin(draws)).flat(), batch)
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
            _box(axes, at, question(weight[:, i].mean(0), cut[:, i], value[:, i], names), BLUE)
    for m in range(2**depth):
        _box(axes, ((m + 0.5) / 2**depth, 0.0), answer(leaf[:, m], float(share[m]), classes), ORANGE)
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
