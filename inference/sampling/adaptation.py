"""How Hamiltonian Monte Carlo tunes itself from the moves of many chains.

The step size e by dual averaging (Nesterov 2009; Hoffman & Gelman 2014, "The No-U-Turn Sampler") on the harmonic mean
of the acceptance probability over chains; the trajectory time t by ascent of ChEES, the expected change of the squared
distance from the centre (both Hoffman, Radul & Sountsov 2021, "An adaptive-MCMC scheme for setting trajectory lengths
in Hamiltonian Monte Carlo"); the metric from the mean and covariance of the draws of all chains, or of
those in one mode.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.sampling.hamiltonian import Metric, Move, State

# Harmonic mean over chains that the step size is tuned to. At the 0.651 of Hoffman, Radul & Sountsov (2021) a few steps
# into the neck of eight schools diverge.
ACCEPTANCE = 0.8
LEAST = 0.03  # acceptance that counts as none: one chain that is stuck must not stop all others
QUARTER = math.pi / 2  # time in which a Gaussian of unit scale forgets its position


class Moments:
    """Mean and covariance of the draws of a window, under whose metric they are standardised.

    Args:
        metric: of all chains, or of each.
    """

    def __init__(self, metric: Metric) -> None:
        self.under = metric
        self._count, self._size = 0, metric.centre.shape[-1]
        self._draws: list[Tensor] = []  # for a full covariance
        self._sums = torch.zeros(())  # else of z, and of its square, chain by chain, (C, P)
        self._squares = torch.zeros(())
        self._density = torch.zeros(())  # sum of the log density, and of its square, (C,)
        self._density_squares = torch.zeros(())

    def add(self, state: State) -> None:
        """Take the draws of all chains."""
        self._count += 1
        if not self.under.diagonal:
            self._draws.append(state.z)
        else:
            self._sums = self._sums.to(state.z) + state.z
            self._squares = self._squares.to(state.z) + state.z.square()
        self._density = self._density.to(state.z) + state.log_density
        self._density_squares = self._density_squares.to(state.z) + state.log_density.square()

    def lost(self) -> Tensor:
        """Which chains lie so far below the best that no volume can make up for it, (C,): 10 nats a latent, and 50."""
        mean = self._density / self._count
        return ~(mean >= mean.nan_to_num(nan=-math.inf).max() - 50 - 10 * self._size)

    def typical(self) -> Tensor:
        """Which chains have come to where most of the mass is, (C,): their log density is not far below the others'.

        A chain that is still on its way, or stuck far out, would make the metric that of its distance to the others.
        """
        mean = self._density / self._count
        spread = (self._density_squares / self._count - mean.square()).clamp(min=0).sqrt().median()
        found = mean >= mean.quantile(0.75) - 10 * spread - 1
        return found if bool(found.any()) else torch.ones_like(found)  # none where no density is a number

    def metric(self, groups: Sequence[Sequence[int]] = (), within: bool = False) -> Metric:
        """The map under which the typical draws have mean 0 and covariance I.

        The fewer they are, the less it departs from the old one's directions. A number that never moved, or was seen
        once, keeps its scale: one of zero would hold it for good.

        Args:
            groups: chains that stay in modes of their own. The spread over all modes would say nothing of any of them,
                so that each chain gets the map of its group.
            within: whether the covariance is that of draws about the mean of their own chain.
        """
        if not groups:
            return self._of(self.typical(), within)
        centre, scale = list[Tensor](), list[Tensor]()
        for group in groups:
            chosen = torch.zeros(len(self._density), dtype=torch.bool, device=self._density.device)
            chosen[list(group)] = True
            found = self._of(chosen, within)
            centre.append(found.centre.expand(len(group), *found.centre.shape))
            scale.append(found.scale.expand(len(group), *found.scale.shape))
        back = torch.tensor([chain for group in groups for chain in group], device=self._density.device).argsort()
        return Metric(torch.cat(centre)[back], torch.cat(scale)[back])

    def _of(self, chosen: Tensor, within: bool) -> Metric:
        """That of some chains, from the old one of the first of them."""
        count = self._count * int(chosen.sum())
        old = self.under.row(int(chosen.nonzero()[0]))
        if not self._draws:
            sums, squares = self._sums[chosen], self._squares[chosen]
            if old is not self.under:  # in units of the old one: z' = shift + ratio z
                shift = ((self.under.centre - old.centre) / old.scale)[chosen]
                ratio = (self.under.scale / old.scale)[chosen]
                squares = self._count * shift.square() + 2 * shift * ratio * sums + ratio.square() * squares
                sums = self._count * shift + ratio * sums
            mean = sums.sum(0) / count
            about = (sums / self._count).square().mean(0) if within else mean.square()
            variance = squares.sum(0) / count - about
            deviation = torch.where(variance > 0, variance.clamp(min=0).sqrt(), 1)
            return Metric(old.out(mean), old.scale * deviation)
        draws = torch.stack(self._draws)  # (n, C, P)
        if old is not self.under:
            draws = old.into(self.under.out(draws))
        z = draws[:, chosen].double()
        mean, size = z.mean((0, 1)), z.shape[-1]
        apart = (z - (z.mean(0) if within else mean)).flatten(0, 1)
        deviation = apart.square().mean(0).sqrt()
        deviation = torch.where(deviation > 0, deviation, 1)
        apart = apart / deviation
        correlation = apart.mT @ apart / count * (count / (count + size))  # in old units: windows refine each other
        correlation.diagonal().fill_(1.0)
        root, info = torch.linalg.cholesky_ex(correlation)
        if info or not bool(torch.isfinite(root).all()):
            root = torch.eye(size).to(root)
        scale = old.scale.double() @ (deviation.unsqueeze(-1) * root)
        return Metric(old.out(mean.to(old.centre)), scale.to(old.scale).contiguous())


class StepSize:
    """Dual averaging of log e towards `target` acceptance, of one step size for all chains or of one for each.

    Args:
        size: to start from, () or (C,).
        target: acceptance probability.
    """

    def __init__(self, size: Tensor, target: float = ACCEPTANCE) -> None:
        self.size, self.target = size, target
        self._anchor = (2 * size).log()
        self._mean = size.log()
        self._error = torch.zeros_like(size)
        self._count = 0

    def update(self, acceptance: Tensor) -> None:
        """Take the acceptance of one transition, of the shape of `size`."""
        self._count += 1
        self._error = torch.lerp(self._error, self.target - acceptance, 1 / (self._count + 10))
        log_size = self._anchor - math.sqrt(self._count) / 0.05 * self._error
        self._mean = torch.lerp(self._mean, log_size, self._count**-0.75)
        self.size = log_size.clamp(-60, 60).exp()

    @property
    def settled(self) -> Tensor:
        """The averaged step size, to go on with when tuning is over."""
        return self._mean.exp()


@dataclass
class Trajectory:
    """Ascent of ChEES on log t, each slope over its running root mean square (RMSprop); `time` is t."""

    time: float = QUARTER
    rate: float = 0.05
    _count: int = 0
    _square: float = 0.0
    _mean: float = math.nan
    _centre: Tensor | None = None

    def update(self, move: Move, spread: float, low: float, high: float) -> None:
        """Take one transition that ran for a time `spread`; t stays within [low, high]."""
        self._count += 1
        centre = move.start.mean(0)
        self._centre = centre if self._centre is None else self._centre + (centre - self._centre) / self._count
        end = (move.proposal - self._centre).nan_to_num()
        change = end.square().sum(-1) - (move.start - self._centre).square().sum(-1)
        slope = change * (end * move.momentum.nan_to_num()).sum(-1)
        weight = move.acceptance
        gradient = float((weight * slope).nan_to_num().sum() / weight.sum().clamp(min=1e-12)) * spread
        if not math.isfinite(gradient):
            return
        self._square += 0.05 * (gradient * gradient - self._square)
        root = math.sqrt(self._square / (1 - 0.95**self._count)) + 1e-12
        log_time = math.log(self.time) + self.rate * gradient / root
        self.time = min(max(math.exp(log_time), low), high)
        log_time = math.log(self.time)
        self._mean = log_time if math.isnan(self._mean) else self._mean + self._count**-0.5 * (log_time - self._mean)

    @property
    def settled(self) -> float:
        """The averaged time, to go on with when tuning is over."""
        return self.time if math.isnan(self._mean) else math.exp(self._mean)


def harmonic(acceptance: Tensor, least: float = LEAST) -> Tensor:
    """The harmonic mean, which a few chains that hardly move pull down."""
    return 1 / (1 / acceptance.clamp(min=least)).mean()
