"""Second derivatives of the log joint in the unconstrained space of the global latents.

They give automatic guides a start of the right width, and the Laplace guide its covariance. A posterior a hundred times
narrower than a guide's first width would otherwise be approached slowly enough to look like convergence.

By automatic differentiation twice; where the data are large, by central differences of gradients, which cost P + 1 runs
of a native gradient in place of P through the slow way that can be differentiated again; where there are many latents,
the diagonal alone, from the variance of the rows' gradients (the empirical Fisher information), and the prior's widths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pyro import poutine
from torch import Tensor
from torch.func import functional_call

from inference.fitting import fisher
from inference.fitting.objective import Objective
from inference.fitting.step import BoundCall
from inference.running.pieces import chunks
from zoo import guides
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.threads.handlers import unvalidated

_LARGE = 1 << 16  # numbers in the data
_PART = {torch.float32: 0.1, torch.float64: 0.01}  # of a width: of third order nothing is left, of rounding neither


def set_widths(pair: ModelGuide, batch: Batch, objective: Objective, values: Mapping[str, Tensor]) -> bool:
    """Start the automatic guide at the Laplace approximation at `values`, in place; False where there is none.

    A full-covariance guide takes all of it, the others each latent's conditional width.
    """
    auto = pair.automatic
    if not isinstance(auto, guides.Standardised) or not values:
        return False
    some = some_rows(batch, pair.device)
    with as_point(pair, some, values) as loc:
        if len(loc) > settings.hessian_latents:  # a Hessian row costs as much as a few steps
            precision = fisher.precision(pair, some, objective, loc)
            if precision is None:
                return False
            auto.standardise(precision.rsqrt())
            return True
        hessian = _hessian(negative_log_joint(pair, some, objective), loc, large(some))
    factor, info = torch.linalg.cholesky_ex(hessian)
    if info or not bool(torch.isfinite(factor).all()):
        return False
    auto.standardise(hessian.diagonal().rsqrt(), torch.linalg.cholesky(torch.cholesky_inverse(factor)))
    return True


def curve(pair: ModelGuide, batch: Batch, objective: Objective) -> None:
    """From where Adam stopped to the mode (L-BFGS), then the curvature there, for the Laplace guide."""
    auto: Any = pair.automatic
    function = negative_log_joint(pair, batch, objective)
    loc = auto.loc.detach().clone().requires_grad_()
    search = torch.optim.LBFGS([loc], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        value = function(loc)
        value.backward()
        return value

    with torch.enable_grad(), unvalidated():
        search.step(closure)
    mode = loc.detach() if torch.isfinite(loc).all() else auto.loc.detach()
    with torch.no_grad():
        auto.loc.copy_(mode)
    auto.curve(_hessian(function, mode, large(batch)))


def negative_log_joint(pair: ModelGuide, batch: Batch, objective: Objective) -> Callable[[Tensor], Tensor]:
    """Minus log p(data, globals) as a function of a point guide's unconstrained `loc`, (P,)."""
    call = BoundCall(pair, objective)
    one = torch.ones((), dtype=pair.dtype, device=pair.device)

    def function(loc: Tensor) -> Tensor:
        pieces = [piece for _, piece in chunks(batch, max(1, settings.hessian_rows))]
        losses = [piece.size * functional_call(call, {"pair.auto.loc": loc}, (piece, one)) for piece in pieces]
        return torch.stack(losses).sum() * (batch.total / batch.size)

    return function


def hessian_of(pair: ModelGuide, batch: Batch, objective: Objective) -> Callable[[Tensor], Tensor]:
    """Second derivatives of minus the log joint density at a point guide's `loc`, (P, P)."""
    function = negative_log_joint(pair, batch, objective)
    return lambda loc: _hessian(function, loc, large(batch))


def large(batch: Batch) -> bool:
    """Whether differences of gradients are cheaper than differentiating twice."""
    return sum(value.numel() for value in batch.fields().values()) > _LARGE


def _hessian(function: Callable[[Tensor], Tensor], loc: Tensor, differences: bool) -> Tensor:
    with torch.enable_grad(), unvalidated():
        if differences:
            found = _by_differences(function, loc.detach())
        else:
            found = torch.autograd.functional.hessian(function, loc.detach().clone())
    return (found + found.mT) / 2


def _by_differences(function: Callable[[Tensor], Tensor], loc: Tensor) -> Tensor:
    """Central differences of the gradient, (P, P), each step a small part of the latent's own width."""

    def gradient(at: Tensor) -> Tensor:
        at = at.detach().requires_grad_()
        return torch.autograd.grad(function(at), at)[0]

    part = _PART[loc.dtype]
    signs = torch.ones_like(loc)
    signs[1::2] = -1.0
    size = 1e-3 * (1 + loc.abs()) * signs
    rough = ((gradient(loc + size) - gradient(loc - size)) / (2 * size)).abs()  # as wide as the correlations let it be
    steps = part * rough.clamp(min=1.0).rsqrt()
    for _ in range(2):
        found = torch.stack(
            [(gradient(loc + step) - gradient(loc - step)) / (2 * step.sum()) for step in steps.diag_embed()]
        )
        wanted = part * found.diagonal().abs().clamp(min=1e-12).rsqrt()
        if bool(((steps / wanted).log().abs() < math.log(10)).all()):
            break
        steps = wanted
    return found


def some_rows(batch: Batch, device: torch.device) -> Batch:
    """All rows, or as many at random as the curvature is taken over."""
    some = which_rows(batch.size)
    return batch if some is None else batch.select(some.to(device))


def which_rows(size: int) -> Tensor | None:
    """As many of so many rows, at random, as the curvature is taken over; None for all."""
    most = settings.hessian_rows
    return None if size <= most else torch.randperm(size)[:most]


@contextmanager
def as_point(pair: ModelGuide, batch: Batch, values: Mapping[str, Tensor] | None = None) -> Iterator[Tensor]:
    """The pair with a point in place of its automatic guide, for a while; yields the point, (P,)."""
    point = guides.build("laplace", pair.model, values)
    with poutine.block(), torch.no_grad():
        point(batch)
    with pair.guided_by(point.to(device=pair.device, dtype=pair.dtype)):
        yield point.loc.detach()
