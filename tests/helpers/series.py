"""Autoregressive series made at random, with gaps, and their joint density by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo.parts.series import AutoregressiveSeries

LENGTHS = torch.tensor([14, 9, 12])


def make(inputs: int = 0, missing: int = 0, seed: int = 0, lags: tuple[int, ...] = (1, 2, 5)) -> AutoregressiveSeries:
    """Three series of up to 14 steps."""
    torch.manual_seed(seed)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64)

    slopes, given = (numbers(inputs), numbers(3, 14, inputs)) if inputs else (None, None)
    scale, center = numbers().exp(), 10 * numbers()
    weights = 0.4 * numbers(len(lags))
    options: dict[str, Any] = {"slopes": slopes, "inputs": given, "lengths": LENGTHS, "missing": missing}
    return AutoregressiveSeries(lags, weights, numbers(), scale, 14, center, 2 * scale, **options)


def drift(fn: AutoregressiveSeries, n: int, t: int, ahead: Tensor | None = None) -> float:
    """The part of step t of series n that does not hang on its past."""
    value = float(fn.intercept)
    if fn.inputs is not None:
        length = int(LENGTHS[n])
        value += float((ahead[n, t - length] if ahead is not None and t >= length else fn.inputs[n, t]) @ fn.slopes)
    return value


def joint(
    fn: AutoregressiveSeries, x: Tensor, n: int, steps: int, ahead: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of steps P..steps-1 of series n given its first P, by recursion: x = mean + root e."""
    P = fn.order
    mean, root = list(x[n, :P] - fn.center), [torch.zeros(steps, dtype=x.dtype) for _ in range(P)]
    for t in range(P, steps):
        mean.append(drift(fn, n, t, ahead) + sum(w * mean[t - lag] for w, lag in zip(fn.weights, fn.lags, strict=True)))
        unit = fn.scale * torch.nn.functional.one_hot(torch.tensor(t), steps)
        root.append(unit + sum(w * root[t - lag] for w, lag in zip(fn.weights, fn.lags, strict=True)))
    wide = torch.stack(root[P:])
    return torch.stack(mean[P:]) + fn.center, wide @ wide.T


def with_gaps(fn: AutoregressiveSeries, count: int = 3) -> Tensor:
    x = fn.sample()
    for n, length in enumerate(LENGTHS.tolist()):
        spots = fn.order + torch.randperm(length - fn.order)[:count]
        x[n, spots] = torch.nan
    return x
