"""A chunk of rows as bytes and back: flags, then symbols by each part's model, then what symbols leave open.

    4 bytes    how many bytes the coder wrote, n
    n bytes    words of the range coder
    rest       only where there are any: cells and lines that are written out, as JSON, packed by what packs it best

A *line* is what stands between rows of a text file and is none: (how many rows of the chunk stand above, text).
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inference.compression.coder import Reader, Writer
from inference.compression.errors import CompressionError
from inference.compression.forms import REGULAR, Cells
from inference.compression.integers import Ints, cumulative, log_table
from inference.compression.layout import Layout, check_cells
from inference.compression.packing import best, opened
from inference.compression.spelling import join, split

Lines = list[tuple[int, str]]
_SIZE = struct.Struct("<I")
_TEXTS = 1 << 28  # bytes of what is written out in a chunk


class Part(NamedTuple):
    """Columns that one model codes: their numbers in the layout, in the order of the model."""

    model: Any
    columns: tuple[int, ...]


class Piece(NamedTuple):
    """Some rows: a field's values (B, *shape) each, and lines between them."""

    fields: list[NDArray[Any]]
    lines: Lines

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.fields[0])

    def crc(self) -> int:
        """CRC-32 of what it holds."""
        total = zlib.crc32(json.dumps(self.lines).encode())
        for field in self.fields:
            if field.dtype == object:
                texts = field.ravel().tolist()
                total = zlib.crc32(json.dumps(texts).encode(), total)
            else:
                total = zlib.crc32(np.ascontiguousarray(field).tobytes(), total)
        return total


class Codec(NamedTuple):
    """How chunks are coded."""

    layout: Layout
    parts: tuple[Part, ...]

    def split(self, piece: Piece) -> list[Cells]:
        """The cells of each column, as symbols."""
        found = []
        for f, field in enumerate(self.layout.fields):
            coded = field.coded(piece.fields[f])
            found += [split(self.layout.form(f, j), coded[:, j]) for j in range(field.columns)]
        return found

    def write(self, piece: Piece) -> bytes:
        """The bytes of a chunk."""
        check_cells(piece.rows, len(self.layout.columns))
        cells, coder = self.split(piece), Writer()
        self._code(coder, cells)
        words = coder.bytes()
        escapes = [column.escapes for column in cells]
        texts = b"" if not any(escapes) and not piece.lines else _packed([escapes, piece.lines])
        return _SIZE.pack(len(words)) + words + texts

    def read(self, data: bytes, rows: int) -> Piece:
        """The rows again.

        Raises:
            CompressionError: these are no bytes of such a chunk.
        """
        columns = self.layout.columns
        check_cells(rows, len(columns))
        if len(data) < 4 or _SIZE.unpack(data[:4])[0] > len(data) - 4:
            raise CompressionError("a chunk ends before its words do")
        end = 4 + _SIZE.unpack(data[:4])[0]
        escapes, lines = _unpacked(data[end:], len(columns), rows)
        none = np.zeros(rows, dtype=np.int64)
        empty = [Cells(none, none, none.astype(np.uint64), texts) for texts in escapes]
        cells = self._code(Reader(data[4:end]), empty)
        found, at = [], 0
        for f, field in enumerate(self.layout.fields):
            parts = [join(self.layout.form(f, j), cells[at + j], field.code) for j in range(field.columns)]
            at += field.columns
            coded = np.stack(parts, 1) if parts else np.empty((rows, 0), field.code)
            found.append(field.values(coded))
        return Piece(found, lines)

    def _code(self, coder: Any, cells: list[Cells]) -> list[Cells]:
        """Write the cells, or read them; they are returned."""
        columns = self.layout.columns
        flags = [
            coder.code(edges, column.flags) if (edges := _flags(self.layout.flags[f][self.layout.fields[f].form(j)]))
            is not None else np.full(len(column.flags), _only(self.layout, f, j))
            for (f, j), column in zip(columns, cells, strict=True)
        ]  # fmt: skip
        found = list(cells)
        for part in self.parts:
            seen = np.stack([flags[d] == REGULAR for d in part.columns], 1)
            symbols = part.model.code(coder, np.stack([cells[d].symbols for d in part.columns], 1), seen)
            for place, d in enumerate(part.columns):
                found[d] = found[d]._replace(symbols=symbols[:, place])
        for d, (f, j) in enumerate(columns):
            form, some = self.layout.form(f, j), flags[d] == REGULAR
            offsets = np.zeros(len(some), dtype=np.uint64)
            if form.numeric and some.any():
                offsets[some] = coder.even(form.widths(found[d].symbols[some]), cells[d].offsets[some])
            found[d] = Cells(flags[d], found[d].symbols, offsets, cells[d].escapes)
        return found


def _flags(counts: Sequence[int]) -> Ints | None:
    """Cumulative frequencies of flags; None where only one occurs."""
    if sum(count > 0 for count in counts) < 2:
        return None
    return cumulative(log_table(np.array(counts, dtype=np.float64)))


def _only(layout: Layout, f: int, j: int) -> int:
    return int(np.argmax(layout.flags[f][layout.fields[f].form(j)]))


def _packed(texts: Any) -> bytes:
    data = json.dumps(texts, separators=(",", ":")).encode()
    return _SIZE.pack(len(data)) + best(data)


def _unpacked(data: bytes, columns: int, rows: int) -> tuple[list[list[str]], Lines]:
    if not data:
        return [[] for _ in range(columns)], []
    size = _SIZE.unpack(data[:4])[0] if len(data) >= 4 else _TEXTS + 1
    if size > _TEXTS:
        raise CompressionError("a chunk writes out more than is read")
    try:
        escapes, lines = json.loads(opened(data[4:], size))
        good = len(escapes) == columns and all(isinstance(cell, str) for texts in escapes for cell in texts)
        good &= all(type(above) is int and 0 <= above <= rows and isinstance(text, str) for above, text in lines)
    except (ValueError, TypeError, RecursionError) as error:
        raise CompressionError(f"a chunk writes out what is no JSON ({error!r:.80})") from None
    if not good:
        raise CompressionError("a chunk writes out what is no cell")
    return escapes, [(above, text) for above, text in lines]
