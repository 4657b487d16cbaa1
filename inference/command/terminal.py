"""What a command writes on the terminal: no character that it cannot show, or that would steer it, stops or harms it.

Names of columns and files come from data, and may hold escape sequences: control characters are shown escaped.
Characters that the terminal's encoding lacks are shown as `?`. Both streams are as before when the command ends.
"""

from __future__ import annotations

import io
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from zoo.notes import DataWarning

# All but tab and line feed; and marks that turn the direction of a line around, or end it unseen.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """The text with control characters as Python writes them: `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Escaping:
    """A stream whose control characters are escaped; all else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, escaped."""
        return cast("int", self._stream.write(escaped(text)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def plainly() -> Iterator[None]:
    """Standard output and error that take every text, until the block ends; the former escapes control characters."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if isinstance(stream, io.TextIOWrapper)]
    before, errors = sys.stdout, [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="replace")
    sys.stdout = cast("Any", _Escaping(before))
    try:
        yield
    finally:
        sys.stdout = before
        for stream, kind in zip(streams, errors, strict=True):
            if not stream.closed:
                stream.reconfigure(errors=kind)


@contextmanager
def notes() -> Iterator[None]:
    """Print how data were understood as notes, each once, instead of as Python's warnings."""
    told: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning
        warnings.simplefilter("always", DataWarning)
        # What libraries will change one day is of no use to whoever typed `zoo`.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)

        def note(message: Any, category: type[Warning], *where: Any, **options: Any) -> None:
            if not issubclass(category, DataWarning):
                show(message, category, *where, **options)
            elif str(message) not in told:
                told.add(str(message))
                print(f"note: {' '.join(str(message).split())}", flush=True)

        warnings.showwarning = note
        yield
