"""Supports that take NaN as a missing value."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import constraints


class OrMissing(constraints.Constraint):
    """What `base` accepts, and NaN."""

    def __init__(self, base: constraints.Constraint) -> None:
        self.base = base
        self.is_discrete = base.is_discrete
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Whether `base` accepts each value, or it is NaN."""
        valid: Tensor = value.isnan() | self.base.check(value)
        return valid

    def __repr__(self) -> str:
        return f"{self.base} or NaN"
