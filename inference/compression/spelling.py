"""Cells -> symbols and back, by the form of their column; of texts and of arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.compression.errors import CompressionError
from inference.compression.forms import DIGITS, ESCAPE, MISSING, REGULAR, Cells, Form, Keys, float_keys, key_floats
from inference.compression.integers import Ints

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_ZERO = 1 << 63


def decimal(text: str) -> tuple[int, int] | None:
    """A text such as -3.60 as (-360, 2); None where it is no plain decimal number of at most `DIGITS` digits."""
    if len(text) > DIGITS + 2 or not _NUMBER.fullmatch(text):
        return None
    whole, _, rest = text.partition(".")
    return (int(whole + rest), len(rest)) if len(whole) + len(rest) <= DIGITS else None


def shortest(text: str) -> float | None:
    """The number that a text spells in as few digits as tell it apart, as Python does; None where it spells none so."""
    try:
        value = float(text) if len(text) < 32 and text.isascii() else float("nan")
    except ValueError:
        return None
    return value if repr(value) == text and abs(value) < float("inf") else None


def written(number: int, decimals: int, least: int) -> str:
    """The text of a multiple of 10^-decimals, zeros at its end cut down to `least` decimals."""
    digits = str(abs(number)).rjust(decimals + 1, "0")
    whole, rest = digits[: len(digits) - decimals], digits[len(digits) - decimals :]
    cut = rest.rstrip("0").ljust(least, "0")
    return ("-" if number < 0 else "") + whole + ("." + cut if cut else "")


def split(form: Form, cells: NDArray[Any]) -> Cells:
    """A column (B,), texts or numbers, in symbols.

    Raises:
        ValueError: a number out of the range of the form: the data changed since it was made.
    """
    flags, keys = (_texts if cells.dtype == object else _numbers)(form, cells)
    symbols = np.zeros(len(cells), dtype=np.int64)
    offsets = np.zeros(len(cells), dtype=np.uint64)
    some = flags == REGULAR
    if form.numeric:
        low, high = form.edges[0], form.edges[-1]
        flags = np.where(some & ((keys < low) | (keys >= high)), ESCAPE, flags)
        some = flags == REGULAR
        symbols[some], offsets[some] = form.placed(keys[some])
    else:
        symbols[some] = keys[some]
    return Cells(flags, symbols, offsets, [_literal(cell) for cell in cells[flags == ESCAPE]])


def join(form: Form, cells: Cells, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The column again, of texts (dtype object) or numbers.

    Raises:
        CompressionError: an escape is no cell of such a column.
    """
    some, texts = cells.flags == REGULAR, dtype.kind == "O"
    if form.kind == "literal" and some.any():
        raise CompressionError("a chunk holds symbols of a column that has none")
    found = np.empty(len(cells.flags), dtype=dtype)
    if form.kind in ("category", "atoms"):
        found[some] = np.array(form.cells, dtype=object)[cells.symbols[some]]
    elif form.numeric:
        keys = form.edges[cells.symbols[some]] + cells.offsets[some]
        if form.kind == "float":
            numbers = key_floats(keys)
            found[some] = [repr(number) for number in numbers.tolist()] if texts else numbers.astype(dtype)
        else:
            whole = (keys - np.uint64(_ZERO)).view(np.int64)
            if texts:
                found[some] = [written(int(number), form.decimals, form.least) for number in whole]
            else:
                found[some] = whole / 10**form.decimals if dtype.kind == "f" else whole.astype(dtype)
    found[cells.flags == MISSING] = form.missing if texts else (np.nan if dtype.kind == "f" else 0)
    at = np.flatnonzero(cells.flags == ESCAPE)
    if len(at) != len(cells.escapes):
        raise CompressionError(f"a chunk writes out {len(cells.escapes)} cells, and refers to {len(at)}")
    for row, literal in zip(at, cells.escapes, strict=True):
        found[row] = literal if texts else _number(literal, dtype)
    return found


def _texts(form: Form, cells: NDArray[Any]) -> tuple[Ints, Any]:
    """Flags, and keys or places in the list, of texts."""
    flags, keys = np.full(len(cells), ESCAPE, dtype=np.int64), np.zeros(len(cells), dtype=np.uint64)
    known = {cell: place for place, cell in enumerate(form.cells)}
    seen: dict[str, tuple[int, int]] = {}  # cells come again
    for row, cell in enumerate(cells):
        if cell not in seen:
            seen[cell] = _one(form, cell, known)
        flags[row], keys[row] = seen[cell]
    return flags, keys


def _one(form: Form, cell: str, known: dict[str, int]) -> tuple[int, int]:
    if form.kind == "literal" or cell == form.missing:
        return (ESCAPE if form.kind == "literal" else MISSING), 0
    if form.kind in ("category", "atoms"):
        return (REGULAR, known[cell]) if cell in known else (ESCAPE, 0)
    if form.kind == "float":
        value = shortest(cell)
        return (ESCAPE, 0) if value is None else (REGULAR, int(float_keys(np.array([value]))[0]))
    found = decimal(cell)
    if found is None or found[1] > form.decimals:
        return ESCAPE, 0
    number = found[0] * 10 ** (form.decimals - found[1])
    if abs(number) >= 1 << 62 or written(number, form.decimals, form.least) != cell:
        return ESCAPE, 0
    return REGULAR, number + _ZERO


def _numbers(form: Form, cells: NDArray[Any]) -> tuple[Ints, Keys]:
    """Flags and keys of numbers; what does not come back by its bits is an escape."""
    if form.kind == "literal":
        return np.full(len(cells), ESCAPE, dtype=np.int64), np.zeros(len(cells), dtype=np.uint64)
    if cells.dtype.kind != "f":
        inside = (cells < 1 << 62) if cells.dtype.kind == "u" else abs(cells.astype(np.float64)) < 2.0**62
        whole = np.where(inside, cells, 0).astype(np.int64)
        return np.where(inside, REGULAR, ESCAPE), whole.view(np.uint64) + np.uint64(_ZERO)
    wide = cells.astype(np.float64)
    missing = np.isnan(wide)
    bits = _bits(cells)
    plain = _bits(np.full(1, np.nan, dtype=cells.dtype))[0]
    if form.kind == "float":
        keys = float_keys(wide)
        back = key_floats(keys).astype(cells.dtype)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = np.rint(wide * 10**form.decimals)
            scaled = np.where(np.abs(scaled) < 2.0**53, scaled, 0)
        keys = scaled.astype(np.int64).view(np.uint64) + np.uint64(_ZERO)
        back = (scaled / 10**form.decimals + 0.0).astype(cells.dtype)
    exact = (_bits(back) == bits) & ~missing & np.isfinite(wide)
    return np.where(exact, REGULAR, np.where(missing & (bits == plain), MISSING, ESCAPE)), keys


def _bits(cells: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(cells).view(f"u{cells.dtype.itemsize}")


def _literal(cell: Any) -> str:
    return cell if isinstance(cell, str) else cell.tobytes().hex()


def _number(literal: str, dtype: np.dtype[Any]) -> Any:
    try:
        data = bytes.fromhex(literal)
        return np.frombuffer(data, dtype=dtype.newbyteorder("<"), count=1 if len(data) == dtype.itemsize else -2)[0]
    except ValueError:
        raise CompressionError(f"a chunk writes out {literal!r:.40}, which is no cell of type {dtype}") from None


def escaped_cells(cells: Sequence[str]) -> str:
    """Cells that are written out, in one text."""
    return "\0".join(cell.replace("\\", "\\\\").replace("\0", "\\0") for cell in cells)
