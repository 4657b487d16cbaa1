"""Bytes and arrays packed by programs of the standard library, and unpacked to no more than was said."""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError

TYPES = {"int16": "<i2", "int32": "<i4", "int64": "<i8", "uint8": "|u1"}
_RATIO = 1 << 11  # zlib packs no tighter than 1032 to 1
_MEMORY = 1 << 28  # bytes that LZMA may take


def pack(array: NDArray[Any]) -> bytes:
    """An array packed: differences along its last axis, byte by byte apart."""
    array = np.ascontiguousarray(array)
    if str(array.dtype) not in TYPES:
        raise TypeError(f"arrays of a file are of {', '.join(TYPES)}, not {array.dtype}")
    steps = np.diff(array, axis=-1, prepend=array.dtype.type(0)) if array.ndim else array
    raw = steps.astype(TYPES[str(array.dtype)]).tobytes()
    return zlib.compress(np.frombuffer(raw, np.uint8).reshape(-1, array.dtype.itemsize).T.tobytes(), 9)


def unpack(data: bytes, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array again.

    Raises:
        CompressionError: it is not of that type and shape.
    """
    dtype = np.dtype(TYPES[kind])
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    raw = np.frombuffer(inflate(data, size), np.uint8).reshape(dtype.itemsize, -1).T.tobytes()
    steps = np.frombuffer(raw, dtype).reshape(shape).astype(kind)
    return np.cumsum(steps, axis=-1, dtype=kind) if steps.ndim else steps


def inflate(data: bytes, size: int) -> bytes:
    """What zlib packed, of exactly so many bytes.

    Raises:
        CompressionError: it is no such thing.
    """
    if size > (len(data) + 8) * _RATIO:
        raise CompressionError(f"{len(data)} bytes cannot hold the {size} that they are said to")
    try:
        opened = zlib.decompressobj()
        found = opened.decompress(data, size + 1)
    except zlib.error as error:
        raise CompressionError(f"not what was packed ({error})") from None
    if len(found) != size or not opened.eof or opened.unused_data:
        raise CompressionError(f"expected {size} bytes packed, got {len(found)}{'' if opened.eof else ' or more'}")
    return found


def best(data: bytes) -> bytes:
    """Bytes packed by zlib, bz2 or LZMA, whichever packs them best; the first byte says which."""
    ways = (zlib.compress(data, 9), bz2.compress(data, 9), lzma.compress(data, lzma.FORMAT_ALONE))
    way = min(range(3), key=lambda i: len(ways[i]))
    return bytes([way]) + ways[way]


def opened(data: bytes, size: int) -> bytes:
    """What `best` packed, of exactly so many bytes.

    Raises:
        CompressionError: it is no such thing.
    """
    way, rest = data[:1], data[1:]
    if way == b"\0":
        return inflate(rest, size)
    try:
        if way == b"\1":
            program: Any = bz2.BZ2Decompressor()
        elif way == b"\2":
            program = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY)
        else:
            raise CompressionError("not what was packed")
        found: bytes = program.decompress(rest, size + 1)
    except (OSError, EOFError, lzma.LZMAError, ValueError, MemoryError) as error:
        raise CompressionError(f"not what was packed ({error})") from None
    if len(found) != size or not program.eof or program.unused_data:
        raise CompressionError(f"expected {size} bytes packed, got {len(found)}")
    return found
