"""Files written whole or not at all, and read only where they are said to be."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class DamagedFile(ValueError):
    """What is in the folder is not what `save` wrote, or cannot be built here."""


def write(path: Path, content: bytes) -> None:
    """Put a file in its place: written beside it, synced, renamed, and the rename synced."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)  # left by a save that was killed
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the renames in a folder last, where the system can."""
    if os.name != "posix":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def size(path: Path) -> int:
    """The size in bytes of a file that is in the folder itself, neither a link nor a device."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        raise DamagedFile(f"no {path.name}") from None
    if not stat.S_ISREG(info.st_mode):
        raise DamagedFile(f"{path.name}: {'a link' if stat.S_ISLNK(info.st_mode) else 'no plain file'}, not followed")
    return info.st_size


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            total.update(piece)
    return total.hexdigest()


def sealed(record: dict[str, Any]) -> bytes:
    """The one spelling of a record of JSON, with its checksum as the last entry."""

    def spelled(value: dict[str, Any]) -> bytes:
        return json.dumps(value, indent=2, allow_nan=False).encode() + b"\n"

    return spelled({**record, "checksum": hashlib.sha256(spelled(record)).hexdigest()})


@contextmanager
def locked(folder: Path, *, exclusive: bool) -> Iterator[None]:
    """One writer or many readers of a folder at a time, where the system can lock one; the others wait."""
    try:
        import fcntl  # not on Windows
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems
            fcntl.flock(handle, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough when a forked child holds a copy
        os.close(handle)
