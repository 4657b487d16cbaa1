"""The Gaussian road for more rows than it can read thousands of times: begun on some of them, ended on all.

The posterior of n of N rows, drawn at random, is some sqrt(N / n) times as wide as that of all, and its centre lies
within its own width of the other's. So the whole road is walked for these n, where other modes show too; from there
the mode of all rows is few steps away, each of which reads every row once or twice:

    t <- t + (n / N) C g(t)        C the covariance of the n rows, g the gradient of all

and Newton's method ends it. The weights that tell whether the Gaussian holds, and that correct its draws, are those of
all rows. Rows are read in pieces that `zoo.settings.memory` holds, and nothing is recorded: pieces are large.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from inference.roads.evaluating import Evaluated
from inference.roads.gaussian import Found, gaussian, widening
from inference.roads.matching import triangular
from inference.roads.paths import Gaussian, newton
from inference.roads.scouting import inside
from inference.roads.weighing import weigh
from inference.running.checked import Checked
from inference.running.deadline import Deadline
from inference.running.naming import naming_the_site
from inference.running.pieces import chunks, rows_at_once
from inference.sampling.potential import Potential
from zoo.base import Batch

SOME = 4096  # rows, at the least, that the road begins on: 64 for each latent, where that is more
EACH = 64
AT_ONCE = 64  # points
CACHED = 1 << 21  # numbers of a piece
WORTH = 4  # times as many rows, from which it is worth it
STEPS, NEAR = 12, 0.01  # of all rows, at most; squared deviations from the mode at which they end


def some_of(given: Checked, latents: int, seed: int) -> Checked | None:
    """The rows that the Gaussian road begins on; None where all of them are few enough.

    Args:
        given: the pair and its data.
        latents: P.
        seed: of which rows.
    """
    count = max(SOME, EACH * latents)
    if given.size < WORTH * count or given.continuous_locals:
        return None
    rows = torch.randperm(given.size, generator=torch.Generator().manual_seed(seed))[:count].to(given.pair.device)
    return given.but(given.batch.select(rows).but(total=count))


class Streamed(Potential):
    """The log density of a pair given many rows, of which a piece is read at a time.

    Args:
        given: the pair and all N observations.
    """

    plain = True

    def _log_density(self, points: Tensor, model: Callable[[Batch], Any], *held: Tensor) -> Tensor:
        total = points.new_zeros(len(points))
        for _, part in self._parts(len(points)):
            total = total + self._of(part, points, model, part.size / self.batch.size, *held)
        return total

    def _parts(self, draws: int) -> Iterator[tuple[slice, Batch]]:
        """Rows of which so many draws fit the budget, and the cache: a table of naive Bayes takes 0.6 of the time."""
        width = self.given.width
        rows = min(rows_at_once(self.batch, width, draws), max(1, CACHED // (draws * width)))
        return chunks(self.batch, rows)

    def value_and_gradient(self, points: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        """See `Potential`; what the gradient needs of one piece is let go before the next."""
        values, gradients = [], []
        for some in points.detach().split(AT_ONCE):
            value, gradient = some.new_zeros(len(some)), torch.zeros_like(some)
            for _, part in self._parts(len(some)):
                with torch.enable_grad(), naming_the_site():
                    at = some.clone().requires_grad_()
                    own = self._of(part, at, self.pair.model, part.size / self.batch.size, *held)
                    gradient += torch.autograd.grad(own.sum(), at)[0]
                value += own.detach()
            values.append(value)
            gradients.append(gradient)
        return torch.cat(values), torch.cat(gradients)


class Valued(Evaluated):
    """The log density without its gradient, which weights do not need."""

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """(S, P) -> (S,), and zeros."""
        self.count += len(points)
        with torch.no_grad():
            value = torch.cat([self.potential.log_density(some) for some in points.split(AT_ONCE)]).double()
        return value.nan_to_num(nan=-math.inf, posinf=-math.inf), torch.zeros_like(points)


def from_some(
    given: Checked, part: Checked, potential: Potential, centre: Tensor, seed: int,
    density: Evaluated | None = None, rest: float | None = None,
) -> Found:  # fmt: skip
    """A Gaussian near the density of all rows, and its weighed draws, from that of some.

    Args:
        given: the pair and all N observations.
        part: the n rows that it begins on.
        potential: the density of all.
        centre: free latents around which half of the starts lie, (P,).
        seed: of all that is drawn.
        density: the gradient of all, where that is recorded already.
        rest: seconds, after which it ends with the Gaussian that it has.

    Raises:
        SamplingError: no start of finite density.
    """
    deadline, generator = Deadline(rest), torch.Generator().manual_seed(seed)
    found = gaussian(Potential(part), centre, seed, rest=None if rest is None else 0.3 * rest)
    density = Evaluated(potential) if density is None else density
    density.deadline = deadline
    ends = list[Gaussian]()
    for mode in found.modes:  # of few rows another may have been the highest
        end = _ended(density, mode, part.size / given.size, generator)
        if not any(bool(inside(known, end.loc[None])) for known in ends):
            ends.append(end)
    guide, *rivals = sorted(ends, key=lambda end: -end.bound)
    masses = [math.exp(max(-700.0, rival.bound - guide.bound)) for rival in rivals]
    cut = found.cut or ("the modes of all rows were not reached" if density.late else "")
    return replace(
        found, guide=guide, weighed=weigh(Valued(potential, deadline), guide, seed),
        elsewhere=1.0 if cut else sum(masses) / (1 + sum(masses)), stretch=widening([guide, *rivals], [1.0, *masses]),
        points=found.points + density.count, cut=cut, modes=(guide, *rivals),
    )  # fmt: skip


def _ended(density: Evaluated, begun: Gaussian, part: float, generator: torch.Generator) -> Gaussian:
    """The Gaussian of all rows, near that of a part of them."""
    loc, tril = begun.loc, math.sqrt(part) * begun.tril
    for _ in range(STEPS):
        gradient = density(loc[None])[1][0]
        white = tril.mT @ gradient
        if density.late or not bool(white.isfinite().all()):
            return Gaussian(loc, tril)
        away = float(white.square().sum())
        loc = loc + min(1.0, math.sqrt(len(loc) / (part * away + 1e-300))) * (tril @ white)  # within the n rows' own
        if away < NEAR:
            break
    end = newton(density, Gaussian(loc, tril), generator)
    return replace(end, tril=triangular(end.tril))
