"""Log densities of the steps of a sequence under each hidden state, with missing steps and features left out.

Independent Gaussian features are the common case, and term by term they would make (T, K, D) numbers in several
passes. On a CPU with numba one compiled loop adds them up as they come,

    log p(x_t | k) = -sum_{d: x_td is there} [z_tkd^2 / 2 + log s_kd + log(2 pi) / 2],     z_tkd = (x_td - m_kd) / s_kd

in float64 whatever the inputs are, and another one makes the gradient: z / s by m and (z^2 - 1) / s by s.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from zoo.sequences import native

Array = Any  # of NumPy
SOME = 64  # steps taken at a time, innermost, so that the processor does several at once


def log_probs(emission: dist.TorchDistribution, x: Tensor, over: Tensor | None) -> Tensor:
    """log p(x_t | z_t = k), (..., T, K); zero where x_t is missing (NaN) or past the end.

    Args:
        emission: of one step in each state, batch shape (..., K) and event shape () or (D,).
        x: (..., T) or (..., T, D).
        over: whether each step lies past the end of its sequence, (..., T).
    """
    event_dim = len(emission.event_shape)
    past = over if over is None or not event_dim else over.unsqueeze(-1)
    normal = emission.base_dist if isinstance(emission, torch.distributions.Independent) else emission
    if isinstance(normal, torch.distributions.Normal) and _compilable(x, normal.loc):
        given = (normal.loc, normal.scale, x if past is None else torch.where(past, torch.nan, x))
        found: Tensor = _gaussian(*(given if event_dim else (value.unsqueeze(-1) for value in given)))
        return found
    return _any(emission, x, ~x.isnan() if past is None else ~(x.isnan() | past))


def _any(emission: dist.TorchDistribution, x: Tensor, seen: Tensor) -> Tensor:
    """The same of any emission, by its own `log_prob`."""
    event_dim = len(emission.event_shape)
    x, seen = torch.broadcast_tensors(x, seen)
    x, seen = (v[(None,) * max(0, len(emission.batch_shape) + event_dim - v.ndim)] for v in (x, seen))
    # (T, ..., 1) or (T, ..., 1, D)
    x, seen = (v.unsqueeze(-1 - event_dim).movedim(-2 - event_dim, 0) for v in (x, seen))
    # A NaN must not even be looked at, or its gradient is NaN.
    x = torch.where(seen, x, valid(elementwise(emission), x))
    if event_dim and isinstance(emission, torch.distributions.Independent):
        found = torch.where(seen, emission.base_dist.log_prob(x), 0).sum(-1)
    else:
        found = torch.where(seen.all(-1) if event_dim else seen, emission.log_prob(x), 0)
    return found.movedim(0, -2)


def elementwise(emission: dist.TorchDistribution) -> constraints.Constraint:
    """What one number of a step may be."""
    support: Any = emission.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    constraint: constraints.Constraint = support
    return constraint


def valid(support: constraints.Constraint, x: Tensor) -> Tensor:
    """Some value inside the support."""
    zero = x.new_zeros(())
    value: Tensor = zero + getattr(support, "lower_bound", 0) if support.is_discrete else biject_to(support)(zero)
    return value


def _compilable(x: Tensor, loc: Tensor) -> bool:
    types = (torch.float32, torch.float64)
    fits = all(v.device.type == "cpu" and v.dtype in types for v in (x, loc))
    return fits and not x.requires_grad and native.available()


def gaussian(loc: Array, scale: Array, x: Array, rows: Array, out: Array) -> None:
    """log p(x_t | k) of independent Gaussian features; NaN is missing. Compiled by `native`.

    Args:
        loc: (P, K, D), float64.
        scale: (P, K, D), float64.
        x: (X, T, D).
        rows: which of these each sequence uses, (B, 2).
        out: (B, T, K).
    """
    _, K, D = loc.shape
    there, known, total = np.zeros((D, SOME)), np.zeros((D, SOME)), np.zeros(SOME)
    for n in range(len(rows)):
        m, s, data = loc[rows[n, 0]], scale[rows[n, 0]], x[rows[n, 1]]
        for begin in range(0, len(data), SOME):
            count = min(SOME, len(data) - begin)
            for u in range(count):
                for d in range(D):
                    missing = np.isnan(data[begin + u, d])
                    there[d, u] = 0.0 if missing else 1.0
                    known[d, u] = 0.0 if missing else data[begin + u, d]
            for k in range(K):
                total[:] = 0.0
                for d in range(D):
                    middle, r = m[k, d], 1 / s[k, d]
                    constant = -np.log(s[k, d]) - 0.5 * np.log(2 * math.pi)
                    for u in range(count):
                        z = (known[d, u] - middle) * r
                        total[u] += there[d, u] * (constant - 0.5 * z * z)
                for u in range(count):
                    out[n, begin + u, k] = total[u]


@native.reordered
def gaussian_gradient(
    grad: Array, loc: Array, scale: Array, x: Array, rows: Array, grad_loc: Array, grad_scale: Array
) -> None:
    """Gradients by loc and scale, (P, K, D), added to, given that by `out`, (B, T, K); the rest as in `gaussian`."""
    _, K, D = loc.shape
    there, known, weight = np.zeros((D, SOME)), np.zeros((D, SOME)), np.zeros(SOME)
    for n in range(len(rows)):
        m, s, data = loc[rows[n, 0]], scale[rows[n, 0]], x[rows[n, 1]]
        for begin in range(0, len(data), SOME):
            count = min(SOME, len(data) - begin)
            for u in range(count):
                for d in range(D):
                    missing = np.isnan(data[begin + u, d])
                    there[d, u] = 0.0 if missing else 1.0
                    known[d, u] = 0.0 if missing else data[begin + u, d]
            for k in range(K):
                for u in range(count):
                    weight[u] = grad[n, begin + u, k]
                for d in range(D):
                    middle, r, first, second = m[k, d], 1 / s[k, d], 0.0, 0.0
                    for u in range(count):
                        z, g = (known[d, u] - middle) * r, there[d, u] * weight[u]
                        first += g * z
                        second += g * (z * z - 1)
                    grad_loc[rows[n, 0], k, d] += first * r
                    grad_scale[rows[n, 0], k, d] += second * r


@torch.library.custom_op("zoo::gaussian_steps", mutates_args=(), device_types="cpu")
def _gaussian(loc: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    """(..., T, K) of loc and scale (..., K, D) and x (..., T, D)."""
    lead, rows, (means, deviations, data) = _flat(loc, scale, x)
    out = x.new_empty(len(rows), x.shape[-2], loc.shape[-2], dtype=torch.promote_types(x.dtype, loc.dtype))
    native.run(gaussian, means, deviations, data, rows, out.numpy())
    return out.view(*lead, *out.shape[1:])


@torch.library.custom_op("zoo::gaussian_steps_gradient", mutates_args=(), device_types="cpu")
def _gaussian_gradient(grad: Tensor, loc: Tensor, scale: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by loc and scale given that of the result."""
    _, rows, given = _flat(loc, scale, x)
    out = [np.zeros_like(v) for v in given[:2]]
    flat = grad.reshape(len(rows), *grad.shape[-2:]).contiguous().numpy()
    native.run(gaussian_gradient, flat, *given, rows, *out)
    shape = torch.broadcast_shapes(loc.shape, scale.shape)
    by_loc, by_scale = (torch.from_numpy(v).view(shape).to(loc.dtype) for v in out)
    return by_loc.sum_to_size(loc.shape), by_scale.sum_to_size(scale.shape)


def _flat(loc: Tensor, scale: Tensor, x: Tensor) -> tuple[tuple[int, ...], Array, list[Array]]:
    """The batch shape, which entries a sequence uses, (B, 2), and the inputs with their batch dimensions as one."""
    loc, scale = torch.broadcast_tensors(loc, scale)
    lead, rows = native.rows(loc.shape[:-2], x.shape[:-2])
    flat = [v.reshape(-1, *v.shape[-2:]).contiguous() for v in (loc.double(), scale.double(), x)]
    return lead, rows, [v.numpy() for v in flat]


@_gaussian.register_fake
def _(loc: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    lead = torch.broadcast_shapes(loc.shape[:-2], scale.shape[:-2], x.shape[:-2])
    return x.new_empty(*lead, x.shape[-2], loc.shape[-2], dtype=torch.promote_types(x.dtype, loc.dtype))


@_gaussian_gradient.register_fake
def _(grad: Tensor, loc: Tensor, scale: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return loc.new_empty(loc.shape), loc.new_empty(scale.shape)


def _remember(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    loc, scale, x = ctx.saved_tensors
    if not torch.is_grad_enabled():
        return (*_gaussian_gradient(grad, loc, scale, x), None)
    # A gradient that is to be differentiated in its turn.
    given = [v if v.requires_grad else v.detach().requires_grad_() for v in (loc, scale)]
    again = _any(dist.Normal(given[0], given[1], validate_args=False).to_event(1), x, ~x.isnan())
    return (*torch.autograd.grad(again, given, grad, create_graph=True), None)


_gaussian.register_autograd(_backward, setup_context=_remember)
