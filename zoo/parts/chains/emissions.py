"""Log densities of the steps of a sequence under each hidden state, with missing steps and features left out.

Independent Gaussian features are the common case: on a CPU with numba `zoo.parts.chains.gaussian` does them.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import biject_to, constraints

from zoo.parts.chains import gaussian, native


def log_probs(emission: dist.TorchDistribution, x: Tensor, over: Tensor | None) -> Tensor:
    """log p(x_t | z_t = k), (..., T, K); zero where x_t is missing (NaN) or past the end.

    Args:
        emission: of one step in each state, batch shape (..., K) and event shape () or (D,).
        x: (..., T) or (..., T, D).
        over: whether each step lies past the end of its sequence, (..., T).
    """
    event_dim = len(emission.event_shape)
    past = over if over is None or not event_dim else over.unsqueeze(-1)
    given = normal(emission, x)
    if given is not None:
        seen = x if past is None else torch.where(past, torch.nan, x)
        return gaussian.log_probs(*given, seen if event_dim else seen.unsqueeze(-1))
    return _any(emission, x, ~x.isnan() if past is None else ~(x.isnan() | past))


def normal(emission: dist.TorchDistribution, x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Loc and scale, (..., K, D), of an emission of independent Gaussians that compiled loops can take; else None."""
    base = emission.base_dist if isinstance(emission, torch.distributions.Independent) else emission
    if not isinstance(base, torch.distributions.Normal):
        return None
    types = (torch.float32, torch.float64)
    fits = all(v.device.type == "cpu" and v.dtype in types for v in (x, base.loc))
    if not fits or x.requires_grad or not native.available():
        return None
    return (base.loc, base.scale) if emission.event_shape else (base.loc.unsqueeze(-1), base.scale.unsqueeze(-1))


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
