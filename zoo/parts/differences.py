"""Differences of a series, ordinary and seasonal, as one autoregression of the series itself.

With B the step back, D(B) = (1 - B)^d (1 - B^s)^D = sum_j a_j B^j, and z = D(B) x,

    z_t = m + c + sum_k w_k (z_{t - l_k} - m) + e_t    is    phi(B) D(B) x_t = c + (1 - sum_k w_k) m + e_t

with phi(B) = 1 - sum_k w_k B^l_k: the weights of x are linear in w, and a constant added to x changes nothing. So
missing steps and forecasts of x need nothing of their own (Box, Jenkins & Reinsel 2008, "Time series analysis",
chapter 4).
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor


class Differences:
    """d ordinary and D seasonal differences of period s.

    Args:
        order: d.
        seasonal: D, and
        period: s, any number without seasonal differences.
    """

    def __init__(self, order: int = 0, seasonal: int = 0, period: int = 1) -> None:
        factors = [_difference(1)] * order + [_difference(period)] * seasonal
        self.weights = reduce(_product, factors, [1.0])  # a_0..a_lost
        self.lost = len(self.weights) - 1  # steps at the beginning that have no difference

    def __call__(self, series: Tensor) -> Tensor:
        """z of a series, (..., T) -> (..., T - lost); NaN where one of the steps that it takes is."""
        if not self.lost:
            return series
        windows = series.unfold(-1, self.lost + 1, 1)  # (..., T - lost, lost + 1), oldest first
        used = [j for j, weight in enumerate(self.weights) if weight]
        weights = torch.tensor([self.weights[j] for j in used], dtype=series.dtype, device=series.device)
        return windows[..., [self.lost - j for j in used]] @ weights

    def expanded(self, lags: tuple[int, ...]) -> tuple[tuple[int, ...], Tensor, Tensor]:
        """Lags r_1..r_R of x, and what their weights are: w @ matrix + offset, (L, R) and (R)."""
        shifted = [[0.0] * lag + self.weights for lag in lags]
        reach = sorted({j for row in (self.weights, *shifted) for j, weight in enumerate(row) if weight and j})
        matrix = [[row[j] if j < len(row) else 0.0 for j in reach] for row in shifted]
        offset = [-self.weights[j] if j < len(self.weights) else 0.0 for j in reach]
        return tuple(reach), torch.tensor(matrix), torch.tensor(offset)


def _difference(lag: int) -> list[float]:
    return [1.0, *[0.0] * (lag - 1), -1.0]


def _product(a: list[float], b: list[float]) -> list[float]:
    found = [0.0] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            found[i + j] += x * y
    return found
