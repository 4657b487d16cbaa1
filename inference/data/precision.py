"""What a pair's floating-point type makes of numbers that lie far from zero and close to each other.

A type resolves numbers near a level L to r = eps |L|, or about that: what differs by less is one number to it. With s
the spread of a column, r / s says how much of it is left. Level and spread are the median and the distance of the
quartiles, so that a few odd cells decide nothing; of series, the spread of what changes from step to step counts where
that is less. Three degrees are told apart:

    r / s up to 1/1000      nothing is said: rounding adds less than a millionth to a variance, and a mean of up to
                            10,000 rows is known no better than that anyway
    up to 1/2               usable, and `LostPrecision` says what is lost: parameters at that level come in steps of r
    above                   refused before a first fit: fewer than about ten values are left within two deviations;
                            a pair that is fitted already learned from other rows, and is warned of

Whether a column was rounded on its way in is not asked: a pair that computes in a type rounds its own parameters.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from zoo.arrays import place
from zoo.rows import nth

FEW = 8  # rows, or steps, from which on a spread is told
ENOUGH = 1000  # evenly spaced ones that tell it, and as many series
SOME, MOST = 1e-3, 0.5  # r / s of a warning, and of a refusal
QUARTILES = 1.3489795  # their distance in standard deviations of a Gaussian
_OURS = (str(Path(__file__).parents[1]), str(Path(torch.__file__).parent))


class LostPrecision(UserWarning):
    """The pair's floating-point type keeps only part of how a column varies, as it lies far from zero."""


def check_precision(
    field: str,
    value: Tensor,
    dtype: torch.dtype,
    columns: Sequence[str] | None,
    *,
    series: bool,
    fitted: Callable[[], bool],
) -> None:
    """Warn of the column that `dtype` tells apart least, or refuse it where hardly anything is left.

    Args:
        field: what the data are called.
        value: as given, (N, ...), columns last but for (N,) and, of series, (N, T).
        dtype: what they will be kept in.
        columns: names.
        series: whether the second dimension is time.
        fitted: whether the pair has learned from other data: nothing is refused then.

    Raises:
        ValueError: with level, spread and resolution of the column.
    """
    x, steps = value.detach(), None
    if series and x.ndim > 1:
        x = _some(x).double()
        steps = x.diff(dim=1).flatten(0, 1) if x.shape[1] > 1 else None
        x = x.flatten(0, 1)
    one = x.ndim == 1  # no columns
    x = _some(x).double()
    x = x.reshape(len(x), -1)  # (rows, D)
    eps, (level, spread) = torch.finfo(dtype).eps, _about(x)
    if steps is not None:
        change = _about(_some(steps).reshape(-1, x.shape[1]))[1]
        spread = torch.where((change > 0) & (change < spread), change, spread)
    part = torch.where(spread > 0, eps * level / spread, 0.0)
    worst = int(part.argmax())
    if len(x) < FEW:  # too few to tell a spread by, but not to see that they become one
        column = x[:, worst]
        if spread[worst] == 0 or not bool((column.to(dtype) == column[0].to(dtype)).all()) or fitted():
            return
    elif part[worst] <= SOME:
        return
    where = f"field '{field}'" if one else place(field, (0, worst), columns).replace(f", row {nth(0)}", "")
    low = eps * float(level[worst])
    said = (
        f"{where}: numbers near {level[worst]:.4g} that vary by about {spread[worst]:.2g}, where {str(dtype)[6:]} "
        f"tells apart what differs by {low:.2g}: "
        + ("call .double() on the pair, or subtract" if dtype != torch.float64 else "subtract")
        + f" a constant such as {x[:, worst].nanmedian():.4g}"
    )
    if part[worst] > MOST and not fitted():
        raise ValueError(said)
    warnings.warn(said, LostPrecision, stacklevel=_outside())


def _some(x: Tensor) -> Tensor:
    """At most `ENOUGH` rows, evenly spaced."""
    return x if len(x) <= ENOUGH else x[torch.linspace(0, len(x) - 1, ENOUGH, device=x.device).long()]


def _about(x: Tensor) -> tuple[Tensor, Tensor]:
    """Median size and spread of each column of (rows, D), NaN left out; of the latter the deviation where quartiles
    coincide."""
    count = (~x.isnan()).sum(0)
    ordered = x.sort(0).values
    low, high = (ordered.gather(0, (q * (count - 1).clamp(min=0)).long().unsqueeze(0)).squeeze(0) for q in (0.25, 0.75))
    spread = (high - low) / QUARTILES
    mean = x.nanmean(0)
    spread = torch.where(spread > 0, spread, (x - mean).square().nanmean(0).sqrt())
    # a deviation that is the rounding of a mean is none
    same = x.nan_to_num(-torch.inf).amax(0) == x.nan_to_num(torch.inf).amin(0)
    level = x.abs().nanmedian(0).values
    return level.nan_to_num(), torch.where(same, 0.0, spread).nan_to_num()


def _outside() -> int:
    """The depth of the first frame of the caller's own, so that the warning shows their line."""
    depth, frame = 2, sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        depth, frame = depth + 1, frame.f_back
    return depth
