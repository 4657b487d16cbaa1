"""The lags of a seasonal autoregression, and how far back each lies: in steps, and in seasons.

Far lags tell less. The Minnesota prior (Litterman 1986, "Forecasting with Bayesian vector autoregressions: five years
of experience") has the scale of a weight go with 1 / k, k the steps that its lag looks back. In a seasonal series the
step a season ago is as near as the last one, so that k counts both, steps and seasons of length s,

    k(l) = min_j |l - s j| + j,    j = 0, 1, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import torch
from torch import Tensor

from zoo.abilities import InTheirUnits


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


def weights_in_units(
    values: Mapping[str, Tensor], lags: Sequence[int], center: Tensor, input_center: Tensor, columns: Sequence[str]
) -> InTheirUnits:
    """The latents of S draws of an autoregression, under the names of their lags and inputs, in double precision.

    Of z_t - m = c + sum_k w_k (z_{t - l_k} - m) + b . (u_t - m_u) the intercept of z itself is

        c + m (1 - sum_k w_k) - b . m_u

    Args:
        values: `intercept` (S,), `variance` (S,), and those of `coefficients`, `seasonal`, `products` (S, lags) and
            `slopes` (S, E) that there are.
        lags: l_1..l_L, in the order of these.
        center: m, ().
        input_center: m_u, (E,).
        columns: names of the inputs.
    """
    doubled = {name: value.to("cpu", torch.float64) for name, value in values.items()}
    start, m, m_u = doubled["intercept"], center.to("cpu", torch.float64), input_center.to("cpu", torch.float64)
    names = (f"lag {lag}" for lag in lags)
    found: dict[str, tuple[Tensor, dict[str, Sequence[str]]]] = {}
    for name, dim in (("coefficients", "lag"), ("seasonal", "season"), ("products", "product")):
        if name in doubled:
            start = start - m * doubled[name].sum(-1)
            found[name] = doubled[name], {dim: list(islice(names, doubled[name].shape[-1]))}
    if "slopes" in doubled:
        start = start - (doubled["slopes"] * m_u).sum(-1)
        found["slopes"] = doubled["slopes"], {"input": list(columns)}
    return {"intercept": (start + m, {}), **found, "sigma": (doubled["variance"].sqrt(), {})}
