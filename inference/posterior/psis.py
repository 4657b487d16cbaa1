"""Pareto-smoothed importance sampling (Vehtari et al. 2024): weights, the shape k̂ of their tail, their effective share.

k̂ looks at the tail alone. Weights that are nearly one have a tail too, whose shape says nothing of how well they
correct: a guide within 0.002 nats of the log evidence had k̂ = 3.89. So the effective sample size stands beside it, as a
share of the draws: (sum w)^2 / (S sum w^2) = 1 / (1 + variance of w over squared mean), 1 where all weights are equal.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

Numbers = np.ndarray[Any, np.dtype[np.float64]]
LEAST = 25  # draws whose tail, a fifth of them, has the 5 that a Pareto distribution is fitted to
EXACT = 0.99  # share from which weights are called equal: a guide within about 0.005 nats of its posterior


def threshold(draws: int) -> float:
    """The k̂ up to which the weights of so many draws can correct: min(1 - 1 / log10 S, 0.7).

    0.667 at 1,000 draws, 0.629 at 500 (Vehtari et al. 2024, section 3.2.4); ArviZ judges by the same. 0 for up to 10.
    """
    return max(0.0, min(1 - 1 / math.log10(draws), 0.7)) if draws > 1 else 0.0


def check_enough(name: str, draws: int, what: str = "a k̂") -> None:
    """Refuse draws too few to tell the shape of their tail.

    Raises:
        ValueError: by name of what they are.
    """
    if draws < LEAST:
        raise ValueError(f"{name}: {what} needs at least {LEAST}, for a tail of 5, got {draws}")


@np.errstate(all="ignore")
def effective_share(log_ratios: np.ndarray[Any, Any]) -> Numbers:
    """Effective sample size of the weights as a share of the draws, draws first: (S, ...) -> (...), from 0 to 1.

    0 where a ratio is no number, or all are zero.
    """
    ratios = np.asarray(log_ratios, dtype=np.float64)
    weights = np.exp(ratios - ratios.max(0))
    share = weights.sum(0) ** 2 / (weights**2).sum(0) / len(weights)
    return np.asarray(np.where(np.isfinite(share), np.minimum(share, 1.0), 0.0))


def pareto_k(log_ratios: np.ndarray[Any, Any]) -> Numbers:
    """Pareto-smoothed importance sampling's k̂ of log importance ratios, draws first: (S, ...) -> (...).

    It is −∞ where all ratios are equal (an exact guide), ∞ where they have no tail that could be fitted.
    """
    rows = np.moveaxis(log_ratios, 0, -1).reshape(-1, len(log_ratios)).astype(np.float64)
    return np.array([smoothed(row)[1] for row in rows]).reshape(log_ratios.shape[1:])


@np.errstate(all="ignore")
def smoothed(ratios: Numbers) -> tuple[Numbers, float]:
    """Normalised log weights of log ratios, their largest smoothed where those have a tail, and k̂."""
    plain, size = ratios - log_sum(ratios), int(min(len(ratios) / 5, 3 * len(ratios) ** 0.5))
    if not np.isfinite(ratios.max()) or len(ratios) < LEAST:
        return plain, np.inf
    if np.ptp(ratios) < 1e-9:
        return plain, -np.inf
    spread = _spread(ratios)
    tail = np.sort(np.exp(spread - spread.max()))[-size:]
    low = max(1, int(size / 4 + 0.5) - 1)
    if tail[low] <= tail[0]:  # many alike, or weights that one dwarfs: ArviZ answers by version
        return plain, np.inf
    weights, k = _smoothed(spread, size)
    return (plain, np.inf) if np.isnan(k) else (weights, k)


def _smoothed(ratios: Numbers, size: int) -> tuple[Numbers, float]:
    """Normalised log weights, the `size` largest those of a generalised Pareto distribution, and its shape.

    Written out: what has it, `arviz_stats.base`, takes a second to import.
    """
    log_weights = ratios - ratios.max()
    order = np.argsort(log_weights)
    tail, cut = order[-size:], np.exp(log_weights[order[-size - 1]])
    k, scale = _pareto(np.exp(log_weights[tail]) - cut)
    if np.isfinite(k):
        places = np.log1p(-(np.arange(size) + 0.5) / size)
        beyond = -scale * places if k == 0 else scale * np.expm1(-k * places) / k
        log_weights[tail] = np.minimum(np.log(cut + beyond), 0.0)
    return log_weights - log_sum(log_weights), float(k)


def _pareto(tail: Numbers) -> tuple[float, float]:
    """Shape and scale of a generalised Pareto distribution of sorted numbers above 0, the shape drawn towards 0.5.

    Zhang & Stephens (2009), "A new and efficient estimation method for the generalized Pareto distribution", with the
    prior of Vehtari et al. (2024), appendix G.
    """
    size = len(tail)
    count = 30 + int(size**0.5)
    grid = (1 - np.sqrt(count / (np.arange(count) + 0.5))) / (3 * tail[int(size / 4 + 0.5) - 1]) + 1 / tail[-1]
    shapes = np.log1p(-grid[:, None] * tail).mean(1)
    profile = size * (np.log(-grid / shapes) - shapes - 1)
    weights = np.exp(profile - log_sum(profile))
    weights[weights < 10 * np.finfo(float).eps] = 0
    place = float((grid * weights).sum() / weights.sum())
    shape = float(np.log1p(-place * tail).mean())
    return (size * shape + 10 * 0.5) / (size + 10), -shape / place


def _spread(row: Numbers) -> Numbers:
    """Numbers that rounding made equal, spread evenly over the smallest step between those that differ."""
    values, group, count = np.unique(row, return_inverse=True, return_counts=True)
    steps = np.diff(values)
    if len(values) in (1, len(row)) or not np.isfinite(steps.min()):
        return row
    place = np.empty(len(row))
    place[np.argsort(group, kind="stable")] = np.arange(len(row)) - np.repeat(count.cumsum() - count, count)
    return np.asarray(row + steps.min() * ((place + 0.5) / count[group] - 0.5))


def log_sum(row: Numbers) -> float:
    """log of the sum of exponentials."""
    return float(torch.from_numpy(row).logsumexp(0))
