"""`compress` and `decompress`: data -> file -> the same data."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inference.compression import sources
from inference.compression.container import Sink, digest
from inference.compression.errors import entropy_coder
from inference.compression.files import text_of
from inference.compression.freezing import model_hash, numbered
from inference.compression.opening import Opened
from inference.compression.planning import ROWS, Rows, most_rows, plan
from inference.compression.rates import Rates
from inference.data.check import check_pair, example
from inference.running.words import check_bool, check_count
from zoo.base import ModelGuide
from zoo.state.files import sync
from zoo.threads.turns import in_turn


@dataclass(frozen=True)
class Compressed:
    """What became of data in a file. Printed, it is its rates.

    Args:
        file: where it is.
        rows: observations, N.
        columns: numbers or cells in each.
        coded: `model`, or `frequencies` where the pair has no codec for these data.
        note: why not by the model; empty where it is.
        rates: bytes of the file and of what it was made of.
    """

    file: Path
    rows: int
    columns: int
    coded: str
    note: str
    rates: Rates = field(repr=False)

    def __str__(self) -> str:
        """In some lines."""
        return f"{self.file}: {self.rates.told(self.rows, self.columns)}" + (
            f"\nnote: {self.note}" if self.note else ""
        )


@in_turn
def compress(
    pair: ModelGuide, data: Any, file: str | Path, *, with_model: bool = False, chunk: int = ROWS
) -> Compressed:
    """Write data into a file by the model, so that `decompress` gives them back to the bit.

    The fitted model is turned into tables of whole numbers once, and nothing else is computed with while symbols are
    coded: the file reads alike on any machine. See `inference.compression` for the format and the codecs.

    Args:
        pair: a fitted pair. Data of another kind than those of its fit are compressed all the same, at their rate.
        data: an array, a tensor, a frame of pandas, a mapping of columns, a text, or a `zoo.Batch`.
        file: written whole or not at all; what was there is replaced.
        with_model: put the tables into the file, so that it reads without the pair.
        chunk: rows that are coded together: a part of the file is read in such pieces.

    Returns:
        sizes and rates.

    Raises:
        ValueError: no pair, data of another kind or without rows, a cell that cannot be kept, or constriction is not
            installed (`pip install 'pyro-zoo[compress]'`).

    Example:
        >>> data = zoo.datasets.load("faithful")  # doctest: +SKIP
        >>> print(inference.compress(pair, data, "geyser.zoo", with_model=True))  # doctest: +SKIP
        >>> torch.equal(inference.decompress("geyser.zoo").x, data.x)  # doctest: +SKIP
        True
    """
    check_pair(pair)
    check_bool("with_model", with_model)
    check_count("chunk", chunk)
    entropy_coder()
    series = example(pair).example.lengths is not None
    return compressed(pair, sources.source_of(pair, data, series), Path(file), with_model, chunk)


def compressed(pair: ModelGuide, source: Rows, file: Path, with_model: bool, chunk: int) -> Compressed:
    """`compress` of data that were looked at."""
    rows = most_rows(source, chunk)
    made = plan(pair, source, rows)
    own = {} if made.own is None else numbered(0, made.own)
    arrays = {} if made.own is not None and not with_model else own
    for number, part in enumerate(made.codec.parts):
        arrays = arrays | (numbered(number, part) if part is not made.own else {})
    parts = [{"kind": p.model.kind, "columns": list(p.columns), "own": p is made.own} for p in made.codec.parts]
    header = {
        "pair": pair.name,
        "model": model_hash(pair),
        "tables": digest(own),
        "kind": source.kind,
        "extra": source.extra,
        "fields": made.codec.layout.record(),
        "parts": parts,
    }
    beside = file.with_name(f"{file.name}.part")
    total = 0
    try:
        with beside.open("wb") as opened:
            sink = Sink(opened, header, arrays)
            for piece in source.pieces(rows):
                sink.chunk(made.codec.write(piece), piece.rows, piece.crc())
                total += piece.rows
            sink.close()
            opened.flush()
            os.fsync(opened.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    sync(file.parent)
    rates = Rates(file.stat().st_size, sink.header_bytes, sink.array_bytes, sink.chunk_bytes, source.raw)
    columns = len(made.codec.layout.columns)
    return Compressed(file, total, columns, "model" if made.own else "frequencies", made.note, rates)


def decompress(file: str | Path, pair: ModelGuide | None = None, *, rows: slice | None = None) -> Any:
    """The data that `compress` wrote: of the same kind, type and bits.

    Args:
        file: the compressed file.
        pair: the pair that it was compressed with, where the file does not hold the model.
        rows: of these rows alone, which takes the chunks in which they stand; by default all.

    Returns:
        what was compressed; of a text file (`zoo compress`) its bytes.

    Raises:
        CompressionError: the file is damaged, truncated, none of zoo's, or of a newer version; it holds no model and
            `pair` is not given, or is another, or its tables come out otherwise on this machine.
    """
    opened = Opened(Path(file), pair)
    start, stop, _ = (rows or slice(None)).indices(opened.rows)
    pieces = list(opened.pieces(start, stop))
    if opened.kind == "file":
        return b"".join(text_of(opened.header["extra"], pieces))
    return sources.restored(opened.kind, opened.header.get("extra"), opened.codec.layout.fields, pieces)
