"""Numbers too large or too small for the type that a pair computes in: found before step one, by field, row and column.

Densities take squares of the data, over a variance that may be small itself, and sum them over rows. So a number has to
leave room: its cube is finite in the type, 7e12 at most in single precision. And a column of which not even the largest
number has a square that the type holds to full precision (1e-19 in single precision) has a variance of zero to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.arrays import place


def check_size(field: str, value: Tensor, dtype: torch.dtype, columns: Sequence[str] | None) -> None:
    """Refuse infinities, and what is too large for computations in `dtype`.

    Raises:
        ValueError: by field, row and column.
    """
    limit = torch.finfo(dtype).max ** (1 / 3)
    wide = value.double()
    bad = wide.abs() > limit
    if bad.any():
        index = bad.nonzero()[0].tolist()
        found = float(wide[tuple(index)])
        wanted = f"at most {limit:.3g} in size for {_name(dtype)} ({_cure(dtype)})"
        wanted = "a finite number" if math.isinf(found) else wanted
        raise ValueError(f"{place(field, index, columns)}: expected {wanted}, got {found:g}")


def check_spread(field: str, value: Tensor, columns: Sequence[str] | None, apart: bool) -> None:
    """Refuse what is too small to be learned from in the type of `value`: it would be zero.

    Args:
        field: its name.
        value: (N, *event), NaN where missing.
        columns: their names, if they have some.
        apart: whether the last dim holds features, each with units of its own; else one size tells of all.

    Raises:
        ValueError: by field, and by row and column of the largest number.
    """
    least = torch.finfo(value.dtype).tiny ** 0.5
    size = value.abs().nan_to_num(nan=0.0, posinf=0.0)
    flat = size.reshape(-1, size.shape[-1]) if apart and size.ndim > 1 else size.reshape(-1, 1)
    largest = flat.amax(0)
    bad = (largest > 0) & (largest < least)
    if bad.any():
        held = size[..., int(bad.nonzero()[0])] if apart and size.ndim > 1 else size
        index = [int(i) for i in torch.unravel_index(held.argmax(), held.shape)]
        index += [int(bad.nonzero()[0])] if held.ndim < size.ndim else []
        found, kind = float(value[tuple(index)]), _name(value.dtype)
        raise ValueError(
            f"{place(field, index, columns)}: expected at least {least:.3g} in size, where not all are zero, got "
            f"{found:g}, and no other is larger: {kind} loses its square ({_cure(value.dtype)})"
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _cure(dtype: torch.dtype) -> str:
    return "rescale the data" + (", or call .double() on the pair" if dtype == torch.float32 else "")
