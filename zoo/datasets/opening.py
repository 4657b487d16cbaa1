"""How a user's file is opened: gzipped or not, as text in whatever encoding it has, never more of it than is allowed.

A file is gzipped where its first bytes say so. A text is UTF-8, or UTF-16 where it begins with its mark, or else
Windows-1252, as spreadsheets of the West still write; the last is said, since nothing in such a file proves it. What
unpacks to more than `zoo.settings.file_bytes` allows is refused before it is held in memory.
"""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from zoo.datasets.bounds import check_bytes
from zoo.notes import DataWarning

TEXTS = (".csv", ".tsv", ".txt", ".dat", ".data")  # tables as texts
_IDX = re.compile(r"(?:^|[-_.])idx\d?-ubyte$")  # train-images-idx3-ubyte, as MNIST is handed out
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # in no text
_PIECE = 1 << 20  # bytes


def kind_of(path: str | Path) -> str:
    """The suffix of a file, in small letters, of what is packed in it where it ends in .gz; `.idx` of an IDX file.

    >>> kind_of("Table.CSV.gz"), kind_of("train-images-idx3-ubyte.gz")
    ('.csv', '.idx')
    """
    name = Path(path).name.lower().removesuffix(".gz")
    return ".idx" if _IDX.search(name) else Path(name).suffix


def is_gzipped(path: Path) -> bool:
    """Whether a file is gzipped, by its first two bytes."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


@contextmanager
def unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked where it is gzipped.

    Raises:
        OSError: a damaged gzip file.
    """
    try:
        with gzip.open(path) if is_gzipped(path) else path.open("rb") as file:
            yield cast("IO[bytes]", file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:  # gzip raises all three
        raise OSError(f"a damaged gzip file ({error})") from error


def content_of(path: Path) -> bytes:
    """All bytes of a file, unpacked.

    Raises:
        ValueError: more bytes than are read (`zoo.datasets.bounds.check_bytes`).
        OSError: a damaged gzip file.
    """
    return b"".join(_pieces(path))


def encoding_of(path: Path) -> str:
    """The encoding of a text file; said where it is neither UTF-8 nor UTF-16.

    Raises:
        ValueError: no text, with its first byte that is none; more bytes than are read.
        OSError: a damaged gzip file.
    """
    with unpacked(path) as file:
        wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    name = "utf-16" if wide else "utf-8-sig"
    found = _misfit(path, name)
    if found is None:
        return name
    at, byte = found
    if wide or _misfit(path, "cp1252") is not None or any(_CONTROL.search(piece) for piece in _pieces(path)):
        raise ValueError(f"not a text in UTF-{16 if wide else 8}: byte {at + 1} is 0x{byte:02x}")
    letter = bytes([byte]).decode("cp1252")
    warnings.warn(
        f"'{path}': byte {at + 1} is no UTF-8, so the file was read as Windows-1252, where it is {letter!r}; where "
        "letters come out wrong, save it as UTF-8",
        DataWarning,
        stacklevel=3,
    )
    return "cp1252"


@contextmanager
def open_text(path: Path, code: str | None = None) -> Iterator[TextIO]:
    """A text file, open for reading, its ends of lines as they stand.

    Args:
        path: of the file, gzipped or not.
        code: its encoding, where it is known; None looks (see `encoding_of`).

    Raises:
        ValueError, OSError: see `encoding_of`.
    """
    code = code or encoding_of(path)
    with unpacked(path) as file:
        yield io.TextIOWrapper(file, encoding=code, newline="")


def whole_text(path: Path) -> str:
    """A text file as one text, its lines ended by line feeds.

    Raises:
        ValueError, OSError: see `encoding_of`.
    """
    code = encoding_of(path)
    return io.TextIOWrapper(io.BytesIO(content_of(path)), encoding=code).read()


def _pieces(path: Path) -> Iterator[bytes]:
    """The unpacked bytes of a file in pieces, as long as they are not too many."""
    total, packed = 0, is_gzipped(path)
    with unpacked(path) as file:
        while piece := file.read(_PIECE):
            total += len(piece)
            if packed:
                check_bytes(path, total, "unpacks to more than")
            yield piece


def _misfit(path: Path, code: str) -> tuple[int, int] | None:
    """Where the first byte stands that an encoding does not know, and what it is; None where it knows all."""
    decoder = codecs.getincrementaldecoder(code)()
    before = 0
    for piece in itertools.chain(_pieces(path), [b""]):
        held = len(decoder.getstate()[0])  # bytes of a letter that the last piece cut
        try:
            decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            return before - held + error.start, error.object[error.start]
        before += len(piece)
    return None
