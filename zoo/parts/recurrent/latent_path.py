"""Paths of continuous latent states and what they emit: two distributions that share one run of a network.

    LatentPath     z, with density prod_t p(z_t | x_{<t}, z_{<t})
    Observations   x, with density prod_t p(x_t | x_{<t}, z_{<=t})

Their product is p(x, z), though neither factor is p(z) or p(x | z): z_t listens to x_{t-1}. So, where x is given, z is
drawn with it as the past. Where x is to be generated, drawing z draws both step by step, and `Observations` hands the
x behind that z over as its own draw; given any other z it draws x_1, x_2, ... in turn, each after its z_t.

A guide is a `LatentPath` with `Evidence`: at each step a factor in z_t that the prior p(z_t | h_t) is multiplied by.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from zoo.parts.missing import OrMissing
from zoo.parts.recurrent.dynamics import Chain, Evidence
from zoo.parts.recurrent.particles import one_step_ahead
from zoo.parts.sequence import Sequences


class _Steps(Sequences):
    """What the distributions of this file share."""

    def __init__(self, chain: Chain, batch_shape: torch.Size, size: int) -> None:
        self.chain = chain
        super().__init__(batch_shape, torch.Size([chain.steps, size]), validate_args=False)


class LatentPath(_Steps):
    """The states of whole sequences, event (T, L).

    Args:
        chain: the run that they are part of.
        evidence: of a guide: what the prior of each state is multiplied by.
    """

    has_rsample = True
    support = constraints.independent(constraints.real, 2)

    def __init__(self, chain: Chain, evidence: Evidence | None = None) -> None:
        self.evidence = evidence
        super().__init__(chain, chain.batch_shape, chain.dynamics.latent)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draw paths, (*sample_shape, *batch, T, L); with the observations, where these are not given."""
        return self.chain.walk(torch.Size(sample_shape) + self.batch_shape, evidence=self.evidence)[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of paths given the observations, (*)."""
        h = self.chain.states(value)
        parts = () if self.evidence is None else self.evidence.parts
        total: Tensor = self.chain.dynamics.state(h, self.evidence, parts).log_prob(value).sum(-1)
        return total.expand(broadcast_shape(self.batch_shape, total.shape))


class Observations(_Steps):
    """What is observed of whole sequences given their states, event (T, D). NaN is a missing value, without a factor.

    Args:
        chain: the run that they are part of.
        z: the states, (*, T, L).
    """

    has_rsample = False

    def __init__(self, chain: Chain, z: Tensor) -> None:
        self.z = z
        super().__init__(chain, z.shape[:-2], chain.dynamics.features)

    @property
    def support(self) -> constraints.Constraint:
        """That of a step, or NaN."""
        base = constraints.boolean if self.chain.dynamics.emission == "bernoulli" else constraints.real
        return constraints.independent(OrMissing(base), 2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of each sequence given its states, (*)."""
        chain = self.chain
        if chain.x is None:
            chain.x = chain.clipped(value)
        skipped = chain.clipped(value).isnan()
        known = torch.where(skipped, 0.0, value)  # a NaN must not even be looked at, or its gradient is NaN
        log_probs = chain.dynamics.emit(chain.states(self.z), self.z).log_prob(known)
        total = torch.where(skipped, 0.0, log_probs).sum((-1, -2))
        return total.expand(broadcast_shape(self.batch_shape, total.shape))

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw observations, (*sample_shape, *batch, T, D).

        Those given are the past of each new one: x_t ~ p(x_t | x_{<t}, z_{<=t}), which completes missing steps. Without
        any, each is drawn after those drawn before it; or has been already, with these states.
        """
        shape, chain = torch.Size(sample_shape) + self.batch_shape, self.chain
        if chain.given:
            fn = chain.dynamics.emit(chain.states(self.z), self.z)
            drawn: Tensor = fn.expand(shape + self.event_shape).sample()
            return drawn
        if chain.drawn is not None and chain.drawn[0] is self.z and chain.drawn[1].shape[:-2] == shape:
            return chain.drawn[1]
        return chain.walk(shape, self.z)[1]

    @torch.no_grad()
    def conditional_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each step given the steps before it, each of the shape of x, by a particle filter.

        The states z that the density is given know the whole sequence, so they are no use here.
        """
        return one_step_ahead(self.chain.dynamics, self.chain.clipped(x))

    def forecast(self, x: Tensor, horizon: int) -> Continuation:
        """The distribution of the `horizon` steps that follow the last valid one of each sequence x, (*, T, D)."""
        return Continuation(self, x, horizon)


class Continuation(dist.TorchDistribution):
    """The next H steps of sequences whose observations and states are given, event (H, D). It can be drawn from."""

    arg_constraints = {}  # noqa: RUF012 - torch's name and type
    has_rsample = False

    def __init__(self, past: Observations, x: Tensor, horizon: int) -> None:
        self.past, self.x, self.horizon = past, x, horizon
        batch = torch.Size(broadcast_shape(past.batch_shape, x.shape[:-2]))
        super().__init__(batch, torch.Size([horizon, x.shape[-1]]), validate_args=False)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw states and observations in turn; the observations, (*sample_shape, *batch, H, D)."""
        shape, old = torch.Size(sample_shape) + self.batch_shape, self.past.chain
        until = old.lengths if old.lengths is not None else torch.tensor(old.steps, device=self.x.device)
        z, x = (functional.pad(past, (0, 0, 0, self.horizon), value=torch.nan) for past in (self.past.z, self.x))
        _, x = Chain(old.dynamics, old.steps + self.horizon, x).walk(shape, z, until=until)
        ahead = until.unsqueeze(-1) + torch.arange(self.horizon, device=x.device)
        return x.gather(-2, ahead.unsqueeze(-1).expand(*shape, self.horizon, x.shape[-1]))
