"""Constraints that let NaN through, as the sign of what is missing: anywhere, or past the end of a series; gaps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from zoo.dates.calendar import Calendar
from zoo.rows import nth


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


def check_gaps(gaps: Tensor, given: int, most: int, field: str, when: Any = None) -> None:
    """Refuse a missing step among the first, which the others stand on, and more of them in a series than may be.

    Args:
        gaps: which steps are missing, (N, T).
        given: how many first steps the others stand on.
        most: the most missing steps of a series.
        field: its name, in messages.
        when: the calendar of the series, if they have one.

    Raises:
        ValueError: by row, step and date.
    """
    for row, step in gaps[:, :given].nonzero()[:1].tolist():
        date = when.place(row, step) if isinstance(when, Calendar) else ""
        told = f"NaN among the first {given} steps, which the others stand on: cut off the steps up to it"
        raise ValueError(f"field '{field}', row {nth(row)}, step {nth(step)}{date}: {told}")
    for row in (gaps.sum(1) > most).nonzero()[:1, 0].tolist():
        found = int(gaps[row].sum())
        told = f"{found} missing steps, expected at most missing={most}: make the pair with missing={found}"
        raise ValueError(f"field '{field}', row {nth(row)}: {told}")
