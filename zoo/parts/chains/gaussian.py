"""Log densities of independent Gaussian features under each hidden state, and a whole chain that emits these.

Term by term they would make (T, K, D) numbers in several passes. One compiled loop adds them up as they come,

    log p(x_t | k) = -sum_{d: x_td is there} [z_tkd^2 / 2 + log s_kd + log(2 pi) / 2],     z_tkd = (x_td - m_kd) / s_kd

in float64 whatever the inputs are, and another one makes the gradient: z / s by m and (z^2 - 1) / s by s. For a chain
these are weighed by the states expected, and the whole log-likelihood with all of its gradients is one operator.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from zoo.lean import operator
from zoo.parts.chains import features, native, tree
from zoo.parts.chains.forward_backward import expected, flat, weighted

Array = Any  # of NumPy


def log_probs(loc: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """log p(x_t | k), (..., T, K), of loc and scale (..., K, D) and x (..., T, D), with NaN left out."""
    found: Tensor = _gaussian(loc, scale, x)
    return found


def log_likelihood(
    initial_logits: Tensor, transition_logits: Tensor, loc: Tensor, scale: Tensor, x: Tensor, lengths: Tensor | None
) -> Tensor:
    """Log-probability of each sequence, (...), the states summed out; logits are normalised here, NaN are left out.

    Args:
        initial_logits: (..., K).
        transition_logits: (..., K, K).
        loc: (..., K, D).
        scale: (..., K, D).
        x: (..., T, D).
        lengths: how many steps count, (...); None: all.
    """
    given = (initial_logits.log_softmax(-1), transition_logits.log_softmax(-1), loc, scale)
    keep = torch.is_grad_enabled() and any(v.requires_grad for v in given)
    value: Tensor = _chain(*given, x, lengths, keep)[0]
    return value


def plain(loc: Tensor, scale: Tensor, x: Tensor, seen: Tensor) -> Tensor:
    """The same as `log_probs` by torch's own operators, where `seen`, (..., T, D)."""
    z = (torch.where(seen, x, 0).unsqueeze(-2) - loc.unsqueeze(-3)) / scale.unsqueeze(-3)  # (..., T, K, D)
    terms = -0.5 * z.square() - scale.unsqueeze(-3).log() - 0.5 * math.log(2 * math.pi)
    return torch.where(seen.unsqueeze(-2), terms, 0).sum(-1)


@operator("zoo::gaussian_steps")
def _gaussian(loc: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    lead, rows, given = _flat(loc, scale, x, ())
    out = np.empty((len(rows), x.shape[-2], loc.shape[-2]))
    native.run(features.log_density, *given, np.full(len(rows), x.shape[-2]), rows, out)
    return torch.from_numpy(out).view(*lead, *out.shape[1:]).to(torch.promote_types(x.dtype, loc.dtype))


@operator("zoo::gaussian_steps_gradient")
def _gaussian_gradient(grad: Tensor, loc: Tensor, scale: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by loc and scale given that of the result."""
    lead, rows, given = _flat(loc, scale, x, ())
    each = [np.empty((len(rows), *loc.shape[-2:])) for _ in range(2)]
    native.run(features.gradient, flat(grad, 2), *given, np.full(len(rows), x.shape[-2]), rows, *each)
    one = grad.new_ones(lead, dtype=torch.float64)
    return weighted(one, torch.from_numpy(each[0]), loc), weighted(one, torch.from_numpy(each[1]), scale)


@operator("zoo::gaussian_hidden_markov")
def _chain(
    initial: Tensor, transition: Tensor, loc: Tensor, scale: Tensor, x: Tensor, lengths: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The values, (...), and what is expected of each sequence: first states, moves, gradients by loc and scale."""
    steps, K = x.shape[-2], loc.shape[-2]
    emitted, pairs, given = _flat(loc, scale, x, () if lengths is None else lengths.shape)
    ends = np.full(1, steps) if lengths is None else lengths.reshape(-1).to(torch.int64).numpy()
    ends = ends[pairs[:, 2]]
    logs = np.empty((len(pairs), steps, K))
    native.run(features.log_density, *given, ends, pairs, logs)
    lead, rows = native.rows(initial.shape[:-1], transition.shape[:-2], emitted)
    value, states, moves = expected(flat(initial, 1), flat(transition, 2), logs, ends, rows, keep)
    each = [np.empty((len(states), *loc.shape[-2:])) for _ in range(2)]
    if keep:
        native.run(features.gradient, states, *given, ends[rows[:, 2]], pairs[rows[:, 2]], *each)
    found = [torch.from_numpy(v) for v in (states[:, 0, :K].copy(), moves, *each)]
    dtype = torch.promote_types(torch.promote_types(x.dtype, loc.dtype), initial.dtype)
    return torch.from_numpy(value).view(lead).to(dtype), found[0], found[1], found[2], found[3]


def _flat(
    loc: Tensor, scale: Tensor, x: Tensor, lengths: tuple[int, ...]
) -> tuple[tuple[int, ...], Array, list[Array]]:
    """The batch shape, which entries a sequence uses, (B, 3), and the inputs with their batch dimensions as one."""
    loc, scale = torch.broadcast_tensors(loc, scale)
    lead, rows = native.rows(loc.shape[:-2], x.shape[:-2], lengths)
    return lead, rows, [flat(v, 2) for v in (loc, scale, x)]


@_gaussian.register_fake
def _(loc: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    lead = broadcast_shape(loc.shape[:-2], scale.shape[:-2], x.shape[:-2])
    return x.new_empty(*lead, x.shape[-2], loc.shape[-2], dtype=torch.promote_types(x.dtype, loc.dtype))


@_gaussian_gradient.register_fake
def _(grad: Tensor, loc: Tensor, scale: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return loc.new_empty(loc.shape), scale.new_empty(scale.shape)


@_chain.register_fake
def _(
    initial: Tensor, transition: Tensor, loc: Tensor, scale: Tensor, x: Tensor, lengths: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    end = () if lengths is None else lengths.shape
    emitted = broadcast_shape(loc.shape[:-2], scale.shape[:-2], x.shape[:-2], end)
    lead = broadcast_shape(initial.shape[:-1], transition.shape[:-2], emitted)
    dtype = torch.promote_types(torch.promote_types(x.dtype, loc.dtype), initial.dtype)
    value, (K, D) = x.new_empty(lead, dtype=dtype), loc.shape[-2:]
    shapes = ((K,), (K, K), (K, D), (K, D))
    first, moves, by_loc, by_scale = (
        value.new_empty(value.numel() if keep else 0, *shape, dtype=torch.float64) for shape in shapes
    )
    return value, first, moves, by_loc, by_scale


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    loc, scale, x = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return (*_gaussian_gradient(grad, loc, scale, x), None)
    # A gradient that is to be differentiated in its turn.
    given = [v if v.requires_grad else v.detach().requires_grad_() for v in (loc, scale)]
    again = plain(given[0], given[1], x, ~x.isnan())
    return (*torch.autograd.grad(again, given, grad, create_graph=True), None)


def _remember_chain(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:6], *output[1:])
    ctx.set_materialize_grads(False)


def _backward_chain(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 7
    *given, x, lengths, first, moves, by_loc, by_scale = ctx.saved_tensors
    again = torch.is_grad_enabled()
    if first.numel() and not again:
        each = zip((first, moves, by_loc, by_scale), given, strict=True)
        return (*(weighted(grad, mine, like) for mine, like in each), None, None, None)
    with torch.enable_grad():
        given = [v if v.requires_grad else v.detach().requires_grad_() for v in given]
        seen = ~x.isnan()
        if lengths is not None:
            seen = seen & (torch.arange(x.shape[-2]) < lengths.unsqueeze(-1)).unsqueeze(-1)
        value = tree.sum_of_paths(given[0], given[1], plain(given[2], given[3], x, seen))
        return (*torch.autograd.grad(value, given, grad, create_graph=again), None, None, None)


_gaussian.register_autograd(_backward, setup_context=_remember)


_chain.register_autograd(_backward_chain, setup_context=_remember_chain)
