"""Scores of probabilistic forecasts: the lower the better, in the units of the series.

CRPS and pinball loss are proper: on average no other forecast does better than the true distribution (Gneiting &
Raftery 2007, "Strictly proper scoring rules, prediction, and estimation", JASA 102, 359-378).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]


def crps(draws: Any, actual: Any) -> Array:
    """Continuous ranked probability score from draws, E|X - y| - E|X - X'| / 2, X' another draw.

    Args:
        draws: of the forecast, (S, ...), two or more.
        actual: what came, (...).

    Returns:
        (...); unbiased for that of the distribution drawn from, whatever S (Ferro 2014).
    """
    x, y = np.sort(np.asarray(draws, dtype=float), 0), np.asarray(actual, dtype=float)
    S = len(x)
    rank = (2 * np.arange(1, S + 1) - S - 1).reshape(-1, *[1] * (x.ndim - 1))
    apart = 2 * (rank * x).sum(0) / (S * (S - 1))  # E|X - X'|, over pairs of draws
    found: Array = np.abs(x - y).mean(0) - apart / 2
    return found


def crps_normal(loc: Any, scale: Any, actual: Any) -> Array:
    """The same of Normal(loc, scale), in closed form (Gneiting & Raftery 2007, equation 21)."""
    scale = np.asarray(scale, dtype=float)
    z = np.asarray((np.asarray(actual, dtype=float) - loc) / scale)
    below = torch.special.ndtr(torch.as_tensor(z)).numpy()  # Phi(z)
    found: Array = scale * (z * (2 * below - 1) + np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) - np.pi**-0.5)
    return found


def pinball(quantile: Any, level: Any, actual: Any) -> Array:
    """(level - 1{y < q}) (y - q): the loss whose least mean is at the quantile of that level."""
    over = np.asarray(actual, dtype=float) - quantile
    found: Array = np.maximum(level * over, (level - 1) * over)
    return found
