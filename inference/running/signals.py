"""Interrupts that wait for the end of a step, so that what is kept then is of a whole one.

SIGINT, SIGTERM and SIGHUP are only noted at first. Whoever takes the steps asks after each, keeps what there is, and
lets the signal through: to whoever handled it before, which by default is a KeyboardInterrupt, or the end of the
process. A second one does not wait.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

_KINDS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Waiting:
    """Notes signals while it is entered, where that is possible: Python handles them in the main thread.

    >>> with Waiting() as signals:
    ...     signals.seen is None
    True
    """

    def __init__(self) -> None:
        self.seen: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Waiting:
        if threading.current_thread() is threading.main_thread():
            for kind in _KINDS:
                before = signal.getsignal(kind)
                if before not in (None, signal.SIG_IGN):  # None: not set by Python, which could not put it back
                    self._before[kind] = before
                    signal.signal(kind, self._note)
        return self

    def __exit__(self, *error: Any) -> None:
        self._back()
        self.through()

    def through(self) -> None:
        """Let a signal that was noted through to whoever handled it before."""
        seen, self.seen = self.seen, None
        if seen is not None:
            self._back()
            signal.raise_signal(seen)

    def _note(self, number: int, frame: FrameType | None) -> None:
        again, self.seen = self.seen is not None, number
        if again:
            self.through()

    def _back(self) -> None:
        for kind, before in self._before.items():
            signal.signal(kind, before)
        self._before = {}
