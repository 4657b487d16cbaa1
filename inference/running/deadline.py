"""When the time that a user gave is over."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Deadline:
    """So many seconds from now on; None is for ever.

    >>> Deadline(None).over(), Deadline(0.0).over()
    (False, True)
    """

    seconds: float | None = None
    began: float = field(default_factory=lambda: time.perf_counter())  # noqa: PLW0108 - looked up when it is called

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    def over(self, part: float = 1.0) -> bool:
        """Whether the time, or this part of it, is over."""
        return self.seconds is not None and self.spent >= part * self.seconds

    @property
    def words(self) -> str:
        """How long it took."""
        return f"stopped after {self.spent:.3g} s"
