"""`zoo compress` and `zoo decompress`: a file by a fitted model, and the same file back."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inference.command import files
from inference.compression import door, rates, sources
from inference.compression.files import TextTable, text_of
from inference.compression.opening import Opened
from inference.compression.planning import Rows
from inference.data.check import example
from zoo.abilities import Text
from zoo.base import ModelGuide
from zoo.datasets.layout import layout
from zoo.datasets.opening import TEXTS, kind_of
from zoo.datasets.preamble import BLANKS
from zoo.datasets.readers import READERS

_COMPARED = 1 << 26  # bytes of a file that other programs are tried on
ENDING = ".zoo"


def compress(options: argparse.Namespace) -> None:
    """Write files by the model, and say what that saves against other programs."""
    sources_ = [Path(name) for name in options.files]
    out = Path(options.out)
    if out.suffix.lower() != ENDING:
        raise ValueError(f"--out {out}: expected a name that ends in {ENDING}")
    outs = [out if len(sources_) == 1 else out.with_name(f"{out.stem}.{path.name}{ENDING}") for path in sources_]
    if len(set(outs)) < len(outs):
        raise ValueError("two files of one name: compress them one by one")
    files.check_free(outs, replace=options.replace)
    pair = files.load(options.folder)
    for path, to in zip(sources_, outs, strict=True):
        made = door.compressed(pair, rows_of(pair, path, options.header), to, options.with_model, options.chunk)
        print(made)
        _compare(path, made)


def _compare(path: Path, made: door.Compressed) -> None:
    size = path.stat().st_size
    if size > _COMPARED:
        print(f"not compared with other programs: {path} has more than {_COMPARED:,} bytes")
        return
    found = rates.others(path.read_bytes())
    even = made.rates.break_even(found, made.rows)
    for name, other in sorted(found.items(), key=lambda item: item[1]):
        rows = even[name]
        told = "never at these rates" if rows == float("inf") else f"from {max(1, round(rows)):,} rows on"
        print(f"  {name}: {other:,} bytes ({made.rates.file / other:.2f} of that here; smaller {told})")


def rows_of(pair: ModelGuide, path: Path, header: bool | None) -> Rows:
    """A file as rows that the pair may know.

    Raises:
        ValueError: no such file, or of a kind that is not read here.
    """
    kind = kind_of(path)
    if not path.is_file():
        raise ValueError(f"no file '{path}'")
    if isinstance(pair, Text) and pair.alphabet is not None and kind == ".txt":
        try:
            return sources.source_of(pair, path.read_bytes().decode(), series=True)
        except UnicodeDecodeError as error:
            raise ValueError(f"cannot compress '{path}': no text in UTF-8, byte {error.start + 1}") from None
    if kind in TEXTS:
        form = layout(path, header)
        if form.encoding == "utf-16":
            raise ValueError(f"'{path}' is UTF-16: save it as UTF-8")
        delimiter = " " if form.delimiter == BLANKS else form.delimiter
        return TextTable(path, form.columns, delimiter, form.headed and not form.above)
    if kind == ".npy":
        array = READERS[".npy"](path)[0]["x"]  # mapped
        return sources.source_of(pair, np.asarray(array), example(pair).example.lengths is not None)
    raise ValueError(f"cannot compress '{path}': expected a name that ends in {', '.join((*TEXTS, '.npy'))}")


def decompress(options: argparse.Namespace) -> None:
    """Write what was compressed."""
    source = Path(options.file)
    if source.suffix.lower() != ENDING and options.out is None:
        raise ValueError(f"'{source}' does not end in {ENDING}: --out says where to write")
    pair = None if options.run is None else files.load(options.run)
    opened = Opened(source, pair)
    ending = {"file": ".csv", "text": ".txt"}.get(opened.kind, ".npy")
    out = Path(options.out) if options.out is not None else source.with_suffix(ending)
    files.check_free([out], replace=options.replace)
    beside = out.with_name(f"{out.name}.part")
    try:
        with beside.open("wb") as file:
            for data in _bytes(opened):
                file.write(data)
        beside.replace(out)
    finally:
        beside.unlink(missing_ok=True)
    print(f"{opened.rows:,} rows of {source} in {out}")


def _bytes(opened: Opened) -> Iterator[bytes]:
    pieces = opened.pieces(0, opened.rows)
    if opened.kind == "file":
        yield from text_of(opened.header.get("extra"), pieces)
        return
    found: Any = sources.restored(opened.kind, opened.header.get("extra"), opened.codec.layout.fields, list(pieces))
    if isinstance(found, str):
        yield found.encode()
        return
    if not isinstance(found, np.ndarray):
        raise ValueError(f"a compressed {opened.kind} has no file of its own: inference.decompress gives it back")
    target = io.BytesIO()
    np.save(target, found, allow_pickle=False)
    yield target.getvalue()
