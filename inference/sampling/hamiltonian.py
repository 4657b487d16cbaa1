"""Hamiltonian Monte Carlo for many chains at once. Knows nothing of pairs; `inference.adaptation` tunes it.

A chain at u of density p moves in z = A^-1 (u - m), where the posterior has unit scale, by leapfrog steps of length e
over a time t (Neal 2011, "MCMC using Hamiltonian dynamics"), with momentum v ~ Normal(0, I):

    v <- v + e/2 grad_z log p,   z <- z + e v,   v <- v + e/2 grad_z log p;        accepted with min(1, exp(H - H'))

All chains share t, m and A. A Halton sequence spreads t over [t/2, 3t/2], so that no period of the target can resonate
with it (Hoffman, Radul & Sountsov 2021, "An adaptive-MCMC scheme for setting trajectory lengths in Hamiltonian Monte
Carlo").
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
    """The map u = m + A z: centre m (P,), and A as a vector (P,) where diagonal or a lower triangle (P, P)."""

    centre: Tensor
    scale: Tensor

    def out(self, z: Tensor) -> Tensor:
        """Free latents u of standardised ones, (..., P)."""
        return self.centre + (z * self.scale if self.scale.ndim == 1 else z @ self.scale.mT)

    def into(self, u: Tensor) -> Tensor:
        """The inverse of `out`."""
        u = u - self.centre
        if self.scale.ndim == 1:
            return u / self.scale
        found: Tensor = torch.linalg.solve_triangular(self.scale, u.reshape(-1, u.shape[-1]).mT, upper=False)
        return found.mT.contiguous().reshape(u.shape)

    def gradient(self, gradient: Tensor) -> Tensor:
        """Gradient by z from that by u, (..., P)."""
        return gradient * self.scale if self.scale.ndim == 1 else gradient @ self.scale


@dataclass
class State:
    """Where C chains stand: z (C, P), log density (C,) and its gradient by z, (C, P)."""

    z: Tensor
    log_density: Tensor
    gradient: Tensor


@dataclass
class Move:
    """What one transition of all chains did; each (C,) but for `proposal` and `momentum`, (C, P)."""

    acceptance: Tensor  # probability
    energy: Tensor  # Hamiltonian where the chain then stands
    diverging: Tensor
    proposal: Tensor
    momentum: Tensor
    start: Tensor  # (C, P)


def leapfrog(value_and_gradient: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Callable[..., Any]:
    """One leapfrog step as a function of tensors alone, to be traced."""

    def step(
        centre: Tensor, scale: Tensor, z: Tensor, momentum: Tensor, gradient: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        metric = Metric(centre, scale)
        momentum = momentum + 0.5 * size * gradient
        z = z + size * momentum
        log_density, gradient = value_and_gradient(metric.out(z))
        gradient = metric.gradient(gradient)
        return z, momentum + 0.5 * size * gradient, log_density, gradient

    return step


def transition(
    step: Callable[..., Any], state: State, noise: Tensor, log_uniform: Tensor, size: Tensor, steps: int
) -> tuple[State, Move]:
    """Follow the trajectory from momentum `noise`, (C, P), and accept or not where `log_uniform`, (C,), says so.

    Args:
        step: `leapfrog` with its metric bound.
        state: where the chains stand.
        noise: standard normal.
        log_uniform: logarithms of uniform numbers.
        size: step size e of each chain, (C, 1).
        steps: number of leapfrog steps.
    """
    z, momentum, log_density, gradient = state.z, noise, state.log_density, state.gradient
    for _ in range(steps):
        z, momentum, log_density, gradient = step(z, momentum, gradient, size)
    before = 0.5 * noise.square().sum(-1) - state.log_density
    after = 0.5 * momentum.square().sum(-1) - log_density
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
