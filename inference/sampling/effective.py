"""Are these draws enough? Effective sample sizes, by ArviZ, and when to look at them.

Bulk and tail effective sample size and the rank-normalised R-hat are those of Vehtari, Gelman, Simpson, Carpenter &
Bürkner (2021), "Rank-normalization, folding, and localization".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.sampling.mixing import SETTLED, rhat, roughly
from inference.sampling.store import evenly

COLUMNS = 200  # most numbers of a draw that are looked at, evenly spaced
JUDGED = 400  # and at the end
FIRST = 50  # draws of each chain at the first look
GROWTH, FASTEST = 1.15, 2.0  # times as many at the next one, as it looks
WORST = 10  # numbers, of a rough R-hat, that tell whether to look at all
TOLD, DOUBT = 250, 1.5  # draws that tell how many it will take; times as many as there will be are too many


def effective(draws: Tensor) -> tuple[float, float]:
    """The least bulk and tail effective sample size of any number that moves, (C, n, W) of n >= 8; infinite of none."""
    from arviz_stats import base  # the same code beside ArviZ 0.23 and 1.x, and without what ArviZ itself imports

    stats: Any = base
    values = draws.detach().double().cpu().numpy()
    values = values[..., np.ptp(values, axis=(0, 1)) > 0]
    if not values.shape[-1]:
        return math.inf, math.inf

    def least(method: str, **given: Any) -> float:
        return float(np.nanmin(stats.array_stats.ess(values, chain_axis=0, draw_axis=1, method=method, **given)))

    return least("bulk"), least("tail", prob=(0.05, 0.95))


def together(values: Sequence[Tensor]) -> tuple[float, float]:
    """The same of several sites, each (C, n, ...), of at most 400 numbers in all, evenly spaced; 0 where n < 8."""
    columns = [value.reshape(*value.shape[:2], -1) for value in values]
    if not columns or columns[0].shape[1] < 8:
        return 0.0, 0.0
    every = torch.cat([column.double() for column in columns], -1)
    return effective(every[..., evenly(every.shape[-1], JUDGED).to(every.device)])


class Enough:
    """Looks at the draws of all chains as they come, now and then: are they enough?

    Args:
        wanted: effective draws of every number, in the bulk and in the tails.
        size: numbers of a draw, P.
        least: draws of each chain before which it does not look.
        most: draws of each chain that there will be; where those would by far not do, it says so (`hopeless`).
    """

    def __init__(self, wanted: int, size: int, least: int = 1, most: int | None = None) -> None:
        self.wanted, self.columns, self.most = wanted, evenly(size, COLUMNS), most
        self.draws: list[Tensor] = []
        self.next = max(FIRST, least)
        self.rhat = math.nan
        self.missing = math.inf  # times as many draws as there are, that it will take
        self.hopeless = False

    def __call__(self, points: Tensor, sites: Callable[[], Sequence[Tensor]] | None = None) -> bool:
        """Take a draw of each chain, (C, P).

        Args:
            points: the draw.
            sites: all draws so far as the values of the latents, each (C, n, ...), which have the last word.
        """
        self.draws.append(points[:, self.columns.to(points.device)])
        if len(self.draws) < self.next:
            return False
        if not self._look():
            self.next = math.ceil(min(max(self.missing, GROWTH), FASTEST) * len(self.draws))
            return False
        self.next = math.ceil(GROWTH * len(self.draws))
        values = sites() if sites is not None else []
        return not values or (
            max(float(rhat(value).nan_to_num(nan=1.0).max()) for value in values) < SETTLED
            and min(together(values)) >= self.wanted
        )

    def missed(self) -> str:
        """What is missing, where all draws that were asked for are made."""
        if len(self.draws) >= 8 and self._look():
            return ""
        least = min(effective(torch.stack(self.draws, 1))) if len(self.draws) >= 8 else 0.0
        return (
            f"ess={self.wanted} is not reached: {least:.0f} effective draws and R-hat {self.rhat:.3f} of some latent "
            f"after {len(self.draws)} draws of each chain; more draws may help"
        )

    def _look(self) -> bool:
        draws = torch.stack(self.draws, 1)
        worst = draws[..., roughly(draws).nan_to_num(nan=1.0).topk(min(WORST, draws.shape[-1])).indices]
        self.rhat = float(rhat(worst).nan_to_num(nan=1.0).max())
        if self.rhat < SETTLED:
            self.rhat = float(rhat(draws).nan_to_num(nan=1.0).max())
        found = min(effective(draws)) if self.rhat < SETTLED else math.inf
        # R-hat - 1 falls as 1 / n, the effective draws grow as n
        self.missing = max((self.rhat - 1) / (SETTLED - 1), self.wanted / max(found, 1e-9))
        if self.most is not None and len(self.draws) >= TOLD:
            self.hopeless = self.missing * len(self.draws) > DOUBT * self.most
        return self.rhat < SETTLED and found >= self.wanted
