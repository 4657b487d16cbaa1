"""What a fitted regression says of its covariates: which of them matter, and how sure that is.

`importance` asks nothing of a pair but that it explains y by x.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inference.data.accept import is_table
from inference.data.check import check
from inference.drawing.style import COLOURS
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.questions.explained import means
from inference.running.quiet import check_seed, quietly
from inference.running.words import check_mass, told
from zoo.base import ModelGuide
from zoo.schema.schema import as_columns
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        """Central posterior intervals: lower and upper ends, (D,).

        Raises:
            ValueError: `mass` is no number between 0 and 1.
        """
        check_mass(mass)
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
            axes.hlines(range(len(order)), low.tolist(), high.tolist(), color=COLOURS[0], linewidth=thick)
        mean = 100 * self.mean[order].cpu()
        axes.plot(mean.tolist(), range(len(order)), "o", color="white", markeredgecolor=COLOURS[0], markersize=6)
        axes.set_yticks(range(len(order)), [self.names[d] for d in order])
        axes.set_xlim(left=0)
        axes.set_xlabel("share of the model's variance that is lost without it (%), with 50 % and 90 % intervals")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#E4E4E4")
        axes.set_axisbelow(True)
        return figure


@in_turn
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
        names: of the covariates; by default those of a frame, or x0, x1, ... Of a frame that goes through a design they
            are the variables of the frame: a category has one effect, of all its levels, and products move along.
        draws: use only so many draws of each chain.
        seed: of the permutations; the same for every draw, so that differences between draws are the posterior's.

    Raises:
        ValueError: the pair explains no y, or has local latents, or the posterior is not its own; options out of range.
    """
    if names is not None and (isinstance(names, str) or not isinstance(names, Iterable)):
        raise ValueError(f"names: expected a sequence of names, got {told(names)}")
    given = check(pair, data, complete=False)
    sites = given.sites
    if "y" not in sites or not sites["y"].observed:
        raise ValueError(f"{pair.name}: explains no y, so no covariate of it is important")
    if any(site.local and not site.observed for site in sites.values()):
        raise ValueError(f"{pair.name}: has local latents; importance is of covariates given the globals")
    posterior = check_posterior(given, posterior, draws)
    batch = given.batch
    design = pair.design if names is None and is_table(data) else None
    names = batch.columns if names is None else names
    x = batch.x
    if x is None or x.ndim != 2:
        raise ValueError(f"{pair.name}: importance needs covariates x of shape (N, D)")
    if batch.size < 2:
        raise ValueError("importance needs at least 2 rows")
    batch = batch.but(y=None, total=batch.size)
    D = x.shape[1]
    names = tuple(names) if names is not None else tuple(f"x{d}" for d in range(D))
    if len(names) != D:
        raise ValueError(f"names: expected {D}, one a covariate, got {len(names)}")
    table = None if design is None else as_columns(data)[0]
    names = names if design is None else tuple(column.name for column in design.variables)
    check_seed(seed)
    generator = torch.Generator().manual_seed(int(seed))
    with quietly(seed, pair):
        f = means(posterior, given.but(batch))  # (S, N, K)
        variance = f.var(1, correction=0).sum(-1)  # (S)
        effects = []
        for d, name in enumerate(names):
            rows = torch.randperm(batch.size, generator=generator)
            if design is not None and table is not None:
                mixed = {**table, name: [table[name][row] for row in rows.tolist()]}
                other = torch.from_numpy(design.encode(mixed, response=False)[0]).to(x)
            else:
                other = x.clone()
                other[:, d] = x[rows.to(x.device), d]
            change = (f - means(posterior, given.but(batch.but(x=other)))).square().sum(-1).mean(1)  # (S)
            effects.append(torch.where(variance > 0, change / (2 * variance), torch.zeros_like(change)))
    return Importance(names, torch.stack(effects, -1))
