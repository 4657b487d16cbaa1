"""What chains walk on: a log density of flat, unconstrained latents, whoever's it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Place(Protocol):
    """Where one latent stands in the flat vector: numbers begin, ..., end - 1."""

    @property
    def name(self) -> str:
        """Of the site."""

    @property
    def begin(self) -> int:
        """Its first number."""

    @property
    def end(self) -> int:
        """One past its last."""


class Density(Protocol):
    """A log density of P free numbers, for S points at once."""

    size: int

    @property
    def name(self) -> str:
        """Whose it is."""

    @property
    def blocks(self) -> Sequence[Place]:
        """The latents, in order."""

    @property
    def local(self) -> frozenset[str]:
        """Latents of single observations."""

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the dims of events, by site."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the draws."""

    @property
    def device(self) -> torch.device:
        """Where they are."""

    @property
    def held(self) -> tuple[Tensor, ...]:
        """What the density takes besides points, where its coordinates can change."""

    def value_and_gradient(self, points: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        """(S, P) -> (S,), (S, P)."""

    def parts(self, points: Tensor, beta: Tensor, *held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p(u) and log p(x | u), each (S,), and the gradient of log p(u) + b log p(x | u) by u; (S, P), (S,)."""

    def recentre(self, draws: Tensor, dense: bool) -> Callable[[Tensor], Tensor] | None:
        """Choose other coordinates by draws, (S, P): what takes points there, or None where they stay."""

    def centre_at(self, shares: Tensor) -> None:
        """Take the coordinates of these shares, (P,), which `held` gave."""

    def log_density(self, points: Tensor) -> Tensor:
        """(S, P) -> (S,)."""

    def constrain(self, points: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(S, P) -> values by site, each (S, ...), and the log Jacobian, (S,)."""

    def prior(self, draws: int) -> Tensor:
        """Free latents drawn from the prior, (S, P)."""

    def free(self, values: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `constrain`: (S, P); what is not among the values is drawn from the prior."""

    def culprits(self, point: Tensor) -> list[str]:
        """Sites whose value or log density is not finite at a point, (P,)."""
