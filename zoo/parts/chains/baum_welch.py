"""Expectation-maximisation of hidden Markov models, with R starts run as one batch (Baum et al. 1970).

Starts are k-means on single steps and, as many again, on what stands around them (`surroundings`: states that last, or
differ in their spread alone) and, where steps are few, what lies nearest to random ones of them: k-means of overlapping
states nearly always ends the same, and seldom on the way to the highest maximum. Where states follow one another from
left to right, cuts of each sequence at random places (Rabiner 1989, section V.C). R stands left of the sequences'
dimension.

What climbs is the log joint density of the latents as the guide holds them: by logits and logs, without constraints, or
of the values themselves where the guide is a point. Its M-step is exact for all but full covariances, which are shrunk
a little towards none. A Cauchy prior is a normal one whose precision is unknown, and is expected along with the states
(Lange, Little & Taylor 1989).
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import biject_to

from zoo.batch import Batch
from zoo.parts.chains import transitions
from zoo.parts.chains.chain import HiddenMarkovChain
from zoo.parts.chains.surroundings import surroundings
from zoo.parts.em import gaussian
from zoo.parts.units import moments
from zoo.settings import settings
from zoo.threads.randomness import apart

Values = dict[str, Tensor]  # by site, each (R, 1, ...)
_FURTHER, _FEW = 60, 1_000  # starts from random steps: so many for so many steps, and fewer for more
_PATIENCE = 5, 15  # iterations before a start is given up, and where steps are few
_LEAST = 1e-8  # of a count: a probability of exactly zero has no logit


class Model(Protocol):
    """What is read of a hidden Markov model; `zoo.sequences.hmm.HMM` says what each is."""

    states: int
    features: int
    categories: int
    emission: Literal["gaussian", "poisson", "categorical"]
    transitions: transitions.Transitions
    correlated: bool
    start: Literal["free", "stationary"]
    alpha: Tensor
    moves: Tensor
    loc: Tensor
    scale: Tensor
    loc_scale: Tensor
    log_rate: Tensor

    @property
    def guide_family(self) -> str:
        """Of the guide over the global latents."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its parameters and buffers."""

    def prior(self) -> dict[str, TorchDistribution]:
        """The prior of each global latent, by site."""

    def chain(self, values: dict[str, Tensor], steps: int, lengths: Tensor | None) -> HiddenMarkovChain:
        """The density of one sequence given the global latents."""


def maximise(
    pair: Model, batch: Batch, starts: int, iterations: int, tolerance: float, start: Values | None = None
) -> tuple[Values, list[float]]:
    """What `HMM.maximise` documents; states are numbered in the order of their means, or from left to right."""
    data = Data(pair, batch)
    if start is None:
        now = data.started(starts)
    else:
        now = data.e_step({name: start[name].double()[None, None] for name in pair.prior()})[1]
    patience = _PATIENCE[int(data.seen.sum()) <= _FEW * data.seen[0, 0].numel()]
    found, course = gaussian.climb(now, data.m_step, data.e_step, iterations, tolerance, rising=True, patience=patience)
    values = {name: found[name][0].to(data.dtype) for name in pair.prior()}
    return (values if pair.transitions == "left_right" else _ordered(values, pair.states)), course


class Data:
    """Sequences, and the two steps of an iteration.

    Between them go counts, each (R, ...): first states (R, K), moves (R, K, K), sums of the emissions' sufficient
    statistics, and, but for the first iteration, the values under which they were expected, in the order of the sites.
    """

    def __init__(self, pair: Model, batch: Batch) -> None:
        if batch.x is None:
            raise ValueError("hmm: starting values need the observations, got a batch without 'x'")
        width = (pair.features,) if pair.emission == "gaussian" else ()
        if batch.x.ndim != 2 + len(width) or batch.x.shape[2:] != width or not batch.x.numel():
            raise ValueError(f"hmm: x must be {('N', 'T', *width)}, got {tuple(batch.x.shape)}")
        if batch.x.isinf().any():
            raise ValueError(f"hmm: sequence {int(batch.x.isinf().flatten(1).any(-1).nonzero()[0])} of x is not finite")
        self.pair, self.x, self.dtype = pair, batch.x.double(), batch.x.dtype
        self.point = float(pair.guide_family == "delta")  # the Jacobians of logits and logs are not counted
        N, T = self.x.shape[:2]
        if not self.dtype.is_floating_point:
            self.dtype = pair.dtype
        self.lengths = torch.full((N,), T, device=self.x.device) if batch.lengths is None else batch.lengths
        if not ((self.lengths >= 1) & (self.lengths <= T)).all():
            raise ValueError(f"hmm: lengths must be 1 to {T}, got {self.lengths.min()} to {self.lengths.max()}")
        over = torch.arange(T, device=self.x.device) >= self.lengths.unsqueeze(-1)  # (N, T)
        self.seen = ~self.x.isnan() & ~(over if self.x.ndim == 2 else over.unsqueeze(-1))
        if not self.seen.any():
            raise ValueError("hmm: every value of x is missing")
        self.within = (~over).to(self.x.dtype)
        self.middle = torch.zeros_like(self.x[0, 0])
        if pair.emission == "gaussian":  # squares of centred values do not cancel
            self.middle = torch.where(self.seen, self.x, 0).sum((0, 1)) / self.seen.sum((0, 1)).clamp(min=1)

    def started(self, starts: int) -> tuple[Tensor, ...]:
        """Counts of R starts, each step in one state."""
        pair, (N, T) = self.pair, self.x.shape[:2]
        some = torch.arange(N)
        if pair.transitions == "left_right":
            states = _cut(starts, self.lengths, T, pair.states).to(self.x.dtype)
        else:
            some = torch.randperm(N)[: max(1, settings.memory // (8 * starts * pair.states * T))]
            states = _clusters(pair, self.x[some], self.seen[some], starts)
        after = states[:, :, 1:] * self.within[some, 1:, None]
        moves = torch.einsum("rnti,rntj->rij", states[:, :, :-1], after)
        return states[:, :, 0].sum(1), moves, *self.sums(states, some)

    def sums(self, states: Tensor, some: Tensor | slice) -> tuple[Tensor, ...]:
        """Of the emissions' sufficient statistics, given the states (R, n, T, K) of some sequences."""
        weights, seen = states.flatten(1, 2), self.seen[some].flatten(0, 1)  # (R, n T, K), (n T) or (n T, D)
        x = torch.where(seen, self.x[some].flatten(0, 1) - self.middle, 0)
        if self.pair.emission == "categorical":
            marks = F.one_hot(x.long(), self.pair.categories).to(x.dtype) * seen.unsqueeze(-1)
            return (weights.mT @ marks,)
        if self.pair.emission == "poisson":
            return weights.mT @ seen.to(x.dtype), weights.mT @ x
        if not self.pair.correlated:
            return weights.mT @ seen.to(x.dtype), weights.mT @ x, weights.mT @ x.square()
        weights = weights * seen.all(-1, keepdim=True)
        squares = torch.stack([(x * w).mT @ x for w in weights.movedim(-1, 1).unsqueeze(-1).flatten(0, 1)])
        return weights.sum(1), weights.mT @ x, squares.unflatten(0, (len(weights), -1))

    def e_step(self, values: Values) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The log joint density per sequence, (R,), and the counts expected under the values."""
        pair, (N, T), R = self.pair, self.x.shape[:2], len(next(iter(values.values())))
        score, counts = next(iter(values.values())).new_zeros(R), []
        group = max(1, min(R, settings.memory // (T * pair.states)))  # starts at a time, and sequences
        size = max(1, settings.memory // (group * T * pair.states))
        for r in range(0, R, group):
            mine: list[Tensor] = []
            for n in range(0, N, size):
                some = slice(n, n + size)
                chain = pair.chain({k: v[r : r + group] for k, v in values.items()}, T, self.lengths[some])
                value, states, moves = chain.counts(self.x[some])  # (R, n), (R, n, T, K), (R, 1, K, K)
                score[r : r + group] += value.sum(-1)
                found = [states[:, :, 0].sum(1), moves.squeeze(1), *self.sums(states, some)]
                mine = [a + b for a, b in zip(mine, found, strict=True)] if mine else found
            counts.append(mine)
        score += self.prior(values).squeeze(-1)
        before = [values[name].squeeze(1) for name in pair.prior()]
        return score / N, (*(torch.cat(parts) for parts in zip(*counts, strict=True)), *before)

    def prior(self, values: Values) -> Tensor:
        """Log prior density of the values, (R, 1)."""
        total = torch.zeros(())
        for name, fn in self.pair.prior().items():
            total = total + fn.log_prob(values[name])
            if not self.point:
                transform = biject_to(fn.support)
                total = total + transform.log_abs_det_jacobian(transform.inv(values[name]), values[name])
        return total

    def m_step(self, first: Tensor, moves: Tensor, *rest: Tensor) -> Values:
        """The values of highest expected log joint density."""
        pair, sites = self.pair, list(pair_sites := self.pair.prior())
        size = {"categorical": 1, "poisson": 2}.get(pair.emission, 3)
        sums, last = rest[:size], rest[size:]
        before = dict(zip(sites, last, strict=True)) if last else None
        stationary = pair.start == "stationary"
        values = {
            "initial": F.normalize((first + pair.alpha - self.point).clamp(min=_LEAST), 1, -1),
            **transitions.most_probable(
                pair.transitions, moves, pair.moves, pair.alpha, before, self.point, first if stationary else None
            ),
        }
        if pair.emission == "categorical":
            values["probs"] = F.normalize((sums[0] + pair.alpha - self.point).clamp(min=_LEAST), 1, -1)
        elif pair.emission == "poisson":
            values["rates"] = self._rates(*sums)
        elif pair.correlated:
            count, total, squares = sums
            shift = total / count.clamp(min=1e-9).unsqueeze(-1)
            scatter = squares - total.unsqueeze(-1) * shift.unsqueeze(-2)
            values["locs"] = shift + self.middle
            values["correlations"] = gaussian.correlation_tril(count, scatter, float(pair.features))
            squares = scatter.diagonal(dim1=-2, dim2=-1).clamp(min=0)
            values["scales"] = gaussian.scale_mode(count.unsqueeze(-1) + self.point, squares, pair.scale.double())
        else:
            values["locs"], values["scales"] = self._normals(sums, before)
        return {name: values[name].unsqueeze(1) for name in pair_sites}

    def _normals(self, sums: tuple[Tensor, ...], before: Values | None) -> tuple[Tensor, Tensor]:
        """Locs and scales, (R, K, D): each given the other, so that the Cauchy prior can have its say."""
        count, total, squares = sums
        loc, prior, shift = self.pair.loc.double(), self.pair.loc_scale.double(), total / count.clamp(min=1e-9)
        if before is not None:
            far = (before["locs"] - loc) / prior
            weight = 2 / (1 + far.square()) * (before["scales"] / prior).square()
            shift = (total - weight * (self.middle - loc)) / (count + weight)
        apart = (squares - 2 * shift * total + count * shift.square()).clamp(min=0)
        return shift + self.middle, gaussian.scale_mode(count + self.point, apart, self.pair.scale.double())

    def _rates(self, count: Tensor, total: Tensor) -> Tensor:
        """The mode of log r (or r), (R, K), of Poisson counts and r ~ LogNormal(log rate, 2), by Newton's method."""
        centre, log_rate = self.pair.log_rate.double(), ((total + 0.1) / (count + 0.1)).log()
        for _ in range(20):
            expected = count * log_rate.exp()
            log_rate = log_rate + (total - expected - (log_rate - centre) / 4 - self.point) / (expected + 0.25)
        return log_rate.exp()


def _cut(starts: int, lengths: Tensor, steps: int, states: int) -> Tensor:
    """States in turn, (R, B, T, K): each sequence cut at its own random places, in the first start into equal parts."""
    places = torch.rand(starts, len(lengths), 1, states - 1, device=lengths.device).sort(-1).values
    places[0] = torch.arange(1, states, device=lengths.device) / states
    when = (torch.arange(steps, device=lengths.device) + 0.5) / lengths.unsqueeze(-1)  # (B, T)
    return F.one_hot((when.unsqueeze(-1) > places).sum(-1), states)


def _clusters(pair: Model, x: Tensor, seen: Tensor, starts: int) -> Tensor:
    """States by k-means, (R, B, T, K), of single steps and of their surroundings; none where nothing is seen."""
    points = _points(pair, x, seen)  # (B, T, P)
    some = seen if x.ndim == 2 else seen.any(-1)
    views = surroundings(points, some) if starts > 1 and pair.emission != "categorical" else []
    found = [_as_states(points, some, pair.states, starts)]
    with apart(0):  # what is drawn after it is what it was without them
        for i, view in enumerate(views):
            if i < starts:
                found.append(_as_states(view, some, pair.states, len(range(i, starts, len(views)))))
        further = min(_FURTHER, _FURTHER * _FEW // max(1, int(some.sum()))) if starts > 1 else 0
        for i, view in enumerate([points, *views]):
            if i < further:
                mine = len(range(i, further, len(views) + 1))
                found.append(_as_states(view, some, pair.states, mine, random=True))
    return torch.cat(found)


def _as_states(points: Tensor, some: Tensor, states: int, starts: int, random: bool = False) -> Tensor:
    """Clusters of some points as states, (R, B, T, K): by k-means, or about points at random."""
    found = points.new_zeros(starts, *some.shape, states)
    few = points[some]
    if random:
        centres = few[torch.randint(len(few), (starts, states), device=few.device)]  # (R, K, P)
        found[:, some] = F.one_hot(torch.cdist(few.expand(starts, -1, -1), centres).argmin(-1), states).to(found)
    else:
        found[:, some] = gaussian.kmeans(few, states, starts)
    return found


def _points(pair: Model, x: Tensor, seen: Tensor) -> Tensor:
    """What k-means looks at, (B, T, P), features in equal units and missing ones at their mean."""
    if pair.emission == "categorical":  # which categories are common around each step
        codes = torch.where(seen, x, 0).long()
        marks = F.one_hot(codes, pair.categories).to(x.dtype) * seen.unsqueeze(-1)
        return F.avg_pool1d(marks.mT, 9, stride=1, padding=4).mT
    x = x if x.ndim == 3 else x.unsqueeze(-1).sqrt()
    flat = torch.where(seen if seen.ndim == 3 else seen.unsqueeze(-1), x, torch.nan).flatten(0, 1)
    centre, unit = moments(flat)
    return ((flat - centre) / unit).nan_to_num().view_as(x).to(x)


def _ordered(values: dict[str, Tensor], states: int) -> dict[str, Tensor]:
    """The same states, numbered in the order of the means of their (first) feature."""
    if "locs" in values:
        means = values["locs"][..., 0]
    elif "rates" in values:
        means = values["rates"]
    else:
        means = (values["probs"] * torch.arange(values["probs"].shape[-1], device=values["probs"].device)).sum(-1)
    order = means.argsort()
    ordered = {name: value[order] for name, value in values.items() if value.ndim}
    if "transition" in values:
        ordered["transition"] = ordered["transition"][:, order]
    return {**values, **ordered}
