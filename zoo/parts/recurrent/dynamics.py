"""A model of sequences with continuous latent states, and one run of it over a batch.

    h_t = RNN(h_{t-1}, [x_{t-1}, z_{t-1}])        z_t ~ Normal(a(h_t), diag(b(h_t))^2)        x_t ~ F(h_t, z_t)

Its density at given x and z takes one pass of the network over all steps; a draw takes the steps in turn, and keeps
whatever is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import pyro.distributions as dist
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor, nn

from zoo.parts.nets import positive
from zoo.parts.recurrent.cells import over
from zoo.parts.units import Units

Emission = Literal["gaussian", "bernoulli"]


class Dynamics(nn.Module):
    """The conditionals of the model.

    Args:
        net: what carries the past: (R, T, I), state -> h (R, T, H), state (see `zoo.parts.recurrent.cells.Recurrence`).
        prior: h (*, H) -> a and b of z_t, each (*, L).
        decoder: h (*, H), z (*, L) -> what x_t follows, (*, D) of a logit or (*, D) twice of a mean and a real number
            that `zoo.parts.nets.positive` maps to the deviation.
        emission: distribution of x_t.
        latent: dimension of a state L.
        features: dimension of an observation D.

    Gaussian observations are in standard units for the networks: `units` holds those of the data.
    """

    def __init__(
        self, net: nn.Module, prior: nn.Module, decoder: nn.Module, emission: Emission, latent: int, features: int
    ) -> None:
        super().__init__()
        self.units = Units(features) if emission == "gaussian" else nn.Identity()
        self.net, self.prior, self.decoder = net, prior, decoder
        self.emission, self.latent, self.features = emission, latent, features

    @staticmethod
    def inputs(latent: int, features: int) -> int:
        """Length I of what the network is told of one step."""
        return 2 * features + latent + 1

    def told(self, x: Tensor, z: Tensor) -> Tensor:
        """What the network is told of steps: x, zero where missing, which these are, z and no start, (*, I)."""
        missing = x.isnan()
        return torch.cat([torch.where(missing, 0.0, self.units(x)), missing.to(z), z, torch.zeros_like(z[..., :1])], -1)

    def start(self, rows: int, like: Tensor) -> Tensor:
        """What it is told before the first step, (R, 1, I)."""
        told = like.new_zeros(rows, 1, self.inputs(self.latent, self.features))
        told[..., -1] = 1.0
        return told

    def state(self, h: Tensor, evidence: Evidence | None = None, parts: Sequence[Tensor] = ()) -> Any:
        """The distribution of z_t, of event (L,): the prior, or its product with the evidence in these parts."""
        a, b = self.prior(h)
        return normal(a, b) if evidence is None else evidence.posterior(h, a, b, *parts)

    def emit(self, h: Tensor, z: Tensor) -> Any:
        """The distribution of x_t, batch shape (*, D)."""
        parts = self.decoder(h, z)
        if self.emission == "bernoulli":
            return dist.Bernoulli(logits=parts[0], validate_args=False)
        units = cast(Units, self.units)
        return dist.Normal(units.inverse(parts[0]), units.unit * positive(parts[1]), validate_args=False)


@dataclass(frozen=True)
class Evidence:
    """What a guide multiplies the prior of each state by.

    Args:
        posterior: h, a, b and the parts of these steps -> the distribution of z_t.
        parts: each (*, T, size).
    """

    posterior: Callable[..., Any]
    parts: tuple[Tensor, ...]


class Chain:
    """One run of the model: its conditionals, the observations where they are given, and draws where they are not.

    Args:
        dynamics: the conditionals.
        steps: the number of steps T.
        x: the observations, (*, T, D), NaN where missing; what stands past the end is not looked at.
        lengths: valid steps of each sequence, (*); None: all T. The states go on past the end, with all x missing.
    """

    def __init__(self, dynamics: Dynamics, steps: int, x: Tensor | None = None, lengths: Tensor | None = None) -> None:
        self.dynamics, self.steps, self.lengths, self.given = dynamics, steps, lengths, x is not None
        self.x = None if x is None else self.clipped(x)
        self.batch_shape = torch.Size(() if lengths is None else lengths.shape) if x is None else x.shape[:-2]
        self.drawn: tuple[Tensor, Tensor] | None = None  # z and the x drawn with it
        self._known: tuple[Tensor, bool, Tensor] | None = None  # z, whether with gradients, and its h

    def clipped(self, x: Tensor) -> Tensor:
        """Observations with all that stands past the end missing."""
        return torch.where(over(self.lengths, self.steps, x).unsqueeze(-1), torch.nan, x)

    def states(self, z: Tensor) -> Tensor:
        """h_t at each step of paths (*, T, L), (*, T, H), in one pass; kept, as two sites ask for it."""
        if self._known is None or self._known[0] is not z or self._known[1] != torch.is_grad_enabled():
            if self.x is None:
                raise ValueError("the density of a path of states needs the observations: give x in the batch")
            lead = torch.Size(broadcast_shape(z.shape[:-2], self.x.shape[:-2]))
            told = self.dynamics.told(rows(self.x, lead), rows(z, lead))
            h, _ = self.dynamics.net(torch.cat([self.dynamics.start(len(told), told), told[:, :-1]], 1))
            self._known = z, torch.is_grad_enabled(), h.reshape(*lead, *h.shape[1:])
        return self._known[2]

    def walk(
        self, shape: torch.Size, z: Tensor | None = None, evidence: Evidence | None = None, until: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """States and observations, (*shape, T, L) and (*shape, T, D), step by step; what is given stays.

        Args:
            shape: of the batch.
            z: states that are given.
            evidence: what states that are not given are drawn with.
            until: how many steps of what is given are to be kept, (*shape); None: all.
        """
        dynamics, R = self.dynamics, shape.numel()
        xs, zs = (None if value is None else rows(value, shape) for value in (self.x if self.given else None, z))
        parts = () if evidence is None else tuple(rows(part, shape) for part in evidence.parts)
        told, state = dynamics.start(R, next(dynamics.parameters())), None
        past = over(self.lengths, self.steps, told).expand(*shape, self.steps).reshape(R, -1, 1)
        until = None if until is None else until.expand(shape).reshape(R, 1, 1)

        made: list[tuple[Tensor, ...]] = []
        for t in range(self.steps):
            h, state = dynamics.net(told, state)  # (R, 1, H)
            here = [part[:, t : t + 1] for part in parts]
            now_z, now_x = (None if given is None else given[:, t : t + 1] for given in (zs, xs))
            if now_z is None or until is not None:
                now_z = _merged(now_z, dynamics.state(h, evidence, here).rsample(), until, t)
            if now_x is None or until is not None:
                now_x = _merged(now_x, dynamics.emit(h, now_z).sample(), until, t)
            told = dynamics.told(torch.where(past[:, t : t + 1], torch.nan, now_x), now_z)
            made.append((now_z, now_x, h))
        path, x, h = (torch.cat(part, 1).reshape(*shape, self.steps, -1) for part in zip(*made, strict=True))
        if until is None:
            path = path if z is None else z
            self._known = path, torch.is_grad_enabled(), h
            if not self.given:
                self.x, self.drawn = self.clipped(x), (path, x)
        return path, x


def normal(loc: Tensor, scale: Tensor) -> Any:
    """Independent normals, of event (L,)."""
    return dist.Normal(loc, scale, validate_args=False).to_event(1)


def rows(value: Tensor, shape: torch.Size) -> Tensor:
    """(*, T, k) over a batch of this shape, as rows (R, T, k)."""
    return value.expand(*shape, *value.shape[-2:]).reshape(shape.numel(), *value.shape[-2:])


def _merged(given: Tensor | None, drawn: Tensor, until: Tensor | None, t: int) -> Tensor:
    """What is given of step t, before it stops; what was drawn from there on."""
    return drawn if given is None or until is None else torch.where(t < until, given, drawn)
