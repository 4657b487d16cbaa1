"""The hidden Markov chain as one distribution over whole sequences, its states summed out.

A chain z_1, ..., z_T over K states with start pi and transition matrix A emits x_t from its state:

    p(x_{1:T}) = sum_z pi(z_1) p(x_1 | z_1) prod_{t>1} A(z_{t-1}, z_t) p(x_t | z_t)

`zoo.parts.chains.tree` adds up all K^T paths. The rest is a gradient of its sum (Eisner 2016, "Inside-outside and
forward-backward algorithms are just backprop"): p(z_t = k | x) = d log p(x) / d log p(x_t | z_t = k), and with max in
place of the sum that gradient is one along the most probable path and zero elsewhere.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import constraints

from zoo.parts.chains import emissions, gaussian, tree
from zoo.parts.chains.forward_backward import filtered, log_likelihood
from zoo.parts.missing import OrMissing
from zoo.parts.sequence import Sequences, moments

Size = torch.Size | list[int] | tuple[int, ...]


class HiddenMarkovChain(Sequences):
    """Sequences emitted by a hidden Markov chain; the maths stands at the top of this file.

    The event is (T,) for scalar emissions and (T, D) for vectors. A NaN is a missing value and adds no factor: a NaN
    feature where the emission is a `to_event(1)` of independent features, otherwise the whole step. Steps from
    `lengths` on add no factor; fill them with NaN or any valid value.

    Args:
        initial_logits: of the first state, (..., K); normalised here.
        transition_logits: row i is the next state given state i, (..., K, K); rows are normalised here.
        emission: the distribution of one step in each state, batch shape (..., K) and event shape () or (D,).
        steps: the number of steps T.
        lengths: the number of valid steps of each sequence, 1 to T, of the batch shape; None: all T.
    """

    arg_constraints = {  # noqa: RUF012
        "initial_logits": constraints.real_vector,
        "transition_logits": constraints.independent(constraints.real, 2),
    }

    def __init__(
        self,
        initial_logits: Tensor,
        transition_logits: Tensor,
        emission: dist.TorchDistribution,
        steps: int,
        lengths: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        K = initial_logits.shape[-1]
        shapes = {"transition_logits": transition_logits.shape[-2:], "emission's batch": emission.batch_shape[-1:]}
        for name, shape in shapes.items():
            if tuple(shape) != (K,) * len(shape) or not shape:
                raise ValueError(f"{name}: expected one entry for each of {K} states, got shape {tuple(shape)}")
        if len(emission.event_shape) > 1:
            raise ValueError(f"emission: expected event shape () or (D,), got {tuple(emission.event_shape)}")
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}")
        self.initial_logits, self.transition_logits = initial_logits, transition_logits
        self.emission, self.steps, self.lengths = emission, steps, lengths
        batch_shape = broadcast_shape(
            initial_logits.shape[:-1],
            transition_logits.shape[:-2],
            emission.batch_shape[:-1],
            () if lengths is None else lengths.shape,
        )
        super().__init__(
            torch.Size(batch_shape), torch.Size((steps, *emission.event_shape)), validate_args=validate_args
        )

    @property
    def states(self) -> int:
        """The number of states K."""
        return self.initial_logits.shape[-1]

    @property
    def support(self) -> constraints.Constraint:
        """That of the emission, or NaN."""
        return constraints.independent(OrMissing(emissions.elementwise(self.emission)), self.event_dim)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of each sequence: (..., T) or (..., T, D) -> (...)."""
        if self._validate_args:
            self._validate_sample(x)
        logits, normal = (self.initial_logits, self.transition_logits), emissions.normal(self.emission, x)
        if normal is None:
            value = log_likelihood(*logits, self.emission_log_probs(x))
        else:
            data = x if self.event_dim == 2 else x.unsqueeze(-1)
            value = gaussian.log_likelihood(*logits, *normal, data, self.lengths)
        return value.expand(self._shape(x))

    def emission_log_probs(self, x: Tensor) -> Tensor:
        """log p(x_t | z_t = k), (..., T, K); zero where x_t is missing or past the end."""
        return emissions.log_probs(self.emission, x, None if self.lengths is None else self._over())

    @torch.no_grad()
    def sample(self, sample_shape: Size = ()) -> Tensor:
        """Draw sequences, all T steps of each: (*sample_shape, *batch_shape, T) or (..., T, D)."""
        shape, K = (*sample_shape, *self.batch_shape), self.states
        start = dist.Categorical(logits=self.initial_logits.expand(*shape, K)).sample()
        # where each state would go at each step, drawn at once; walking is then one look-up a step
        transition = dist.Categorical(logits=self.transition_logits.expand(*shape, K, K))
        goes = transition.sample((self.steps - 1,)) if self.steps > 1 else ()
        walk = [start.unsqueeze(-1)]
        for go in goes:
            walk.append(go.gather(-1, walk[-1]))
        states = torch.stack(walk)  # (T, *shape, 1)
        x: Tensor = self.emission.expand((*shape, K)).sample((self.steps,))  # (T, *shape, K) or (T, *shape, K, D)
        index = states.reshape(*states.shape, *[1] * len(self.emission.event_shape))
        index = index.expand(*states.shape, *self.emission.event_shape)
        x = x.gather(1 + len(shape), index).squeeze(1 + len(shape))
        return x.movedim(0, len(shape))

    def smooth(self, x: Tensor) -> Tensor:
        """p(z_t | x_{1:T}), (..., T, K). Past the end of a sequence: the probabilities predicted by all of it."""
        return self._posterior(x)[1]

    def counts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`log_prob(x)`, `smooth(x)`, and the moves from state to state expected in it: the E-step of Baum-Welch.

        Moves are summed over the steps and over the sequences that share a transition matrix, in the shape of
        `transition_logits`.
        """
        value, states, moves = self._posterior(x)
        if self.lengths is not None:  # those that are only predicted, past the end
            idle = (states[..., :-1, :] * self._over()[..., 1:, None]).sum(-2)  # (..., K)
            moves = moves - idle.sum_to_size(moves.shape[:-1]).unsqueeze(-1) * self.transition_logits.softmax(-1)
        return value, states, moves

    def expectations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`smooth(x)`, and p(z_t = i, z_{t+1} = j | x_{1:T}), (..., T - 1, K, K)."""
        return self._gradient(x, tree.log_sum)[1:]

    def viterbi(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable states, (..., T), -1 past the end; and their log joint density with x, (...)."""
        value, marks, _ = self._gradient(x, tree.maximum)
        path = marks.argmax(-1)
        return (path if self.lengths is None else path.masked_fill(self._over(), -1)), value

    @torch.no_grad()
    def filter(self, x: Tensor) -> Tensor:
        """p(z_t | x_{1:t}), (..., T, K): each step knows its past only."""
        emission = self.emission_log_probs(x)
        logits = (self.initial_logits, self.transition_logits)
        start, moves = (x.log_softmax(-1).to(emission.dtype) for x in logits)
        states = filtered(start, moves, emission)
        return states.expand(*self._shape(x), *states.shape[-2:])

    @torch.no_grad()
    def conditional_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each step given the steps before it, each of the shape of x."""
        before = self.filter(x)[..., :-1, :] @ self.transition_logits.softmax(-1)
        start = self.initial_logits.softmax(-1).to(before).unsqueeze(-2).expand(*before.shape[:-2], 1, -1)
        states = torch.cat([start, before], -2)  # (..., T, K), p(z_t | x_{1:t-1})
        mean, variance = moments(self.emission)  # (..., K) or (..., K, D)
        if not self.emission.event_shape:
            mean, variance = mean.unsqueeze(-1), variance.unsqueeze(-1)
        centre = states @ mean  # (..., T, D)
        apart = (mean.unsqueeze(-3) - centre.unsqueeze(-2)).square()  # (..., T, K, D)
        spread = states @ variance + (states.unsqueeze(-1) * apart).sum(-2)
        if not self.emission.event_shape:
            return centre.squeeze(-1), spread.squeeze(-1)
        return centre, spread

    @torch.no_grad()
    def sample_states(self, x: Tensor) -> Tensor:
        """Draw paths from p(z_{1:T} | x_{1:T}), (..., T), -1 past the end: filter ahead, draw backwards.

        Frühwirth-Schnatter (1994); Scott (2002), section 2.2.
        """
        known = self.filter(x).log()  # (..., T, K)
        # where each state came from at each step, drawn at once (Gumbel 1954); walking is then one look-up a step
        came = known[..., :-1, None, :] + self.transition_logits.log_softmax(-1).mT.unsqueeze(-3)
        came = (came - torch.empty_like(came).exponential_().log()).argmax(-1)  # (..., T - 1, K), by the later state
        last = known[..., -1, :]
        walk = [(last - torch.empty_like(last).exponential_().log()).argmax(-1, keepdim=True)]
        for step in reversed(came.unbind(-2)):
            walk.append(step.gather(-1, walk[-1]))
        path = torch.cat(walk[::-1], -1)
        return path if self.lengths is None else path.masked_fill(self._over(), -1)

    def forecast(self, x: Tensor, horizon: int) -> HiddenMarkovChain:
        """The distribution of the `horizon` steps that follow the last valid step of each sequence, given x."""
        states = self.smooth(x)  # (..., T, K)
        if self.lengths is None:
            last = states[..., -1, :]
        else:
            index = (self.lengths - 1)[..., None, None].expand(*states.shape[:-2], 1, self.states)
            last = states.gather(-2, index).squeeze(-2)
        ahead = (last.unsqueeze(-2) @ self.transition_logits.softmax(-1)).squeeze(-2)
        return HiddenMarkovChain(ahead.log(), self.transition_logits, self.emission, horizon)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The log density, (...), and its gradients by log p(x_t | z_t), (..., T, K), and by log A, (..., K, K)."""
        with torch.enable_grad():
            emission = self.emission_log_probs(x).detach()
            emission = emission.expand(*self._shape(x), *emission.shape[-2:]).requires_grad_()
            moves = self.transition_logits.detach().log_softmax(-1).requires_grad_()
            value = log_likelihood(self.initial_logits.detach(), moves, emission, normalise=False)
            states, counts = torch.autograd.grad(value.sum(), (emission, moves))
        return value.detach(), states, counts

    def _gradient(self, x: Tensor, combine: tree.Combine) -> tuple[Tensor, Tensor, Tensor]:
        """The value, (...), and its gradients by log p(x_t | z_t), (..., T, K), and log M, (..., T - 1, K, K)."""
        with torch.enable_grad():
            emission = self.emission_log_probs(x).detach()
            emission = emission.expand(*self._shape(x), *emission.shape[-2:]).contiguous().requires_grad_()
            first, blocks = tree.factors(self.initial_logits.detach(), self.transition_logits.detach(), emission)
            if self.lengths is not None and combine is tree.maximum:
                # past the end the states' probabilities sum to one, but their best path has less: stand still instead
                blocks = torch.where(self._over()[..., 1:, None, None], tree.stay(first), blocks)
            value = tree.product(first, blocks, combine)
            marks, moves = torch.autograd.grad(value.sum(), (emission, blocks))
        return value.detach(), marks, moves

    def _over(self) -> Tensor:
        """Whether each step lies past the end of its sequence, (*lengths.shape, T)."""
        if self.lengths is None:
            return torch.zeros(self.steps, dtype=torch.bool, device=self.initial_logits.device)
        return torch.arange(self.steps, device=self.lengths.device) >= self.lengths.unsqueeze(-1)

    def _shape(self, x: Tensor) -> torch.Size:
        return torch.Size(broadcast_shape(self.batch_shape, x.shape[: x.ndim - self.event_dim]))
