"""The log-likelihood of a hidden Markov chain and its gradient, by the forward-backward algorithm.

With logs of start pi, transition matrix A and emission densities b as inputs the gradient is what Baum-Welch expects

    d log p(x) / d log pi(k) = p(z_1 = k | x)          d log p(x) / d log A(i, j) = sum_t p(z_t = i, z_{t+1} = j | x)
    d log p(x) / d log b_t(k) = p(z_t = k | x)

(Rabiner 1989, section III; Salakhutdinov, Roweis & Ghahramani 2003). On a CPU with numba both are loops over the steps
(`zoo.sequences.kernels`), in float64 whatever the inputs are, as an operator that automatic differentiation, tracing
and compilers take for one of torch's own. Everywhere else, and for second derivatives, `zoo.sequences.tree` does it.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from zoo.sequences import kernels, native, tree


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
        value, _, states, lost = _forward(initial, transition, emission, True)
        if not lost.any():
            known: Tensor = states / states.sum(-1, keepdim=True)
            return known.view(*value.shape, *states.shape[1:]).to(value.dtype)
    first, blocks = tree.blocks_of(initial, transition, emission)
    first = first.expand(*torch.broadcast_shapes(first.shape[:-1], blocks.shape[:-3]), -1)
    found = [first.log_softmax(-1)]
    for block in blocks.unbind(-3):
        found.append((found[-1].unsqueeze(-1) + block).logsumexp(-2).log_softmax(-1))
    return torch.stack(found, -2).exp()


def compilable(dtype: torch.dtype) -> bool:
    """Whether the compiled loops take this type."""
    return dtype in (torch.float32, torch.float64) and native.available()


@torch.library.custom_op("zoo::hidden_markov", mutates_args=(), device_types="cpu")
def _forward(
    initial: Tensor, transition: Tensor, emission: Tensor, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The values, (...), and for the gradient, if it is to come: densities, filtered states and who lost a state."""
    lead, rows, given = _flat(initial, transition, emission)
    logs = given[-1]
    scaled, peaks = logs.new_empty(logs.shape, dtype=torch.float64), torch.empty(len(logs), dtype=torch.float64)
    native.run(kernels.differences, *_arrays(logs, scaled, peaks))
    scaled.exp_()
    filtered = scaled.new_empty(len(rows) if keep else 0, *logs.shape[1:])
    value, lost = scaled.new_empty(len(rows)), torch.empty(len(rows), dtype=torch.bool)
    native.run(kernels.forward, *_arrays(*given, scaled, peaks), rows, *_arrays(filtered, value, lost))
    if lost.any():
        none = [x.new_empty(0, *x.shape[1:]) for x in given]
        native.run(kernels.exact, *_arrays(lost), False, *_arrays(value, *given), rows, *_arrays(value, *none))
    return value.view(lead).to(emission.dtype), scaled if keep else scaled.new_empty(0), filtered, lost


@torch.library.custom_op("zoo::hidden_markov_gradient", mutates_args=(), device_types="cpu")
def _gradient(
    grad: Tensor,
    initial: Tensor,
    transition: Tensor,
    emission: Tensor,
    value: Tensor,
    scaled: Tensor,
    filtered: Tensor,
    lost: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by initial, transition and emission, in their shapes, given that of the values."""
    _, rows, given = _flat(initial, transition, emission)
    weights, values = (x.reshape(-1).to(torch.float64).contiguous() for x in (grad, value))
    out = [torch.zeros_like(x) for x in given]
    after = filtered.new_empty(len(rows), filtered.shape[1] - 1, filtered.shape[2])
    used = _arrays(weights, given[1], scaled, filtered, values, lost)
    native.run(kernels.backward, *used, rows, *_arrays(after, out[0], out[2]))
    counts = filtered[:, :-1].mT @ after  # (B, K, K)
    out[1].index_add_(0, torch.from_numpy(rows[:, 1]), given[1].exp()[rows[:, 1]] * counts)
    if lost.any():
        native.run(kernels.exact, *_arrays(lost), True, *_arrays(weights, *given), rows, *_arrays(values, *out))
    first, moves, states = (g.view(x.shape) for g, x in zip(out, (initial, transition, emission), strict=True))
    return first.to(emission.dtype), moves.to(emission.dtype), states


def _flat(initial: Tensor, transition: Tensor, emission: Tensor) -> tuple[tuple[int, ...], Any, list[Tensor]]:
    """The batch shape, which entries a sequence uses, (B, 3), and the inputs with their batch dimensions as one."""
    events = ((initial, 1), (transition, 2), (emission, 2))
    lead, rows = native.rows(*(x.shape[: x.ndim - event] for x, event in events))
    flat = [x.reshape(-1, *x.shape[x.ndim - event :]).contiguous() for x, event in events]
    return lead, rows, [flat[0].to(torch.float64), flat[1].to(torch.float64), flat[2]]


def _arrays(*tensors: Tensor) -> list[Any]:
    return [x.numpy() for x in tensors]


@_forward.register_fake
def _(initial: Tensor, transition: Tensor, emission: Tensor, keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    value = emission.new_empty(torch.broadcast_shapes(initial.shape[:-1], transition.shape[:-2], emission.shape[:-2]))
    filtered = emission.new_empty(value.numel() if keep else 0, *emission.shape[-2:], dtype=torch.float64)
    kept = emission.reshape(-1, *emission.shape[-2:]) if keep else emission.new_empty(0)
    return (
        value,
        torch.empty_like(kept, dtype=torch.float64),
        filtered,
        value.new_empty(value.numel(), dtype=torch.bool),
    )


@_gradient.register_fake
def _(grad: Tensor, initial: Tensor, transition: Tensor, emission: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (initial, transition, emission))


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3], *output)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    initial, transition, emission, value, scaled, filtered, lost = ctx.saved_tensors
    again = torch.is_grad_enabled()  # the gradient is to be differentiated in its turn
    if filtered.numel() and not again:
        return (*_gradient(grad, initial, transition, emission, value, scaled, filtered, lost), None)
    with torch.enable_grad():
        given = [x if x.requires_grad else x.detach().requires_grad_() for x in (initial, transition, emission)]
        return (*torch.autograd.grad(tree.sum_of_paths(*given), given, grad, create_graph=again), None)


_forward.register_autograd(_backward, setup_context=_remember)
