"""Text tables as rows of cells and the lines between them, so that the file comes back byte for byte.

A line whose cells, joined again, are the line is a row. All others, the names of the columns, comments, blank lines and
rows with other numbers of cells or quotes of their own, are kept as they stand. The text is read as UTF-8; bytes that
are none come through as well (PEP 383).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inference.compression.chunks import Piece
from inference.compression.errors import CompressionError
from inference.compression.layout import Field

STYLES = ("minimal", "all", "texts")  # which cells are quoted
_LOOK = 200  # lines
_LONG = 1 << 20  # characters of a line


class TextTable:
    """A text table that is gone through line by line; nothing of it is kept.

    Args:
        path: of the file.
        columns: names of the cells of a row.
        delimiter: what cuts them, one character.
        headed: whether the first row names the columns, and is none.

    Raises:
        ValueError: it cannot be read, or no line of it is a row.
    """

    kind = "file"

    def __init__(self, path: Path, columns: Sequence[str], delimiter: str, headed: bool) -> None:
        self.path, self.headed, self.raw = path, headed, path.stat().st_size
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise ValueError(f"'{path}' is packed by gzip already: unpack it first")
        first = [line for _, line in zip(range(_LOOK), self._lines(), strict=False)]
        end = "\r\n" if first and first[0].endswith("\r\n") else "\n"
        self.extra: dict[str, Any] = {"delimiter": delimiter, "end": end, "style": STYLES[0], "cells": len(columns)}
        found = {}
        for style in STYLES:
            self.extra["style"] = style
            found[style] = sum(self._row(line) is not None for line in first[headed:])
        self.extra["style"] = max(STYLES, key=lambda style: found[style])
        if not found[self.extra["style"]]:
            raise ValueError(f"'{path}': none of the first {len(first)} lines is a row of {len(columns)} cells")
        self.fields = tuple(Field(name, "text") for name in columns)

    @property
    def row_literal(self) -> Callable[[Any], str]:
        """A category as it is written."""
        return str

    def pieces(self, rows: int) -> Iterator[Piece]:
        """The rows, so many at a time, and the lines between them; the last has what stands below all."""
        cells: list[list[str]] = []
        lines: list[tuple[int, str]] = []
        for number, line in enumerate(self._lines()):
            row = None if number == 0 and self.headed else self._row(line)
            if row is None:
                lines.append((len(cells), line))
                continue
            if len(cells) == rows:  # only now: lines below the last row are of its piece
                yield self._piece(cells, lines)
                cells, lines = [], []
            cells.append(row)
        yield self._piece(cells, lines)

    def _piece(self, cells: list[list[str]], lines: list[tuple[int, str]]) -> Piece:
        table = np.array(cells, dtype=object).reshape(len(cells), len(self.fields))
        return Piece([table[:, j] for j in range(len(self.fields))], lines)

    def _lines(self) -> Iterator[str]:
        with self.path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            while line := file.readline(_LONG):
                yield line

    def _row(self, line: str) -> list[str] | None:
        """The cells of a line; None where they do not make it again."""
        end, delimiter = self.extra["end"], self.extra["delimiter"]
        if not line.endswith(end):
            return None
        text = line[: -len(end)]
        try:
            cells = text.split(delimiter) if '"' not in text else next(csv.reader([text], delimiter=delimiter), [])
        except csv.Error:
            return None
        if len(cells) != self.extra["cells"]:
            return None
        return cells if joined(cells, self.extra) == line else None


def joined(cells: Sequence[str], form: Any) -> str:
    """Cells as the line that they stand in."""
    delimiter, style = form["delimiter"], form["style"]
    quoted = [
        '"' + cell.replace('"', '""') + '"'
        if style == "all" or (style == "texts" and not _number(cell)) or delimiter in cell or '"' in cell
        else cell
        for cell in cells
    ]
    return str(delimiter.join(quoted) + form["end"])


def text_of(extra: Any, pieces: Iterator[Piece] | list[Piece]) -> Iterator[bytes]:
    """The bytes of the file, piece by piece.

    Raises:
        CompressionError: the header tells of no text table.
    """
    try:
        good = extra["style"] in STYLES and isinstance(extra["end"], str) and len(extra["delimiter"]) == 1
    except (TypeError, KeyError):
        good = False
    if not good:
        raise CompressionError(f"the header tells of no text table: {extra!r:.80}")
    for piece in pieces:
        rows = [joined(row, extra) for row in zip(*(field.tolist() for field in piece.fields), strict=True)]
        found, at = [], 0
        for above, text in piece.lines:
            found += [*rows[at:above], text]
            at = max(at, above)
        yield "".join([*found, *rows[at:]]).encode("utf-8", errors="surrogateescape")


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
