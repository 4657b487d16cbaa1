"""The log-likelihood of a hidden Markov chain and its gradient, by the forward-backward algorithm.

With logs of start pi, transition matrix A and emission densities b as inputs the gradient is what Baum-Welch expects

    d log p(x) / d log pi(k) = p(z_1 = k | x)          d log p(x) / d log A(i, j) = sum_t p(z_t = i, z_{t+1} = j | x)
    d log p(x) / d log b_t(k) = p(z_t = k | x)

(Rabiner 1989, section III; Salakhutdinov, Roweis & Ghahramani 2003). On a CPU with numba loops over the steps
(`zoo.parts.chains.kernels`, `zoo.parts.chains.two_ways`) work out both at once, in float64 whatever the inputs are, as
an operator that automatic differentiation, tracing and compilers take for one of torch's own. Everywhere else, and for
second derivatives, `zoo.parts.chains.tree` does it.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from zoo.lean import operator
from zoo.parts.chains import kernels, native, tree, two_ways

Array = Any  # of NumPy


def log_likelihood(
    initial_logits: Tensor, transition_logits: Tensor, emission_log_probs: Tensor, normalise: bool = True
) -> Tensor:
    """Log-probability of each sequence, the states summed out.

    Every dimension left of the shown ones broadcasts, and nothing is repeated for it. A step that says nothing has
    emission log-probabilities zero. Logits may be -inf: gradients stay finite.

    Args:
        initial_logits: of the first state, (..., K), not necessarily normalised.
        transition_logits: row i is the next state given state i, (..., K, K), rows not necessarily normalised.
        emission_log_probs: log p(x_t | z_t = k), (..., T, K).
        normalise: whether to normalise the transition logits; gradients by logs that are normalised already are the
            expected numbers of moves only if it is left out.

    Returns:
        (...), -inf where no path is possible.
    """
    given = (
        initial_logits.log_softmax(-1),
        transition_logits.log_softmax(-1) if normalise else transition_logits,
        emission_log_probs,
    )
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in given))
    initial, transition, emission = (x.to(dtype) for x in given)
    if not (compilable(dtype) and all(x.device.type == "cpu" for x in given)):
        return tree.sum_of_paths(initial, transition, emission)
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in given)
    value: Tensor = _forward(initial, transition, emission, keep)[0]
    return value


def filtered(initial: Tensor, transition: Tensor, emission: Tensor) -> Tensor:
    """p(z_t = k | x_1..x_t), (..., T, K), of logs that are normalised and of one type; without gradients."""
    if compilable(emission.dtype) and emission.device.type == "cpu":
        lead, rows, (start, moves, logs) = _flat(initial, transition, emission)
        states = np.empty((len(rows), *logs.shape[1:]))
        lengths = np.full(len(logs), logs.shape[1])
        if not _forward_only(start, moves, *relative(logs), lengths, rows, states)[1].any():
            found = torch.from_numpy(states / states.sum(-1, keepdims=True))
            return found.view(*lead, *states.shape[1:]).to(emission.dtype)
    first, blocks = tree.blocks_of(initial, transition, emission)
    first = first.expand(*broadcast_shape(first.shape[:-1], blocks.shape[:-3]), -1)
    known = [first.log_softmax(-1)]
    for block in blocks.unbind(-3):
        known.append((known[-1].unsqueeze(-1) + block).logsumexp(-2).log_softmax(-1))
    return torch.stack(known, -2).exp()


def compilable(dtype: torch.dtype) -> bool:
    """Whether the compiled loops take this type."""
    return dtype in (torch.float32, torch.float64) and native.available()


def expected(
    start: Array, transition: Array, logs: Array, lengths: Array, rows: Array, keep: bool
) -> tuple[Array, Array, Array]:
    """The value of each sequence, (B,), and p(z_t | x), (B, T, K or more), and the moves expected, (B, K, K).

    Args:
        start: log-probabilities of the first state, (I, K), and so on in float64.
        transition: log-probabilities, (M, K, K).
        logs: emission log-probabilities, (E, T, K).
        lengths: how many steps count, (E,); the states after them are zero.
        rows: which of these each sequence uses, (B, 3).
        keep: whether to work out more than the values; otherwise what is expected holds no sequence.
    """
    (T, K), B = logs.shape[1:], len(rows) if keep else 0
    scaled, peaks = relative(logs)
    states, moves = np.empty((B, *scaled.shape[1:])), np.empty((B, K, K))
    if keep and min(start.min(), transition.min()) > math.log(kernels.POSSIBLE):
        value = np.empty(B)
        native.run(two_ways.expected, start, transition, scaled, peaks, lengths, rows, value, states, moves)
        return value, states, moves
    known, states = np.empty((B, T, K)), states[..., :K].copy()
    value, lost = _forward_only(start, transition, scaled, peaks, lengths, rows, known)
    if keep:
        after = np.empty((B, T - 1, K))
        native.run(kernels.backward, transition, scaled, lengths, known, value, lost, rows, after, states)
        moves[...] = np.exp(transition)[rows[:, 1]] * (np.swapaxes(known[:, :-1], 1, 2) @ after)
    if lost.any():
        native.run(kernels.exact, lost, start, transition, logs, lengths, rows, value, states, moves)
    return value, states, moves


def relative(logs: Array) -> tuple[Array, Array]:
    """Emission probabilities relative to the largest of each step, (E, T, L), and the sums of its logs, (E,)."""
    scaled, peaks = torch.empty(*logs.shape[:2], -(-logs.shape[2] // 4) * 4, dtype=torch.float64), np.empty(len(logs))
    native.run(kernels.differences, logs, scaled.numpy(), peaks)
    return scaled.exp_().numpy(), peaks


def _forward_only(
    start: Array, transition: Array, scaled: Array, peaks: Array, lengths: Array, rows: Array, known: Array
) -> tuple[Array, Array]:
    """The value of each sequence, and whether it lost a state that matters, (B,); `known` gets the filtered states."""
    value, lost = np.empty(len(rows)), np.empty(len(rows), dtype=np.bool_)
    native.run(kernels.forward, start, transition, scaled, peaks, lengths, rows, known, value, lost)
    return value, lost


@operator("zoo::hidden_markov")
def _forward(initial: Tensor, transition: Tensor, emission: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The values, (...), and for the gradient, if it is to come: states, (B, T, K), and moves, (B, K, K)."""
    lead, rows, (start, transitions, logs) = _flat(initial, transition, emission)
    found = expected(start, transitions, logs, np.full(len(logs), emission.shape[-2]), rows, keep)
    value, states, moves = (torch.from_numpy(x) for x in found)
    states = states[..., : emission.shape[-1]].to(emission.dtype).contiguous()
    return value.view(lead).to(emission.dtype), states, moves


def _flat(initial: Tensor, transition: Tensor, emission: Tensor) -> tuple[tuple[int, ...], Array, list[Array]]:
    """The batch shape, which entries a sequence uses, (B, 3), and the inputs with their batch dimensions as one."""
    events = ((initial, 1), (transition, 2), (emission, 2))
    lead, rows = native.rows(*(x.shape[: x.ndim - event] for x, event in events))
    return lead, rows, [flat(x, event) for x, event in events]


def flat(x: Tensor, event: int) -> Array:
    """The batch dimensions left of so many as one, in float64."""
    array: Array = x.reshape(-1, *x.shape[x.ndim - event :]).to(torch.float64).contiguous().numpy()
    return array


@_forward.register_fake
def _(initial: Tensor, transition: Tensor, emission: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    value = emission.new_empty(broadcast_shape(initial.shape[:-1], transition.shape[:-2], emission.shape[:-2]))
    B, (T, K) = value.numel() if keep else 0, emission.shape[-2:]
    return value, emission.new_empty(B, T, K), emission.new_empty(B, K, K, dtype=torch.float64)


def weighted(grad: Tensor, each: Tensor, like: Tensor) -> Tensor:
    """Gradients of the sequences, (B, *event), weighed, (...), and summed over those that share an entry of `like`."""
    lead = grad.view(*grad.shape, *[1] * (each.ndim - 1))
    return (lead * each.view(*grad.shape, *each.shape[1:])).sum_to_size(like.shape).to(like.dtype)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3], *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    *given, states, moves = ctx.saved_tensors
    again = torch.is_grad_enabled()  # the gradient is to be differentiated in its turn
    if moves.numel() and not again:
        return *map(functools.partial(weighted, grad), (states[:, 0], moves, states), given), None
    with torch.enable_grad():
        given = [x if x.requires_grad else x.detach().requires_grad_() for x in given]
        return (*torch.autograd.grad(tree.sum_of_paths(*given), given, grad, create_graph=again), None)


_forward.register_autograd(_backward, setup_context=_remember)
