"""Constraints that let NaN through, as the sign of what is missing: anywhere, or past the end of a series."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints


class OrMissing(constraints.Constraint):
    """What `base` accepts, and NaN."""

    def __init__(self, base: constraints.Constraint) -> None:
        self.base: Any = base
        self.is_discrete = base.is_discrete
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether `base` accepts each value, or it is NaN."""
        valid: Tensor = value.isnan() | self.base.check(value)
        return valid

    def __repr__(self) -> str:
        return f"{self.base} or NaN"


class Steps(OrMissing):
    """Finite numbers, or others of a base, and NaN past the end of its series, or anywhere.

    Args:
        over: which steps lie past the end, (N, T) or (T,).
        anywhere: whether steps before it may be missing too.
        base: which numbers; by default finite ones.
    """

    def __init__(self, over: Tensor, anywhere: bool, base: constraints.Constraint | None = None) -> None:
        self.over, self.anywhere = over, anywhere
        super().__init__(base or _Finite())

    def check(self, value: Tensor) -> Tensor:
        """Step by step, (..., T). Other series than those of the lengths have no end."""
        same = value.shape[-self.over.ndim :] == self.over.shape
        allowed = self.over | self.anywhere if same else torch.tensor(self.anywhere, device=value.device)
        return torch.where(value.isnan(), allowed, self.base.check(value))


class _Finite(constraints.Constraint):
    def check(self, value: Tensor) -> Any:
        return value.isfinite()

    def __repr__(self) -> str:
        return "finite numbers"
