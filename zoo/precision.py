"""The floating-point types that a pair computes in. In any other it can be kept, saved and loaded, and nothing else.

Half precision lacks what models are made of: on a CPU, PyTorch draws no Gamma and no Dirichlet in it, and factorises no
matrix.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

COMPUTED = (torch.float32, torch.float64)


def short(tensors: Iterable[Tensor]) -> torch.dtype | None:
    """A type of numbers that is held and that nothing is computed in, if any."""
    types = [tensor.dtype for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()]
    return next((dtype for dtype in types if dtype not in COMPUTED), None)


def check_precision(name: str, tensors: Iterable[Tensor]) -> None:
    """Refuse a pair of that name that cannot run.

    Raises:
        ValueError: by type, with what to do.
    """
    if dtype := short(tensors):
        raise ValueError(
            f"{name} holds numbers in {str(dtype)[6:]}, in which it can be kept but not run: float32 and float64 are "
            "supported; call .float() or .double()"
        )
