"""Images on their way into a pair that was made with `image=…`: rows of its features, in the units of its counts.

Where the pair counts to T (255 for bytes, 16 for the digits of scikit-learn) and the numbers are shares from 0 to 1,
they are multiplied by T; where it takes 0 or 1 and the numbers are the bytes 0 and 255 alone, divided by 255. Either is
said. All else stays as it is, and is refused if it does not fit.
"""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from zoo.base import Batch, ModelGuide
from zoo.images import BYTE, flattened
from zoo.notes import DataWarning


def as_rows(pair: ModelGuide, batch: Batch, support: Any) -> Batch:
    """The batch with images as rows (N, D); of a pair without images as it is.

    Args:
        pair: its `image` is the shape.
        batch: not checked yet.
        support: of a feature of x.

    Raises:
        ValueError: images of another shape.
    """
    if pair.image is None or batch.x is None:
        return batch
    return batch.but(x=_counted(flattened(pair.image, batch.x), support))


def _counted(x: Tensor, support: Any) -> Tensor:
    most = _most(support)
    if not x.numel() or x.isnan().any():
        return x
    low, high = float(x.min()), float(x.max())
    if most > 1 and x.is_floating_point() and low >= 0 and high <= 1:
        whole = (x.double() * most).round()
        if bool((x != x.round()).any()) and bool(((whole / most - x).abs() < 1e-4 / most).all()):
            warnings.warn(f"x: shares from 0 to 1 were taken for counts, times {most}", DataWarning, stacklevel=2)
            return whole
    if most == 1 and high == BYTE and bool(((x == 0) | (x == BYTE)).all()):
        warnings.warn("x: bytes of 0 and 255 alone were taken for 0 and 1", DataWarning, stacklevel=2)
        return x / BYTE
    return x


def _most(support: Any) -> int:
    """The largest whole number that a feature may be; 0 where it may be any real number."""
    if not support.is_discrete:
        return 0
    limit = getattr(support, "upper_bound", 1)
    return int(limit.max()) if isinstance(limit, Tensor) else int(limit)
