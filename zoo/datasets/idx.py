"""IDX, the file format of MNIST and its kin.

Layout (LeCun, Cortes & Burges, "The MNIST database", file formats): two zero bytes, a type code, the number of
dimensions D, D sizes as big-endian unsigned 32-bit integers, then the values in C order, big-endian.
"""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.bounds import check_bytes
from zoo.datasets.opening import unpacked

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 24  # bytes; a header that promises more than the file holds must not cost the memory it promises


def read_idx(path: str | Path) -> NDArray[Any]:
    """Read an IDX file, plain or gzipped (told by its first bytes), as an array in native byte order.

    Raises:
        ValueError: missing or damaged: wrong magic, unknown type, truncated or oversized; the path is in the message.
    """
    path = Path(path)
    try:
        with unpacked(path) as file:
            return _read(file, path)
    except OSError as error:
        raise ValueError(f"cannot read '{path}': {error}") from error


def _read(file: IO[bytes], path: Path) -> NDArray[Any]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(f"'{path}' is not an IDX file: expected it to start with two zero bytes, got {magic!r}")
    code, ndim = magic[2], magic[3]
    if code not in _TYPES:
        known = ", ".join(f"0x{known:02x}" for known in _TYPES)
        raise ValueError(f"'{path}': unknown IDX type 0x{code:02x}; known: {known}")
    if ndim == 0:
        raise ValueError(f"'{path}': an IDX file needs at least one dimension, got 0")
    header = file.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise ValueError(f"'{path}' is truncated: {ndim} dimensions need {4 * ndim} bytes, got {len(header)}")
    shape = struct.unpack(f">{ndim}I", header)
    dtype = np.dtype(_TYPES[code])
    expected = math.prod(shape) * dtype.itemsize
    if isinstance(file, gzip.GzipFile):  # a plain file holds no more than its own size
        check_bytes(path, expected)
    body = bytearray()
    while len(body) <= expected and (piece := file.read(min(_CHUNK, expected + 1 - len(body)))):
        body += piece
    if len(body) != expected:
        state, size = ("oversized", f"more than {expected}") if len(body) > expected else ("truncated", len(body))
        raise ValueError(f"'{path}' is {state}: shape {shape} of {dtype.name} needs {expected} bytes, got {size}")
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="))
