"""Whether several series are of one level and scale, as a pair takes them to be that has one intercept and one noise.

Scales are those of the noise in a least-squares autoregression of each series by itself. What differs by chance is let
by: with n degrees of freedom the log of a deviation has a standard error of (2n)^-1/2, and the mean of T steps one of
S (T (1 - r) / (1 + r))^-1/2, r the correlation of successive steps (Box, Jenkins & Reinsel 2008, "Time series
analysis", section 2.1). What is left must be a factor of 2, or levels that lie wider apart than the series vary.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.notes import DataWarning
from zoo.rows import nth

_LEAST = 8  # degrees of freedom, or steps, that tell of a series
_ERRORS = 4.0  # standard errors that chance may make


def tell_unlike(series: Tensor, design: Tensor, latest: Tensor, names: Sequence[str] = ()) -> None:
    """Warn of series for which one set of coefficients is fitted, though their levels or scales differ.

    Args:
        series: (N, T), NaN where a step is missing or past the end.
        design: what each step with lags is regressed on, (N, T', F), and
        latest: these steps, (N, T'); NaN where a number lacks.
        names: of the series; empty: they go by their row.
    """
    told = _scales(design, latest, names) or _levels(series, names)
    if told:
        warnings.warn(
            f"one intercept, one set of lags and one noise are fitted for all {len(series):,} series, and {told}: "
            "forecasts and intervals of each suffer; fit them one by one, or bring them to one level and scale first",
            DataWarning,
            stacklevel=2,
        )


def _scales(design: Tensor, latest: Tensor, names: Sequence[str]) -> str:
    """Of noise that is wider in one series than in another, in words."""
    free, spread = _noise(design, latest)
    known = ((free >= _LEAST) & (spread > 0)).nonzero().squeeze(-1)
    if len(known) < 2:
        return ""
    wide, narrow = int(known[spread[known].argmax()]), int(known[spread[known].argmin()])
    ratio = float(spread[wide] / spread[narrow])
    chance = _ERRORS * (1 / (2 * int(free[wide])) + 1 / (2 * int(free[narrow]))) ** 0.5
    if math.log(ratio) < math.log(2) + chance:
        return ""
    return f"the noise of {_name(names, wide)} is {ratio:.3g} times as wide as that of {_name(names, narrow)}"


def _noise(design: Tensor, latest: Tensor) -> tuple[Tensor, Tensor]:
    """Degrees of freedom and deviation of the noise of each series, (N,) both, by its own least squares."""
    whole = ~latest.isnan() & ~design.isnan().any(-1)
    X, y = _centred(design * 1.0, whole.unsqueeze(-1)), _centred(latest, whole)  # a level of a million hides no noise
    X = X / X.square().mean(1, keepdim=True).sqrt().clamp(min=torch.finfo(X.dtype).tiny)
    gram = X.mT @ X + 1e-9 * X.shape[1] * torch.eye(X.shape[2]).to(X)
    left = y - (X @ torch.linalg.solve(gram, X.mT @ y.unsqueeze(-1))).squeeze(-1)
    free = whole.sum(1) - X.shape[2]
    return free, (left.square().sum(1) / free.clamp(min=1)).sqrt()


def _centred(values: Tensor, known: Tensor) -> Tensor:
    """Less the mean of what is known along dim 1, and 0 where nothing is."""
    kept = values.masked_fill(~known, 0)
    return (kept - kept.sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)).masked_fill(~known, 0)


def _levels(series: Tensor, names: Sequence[str]) -> str:
    """Of levels that lie wide apart, in words."""
    known = ((~series.isnan()).sum(1) >= _LEAST).nonzero().squeeze(-1)
    if len(known) < 2:
        return ""
    mean, spread = series.nanmean(1), _deviation(series)
    within, centred = spread[known].square().mean().sqrt(), series - mean.unsqueeze(1)
    near = (centred[known, 1:] * centred[known, :-1]).nanmean() / centred[known].square().nanmean()
    near = near.nan_to_num().clamp(0, 0.99)
    steps = (~series[known].isnan()).sum(1).double().mean()
    error = within * ((1 + near) / (1 - near) / steps).sqrt()
    if mean[known].std() <= 1.5 * within + _ERRORS * error:
        return ""
    high, low = int(known[mean[known].argmax()]), int(known[mean[known].argmin()])
    return f"their levels differ: {mean[high]:.4g} of {_name(names, high)}, {mean[low]:.4g} of {_name(names, low)}"


def _deviation(values: Tensor) -> Tensor:
    """Standard deviation of the numbers of each row that are known, (N,)."""
    return (values - values.nanmean(1, keepdim=True)).square().nanmean(1).sqrt()


def _name(names: Sequence[str], row: int) -> str:
    return f"'{names[row]}'" if row < len(names) else f"series {nth(row)}"
