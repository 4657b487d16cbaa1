"""A compressed file, opened: its models, and its rows in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from inference.compression.chain import Chain
from inference.compression.chunks import Codec, Part, Piece
from inference.compression.container import Container, digest
from inference.compression.errors import CompressionError, entropy_coder
from inference.compression.freezing import freeze, model_hash, numbered
from inference.compression.layout import Layout, check_cells
from inference.compression.mixture import Mixture
from inference.compression.network import Network
from inference.data.check import check_pair
from zoo.base import ModelGuide
from zoo.state.memory import check_room

MODELS = {
    model.kind: model for model in (Mixture, Chain, Network)
}  # a codec of its own is a line here, and one in `freezing`


class Opened:
    """A compressed file, ready to be read in pieces. Arguments and errors are those of `decompress`."""

    def __init__(self, file: Path, pair: ModelGuide | None = None) -> None:
        if pair is not None:
            check_pair(pair)
        entropy_coder()
        self.container = Container(file)
        self.header, self.rows = self.container.header, self.container.rows
        try:
            with nullcontext() if pair is None else pair.turn:
                self.kind, self.codec = str(self.header.get("kind")), _codec(self.container, pair)
            most = max((chunk.rows for chunk in self.container.chunks), default=0)
            check_cells(most, len(self.codec.layout.columns))
        except CompressionError as error:
            raise CompressionError(f"cannot decompress '{file}': {error}") from None

    def pieces(self, start: int, stop: int) -> Iterator[Piece]:
        """The rows from `start` to `stop`."""
        columns = len(self.codec.layout.columns)
        try:
            check_room("decompress: the number of rows", stop - start, 8 * (stop - start) * columns)
        except ValueError as error:
            raise CompressionError(str(error)) from None
        at = 0
        for number, chunk in enumerate(self.container.chunks):
            if at + chunk.rows > start and at < stop:
                piece = self._piece(number)
                low, high = max(0, start - at), min(chunk.rows, stop - at)
                whole = (low, high) == (0, chunk.rows)
                yield piece if whole else Piece([f[low:high] for f in piece.fields], [])
            at += chunk.rows

    def _piece(self, number: int) -> Piece:
        chunk, where = self.container.chunks[number], f"cannot decompress '{self.container.path}': chunk {number + 1}"
        data = self.container.data(number)
        try:
            piece = self.codec.read(data, chunk.rows)
        except CompressionError as error:
            raise CompressionError(f"{where}: {error}") from None
        if piece.crc() != chunk.decoded:
            raise CompressionError(f"{where} does not decode to what was written: it was made by another model")
        return piece


def _codec(container: Container, pair: ModelGuide | None) -> Codec:
    """How the chunks of a file are coded."""
    header, arrays = container.header, container.arrays
    layout = Layout.of(header.get("fields"))
    parts: list[Part] = []
    taken: set[int] = set()
    try:
        listed = [(str(p["kind"]), tuple(p["columns"]), bool(p["own"])) for p in header["parts"]]
    except (TypeError, KeyError):
        raise CompressionError("the header lists no models") from None
    for number, (kind, columns, own) in enumerate(listed):
        if kind not in MODELS:
            raise CompressionError(f"the header names a codec '{kind:.40}', which this version does not know")
        held = {name.split(".", 1)[1]: a for name, a in arrays.items() if name.startswith(f"{number}.")}
        model = _frozen(pair, layout, header, columns) if own and not held else _made(kind, held)
        some = all(type(d) is int and 0 <= d < len(layout.columns) for d in columns)
        if not some or len(set(columns)) < len(columns) or taken & set(columns):
            raise CompressionError("the header gives a model columns that are not there, or twice")
        sizes = [layout.form(*layout.columns[d]).size for d in columns]
        if model.kind != kind or model.sizes != sizes:
            raise CompressionError("the tables of a model do not fit the columns")
        taken |= set(columns)
        parts.append(Part(model, columns))
    return Codec(layout, tuple(parts))


def _made(kind: str, arrays: dict[str, Any]) -> Any:
    try:
        return MODELS[kind].of(arrays)
    except KeyError as error:
        raise CompressionError(f"the tables of a model are not all there: no {error}") from None


def _frozen(pair: ModelGuide | None, layout: Layout, header: dict[str, Any], columns: tuple[Any, ...]) -> Any:
    """The pair's own tables, made anew."""
    name = header.get("pair")
    if pair is None:
        raise CompressionError(f"it holds no model: give the {name!s:.40} that it was compressed with")
    if model_hash(pair) != header.get("model"):
        raise CompressionError(
            f"it was compressed with another model, a {name!s:.40} of other numbers than this {pair.name}"
        )
    part, why = freeze(pair, layout)
    if part is None or part.columns != columns or digest(numbered(0, part)) != header.get("tables"):
        raise CompressionError(
            f"the model's tables come out otherwise here than where it was compressed ({why or 'another machine'}): "
            "compress with the model in the file"
        )
    return part.model
