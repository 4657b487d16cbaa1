"""Are these draws enough? Effective sample sizes, and when to look at them.

Bulk and tail effective sample size and the rank-normalised R-hat are those of Vehtari, Gelman, Simpson, Carpenter &
Bürkner (2021), "Rank-normalization, folding, and localization".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.sampling.mixing import SETTLED, halves, rhat, roughly
from inference.sampling.store import evenly

COLUMNS = 200  # most numbers of a draw that are looked at, evenly spaced
JUDGED = 400  # and at the end
FIRST = 50  # draws of each chain at the first look
GROWTH, FASTEST = 1.15, 2.0  # times as many at the next one, as it looks
WORST = 10  # numbers, of a rough R-hat, that tell whether to look at all
TOLD, DOUBT = 250, 1.5  # draws that tell how many it will take; times as many as there will be are too many


def effective(draws: Tensor) -> tuple[float, float]:
    """The least bulk and tail effective sample size of any number that moves, (C, n, W) of n >= 8; infinite of none.

    Those of ArviZ, which takes a second to import and looks at one number after the other.
    """
    split = halves(draws.detach().cpu())  # (W, 2C, h)
    flat = split.flatten(1)
    moving = flat.amax(1) > flat.amin(1)
    split, flat = split[moving], flat[moving]
    if not len(flat):
        return math.inf, math.inf
    whole = draws.detach().cpu().double().flatten(0, 1)[:, moving].mT  # of an odd n, with the draw in the middle
    bulk = _sizes(_scores(flat).view_as(split))
    tails = [_sizes((split <= at[:, None, None]).double()) for at in torch.quantile(whole, _TAILS, dim=1)]
    return _least(bulk), min(map(_least, tails))


_TAILS = torch.tensor([0.05, 0.95], dtype=torch.float64)


def _least(sizes: np.ndarray[Any, Any]) -> float:
    known = sizes[~np.isnan(sizes)]
    return float(known.min()) if len(known) else math.nan


def _scores(flat: Tensor) -> Tensor:
    """Normal scores of the ranks, (W, S); equal numbers share theirs."""
    order = flat.sort(1)
    place = torch.arange(flat.shape[1]).expand_as(flat)
    step = order.values.diff(dim=1) != 0
    edge = torch.ones_like(step[:, :1])
    first = torch.where(torch.cat([edge, step], 1), place, 0).cummax(1).values
    last = torch.where(torch.cat([step, edge], 1), place, flat.shape[1]).flip(1).cummin(1).values.flip(1)
    ranks = (first + last).double() / 2 + 1
    scores = torch.special.ndtri((ranks - 0.375) / (flat.shape[1] + 0.25))
    return torch.empty_like(flat).scatter_(1, order.indices, scores)


def _sizes(split: Tensor) -> np.ndarray[Any, Any]:
    """Effective sample sizes, (W, M, h) to (W,): Geyer's initial monotone sequence of autocorrelations."""
    count, chains = split.shape[2], split.shape[1]
    mean = split.mean(2, keepdim=True)
    wave = torch.fft.rfft(split - mean, n=2 * count)
    covariance = torch.fft.irfft((wave.real.square() + wave.imag.square()).mean(1), n=2 * count)[:, :count] / count
    between = mean.squeeze(2).var(1) if chains > 1 else torch.zeros(len(split), dtype=split.dtype)
    within, whole = covariance[:, :1], covariance[:, :1] + between[:, None]
    rho = 1 - (within * count / (count - 1) - covariance) / whole
    rho[:, 0] = 1
    still = (split.flatten(1).amax(1) == split.flatten(1).amin(1)).numpy()
    times = np.array([_time(row) for row in rho.numpy()])
    total = chains * count
    return np.asarray(total / np.where(still, 1.0, np.maximum(times, 1 / math.log10(total))))


def _time(rho: np.ndarray[Any, Any]) -> float:
    """The autocorrelation time of autocorrelations, (h,): of pairs as long as these are positive, and none rises."""
    kept, even, odd, t = np.zeros(len(rho)), 1.0, rho[1], 1
    kept[:2] = even, odd
    while t < len(rho) - 3 and even + odd > 0:
        even, odd = rho[t + 1], rho[t + 2]
        if even + odd >= 0:
            kept[t + 1 : t + 3] = even, odd
        t += 2
    last = t - 2
    if even > 0:
        kept[last + 1] = even
    for t in range(1, last - 1, 2):
        if kept[t + 1] + kept[t + 2] > kept[t - 1] + kept[t]:
            kept[t + 1 : t + 3] = (kept[t - 1] + kept[t]) / 2
    return float(-1 + 2 * kept[: last + 1].sum() + kept[last + 1 : last + 2].sum())


def together(values: Sequence[Tensor]) -> tuple[float, float]:
    """The same of several sites, each (C, n, ...), of at most 400 numbers in all, evenly spaced; 0 where n < 8."""
    columns = [value.reshape(*value.shape[:2], -1) for value in values]
    if not columns or columns[0].shape[1] < 8:
        return 0.0, 0.0
    every = torch.cat([column.double() for column in columns], -1)
    return effective(every[..., evenly(every.shape[-1], JUDGED).to(every.device)])


_REMEMBERED = ("next", "rhat", "looked", "missing", "hopeless")


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
        self.looked = 0  # draws of each chain at the last look
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
        self.looked = len(self.draws)
        if not self._look():
            self.next = math.ceil(min(max(self.missing, GROWTH), FASTEST) * len(self.draws))
            return False
        self.next = math.ceil(GROWTH * len(self.draws))
        values = sites() if sites is not None else []
        return not values or (
            max(float(rhat(value).nan_to_num(nan=1.0).max()) for value in values) < SETTLED
            and min(together(values)) >= self.wanted
        )

    def state(self) -> dict[str, Any]:
        """To go on from."""
        told = {name: getattr(self, name) for name in _REMEMBERED}
        return {"draws": torch.stack(self.draws) if self.draws else None, **told}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.draws = [] if state["draws"] is None else list(state["draws"].unbind(0))
        for name in _REMEMBERED:
            setattr(self, name, type(getattr(self, name))(state[name]))

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
