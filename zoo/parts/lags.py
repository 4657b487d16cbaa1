"""The lags of a seasonal autoregression, and how far back each lies: in steps, and in seasons.

Far lags tell less. The Minnesota prior (Litterman 1986, "Forecasting with Bayesian vector autoregressions: five years
of experience") has the scale of a weight go with 1 / k, k the steps that its lag looks back. In a seasonal series the
step a season ago is as near as the last one, so that k counts both, steps and seasons of length s,

    k(l) = min_j |l - s j| + j,    j = 0, 1, ...
"""

from __future__ import annotations


def seasonal_lags(order: int, season: int, seasons: int, products: bool) -> tuple[int, ...]:
    """1..p, then s, 2s, ..., Qs, and with `products` s + 1, ..., s + p, 2s + 1, ..., Qs + p."""
    successive = range(1, order + 1)
    multiples = [season * j for j in range(1, seasons + 1)]
    return (*successive, *multiples, *(m + i for m in multiples for i in successive if products))


def steps_back(lag: int, season: int | None) -> int:
    """k(l): the fewest seasons, and steps from there either way, that come to a lag l >= 1; without a season, l.

    Example:
        >>> [steps_back(lag, 12) for lag in (1, 2, 11, 12, 13, 24)]
        [1, 2, 2, 1, 2, 2]
    """
    if season is None:
        return lag
    return min(abs(lag - season * j) + j for j in range(lag // season + 2))
