"""A bound on what reading a file may cost, as `zoo.state.budget` is for saved pairs: a small file may declare anything.

Files of the formats that compress say how large their contents are; that is looked at before a byte is unpacked.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from zoo.settings import settings

_TIMES = 64  # what compression makes of sensible data, and then some


def check_bytes(path: Path, declared: int, does: str = "declares contents of") -> None:
    """Refuse contents that are out of proportion to their file; `does` says how it is known.

    Raises:
        ValueError: more bytes than `settings.file_bytes` and 64 times the size of the file.
    """
    size = path.stat().st_size
    most = settings.file_bytes + _TIMES * size
    if declared > most:
        raise ValueError(
            f"'{path}', of {size:,} bytes, {does} {declared:,} bytes, at most {most:,} are read; "
            "zoo.settings.file_bytes raises the bound"
        )


def check_archive(path: Path) -> None:
    """Refuse an .npz whose members together are too large, or whose arrays are larger than their members.

    Raises:
        ValueError: see `check_bytes`; a member that declares more than it holds.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        check_bytes(path, sum(member.file_size for member in members))
        for member in members:
            try:
                with archive.open(member) as file:
                    declared = _declared(file)
            except Exception:  # zipfile, zlib and numpy have errors of their own
                continue  # no array, or damaged: whoever reads it will say so
            if declared > member.file_size:
                raise ValueError(
                    f"damaged: its member '{member.filename}' declares an array of {declared:,} bytes, and holds "
                    f"{member.file_size:,}"
                )


def _declared(file: IO[bytes]) -> int:
    """The bytes of the array that the head of an .npy declares."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return 0 if dtype.hasobject else math.prod(shape) * dtype.itemsize
