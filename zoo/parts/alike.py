"""Whether several series are of one level and scale, as a pair takes them to be that has one intercept and one noise.

Series that differ by chance are let by: of T steps, the log of a step's deviation has a standard error of (2T)^-1/2,
and a mean one of S (T (1 - r) / (1 + r))^-1/2, with r the correlation of successive steps (Box, Jenkins & Reinsel 2008,
"Time series analysis", section 2.1). What is left must be a factor of 2 in the steps, or levels that lie wider apart
than the series themselves vary.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from torch import Tensor

from zoo.notes import DataWarning

_LEAST = 8  # known steps of a series that tell of its scale
_ERRORS = 4.0  # standard errors that chance may make


def tell_unlike(series: Tensor, names: Sequence[str] = ()) -> None:
    """Warn of series for which one set of coefficients is fitted, though their levels or scales differ.

    Args:
        series: (N, T), NaN where a step is missing or past the end.
        names: of the series; empty: they go by their row.
    """
    told = _scales(series, names) or _levels(series, names)
    if told:
        warnings.warn(
            f"one intercept, one set of lags and one noise are fitted for all {len(series):,} series, and {told}: "
            "forecasts and intervals of each suffer; fit them one by one, or bring them to one level and scale first",
            DataWarning,
            stacklevel=2,
        )


def _scales(series: Tensor, names: Sequence[str]) -> str:
    """Of steps that vary more in one series than in another, in words."""
    steps = series.diff(dim=1)
    count, spread = (~steps.isnan()).sum(1), _deviation(steps)
    known = ((count >= _LEAST) & (spread > 0)).nonzero().squeeze(-1)
    if len(known) < 2:
        return ""
    wide, narrow = int(known[spread[known].argmax()]), int(known[spread[known].argmin()])
    ratio = float(spread[wide] / spread[narrow])
    chance = _ERRORS * (1 / (2 * int(count[wide])) + 1 / (2 * int(count[narrow]))) ** 0.5
    if math.log(ratio) < math.log(2) + chance:
        return ""
    return f"from step to step {_name(names, wide)} varies {ratio:.3g} times as much as {_name(names, narrow)}"


def _levels(series: Tensor, names: Sequence[str]) -> str:
    """Of levels that lie wide apart, in words."""
    known = ((~series.isnan()).sum(1) >= _LEAST).nonzero().squeeze(-1)
    if len(known) < 2:
        return ""
    mean, spread = series.nanmean(1), _deviation(series)
    within, centred = spread[known].median(), series - mean.unsqueeze(1)
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
    return f"'{names[row]}'" if row < len(names) else f"series {row}"
