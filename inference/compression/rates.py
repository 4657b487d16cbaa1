"""What a compressed file costs, beside other programs."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import importlib
import lzma
from collections.abc import Mapping
from typing import NamedTuple


class Rates(NamedTuple):
    """Bytes.

    Args:
        file: all of the file.
        header: what it says of the columns.
        tables: models in the file: the pair's, if it is there, and frequencies of columns that it does not know.
        chunks: the rows.
        raw: the data as they came.
    """

    file: int
    header: int
    tables: int
    chunks: int
    raw: int

    def told(self, rows: int, columns: int) -> str:
        """In a line or two."""
        bits = 8 * self.chunks / max(1, rows)
        return (
            f"{self.file:,} bytes for {rows:,} rows of {columns:,} cells, {self.raw / max(1, self.file):.2f} times "
            f"smaller than {self.raw:,}\n{bits:.2f} bits a row, {bits / max(1, columns):.4f} a cell, and "
            f"{self.header + self.tables:,} bytes that do not grow with the rows (tables {self.tables:,})"
        )

    def break_even(self, others: Mapping[str, int], rows: int) -> dict[str, float]:
        """From how many rows on the file is smaller than each of the others, if both go on as they began.

        Infinite where it never is.
        """
        fixed, each = self.file - self.chunks, self.chunks / rows
        return {
            name: fixed / (size / rows - each) if size / rows > each else float("inf") for name, size in others.items()
        }


def others(raw: bytes) -> dict[str, int]:
    """What other programs make of the same bytes, at their strongest; zstd where it is installed."""
    found = {
        "gzip": len(gzip.compress(raw, 9, mtime=0)),
        "bz2": len(bz2.compress(raw, 9)),
        "xz": len(lzma.compress(raw, preset=9 | lzma.PRESET_EXTREME)),
    }
    with contextlib.suppress(ImportError):
        found["zstd"] = len(importlib.import_module("zstandard").ZstdCompressor(level=19).compress(raw))
    return found
