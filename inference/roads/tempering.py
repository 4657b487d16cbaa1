"""Paths of densities from one that can be drawn from, at inverse temperature b = 0, to the posterior, at b = 1.

    from the prior      pi_b(u) = p(u) p(x | u)^b
    from a Gaussian     pi_b(u) = q(u) (p(x, u) / q(u))^b,  q = Normal(m, A A')

Both are q(u) r(u)^b with a normalised q, so that the constant of pi_1 is the evidence p(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from inference.sampling.density import Density
from inference.sampling.hamiltonian import Metric


class Path(Protocol):
    """What particles move along."""

    density: Density

    def draws(self, count: int) -> Tensor:
        """Points of b = 0, (S, P)."""

    def parts(self, points: Tensor, beta: Tensor, *held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log q and log r, each (S,), and the gradient of log q + b log r: (S, P), (S,)."""

    def recentre(self, points: Tensor, dense: bool) -> Callable[[Tensor], Tensor] | None:
        """Choose other coordinates by points, (S, P): what takes points there, or None where they stay."""


class FromPrior:
    """From the prior, in whichever coordinates suit the particles.

    Args:
        density: its posterior; the prior must be proper.
    """

    def __init__(self, density: Density) -> None:
        self.density = density
        few = density.prior(2)
        density.parts(
            few, few.new_zeros(2), *density.held
        )  # a program writes it down on its first run, and not in another

    def draws(self, count: int) -> Tensor:
        """Points of the prior, (S, P)."""
        return self.density.prior(count)

    def parts(self, points: Tensor, beta: Tensor, *held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(u), log p(x | u) and the gradient between them."""
        return self.density.parts(points, beta, *held)

    def recentre(self, points: Tensor, dense: bool) -> Callable[[Tensor], Tensor] | None:
        """As the density has it."""
        return self.density.recentre(points, dense)


class FromNormal:
    """From a Gaussian of free latents: for an improper prior, or where one knows roughly where the posterior lies.

    Args:
        density: its posterior, in coordinates that stay.
        normal: centre and scale, wider than the posterior.
    """

    def __init__(self, density: Density, normal: Metric) -> None:
        self.density, self.normal = density, normal
        self.constant = -0.5 * density.size * math.log(2 * math.pi) - normal.log_det()

    def draws(self, count: int) -> Tensor:
        """Points of the Gaussian, (S, P)."""
        centre = self.normal.centre
        return self.normal.out(torch.randn(count, len(centre), dtype=centre.dtype, device=centre.device))

    def parts(self, points: Tensor, beta: Tensor, *held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log q(u), log p(x, u) - log q(u) and the gradient between them."""
        value, gradient = self.density.value_and_gradient(points, *held)
        z = self.normal.into(points)
        first = self.constant - 0.5 * z.square().sum(-1)
        if self.normal.diagonal:
            slope = -z / self.normal.scale
        else:
            slope = -torch.linalg.solve_triangular(self.normal.scale.mT, z.mT, upper=True).mT
        share = beta.unsqueeze(-1)
        return first, value - first, share * gradient + (1 - share) * slope

    def recentre(self, points: Tensor, dense: bool) -> None:
        """Not: the Gaussian is one in the coordinates of now."""
