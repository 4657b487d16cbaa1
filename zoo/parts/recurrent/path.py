"""Sequences of a recurrent network as one distribution: their density in one pass, their draws step by step.

    p(x_{1:T}) = prod_t p(x_t | h_t),     h_t = RNN(h_{t-1}, x_{t-1})

Continuations of a sequence start from the state that reading it leaves. Temperature and top-p change what is drawn, not
the density. Reference: Holtzman et al. (2020), "The curious case of neural text degeneration" (top-p).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import pyro.distributions as dist
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import constraints

from zoo.parts.recurrent.cells import Recurrence, State, over
from zoo.parts.sequence import Sequences, moments
from zoo.settings import settings


class Steps(Protocol):
    """What a step is."""

    emission: Any  # `categorical`, `bernoulli`, `gaussian` or `mixture`
    categories: int  # 0 where a step is a vector
    features: int

    def encode(self, x: Tensor) -> Tensor:
        """What the network is told of steps (*, T) or (*, T, D), (*, T, I)."""

    def decode(self, h: Tensor) -> Any:
        """The distribution of a step given outputs (*, O)."""


class Path(Sequences):
    """Whole sequences of a recurrent model, event (T,) or (T, D). Steps from `lengths` on add no factor.

    Args:
        pair: what a step is.
        net: the network.
        weight: of the output layer, (*, H, O).
        bias: (*, O).
        steps: the number of steps T.
        lengths: valid steps of each sequence, (B,); None: all T.
        past: sequences that these ones continue, (B, T') or (B, T', D), and how many of its steps are valid, (B,).
        temperature: divides the logits of a categorical or Bernoulli step, and multiplies the deviations of others.
        top_p: draw from the smallest set of categories that holds this probability (Holtzman et al. 2020).
    """

    def __init__(
        self,
        pair: Steps,
        net: Recurrence,
        weight: Tensor,
        bias: Tensor,
        steps: int,
        lengths: Tensor | None = None,
        past: tuple[Tensor, Tensor] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> None:
        self.pair, self.net, self.weight, self.bias = pair, net, weight, bias
        self.steps, self.lengths = steps, lengths
        self.past, self.temperature, self.top_p = past, temperature, top_p
        batch = broadcast_shape(weight.shape[:-2], bias.shape[:-1], () if lengths is None else lengths.shape)
        if past is not None:
            batch = broadcast_shape(batch, past[1].shape)
        event = (steps,) if pair.categories else (steps, pair.features)
        super().__init__(torch.Size(batch), torch.Size(event), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """That of a step."""
        base: Any = {
            "categorical": constraints.integer_interval(0, self.pair.categories - 1),
            "bernoulli": constraints.boolean,
        }.get(self.pair.emission, constraints.real)
        return constraints.independent(base, self.event_dim)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of each sequence, (*)."""
        steps = self.step_log_probs(value)
        return steps.sum(-1).expand(broadcast_shape(self.batch_shape, steps.shape[:-1]))

    def step_log_probs(self, value: Tensor) -> Tensor:
        """log p(x_t | x_1..x_{t-1}), zero past the end, (*, T)."""
        parts = [fn.log_prob(here) for fn, here in self._conditionals(value)]
        return torch.where(over(self.lengths, self.steps, value), 0.0, torch.cat(parts, -1))

    @torch.no_grad()
    def conditional_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each step given the steps before it, each of the shape of x; of codes as numbers."""
        parts = zip(*(moments(fn) for fn, _ in self._conditionals(x)), strict=True)
        mean, variance = (torch.cat(part, -self.event_dim) for part in parts)
        return mean, variance

    def _conditionals(self, value: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """The distribution of each step given the steps before it, (*, T), and the steps, zero past the end, in pages.

        A book is read page by page, where no gradient asks for all of it at once.
        """
        past = over(self.lengths, self.steps, value)
        # What stands there may be NaN: it must not be looked at.
        known = torch.where(past if self.pair.categories else past.unsqueeze(-1), 0.0, value)
        lead = torch.Size(known.shape[: known.ndim - self.event_dim])  # a tuple where a tracer looks on
        told, state = self._before(lead.numel(), lead)
        each = lead.numel() * (self.net.inputs + self.net.hidden * self.net.layers + self.bias.shape[-1])
        page = self.steps if torch.is_grad_enabled() else max(1, settings.memory // each)
        for begin in range(0, self.steps, page):
            here = known.narrow(len(lead), begin, min(page, self.steps - begin))
            now = self.pair.encode(here)
            now = now.flatten(0, len(lead) - 1) if lead else now[None]  # (R, T, I)
            h, state = self.net(torch.cat([told, now[:, :-1]], 1), state)  # (R, T, H)
            told = now[:, -1:]
            h = h.unflatten(0, lead) if lead else h[0]
            yield self.pair.decode(h @ self.weight + self.bias.unsqueeze(-2)), here

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw sequences, all T steps of each, (*sample_shape, *batch, T) or (*, T, D)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        told, state = self._before(shape.numel(), shape)
        steps = []
        for _ in range(self.steps):
            h, state = self.net(told, state)
            output = h.reshape(*shape, 1, h.shape[-1]) @ self.weight + self.bias.unsqueeze(-2)
            x = self._drawn(output.squeeze(-2)).to(h.dtype)  # (*shape) or (*shape, D)
            steps.append(x)
            told = self.pair.encode(x).reshape(shape.numel(), 1, -1)
        return torch.stack(steps, len(shape))

    def forecast(self, x: Tensor, horizon: int, *, temperature: float = 1.0, top_p: float = 1.0) -> Path:
        """The distribution of the `horizon` steps that follow the last valid one of each sequence.

        Raises:
            ValueError: a temperature that is not above 0; a `top_p` outside (0, 1], or not of categories.
        """
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature: expected a finite number above 0, got {temperature!r}")
        if not 0 < top_p <= 1 or (top_p < 1 and not self.pair.categories):
            raise ValueError(f"top_p: expected above 0 and up to 1, below 1 for categories only, got {top_p!r}")
        shape = x.shape[: x.ndim - self.event_dim]
        lengths = torch.full(shape, self.steps, device=x.device) if self.lengths is None else self.lengths
        ahead = Path(self.pair, self.net, self.weight, self.bias, horizon, None, (x, lengths), temperature, top_p)
        return ahead.expand(self.batch_shape)

    def _drawn(self, output: Tensor) -> Tensor:
        """One step given its outputs, at the temperature wanted."""
        if self.pair.emission in ("categorical", "bernoulli"):
            output = output / self.temperature
            if self.top_p < 1:
                order = output.softmax(-1).sort(-1, descending=True)
                least = order.values.cumsum(-1) - order.values >= self.top_p  # the likeliest one always stays
                output = output.masked_fill(least.gather(-1, order.indices.argsort(-1)), -torch.inf)
            drawn: Tensor = self.pair.decode(output).sample()
            return drawn
        fn = self.pair.decode(output)
        if self.pair.emission == "mixture":
            logits = fn.mixture_distribution.logits / self.temperature
            which = dist.Categorical(logits=logits).sample()[..., None, None]
            normal = fn.component_distribution.base_dist
            loc, scale = (part.gather(-2, which.expand(*part.shape[:-2], 1, part.shape[-1])).squeeze(-2)
                          for part in (normal.loc, normal.scale))  # fmt: skip
        else:
            loc, scale = fn.base_dist.loc, fn.base_dist.scale
        return torch.normal(loc, scale * self.temperature)

    def _before(self, rows: int, lead: torch.Size) -> tuple[Tensor, State | None]:
        """What the network is told first, (R, 1, I), and its state then."""
        start = self.bias.new_zeros(rows, 1, self.net.inputs)
        start[..., -1] = 1.0
        if self.past is None:
            return start, None
        x, lengths = self.past
        x = x.expand(*lead, *x.shape[x.ndim - self.event_dim :]).flatten(0, len(lead) - 1)
        lengths = lengths.expand(lead).reshape(-1)  # (R,)
        gone = over(lengths, x.shape[1], x)
        told = torch.cat(
            [start, self.pair.encode(torch.where(gone if self.pair.categories else gone[..., None], 0.0, x))], 1
        )
        if bool((lengths == lengths[0]).all()):
            end = int(lengths[0])
            return told[:, end : end + 1], self.net(told[:, :end])[1]
        # Rows end at different steps: each state is taken where its own row has been read but for the last step.
        states: list[Tensor] = []
        state: State = self.net.start(rows)
        for t in range(told.shape[1]):
            here = (lengths == t)[None, :, None]
            states = [torch.where(here, now, kept) for now, kept in zip(state, states or state, strict=True)]
            state = self.net(told[:, t : t + 1], state)[1]
        last = lengths[:, None, None].expand(-1, 1, told.shape[-1])
        return told.gather(1, last), tuple(states)
