"""Modes of a cloud of points, and a mixture of Gaussians with one for each: a proposal that leaves out none.

A cloud is cut in two across a coordinate or one of its longest axes, as long as the parts lie far apart there for what
either is wide: points of one mode, whatever its shape, overlap at the cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.sampling.chains import DENSE
from inference.sampling.hamiltonian import Metric

GAP = 2.3  # distance of two means over the sum of deviations: 1.33 of a Gaussian cut in half, 1.73 of a uniform
AXES = 4  # longest axes that are looked along, besides the coordinates
MOST = 32  # modes
LEAST = 0.015  # of the points, in a mode: fewer may be the tail of a Gaussian
OUTSIDE = 0.01  # of the points that modes are made of, where draws of their Gaussians are hardly ever
ENOUGH = 0.25  # effective share of importance weights that are believed


@dataclass(frozen=True)
class Mixture:
    """A mixture of K Gaussians in P dimensions.

    Args:
        log_weights: (K,).
        parts: centre and scale of each.
    """

    log_weights: Tensor
    parts: tuple[Metric, ...]

    def log_density(self, points: Tensor) -> Tensor:
        """Of each Gaussian, weighed, at points (S, P): (S, K); their log-sum-exp is that of the mixture."""
        found = []
        for part in self.parts:
            z = part.into(points)
            found.append(-0.5 * z.square().sum(-1) - 0.5 * z.shape[-1] * math.log(2 * math.pi) - part.log_det())
        return torch.stack(found, -1) + self.log_weights

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points, (S, P), of each Gaussian as many as its weight says but for less than one; and whose, (S,)."""
        like = self.parts[0].centre
        noise = torch.randn(count, len(like), dtype=like.dtype, device=like.device, generator=generator)
        shift = torch.rand((), dtype=like.dtype, device=like.device, generator=generator)
        places = (torch.arange(count, device=like.device) + shift) / count
        which = torch.searchsorted(self.log_weights.exp().cumsum(0), places).clamp(max=len(self.parts) - 1)
        for k, part in enumerate(self.parts):
            noise[which == k] = part.out(noise[which == k])
        return noise, which


def mixture(points: Tensor) -> Mixture:
    """One Gaussian for each mode of points, (S, P)."""
    groups = modes(points)
    shares = torch.tensor([len(group) / len(points) for group in groups]).to(points)
    return Mixture(shares.log(), tuple(gaussian(points[group]) for group in groups))


def gaussian(points: Tensor) -> Metric:
    """Centre and scale of points, (S, P): full where there are points enough to tell correlations."""
    count, size = points.shape
    centre = points.mean(0)
    off = points - centre
    spread = off.square().mean(0).sqrt().clamp(min=1e-300)
    if size > DENSE or count < 3 * size:
        return Metric(centre, spread)
    less = size / (size + count * 2)
    correlations = (1 - less) * (off / spread).mT @ (off / spread) / count
    scale, info = torch.linalg.cholesky_ex(correlations + less * torch.eye(size).to(points))
    return Metric(centre, spread if bool(info.any()) else spread.unsqueeze(-1) * scale)


def modes(points: Tensor) -> Sequence[Tensor]:
    """Indices of the points of each mode, the largest first; of points (S, P)."""
    least = max(8, 2 * points.shape[1], round(LEAST * len(points)))
    done: list[Tensor] = []
    left = [torch.arange(len(points), device=points.device)]
    while left:
        group = left.pop()
        halves = _cut(points[group], least) if len(done) + len(left) + 2 <= MOST else None
        if halves is None:
            done.append(group)
        else:
            left += [group[halves], group[~halves]]
    return sorted(done, key=len, reverse=True)


def _cut(points: Tensor, least: int) -> Tensor | None:
    """Which points lie on one side of the widest gap, (S,); None where there is no gap."""
    count, size = points.shape
    if count < 2 * least:
        return None
    spread = points.std(0)
    moves = spread > torch.finfo(points.dtype).eps * points.abs().amax(0)  # else all there is are rounding errors
    z = torch.where(moves, (points - points.mean(0)) / spread.clamp(min=1e-300), 0.0)
    axes = torch.svd_lowrank(z, q=min(AXES, size, count), niter=4)[2]  # (P, A)
    along, order = torch.cat([z, z @ axes], 1).sort(0)
    gaps = _gaps(along, least)
    place, axis = divmod(int(gaps.argmax()), gaps.shape[1])
    if float(gaps[place, axis]) <= GAP:
        return None
    found = torch.zeros(count, dtype=torch.bool, device=points.device)
    found[order[: place + 1, axis]] = True
    return found


def _gaps(along: Tensor, least: int) -> Tensor:
    """Distance of means over deviations of two parts of sorted numbers, (S, A), cut behind each: (S - 1, A)."""
    count = len(along)
    below = torch.arange(1, count, device=along.device).to(along).unsqueeze(-1)
    sums, squares = along.cumsum(0)[:-1], along.square().cumsum(0)[:-1]
    first, second = sums / below, (along.sum(0) - sums) / (count - below)
    one = (squares / below - first.square()).clamp(min=0).sqrt()
    other = ((along.square().sum(0) - squares) / (count - below) - second.square()).clamp(min=0).sqrt()
    return torch.where((below >= least) & (count - below >= least), (second - first) / (one + other + 1e-12), 0.0)


@dataclass(frozen=True)
class Shares:
    """What part of a posterior belongs to each of K Gaussians of a mixture.

    Args:
        proposal: the mixture.
        shares, errors: (K,).
    """

    proposal: Mixture
    shares: Tensor
    errors: Tensor

    def weights(self, points: Tensor) -> Tensor:
        """Log weights that bring points of the posterior, (S, P), in these proportions, (S,)."""
        belongs = self.proposal.log_density(points).log_softmax(-1)
        now = belongs.logsumexp(0) - math.log(len(points))
        found: Tensor = (belongs + self.shares.log() - now).logsumexp(-1)
        return found


def shares(
    proposal: Mixture, density: Callable[[Tensor], Tensor], cloud: Tensor, generator: torch.Generator
) -> Shares | None:
    """Parts of the posterior by importance sampling from the mixture; None where its weights cannot tell.

    Nor can they where the mixture does not reach all that is there, which its own draws do not see: where some of the
    cloud, by which it was made, have larger weights than any of them. So it is with slices of a bent mode.

    Args:
        proposal: the mixture.
        density: log densities of the posterior at points, up to a constant.
        cloud: draws of the posterior, (S, P); as many are drawn from the mixture.
        generator: of these.
    """
    draws = len(cloud)
    points, whose = proposal.draw(draws, generator)
    parts = proposal.log_density(points)
    ratio = density(points) - parts.logsumexp(-1)
    beyond = density(cloud) - proposal.log_density(cloud).logsumexp(-1) > ratio.max()
    if float(beyond.double().mean()) > OUTSIDE:
        return None
    ratio = ratio.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)
    weights = (ratio - ratio.logsumexp(0)).exp()  # sum to one
    if float(1 / weights.square().sum()) < ENOUGH * draws:
        return None
    belongs = parts.softmax(-1)
    found = weights @ belongs
    off = weights.unsqueeze(-1) * (belongs - found)  # of each Gaussian there are as many as there should be
    variance = sum(off[whose == k].var(0) * int((whose == k).sum()) for k in whose.unique())
    return Shares(proposal, found, torch.as_tensor(variance).sqrt())
