"""What stands around each step of a sequence, for k-means to see states by that last, or that differ in spread alone.

Single steps tell states apart whose means lie apart. Of two states of one mean, such as calm and stormy days of a
market, they tell nothing, and of states that overlap little: there neighbours have to speak.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SHORT, _MIDDLE, _LONG = 5, 11, 21  # steps
_LEAST = 0.05  # deviation, of the whole, below which spreads are not told apart


def surroundings(points: Tensor, seen: Tensor) -> list[Tensor]:
    """Views of the steps, each (B, T, P) or (B, T, 2 P) in equal units: local spreads, local means, and both.

    Args:
        points: of mean 0 and deviation 1, 0 where missing, (B, T, P).
        seen: which steps are no missing values, (B, T).
    """
    spread, mean = _local(points, seen, _MIDDLE)[1], _local(points, seen, _SHORT)[0]
    both = torch.cat(_local(points, seen, _LONG), -1)
    return [_equal(view, seen) for view in (spread, mean, both)]


def _local(points: Tensor, seen: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Means and log deviations, each (B, T, P), over a window around each step."""
    mask = seen.unsqueeze(-1).to(points)

    def total(values: Tensor) -> Tensor:
        return F.avg_pool1d(values.mT, width, stride=1, padding=width // 2).mT

    count = total(mask).clamp(min=1e-9)
    mean = total(points * mask) / count
    variance = total(points.square() * mask) / count - mean.square()
    return mean, variance.clamp(min=_LEAST**2).log() / 2


def _equal(view: Tensor, seen: Tensor) -> Tensor:
    centred = view - view[seen].mean(0)
    deviation = centred[seen].square().mean(0).sqrt()
    return centred / torch.where(deviation > 0, deviation, 1)
