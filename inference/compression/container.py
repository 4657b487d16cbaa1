"""The file: what stands in it, and how it is read with nothing believed.

    offset  bytes
    0       8      b"\\x89ZOO\\r\\n\\x1a\\n"
    8       4      version of the format
    12      4      bytes of the header as packed, P
    16      4      CRC-32 of the header as packed, and of the 16 bytes before
    20      P      header: JSON, packed by zlib
            ...    arrays: packed by zlib, one after the other; lengths, types, shapes and SHA-256 in the header
            ...    chunks, one after the other
            I      index: for each chunk its bytes, rows, CRC-32 of its bytes, CRC-32 of what it decodes to (4 x uint32)
    -24     8      where the index begins
    -16     4      bytes of the index, I
    -12     4      CRC-32 of the index and of the 12 bytes before this
    -8      8      the first 8 bytes again

Integers are little-endian. Every byte is covered by a checksum, and a file ends where it says. Nothing is unpickled,
nothing evaluated; what is unpacked is no longer than the header says, which is bounded in turn.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError
from inference.compression.packing import TYPES, pack, unpack

MAGIC = b"\x89ZOO\r\n\x1a\n"
VERSION = 1
ROWS = 1 << 16  # the most rows of a chunk
HEADER = 1 << 26  # bytes, unpacked
ARRAYS = 1 << 30  # bytes of all arrays, unpacked
_START, _END, _ENTRY = struct.Struct("<8sII"), struct.Struct("<QI"), struct.Struct("<4I")


class Chunk(NamedTuple):
    """Where a chunk stands, and what it must come to."""

    offset: int
    size: int
    rows: int
    crc: int
    decoded: int


class Sink:
    """Writes a file, front to back; nothing of it is kept."""

    def __init__(self, file: Any, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        packed = [(name, np.ascontiguousarray(array), pack(array)) for name, array in arrays.items()]
        listed = [
            {"name": name, "type": str(array.dtype), "shape": list(array.shape), "size": len(data)}
            for name, array, data in packed
        ]
        text = json.dumps({**header, "arrays": listed}, separators=(",", ":"), allow_nan=False).encode()
        if len(text) > HEADER:
            raise ValueError(f"the description of the columns takes {len(text):,} bytes, at most {HEADER:,}")
        head = zlib.compress(text, 9)
        start = _START.pack(MAGIC, VERSION, len(head))
        self._file, self._index = file, bytearray()
        self.header_bytes = file.write(start + struct.pack("<I", zlib.crc32(head, zlib.crc32(start))) + head)
        self.array_bytes = sum(file.write(data) for _, _, data in packed)
        self._at, self.chunk_bytes = self.header_bytes + self.array_bytes, 0

    def chunk(self, data: bytes, rows: int, decoded: int) -> None:
        """Append a chunk."""
        self._index += _ENTRY.pack(len(data), rows, zlib.crc32(data), decoded)
        self.chunk_bytes += self._file.write(data)

    def close(self) -> None:
        """Write the index and the end."""
        end = _END.pack(self._at + self.chunk_bytes, len(self._index))
        crc = struct.pack("<I", zlib.crc32(end, zlib.crc32(self._index)))
        self._file.write(bytes(self._index) + end + crc + MAGIC)


class Container:
    """A file that was opened: its header, arrays and chunks, each checked when it is read.

    Raises:
        CompressionError: damaged, truncated, no such file, or of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                self.header, self.arrays, start = _front(file, size)
                self.chunks = _index(file, size, start)
        except OSError as error:
            raise CompressionError(f"cannot read '{path}': {error.strerror or error}") from None
        except CompressionError as error:
            raise CompressionError(f"cannot decompress '{path}': {error}") from None
        self.rows = sum(chunk.rows for chunk in self.chunks)

    def data(self, number: int) -> bytes:
        """The bytes of a chunk.

        Raises:
            CompressionError: they are not those that were written.
        """
        chunk = self.chunks[number]
        with self.path.open("rb") as file:
            file.seek(chunk.offset)
            data = file.read(chunk.size)
        if zlib.crc32(data) != chunk.crc:
            raise CompressionError(f"cannot decompress '{self.path}': chunk {number + 1} is damaged")
        return data


def digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The SHA-256 of arrays, their names, types and shapes."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape};".encode())
        total.update(np.ascontiguousarray(array).astype(TYPES[str(array.dtype)]).tobytes())
    return total.hexdigest()


def _front(file: Any, size: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]], int]:
    """Header and arrays of a file, and where its chunks begin."""
    start = file.read(20)
    if start[:8] != MAGIC[: len(start)] or len(start) < 8:
        raise CompressionError("not a file that zoo compressed")
    if len(start) < 20:
        raise CompressionError("truncated")
    _, version, packed = _START.unpack(start[:16])
    if version > VERSION and packed <= size:
        raise CompressionError(f"format {version}, newer than this version of zoo, which reads up to {VERSION}")
    if packed > size - 20 or version != VERSION:
        raise CompressionError("truncated or damaged: its header does not end in the file")
    head = file.read(packed)
    if struct.pack("<I", zlib.crc32(head, zlib.crc32(start[:16]))) != start[16:]:
        raise CompressionError("its header is damaged")
    try:
        opened = zlib.decompressobj()
        text = opened.decompress(head, HEADER)
        header = json.loads(text) if opened.eof else None
    except (zlib.error, ValueError, RecursionError, MemoryError) as error:
        raise CompressionError(f"its header is not JSON that was packed ({error!r:.80})") from None
    if not isinstance(header, dict) or not isinstance(header.get("arrays"), list):
        raise CompressionError("its header is no description of a table")
    return (header, *_arrays(file, header.pop("arrays"), 20 + packed, size))


def _arrays(file: Any, listed: list[Any], at: int, size: int) -> tuple[dict[str, NDArray[Any]], int]:
    arrays: dict[str, NDArray[Any]] = {}
    room = ARRAYS
    for entry in listed:
        try:
            name, kind, shape, length = entry["name"], entry["type"], tuple(entry["shape"]), entry["size"]
            whole = all(type(n) is int and 0 <= n < 1 << 40 for n in (*shape, length))
            good = whole and isinstance(name, str) and name not in arrays and kind in TYPES and len(shape) <= 4
        except (TypeError, KeyError):
            good = False
        if not good:
            raise CompressionError(f"its header describes no array: {entry!r:.80}")
        room -= int(np.prod(shape, dtype=object)) * np.dtype(kind).itemsize
        if at + length > size or room < 0:
            raise CompressionError("truncated, or its arrays are larger than any that are read")
        arrays[name] = unpack(file.read(length), kind, shape)
        at += length
    return arrays, at


def _index(file: Any, size: int, start: int) -> list[Chunk]:
    """The chunks of a file."""
    if size < start + 24:
        raise CompressionError("truncated")
    file.seek(size - 24)
    end = file.read(24)
    at, length = _END.unpack(end[:12])
    if end[16:] != MAGIC or at + length + 24 != size or at < start or length % _ENTRY.size:
        raise CompressionError("truncated or damaged: its end is not the one that was written")
    file.seek(at)
    index = file.read(length)
    if struct.pack("<I", zlib.crc32(end[:12], zlib.crc32(index))) != end[12:16]:
        raise CompressionError("its index is damaged")
    chunks, offset = [], start
    for length_, rows, crc, decoded in _ENTRY.iter_unpack(index):
        chunks.append(Chunk(offset, length_, rows, crc, decoded))
        offset += length_
        if not 0 < rows <= ROWS:
            raise CompressionError(f"chunk {len(chunks)} is said to hold {rows} rows, at most {ROWS}")
    if offset != at:
        raise CompressionError("its chunks do not end where its index begins")
    return chunks
