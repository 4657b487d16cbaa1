"""The seasonal-naive forecast that others have to beat: each step as a season before.

    x_{T+h} ~ Normal(x_{T+h-js}, j sigma^2),    j the least whole number of seasons that leads to a known step

with sigma^2 the mean square of x_t - x_{t-s} in the past (Hyndman & Athanasopoulos 2021, "Forecasting: principles and
practice", section 5.5). With s = 1 it is the random walk.
"""

from __future__ import annotations

import numpy as np

from inference.forecasting.scores import Array


def seasonal_naive(past: Array, horizon: int, season: int) -> tuple[Array, Array]:
    """Mean and standard deviation of the steps ahead, (H,) each.

    Args:
        past: the series so far, (T,); NaN where missing.
        horizon: H.
        season: s.

    Raises:
        ValueError: no two known steps that are a season apart, or no known step to go on from.
    """
    T = len(past)
    apart = past[season:] - past[:-season] if season < T else past[:0]
    if not np.isfinite(apart).any():
        raise ValueError(
            f"{T} steps hold no two that are a season of {season} apart: give a shorter season, or fewer folds"
        )
    sigma = float(np.sqrt(np.nanmean(np.square(apart))))
    loc, scale = np.empty(horizon), np.empty(horizon)
    for h in range(horizon):
        seasons = range(h // season + 1, (T + h) // season + 1)
        known = [j for j in seasons if np.isfinite(past[T + h - j * season])]
        if not known:
            raise ValueError(f"no known step is whole seasons of {season} before step {h + 1} ahead")
        loc[h], scale[h] = past[T + h - known[0] * season], sigma * np.sqrt(known[0])
    return loc, scale
