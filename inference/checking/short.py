"""A short Hamiltonian run from draws of a guide: what it needs to tell that they are not the posterior, and no more.

Many chains begin at draws of the guide, in units of the guide: a few trajectories of a quarter of a turn take chains
that stand in the posterior to an independent place in it, and those of a guide that is too narrow out of it, however
narrow it is, since there the density is flat in its units. Chains are independent, as the draws are that they begin at,
so that their spread is the error of what they say, however they mix (Margossian et al. 2024, "Nested R-hat: assessing
the convergence of Markov chain Monte Carlo when running many short chains"). Rounds follow each other until the answer
is beyond its error: work is counted in gradients, and follows from the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference.roads.evaluating import Evaluated
from inference.sampling.chains import SamplingError
from inference.sampling.density import Density
from inference.sampling.hamiltonian import Metric, halton, leapfrog, stand, transition

SHIFT, NARROW, WIDE = 0.25, 0.8, 1.25  # thresholds: of means, in deviations; of deviations, as shares
CHAINS = 64
TURN = math.pi / 2  # the time in which a unit Gaussian forgets where it was
ROUND, ROUNDS = 4, 6  # trajectories of a round; rounds at most, the first of which is not counted
GROWN, RESCALED = 2.0, 10  # deviations after a round, from which units are taken anew; how often at most
DENSE, EACH = 100, 5  # latents of which the metric is full; draws for each of them that it takes
ERRORS = 2.0  # by how many of them an answer lies beyond a threshold, where it is final
LEAST, STUCK = 0.5, 0.1  # acceptance, below which steps are halved; below which nothing is told
STEPS, HALVED = 64, 8  # of a trajectory, most; times that steps are halved
KEPT = 0.8  # correlation of ends with beginnings, from which chains have not moved


@dataclass(frozen=True)
class Short:
    """What a short run found, by site.

    Args:
        means, sds: of each number, (W,).
        errors: standard errors of the means, in deviations, and of the logarithms of the deviations, (2, W).
        kept: the correlation of where chains ended with where they began, the largest of any number.
        gradients: evaluated in all, each of one point.
        cut: whether its work ended before its errors were small.
    """

    means: dict[str, Tensor]
    sds: dict[str, Tensor]
    errors: dict[str, Tensor]
    kept: float
    gradients: int
    cut: bool = False


def short_run(
    potential: Density, cloud: Tensor, guide: Mapping[str, Tensor], seed: int, most: int | None = None
) -> Short:
    """Chains from draws of a guide.

    Args:
        potential: the density of the latents.
        cloud: free latents of the guide's draws, (S, P).
        guide: the same draws, by site, (S, ...): what is compared.
        seed: of momenta.
        most: gradients, each of one point, after which no other round begins; at least two are made.

    Raises:
        SamplingError: chains cannot move from there.
    """
    walk = _Walk(potential, cloud.double(), seed)
    ours = {name: rows(value) for name, value in guide.items()}
    walk.settle()
    for i in range(1, ROUNDS):
        walk.round()
        found = walk.found(ours)
        if _final(found, ours):
            break
        if most is not None and found.gradients * (i + 2) > most * (i + 1):
            found = replace(found, cut=i < ROUNDS - 1)
            break
    if walk.accepted < STUCK:
        raise SamplingError("chains cannot move from draws of the guide")
    return found


class _Walk:
    """Chains, the units they move in, and where they have been.

    Args:
        potential: the density of the latents.
        cloud: free latents of a guide's draws, (S, P).
        seed: of momenta.
    """

    def __init__(self, potential: Density, cloud: Tensor, seed: int) -> None:
        if not bool(cloud.isfinite().all()):
            raise SamplingError("draws of the guide lie at the edge of their support")
        self.potential, self.density = potential, Evaluated(potential)
        self.step = leapfrog(self.density)
        self.metric = _metric(cloud)
        self.generator = torch.Generator().manual_seed(seed)
        picked = torch.linspace(0, len(cloud) - 1, min(CHAINS, len(cloud))).round().long()
        self.size, self.index, self.halved = 0.5 * max(1.0, cloud.shape[1] / 20) ** -0.25, 0, 0
        self.accepted = 1.0
        self._begin(cloud[picked])
        if not bool(self.state.log_density.isfinite().any()):
            raise SamplingError("the log density is finite at no draw of the guide")

    def _begin(self, points: Tensor) -> None:
        """Stand at points, (C, P), in units of the metric; nothing counts so far."""
        self.first = self.metric.into(points)
        self.states: list[Tensor] = []
        self.state = stand(self._bound, self.first, torch.zeros(len(points), 1, dtype=points.dtype))

    def _bound(self, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor, Tensor] = self.step(self.metric.centre, self.metric.scale, *rest)
        return found

    def settle(self) -> None:
        """Find steps that are accepted, and units in which chains do not go on spreading."""
        for _ in range(RESCALED + 1):
            self.round()
            grown = self.state.z.std(0)
            if not bool((grown > GROWN).any()):
                break
            points = self.metric.out(self.state.z)
            grown = grown.clamp(min=1.0)
            self.metric = Metric(points.mean(0), self.metric.scale * grown)  # columns of a root, too
            self._begin(points)
        self.states = []

    def round(self) -> None:
        """So many trajectories of all chains."""
        done, shape = 0, self.state.z.shape
        while done < ROUND:
            time = TURN * (0.5 + halton(self.index))
            self.index += 1
            steps = min(STEPS, math.ceil(time / self.size))
            noise = torch.randn(shape, generator=self.generator, dtype=self.first.dtype)
            uniform = torch.rand(shape[0], generator=self.generator, dtype=self.first.dtype).log()
            sizes = torch.full((shape[0], 1), min(self.size, time / steps), dtype=self.first.dtype)
            before = self.state
            self.state, move = transition(self._bound, before, noise, uniform, sizes, steps)
            self.accepted = float(move.acceptance.mean())
            if self.accepted < LEAST and self.halved < HALVED:
                self.size, self.halved = self.size / 2, self.halved + 1
                continue
            self.states.append(self.state.z)
            done += 1

    def found(self, names: Container[str]) -> Short:
        """Means and deviations over the states that count, and their errors from chain to chain."""
        later = torch.stack(self.states, 1)  # (C, T, P)
        values, _ = self.potential.constrain(self.metric.out(later.flatten(0, 1)).to(self.potential.dtype))
        chains, length = later.shape[:2]
        means, sds, errors = {}, {}, {}
        for name in (name for name in values if name in names):
            value = rows(values[name]).unflatten(0, (chains, length))  # (C, T, W)
            mean, sd = value.mean((0, 1)), value.flatten(0, 1).std(0)
            apart = (value - mean) / sd.clamp(min=1e-300)
            both = torch.stack([apart.mean(1).std(0), apart.square().mean(1).std(0) / 2])
            means[name], sds[name], errors[name] = mean, sd, both / chains**0.5
        return Short(means, sds, errors, _kept(self.first, self.states[-1]), self.density.count)


def _metric(cloud: Tensor) -> Metric:
    """In which draws of the guide have unit scale: with their correlations, where there are draws enough."""
    centre, (count, size) = cloud.mean(0), cloud.shape
    spread = cloud.std(0)
    if not bool((spread > 0).all()):
        raise SamplingError("draws of the guide do not move: a point has no width to judge")
    if size <= DENSE and count >= EACH * size:
        apart = cloud - centre
        root, info = torch.linalg.cholesky_ex(apart.mT @ apart / (count - 1))
        if not int(info):
            return Metric(centre, root)
    return Metric(centre, spread)


def _kept(first: Tensor, last: Tensor) -> float:
    """The largest correlation between beginnings and ends."""
    a, b = (value - value.mean(0) for value in (first, last))
    both = a.square().sum(0).sqrt() * b.square().sum(0).sqrt()
    return float(((a * b).sum(0) / both.clamp(min=1e-300)).max())


def _final(found: Short, ours: Mapping[str, Tensor]) -> bool:
    """Whether every answer is farther from its threshold than its error, or one is beyond it by more."""
    near = False
    for name, mean in found.means.items():
        live = found.sds[name] > 0
        if not bool(live.any()):
            continue
        sd, room = found.sds[name][live], ERRORS * found.errors[name][:, live]
        shift = (ours[name].mean(0) - mean)[live].abs() / sd - SHIFT
        ratio = (ours[name].std(0)[live].clamp(min=1e-300) / sd).log()
        over = torch.maximum(ratio - math.log(WIDE), math.log(NARROW) - ratio)
        if bool((shift > room[0]).any()) or bool((over > room[1]).any()):
            return True
        near |= bool((shift + room[0] > 0).any()) or bool((over + room[1] > 0).any())
    return not near and found.kept < KEPT


def rows(value: Tensor) -> Tensor:
    """(S, ...) to (S, W), in double precision."""
    return value.detach().double().cpu().reshape(len(value), -1)
