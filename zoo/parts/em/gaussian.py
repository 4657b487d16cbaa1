"""Expectation-maximisation of Gaussian mixtures, with R starts run as one batch (Dempster, Laird & Rubin 1977).

Starts lie in the leading dimension, so one tensor operation moves all of them. `Rows` makes an iteration of EM for
Gaussians two matrix products, and `climb` iterates until nothing is gained; `run` takes any density and any M-step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from zoo.parts.em.kmeans import kmeans, means, seed

__all__ = ["Moments", "Rows", "climb", "correlation_tril", "kmeans", "means", "moments", "run", "scale_mode", "seed"]
Moments = tuple[Tensor, Tensor, Tensor]


"""Counts (R, K), means (R, K, D) and scatter about them: (R, K, D, D), or its diagonal (R, K, D)."""


FAR = 1e2  # distance from the origin, in deviations, from which on differences of squares lose digits that matter
LEAST = -200.0  # log of a responsibility, relative to the largest, below which nothing is told apart
WIDE = 12  # rows of a matrix that processors multiply fastest with


def moments(x: Tensor, responsibility: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts (R, K), means (R, K, D) and scatter matrices about the means (R, K, D, D) of weighted rows."""
    count = responsibility.sum(1)
    loc = responsibility.mT @ x / count.clamp(min=torch.finfo(x.dtype).tiny).unsqueeze(-1)
    centred = x - loc.unsqueeze(-2)  # (R, K, N, D)
    return count, loc, (centred * responsibility.mT.unsqueeze(-1)).mT @ centred


def scale_mode(count: Tensor, squares: Tensor, rate: Tensor) -> Tensor:
    """The mode of log s for `count` centred normals with sum of squares `squares`, and s ~ InverseGamma(1, rate).

    Setting the derivative of -n log s - S / (2 s^2) ... to zero gives (n + 1) s^2 - rate s - S = 0.
    """
    n = count + 1
    return (rate + (rate.square() + 4 * n * squares).sqrt()) / (2 * n)


def correlation_tril(count: Tensor, scatter: Tensor, shrink: float | Tensor) -> Tensor:
    """Cholesky factors of the correlations of `scatter`, (..., D, D), shrunk as by `shrink` uncorrelated rows."""
    sd = scatter.diagonal(dim1=-2, dim2=-1).sqrt()
    sd = torch.where(sd > 0, sd, 1)
    eye = torch.eye(scatter.shape[-1], dtype=scatter.dtype, device=scatter.device)
    n, shrink = count[..., None, None], torch.as_tensor(shrink, device=count.device)[..., None, None]
    correlation = n * scatter / sd.unsqueeze(-1) / sd.unsqueeze(-2) + shrink * eye
    tril = torch.linalg.cholesky(correlation + (1e-9 * n + 1e-9) * eye)
    return functional.normalize(tril, dim=-1)


def run(
    responsibility: Tensor,
    m_step: Callable[[Tensor], dict[str, Tensor]],
    log_density: Callable[[dict[str, Tensor]], Tensor],
    iterations: int = 100,
) -> dict[str, Tensor]:
    """Alternate M- and E-steps a fixed number of times from `responsibility`, (R, N, K).

    `log_density` gives log p(z = k, x_n) of every start, (R, N, K).
    """
    values = m_step(responsibility)
    for _ in range(iterations):
        values = m_step(log_density(values).softmax(-1))
    return values


def climb(
    start: tuple[Tensor, ...],
    m_step: Callable[..., dict[str, Tensor]],
    e_step: Callable[[dict[str, Tensor]], tuple[Tensor, tuple[Tensor, ...]]],
    iterations: int,
    tolerance: float,
    rising: bool = False,
    patience: int = 5,
) -> tuple[dict[str, Tensor], list[float]]:
    """The values that the best of R starts ends with, and its scores on the way.

    A start ends once its score changes by less than `tolerance`; or when it is so far behind the best that twenty
    more steps as good as its last would not be enough, which is asked after `patience` iterations. Most do after a
    few, and time goes to the few that lead. `m_step` gives values, each (R, ...), from moments, those of `start` at
    first; `e_step` the score of values, (R,), and the moments that follow from them. With `rising` a start also ends
    where its score falls, before that step.
    """
    history: list[list[float]] = [[] for _ in start[0]]
    alive, best, leader, found, now = list(range(len(history))), -math.inf, 0, {}, start
    for i in range(iterations):
        values = m_step(*now)
        score, now = e_step(values)
        for r, value in zip(alive, score.tolist(), strict=True):
            history[r].append(value)
        top = int(score.nan_to_num(-math.inf).argmax())
        if score[top] > best or (alive[top] == leader and not rising) or i == 0:
            best, leader, found = score[top].item(), alive[top], {name: value[top] for name, value in values.items()}
        gains = [history[r][-1] - history[r][-2] if i else math.inf for r in alive]
        gains = gains if rising else [abs(gain) for gain in gains]
        hopeful = [i < patience or history[r][-1] + 20 * gain >= best for r, gain in zip(alive, gains, strict=True)]
        stay = [j for j, gain in enumerate(gains) if gain >= tolerance and hopeful[j]]
        if not stay:
            break
        if len(stay) < len(alive):
            alive, now = [alive[j] for j in stay], tuple(part[stay] for part in now)
    course = history[leader]
    return found, course[: course.index(best) + 1] if rising else course


class Rows:
    """N observations of D features, laid out so that an iteration of EM is two matrix products.

    The log density of a normal is linear in phi(x) = (products x_i x_j, x, 1), P numbers, and the moments of a
    component are sums of phi(x). So the E-step of R starts of K components is theta phi, (R K, P) by (P, N), and their
    M-step takes responsibility phi^T. Both go by blocks of B rows, whose phi is made anew in each iteration and stays
    in the cache: memory is 2 D + 1 doubles a row, and what one block needs.

    Inside, features have mean 0 and deviation 1. A component that is narrow and far from 0 would drown in the rounding
    of x^2 - m^2; it is computed from differences to its own mean instead.

    x is (N, D), of any floating-point type; without `correlated` the components have deviations alone, no matrices.
    """

    def __init__(self, x: Tensor, correlated: bool) -> None:
        N, D = x.shape
        self.correlated = correlated
        self.centre = x.mean(0, dtype=torch.float64)
        self.shifts = D // 2 + 1 if correlated else 1
        products = D * (D + 1) // 2 if correlated else D
        # in the order x_1 x_1, ..., x_D x_D, x_1 x_2, x_2 x_3, ..., x_D x_1, x_1 x_3, ...: see `expanded`
        self.left = torch.arange(D, device=x.device).repeat(self.shifts)[:products]
        self.right = (self.left + torch.arange(self.shifts, device=x.device).repeat_interleave(D)[:products]) % D
        most, room = (2048, 500_000) if x.device.type == "cpu" else (65_536, 30_000_000)  # rows, numbers
        parts = x.split(max(64, min(most, room // products)))
        self.blocks, squares = [], torch.zeros_like(self.centre)  # (x, x, 1), each (2 D + 1, B)
        for part in parts:
            block = self.centre.new_ones(2 * D + 1, len(part))
            squares += torch.sub(part.mT, self.centre.unsqueeze(-1), out=block[:D]).square().sum(-1)
            self.blocks.append(block)
        sd = (squares / N).sqrt()
        self.unit = torch.where(sd > 0, sd, 1)
        for block in self.blocks:
            block[D : 2 * D] = block[:D].div_(self.unit.unsqueeze(-1))
        self.buffer = self.centre.new_empty(self.shifts * D + D + 1, len(parts[0]))

    def expanded(self) -> Iterator[tuple[slice, Tensor]]:
        """Which rows a block has, and their phi, (P, B), that lasts until the next."""
        D, products, stop = len(self.unit), len(self.left), 0
        for block in self.blocks:
            start, stop = stop, stop + block.shape[-1]
            phi = self.buffer[:, : stop - start]
            turned = block.unfold(0, D, 1)[: self.shifts].mT  # (shifts, D, B): (x_1, ..., x_D), (x_2, ..., x_1), ...
            torch.mul(block[:D], turned, out=phi[: self.shifts * D].unflatten(0, (-1, D)))
            phi[products : products + D + 1] = block[D:]  # where D is even, over products made twice
            yield slice(start, stop), phi[: products + D + 1]

    def assigned(self, start: Tensor, hard: bool) -> Moments:
        """Moments given responsibilities, (R, N, K); or `hard`, means, (R, K, D): each row belongs to the nearest."""
        if hard:
            start = (start - self.centre) / self.unit
            start = torch.cat([start, -0.5 * start.square().sum(-1, keepdim=True)], -1)  # (R, K, D + 1)
        sums = start.new_zeros(())
        for rows, phi in self.expanded():
            given = start @ phi[len(self.left) :] if hard else start[:, rows].mT.to(phi)  # (R, K, B)
            if hard:
                given = torch.zeros_like(given).scatter_(1, given.argmax(1, keepdim=True), 1)
            sums = sums + given @ phi.mT
        return self._moments(sums)

    def step(self, log_weights: Tensor, locs: Tensor, factors: Tensor) -> tuple[Tensor, Moments]:
        """The log likelihood, (R,), and the moments under the responsibilities that follow from the parameters.

        These are (R, K), (R, K, D), and Cholesky factors of covariances (R, K, D, D), or deviations (R, K, D).
        """
        locs = (locs - self.centre) / self.unit
        if self.correlated:
            eye = torch.diag(torch.ones_like(self.unit))
            root = torch.linalg.solve_triangular(factors / self.unit.unsqueeze(-1), eye, upper=False)
            precision = root.mT @ root
            linear = (precision @ locs.unsqueeze(-1)).squeeze(-1)
            cancelled = locs.abs() * (precision.abs() @ locs.abs().unsqueeze(-1)).squeeze(-1)
            products = precision[..., self.left, self.right] * torch.where(self.left == self.right, -0.5, -1)
            log_det = (root.diagonal(dim1=-2, dim2=-1) / self.unit).log().sum(-1)
        else:
            root = self.unit / factors
            linear, cancelled, products = root.square() * locs, torch.zeros_like(locs), -0.5 * root.square()
            log_det = -factors.log().sum(-1)
        constant = log_weights + log_det - len(self.unit) * math.log(2 * math.pi) / 2
        theta = torch.cat([products, linear, (constant - 0.5 * (linear * locs).sum(-1)).unsqueeze(-1)], -1)  # (R, K, P)
        distance = locs.abs() * self.unit / (factors.norm(dim=-1) if self.correlated else factors)
        some = ((distance.amax(-1) > FAR) | (cancelled.sum(-1) > FAR**4)).nonzero(as_tuple=True)  # J of R K components
        own, root, constant = locs[some].unsqueeze(-1), root[some], constant[some].unsqueeze(-1)  # (J, D, 1), ...
        R, K, P = theta.shape
        n = R * K + (-R * K % WIDE if -R * K % WIDE < 3 else 0)  # so few rows more take less time, not more
        theta = functional.pad(theta.flatten(0, 1), (0, 0, 0, n - R * K))  # (n, P)
        turn = n % WIDE == 0
        likelihood, sums = locs.new_zeros(R), theta.new_zeros(P, n) if turn else torch.zeros_like(theta)
        first, second = torch.zeros_like(own[..., 0]), torch.zeros_like(root)
        for _, phi in self.expanded():
            weights = theta @ phi  # (n, B): at first log densities
            log_p = weights[: R * K].view(R, K, -1)
            if len(own):
                apart = phi[len(self.left) : -1] - own  # (J, D, B)
                white = root @ apart if self.correlated else root.unsqueeze(-1) * apart
                log_p[some] = constant - 0.5 * white.square().sum(1)
            peak = log_p.amax(1, keepdim=True)
            # what underflows takes three times as long: hence the clamp
            responsibility = log_p.sub_(peak).clamp_(min=LEAST).exp_()
            responsibility /= (total := responsibility.sum(1, keepdim=True))
            sums += phi @ weights.mT if turn else weights @ phi.mT
            likelihood += (total.log_() + peak).sum((1, 2))
            if len(own):
                weighted = responsibility[some].unsqueeze(1) * apart
                first += weighted.sum(-1)
                second += weighted @ apart.mT if self.correlated else (weighted * apart).sum(-1)
        sums = (sums.mT if turn else sums)[: R * K].view(R, K, P)
        return likelihood, self._moments(sums, (some, own.squeeze(-1), first, second))

    def _moments(self, sums: Tensor, apart: tuple[Any, ...] = ()) -> Moments:
        """Moments in the units of x, from sums of phi, (R, K, P), but of some components from sums of differences."""
        products, first, count = sums.split([len(self.left), len(self.unit), 1], -1)
        second, origin = products, torch.zeros_like(first)
        if self.correlated:
            second = first.new_empty(*first.shape, len(self.unit))
            second[..., self.left, self.right] = second[..., self.right, self.left] = products
        for whole, some in zip((origin, first, second), apart[1:], strict=False):
            whole[apart[0]] = some
        shift = first / count.clamp(min=torch.finfo(sums.dtype).tiny)
        locs = (origin + shift) * self.unit + self.centre
        if not self.correlated:
            return count.squeeze(-1), locs, (second - first * shift).clamp(min=0) * self.unit.square()
        scatter = second - first.unsqueeze(-1) * shift.unsqueeze(-2)
        squares, terms = (m.diagonal(dim1=-2, dim2=-1).clamp(min=0) for m in (scatter, second))
        sure = squares * 1e6 > terms  # what rounding has left of a feature is not correlated with others
        scatter = torch.where(sure.unsqueeze(-1) & sure.unsqueeze(-2), scatter, torch.diag_embed(squares))
        return count.squeeze(-1), locs, scatter * self.unit * self.unit.unsqueeze(-1)
