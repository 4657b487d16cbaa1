"""The mean and the variance of a response, given covariates, under each draw of a posterior."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from inference.data.accept import designed, is_table
from inference.data.check import check, check_pair
from inference.posterior.latents import Posterior
from inference.running.checked import Checked, at
from inference.running.vectorised import vectorised
from zoo.base import ModelGuide


def explaining(pair: ModelGuide, data: Any, what: str) -> Checked:
    """Rows of covariates of a pair that explains y by x; the response, where the data hold it, is left out.

    Raises:
        ValueError: the pair explains no y, reads sequences, or has a latent of each row; data that do not fit it.
    """
    check_pair(pair)
    if pair.design is not None and is_table(data):
        data = designed(pair.design, data, response=False)
    given = check(pair, data, complete=False)
    sites = given.sites
    if "y" not in sites or not sites["y"].observed or given.batch.x is None or given.batch.x.ndim != 2:
        raise ValueError(f"{pair.name}: explains no response y by covariates x, (N, D), so it has no {what}")
    if any(site.local and not site.observed for site in sites.values()):
        raise ValueError(f"{pair.name}: its rows have latents of their own ({what} are of a y that covariates explain)")
    return given.but(given.batch.but(y=None, total=given.size))


def swept(posterior: Posterior, given: Checked) -> Iterator[tuple[slice, slice, Any]]:
    """The distribution of y in pieces: which draws, which rows, and it, (S, B)."""
    values = posterior.flat(posterior.globals)
    for rows, part, some in given.sweep(posterior.chains * posterior.size):
        count = some.stop - some.start
        yield some, rows, vectorised(given.pair.model, part, count, at(values, some), frozenset()).nodes["y"]["fn"]


def mean_of(fn: Any) -> Tensor:
    """The mean of y, or the probability of each class, (S, B, K)."""
    found: Tensor = fn.probs if fn.support.is_discrete and hasattr(fn, "probs") else fn.mean.unsqueeze(-1)
    return found


def means(posterior: Posterior, given: Checked) -> Tensor:
    """The mean of y, or the probability of each class, at each row under each draw, (S, N, K)."""
    found = torch.empty(0)
    for some, rows, fn in swept(posterior, given):
        mean = mean_of(fn)
        if not found.numel():
            found = mean.new_empty(posterior.chains * posterior.size, given.size, mean.shape[-1])
        found[some, rows] = mean.expand(some.stop - some.start, rows.stop - rows.start, mean.shape[-1])
    return found


def moments(posterior: Posterior, given: Checked) -> tuple[Tensor, Tensor]:
    """The mean and variance of y (of the indicator of each class) at each row under each draw, (S, N, K) both."""
    total = posterior.chains * posterior.size
    mean = variance = torch.empty(0)
    for some, rows, fn in swept(posterior, given):
        m = mean_of(fn)
        v = m * (1 - m) if fn.support.is_discrete else fn.variance.unsqueeze(-1)
        if not mean.numel():
            mean, variance = m.new_empty(total, given.size, m.shape[-1]), m.new_empty(total, given.size, m.shape[-1])
        mean[some, rows], variance[some, rows] = m, v.expand(m.shape)
    return mean, variance


def averaged(posterior: Posterior, given: Checked, weight: Tensor) -> Tensor:
    """Sums over rows of the mean of y, each row times its weight (N,), under each draw, (S, K)."""
    found: Tensor | None = None
    for some, rows, fn in swept(posterior, given):
        part = (mean_of(fn) * weight[rows].unsqueeze(-1)).sum(1)  # (S', K)
        if found is None:
            found = part.new_zeros(posterior.chains * posterior.size, part.shape[-1])
        found[some] += part
    if found is None:
        raise ValueError("at least one draw and one row are needed")
    return found
