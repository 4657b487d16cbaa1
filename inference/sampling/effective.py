"""Are these draws enough? Effective sample sizes, by ArviZ, and when to look at them.

Bulk and tail effective sample size and the rank-normalised R-hat are those of Vehtari, Gelman, Simpson, Carpenter &
Bürkner (2021), "Rank-normalization, folding, and localization".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.sampling.mixing import SETTLED, rhat
from inference.sampling.store import evenly

COLUMNS = 200  # most numbers of a draw that are looked at, evenly spaced
FIRST, GROWTH = 50, 1.25  # draws of each chain at the first look; times as many at each next one


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


class Enough:
    """Looks at the draws of all chains as they come, now and then: are they enough?

    Args:
        wanted: effective draws of every number, in the bulk and in the tails.
        size: numbers of a draw, P.
    """

    def __init__(self, wanted: int, size: int) -> None:
        self.wanted, self.columns = wanted, evenly(size, COLUMNS)
        self.draws: list[Tensor] = []
        self.next = FIRST
        self.rhat = math.nan

    def __call__(self, points: Tensor) -> bool:
        """Take a draw of each chain, (C, P)."""
        self.draws.append(points[:, self.columns.to(points.device)])
        if len(self.draws) < self.next:
            return False
        self.next = math.ceil(GROWTH * self.next)
        return self._look()

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
        self.rhat = float(rhat(draws).nan_to_num(nan=1.0).max())
        return self.rhat < SETTLED and min(effective(draws)) >= self.wanted
