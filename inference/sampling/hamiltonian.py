"""Hamiltonian Monte Carlo for many chains at once, the one kernel of `inference.sample` and of annealing.

Knows nothing of pairs. A chain at u of density p moves in z = A^-1 (u - m), where the posterior has unit scale, by
leapfrog steps of length e over a time t (Neal 2011, "MCMC using Hamiltonian dynamics"), with momentum v ~ Normal(0, I):

    v <- v + e/2 grad_z log p,   z <- z + e v,   v <- v + e/2 grad_z log p;        accepted with min(1, exp(H - H'))

An inverse temperature b < 1 puts N(z | 0, I)^(1 - b) p^b in place of p: a path from a Gaussian to the posterior. Step
sizes, times and metrics are tuned elsewhere: by `adaptation` for one target that all chains share, in
`inference.codes.annealing` for a target of each row at each b.

For `sample` all chains share t; m and A too, unless they stay in modes far apart. A Halton sequence spreads t over
[t/2, 3t/2], so that no period of the target can resonate with it (Hoffman, Radul & Sountsov 2021, "An adaptive-MCMC
scheme for setting trajectory lengths in Hamiltonian Monte Carlo").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

DIVERGENCE = 1000.0  # an energy error of so many nats means that the integrator left the trajectory (as in Stan)


@dataclass
class Metric:
    """The map u = m + A z: centre m (P,), and A as a vector (P,) where diagonal or a lower triangle (P, P).

    Or one for each of B rows (or chains), (B, P) and (B, P) or (B, P, P), of points (B, P) or (S, B, P).
    """

    centre: Tensor
    scale: Tensor

    @property
    def diagonal(self) -> bool:
        """Whether A is."""
        return self.scale.ndim == self.centre.ndim

    def out(self, z: Tensor) -> Tensor:
        """Points u of standardised ones, (..., P)."""
        return self.centre + (z * self.scale if self.diagonal else _times(z, self.scale.mT))

    def into(self, u: Tensor) -> Tensor:
        """The inverse of `out`."""
        u = u - self.centre
        if self.diagonal:
            return u / self.scale
        if self.scale.ndim == 2:
            found: Tensor = torch.linalg.solve_triangular(self.scale, u.reshape(-1, u.shape[-1]).mT, upper=False)
            return found.mT.contiguous().reshape(u.shape)
        if u.ndim == 2:
            alone: Tensor = torch.linalg.solve_triangular(self.scale, u.unsqueeze(-1), upper=False)
            return alone.squeeze(-1)
        found = torch.linalg.solve_triangular(self.scale, u.movedim(0, -1), upper=False)
        return found.movedim(-1, 0)

    def gradient(self, gradient: Tensor) -> Tensor:
        """Gradient by z from that by u, (..., P)."""
        return gradient * self.scale if self.diagonal else _times(gradient, self.scale)

    def row(self, index: int) -> Metric:
        """That of one row, or the one of all."""
        return self if self.centre.ndim == 1 else Metric(self.centre[index], self.scale[index])

    def log_det(self) -> Tensor:
        """log |du/dz|, () or (B,)."""
        diagonal = self.scale if self.diagonal else self.scale.diagonal(dim1=-2, dim2=-1)
        return diagonal.log().sum(-1)


def _times(z: Tensor, matrix: Tensor) -> Tensor:
    """z A for the same matrix everywhere, or for one of each row, (S, B, P) times (B, P, P), without S copies of it."""
    if matrix.ndim == 2:
        return z @ matrix
    return (z.unsqueeze(-2) @ matrix).squeeze(-2) if z.ndim == 2 else (z.movedim(0, -2) @ matrix).movedim(-2, 0)


@dataclass
class State:
    """Where chains stand: z (..., P), log p (...) and its gradient by z (..., P), whatever the temperature."""

    z: Tensor
    log_density: Tensor
    gradient: Tensor


@dataclass
class Move:
    """What one transition of all chains did; each (...) but for `proposal`, `momentum` and `start`, (..., P)."""

    acceptance: Tensor  # probability
    energy: Tensor  # Hamiltonian where the chain then stands
    diverging: Tensor
    proposal: Tensor
    momentum: Tensor
    start: Tensor


def leapfrog(value_and_gradient: Callable[..., tuple[Tensor, Tensor]], held: int = 0) -> Callable[..., Any]:
    """One leapfrog step as a function of tensors alone, to be traced: metric, so many tensors that the density takes
    besides points, then what `transition` gives it."""

    def step(centre: Tensor, scale: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        metric = Metric(centre, scale)
        z, momentum, gradient, size, *beta = rest[held:]
        momentum = momentum + 0.5 * size * _tempered_gradient(gradient, z, *beta)
        z = z + size * momentum
        log_density, gradient = value_and_gradient(metric.out(z), *rest[:held])
        gradient = metric.gradient(gradient)
        return z, momentum + 0.5 * size * _tempered_gradient(gradient, z, *beta), log_density, gradient

    return step


def _tempered(log_density: Tensor, z: Tensor, beta: Tensor | None = None) -> Tensor:
    """log of N(z | 0, I)^(1 - b) p^b up to a constant; of p itself where no b is given."""
    return log_density if beta is None else beta * log_density - (1 - beta) * 0.5 * z.square().sum(-1)


def _tempered_gradient(gradient: Tensor, z: Tensor, beta: Tensor | None = None) -> Tensor:
    return gradient if beta is None else beta * gradient - (1 - beta) * z


def stand(step: Callable[..., Any], z: Tensor, still: Tensor, *beta: Tensor) -> State:
    """The state of chains at z, (..., P): by a step of no length; `still` are as many sizes of zero as there are."""
    none = torch.zeros_like(z)
    _, _, log_density, gradient = step(z, none, none, still, *beta)
    return State(z, log_density, gradient)


def transition(
    step: Callable[..., Any],
    state: State,
    noise: Tensor,
    log_uniform: Tensor,
    size: Tensor,
    steps: int,
    *beta: Tensor,
) -> tuple[State, Move]:
    """Follow the trajectory from momentum `noise`, (..., P), and accept or not where `log_uniform`, (...), says so.

    Args:
        step: `leapfrog` with its metric bound.
        state: where the chains stand.
        noise: standard normal.
        log_uniform: logarithms of uniform numbers.
        size: step size e of each chain, (..., 1).
        steps: number of leapfrog steps.
        beta: the inverse temperature, a scalar; none is 1.
    """
    z, momentum, log_density, gradient = state.z, noise, state.log_density, state.gradient
    for _ in range(steps):
        z, momentum, log_density, gradient = step(z, momentum, gradient, size, *beta)
    before = 0.5 * noise.square().sum(-1) - _tempered(state.log_density, state.z, *beta)
    after = 0.5 * momentum.square().sum(-1) - _tempered(log_density, z, *beta)
    gain = (before - after).nan_to_num(nan=-math.inf, posinf=-math.inf)  # nowhere to go at a density of infinity
    accepted = log_uniform < gain
    took = accepted.unsqueeze(-1)
    new = State(
        torch.where(took, z, state.z),
        torch.where(accepted, log_density, state.log_density),
        torch.where(took, gradient, state.gradient),
    )
    energy = torch.where(accepted, after, before)
    return new, Move(gain.clamp(max=0).exp(), energy, gain < -DIVERGENCE, z, momentum, state.z)


def halton(index: int) -> float:
    """The element of the base-2 van der Corput sequence, in (0, 1)."""
    value, unit, index = 0.0, 0.5, index + 1
    while index:
        value += unit * (index & 1)
        index, unit = index >> 1, unit / 2
    return value


def plan(time: float, size: float, index: int, most: int) -> tuple[float, int]:
    """Length and number of the leapfrog steps of trajectory `index`: never longer steps than `size`."""
    spread = time * (0.5 + halton(index))
    steps = math.ceil(spread / size)
    return (size, most) if steps > most else (spread / steps, steps)
