"""Widths of many latents: the diagonal of the empirical Fisher information, and the prior's own.

    precision_i = N Var_n( d log p(x_n | t) / d t_i ) + 1 / s_i^2

with gradients in the unconstrained space at a point t, and s the deviation there of draws of the prior. The variance is
taken over chunks of rows; what all chunks have in common, the gradient of the prior too, drops out. 256 gradients cost
about a second, where the Hessian of P latents costs P.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import biject_to

from inference.fitting.objective import Objective
from inference.fitting.step import Stepper
from inference.running.vectorised import Redraw, vectorised
from zoo.base import Batch, ModelGuide
from zoo.threads.handlers import unvalidated

_CHUNKS, _FEWEST, _DRAWS = 256, 16, 400


def precision(pair: ModelGuide, batch: Batch, objective: Objective, loc: Tensor) -> Tensor | None:
    """The diagonal at a point guide's `loc`, (P,), which stands in the pair now; None where rows are too few."""
    size = max(1, min(batch.size // _CHUNKS, 8))
    order = torch.randperm(batch.size).to(pair.device)
    pieces = [order[begin : begin + size] for begin in range(0, batch.size - size + 1, size)][:_CHUNKS]
    if len(pieces) < _FEWEST:
        return None
    stepper, one = (
        Stepper(pair, objective, "graph", fallback=True),
        torch.ones((), dtype=pair.dtype, device=pair.device),
    )
    place = list(stepper.parameters).index("auto.loc")
    with torch.enable_grad(), unvalidated():
        found = [batch.total * stepper(batch.select(rows), one)[1][place].double() for rows in pieces]
    information = torch.stack(found).var(0) * size / batch.total  # of chunks scaled to N rows
    precise = information + prior_width(pair, batch, loc).double().pow(-2)
    return precise.to(loc) if bool(torch.isfinite(precise).all()) and bool((precise > 0).all()) else None


def prior_width(pair: ModelGuide, batch: Batch, loc: Tensor) -> Tensor:
    """Deviations of draws of the prior in the guide's unconstrained space, (P,), by their middle part."""
    auto = pair.automatic
    few = batch.select(slice(0, 1))
    with torch.no_grad(), unvalidated():
        trace = vectorised(Redraw()(pair.model), few, _DRAWS, {}, frozenset())
    parts = []
    for name, site in auto.prototype_trace.iter_stochastic_nodes():  # type: ignore[union-attr]
        value = trace.nodes[name]["value"].squeeze(1)
        free = biject_to(site["fn"].support).inv(value).reshape(_DRAWS, -1)
        low, high = free.double().quantile(torch.tensor([0.16, 0.84], dtype=torch.float64, device=free.device), 0)
        parts.append((high - low) / 2)
    return torch.cat(parts).to(loc)
