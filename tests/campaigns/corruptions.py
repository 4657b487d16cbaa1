"""Ways in which data may be bad or odd, each with what it says: the numbers that a model has to see, or none.

`corruptions(good)` spoils an array of N rows in each way; `lengths(good, steps)` the lengths of sequences; `LAYOUTS`
are harmless. The numbers that are meant come from NumPy in float64, or stand here; nothing of the project is asked.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas
import torch
from scipy import sparse

TOO_LARGE = 2**63 + 5  # a whole number that int64 does not hold
LESS = "a row less than the other fields"  # where there are any
FEW = {"one row": 1, "two rows": 2}  # of every field


@dataclass(frozen=True)
class Given:
    """What a user hands over for one field.

    Args:
        name: of the corruption.
        value: the field.
        meaning: the numbers that it says, NaN where missing; None where it says none, so that it has to be refused.
        cell: the index of the one bad cell, None in place of a dim where the whole row or column is bad; a refusal has
            to name row and column. An empty one where more is wrong: the field then suffices.
        field: whether a refusal has to name the field: a value of no accepted kind has none.
        words: whether it holds words of the pair's schema, which a Batch does not know.
    """

    name: str
    value: Any
    meaning: np.ndarray | None
    cell: tuple[int | None, ...] = ()
    field: bool = True
    words: bool = False


class Stream(torch.utils.data.IterableDataset):
    """Rows without an end."""

    def __iter__(self) -> Iterator[Any]:
        return iter([torch.zeros(2)])


def corruptions(
    good: np.ndarray, row: int = 3, steps: bool = False, table: Callable[[np.ndarray], Any] | None = None
) -> Iterator[Given]:
    """Every way, of an array (N, *event).

    Args:
        good: what to spoil.
        row: one that may be spoilt.
        steps: whether its columns are steps in time.
        table: makes columns in the user's words, by name, where the pair has a schema.
    """
    yield from _cells(good, row)
    yield from _everywhere(good)
    yield from _shapes(good, steps)
    yield from _types(good, row)
    yield from _frames(good, row, table)
    yield from _kinds(good)


def _cells(good: np.ndarray, row: int) -> Iterator[Given]:
    at = (row, *[min(1, size - 1) for size in good.shape[1:]])
    values = {
        "NaN": np.nan, "inf": np.inf, "-inf": -np.inf, "1e30": 1e30, "1e18": 1e18, "1e15": 1e15, "-1e15": -1e15,
        "1e13": 1e13, "1e-40": 1e-40, "minus one": -1.0, "a half": 0.5, "an unseen category": 99.0,
    }  # fmt: skip
    for name, value in values.items():
        wide = good.astype(np.float64)
        wide[at] = value
        yield Given(f"a cell {name}", wide, None if np.isinf(value) else wide, at)
    for name, value in (("NaN", np.nan), ("1e15", 1e15), ("zero", 0.0), ("1e-40", 1e-40)):
        wide = good.astype(np.float64)
        wide[row] = value
        yield Given(f"a row of {name}", wide, wide, (row, *[None] * (good.ndim - 1)))
    if good.ndim > 1:
        for name, value in (("NaN", np.nan), ("1e15", 1e15), ("a constant", float(good[at]))):
            wide = good.astype(np.float64)
            wide[..., at[-1]] = value
            alone = good.shape[-1] == 1 and np.isnan(value)  # all that there is: nothing is left to learn from
            yield Given(f"a column of {name}", wide, wide, () if alone else (*[None] * (good.ndim - 1), at[-1]))
        wide = good.astype(np.float64)
        wide[..., 0] = wide[..., -1]
        yield Given("duplicate columns", wide, wide)


def _everywhere(good: np.ndarray) -> Iterator[Given]:
    wide = good.astype(np.float64)
    constant, first = np.full_like(wide, wide.flat[0]), np.broadcast_to(wide[:1], wide.shape).copy()
    for name, value in {
        "everything NaN": np.full_like(wide, np.nan),
        "everything constant": constant,
        "everything zero": np.zeros_like(wide),
        "everything 1e-40": np.full_like(wide, 1e-40),
        "times 1e18": wide * 1e18,
        "times 1e9": wide * 1e9,
        "times 1e12": wide * 1e12,
        "times 1e-9": wide * 1e-9,
        "times 1e-15": wide * 1e-15,
        "times 1e-40": wide * 1e-40,
        "plus 1e9": wide + 1e9,
        "duplicate rows": first,
        **{name: wide[:rows] for name, rows in FEW.items()},
    }.items():
        yield Given(name, value, value)


def _shapes(good: np.ndarray, steps: bool) -> Iterator[Given]:
    wide = good.astype(np.float64)
    yield Given("one rank more", wide[..., None], None)
    yield Given("no rows", wide[:0], None)
    yield Given("a single number", 3.0, None, field=False)
    yield Given(LESS, wide[1:], None)
    if good.ndim > 1:
        yield Given("one rank less", wide[..., 0], wide if _one_feature(good) else None)
        more, less = np.concatenate([wide, wide[..., :1]], -1), wide[..., :-1]
        yield Given("one column more", more, more if steps else None)
        yield Given("one column less", less, less if steps else None)
        yield Given("no column", wide[..., :0], None)


def _one_feature(good: np.ndarray) -> bool:
    """Whether these are series (N, T, 1), of which (N, T) says the same."""
    return good.ndim == 3 and good.shape[-1] == 1


def _types(good: np.ndarray, row: int) -> Iterator[Given]:
    wide, at = good.astype(np.float64), (row, *[min(1, size - 1) for size in good.shape[1:]])
    hole = wide.copy()
    hole[at] = np.nan
    objects = good.astype(object)
    for name, missing in (("None", None), ("pandas' NA", pandas.NA), ("a NaN", float("nan"))):
        value = objects.copy()
        value[at] = missing
        yield Given(f"objects with {name}", value, hole, at)
    value = objects.copy()
    value[at] = "red"
    yield Given("objects with a word", value, None, at)
    value = objects.copy()
    value[at] = 10**400
    yield Given("objects with a number beyond float64", value, None, at)
    value = objects.copy()
    value[at] = datetime.date(2020, 1, 1)
    yield Given("objects with a date", value, None, at)
    yield Given("digit strings", good.astype(str), good.astype(str).astype(np.float64))
    yield Given("words", np.full(good.shape, "red"), None)
    yield Given("complex and real", wide + 0j, None)  # refused: that the imaginary part is zero is not looked at
    yield Given("complex", wide + 1j, None)
    yield Given("dates", np.full(good.shape, "2020-01-01", "M8[D]"), None)
    yield Given("time spans", np.full(good.shape, 5, "m8[s]"), None)
    near = np.full(good.shape, 2**62, np.int64) + np.arange(len(good)).reshape(-1, *[1] * (good.ndim - 1))
    yield Given("whole numbers near 2^62", near, near.astype(np.float64))
    beyond = np.full(good.shape, 2**64 - 41, np.uint64)
    yield Given("unsigned near 2^64", beyond, beyond.astype(np.float64))
    one = np.zeros(good.shape, np.uint64)
    one[at] = TOO_LARGE
    yield Given("unsigned with a cell beyond int64", one, one.astype(np.float64), at)
    yield Given("bytes", np.full(good.shape, b"1"), np.ones(good.shape))
    yield Given("booleans", good > 0, (good > 0).astype(np.float64))
    mask = np.zeros(good.shape, bool)
    mask[at] = True
    behind = wide.copy()
    behind[at] = -999.0
    yield Given("a masked cell", np.ma.masked_array(behind, mask), hole, at)
    ones = np.ma.masked_array(np.ones(good.shape, np.int64), mask)
    yield Given("a masked whole number", ones, np.where(mask, np.nan, 1.0), at)
    yield Given("everything masked", np.ma.masked_all(good.shape), np.full(good.shape, np.nan))


def _frames(good: np.ndarray, row: int, table: Callable[[np.ndarray], Any] | None) -> Iterator[Given]:
    at = (row, *[min(1, size - 1) for size in good.shape[1:]])
    if good.ndim == 2:
        names = list(table(good)) if table else [f"x{i + 1}" for i in range(good.shape[1])]
        frame = pandas.DataFrame(good.astype(np.int64), columns=names).astype("Int64")
        meant = good.astype(np.int64).astype(np.float64)
        if table:
            frame, meant = pandas.DataFrame(table(good)).convert_dtypes(), good.astype(np.float64)
        frame.iloc[at] = pandas.NA
        meant[at] = np.nan
        yield Given("a frame with NA", frame, meant, at, words=table is not None)
        yield Given("a frame of words", pandas.DataFrame(np.full(good.shape, "red"), columns=names), None)
    if good.ndim == 1:
        series = pandas.Series(good.astype(np.int64)).astype("Int64")
        series[row] = pandas.NA
        meant = good.astype(np.int64).astype(np.float64)
        meant[row] = np.nan
        yield Given("an Int64 series with NA", series, meant, (row,))
        yield Given("a series of dates", pandas.Series(pandas.date_range("2020", periods=len(good))), None)


def _kinds(good: np.ndarray) -> Iterator[Given]:
    tensor = torch.from_numpy(np.ascontiguousarray(good, dtype=np.float32))
    yield Given("a mapping", {"a": 1}, None, field=False)
    yield Given("a word", "red", None, field=False)
    yield Given("an iterable dataset", Stream(), None, field=False)
    yield Given("a generator", (row for row in good), None, field=False)
    yield Given("a function", len, None, field=False)
    yield Given("ragged lists", [[1.0], [1.0, 2.0]] * (len(good) // 2), None)
    yield Given("a sparse tensor", tensor.to_sparse(), None)
    yield Given("a tensor without values", tensor.to("meta"), None)
    yield Given("a complex tensor", torch.complex(tensor, tensor), None)
    yield Given("a structured array", np.zeros(len(good), [("a", "f8"), ("b", "f8")]), None)
    if good.ndim == 2:
        yield Given("a sparse matrix", sparse.csr_matrix(good), None)


def lengths(good: np.ndarray, steps: int) -> Iterator[Given]:
    """Of sequences of at most so many steps."""
    wide, row = good.astype(np.float64), 3
    whole = np.minimum(good, steps)
    for name, value in {
        "negative": -1, "zero": 0, "too long": steps + 1, "fractional": 1.5, "missing": np.nan, "infinite": np.inf,
        "1e30": 1e30,
    }.items():  # fmt: skip
        bad = wide.copy()
        bad[row] = value
        yield Given(f"a length {name}", bad, None, (row,))
    beyond = whole.astype(np.uint64)
    beyond[row] = TOO_LARGE
    yield Given("a length beyond int64", beyond, None, (row,))
    objects = good.astype(object)
    objects[row] = None
    yield Given("a length that is None", objects, None, (row,))
    mask = np.arange(len(good)) == row
    yield Given("a masked length", np.ma.masked_array(whole, mask), None, (row,))
    yield Given("lengths of two dims", good[:, None], None)
    yield Given("lengths of complex numbers", good + 1j, None)
    yield Given("lengths in words", np.full(len(good), "red"), None)
    yield Given("lengths as dates", np.full(len(good), "2020-01-01", "M8[D]"), None)
    yield Given(LESS, good[1:], None)
    yield Given("one length for all", steps, None)
    yield Given("lengths as floats", wide, wide)
    yield Given("lengths as digit strings", good.astype(str), wide)
    yield Given("all lengths one", np.ones_like(good), np.ones_like(wide))


def _strided(good: np.ndarray) -> np.ndarray:
    wide = np.empty((2 * len(good), *good.shape[1:]), good.dtype)
    wide[::2], wide[1::2] = good, -7
    return wide[::2]


def _read_only(good: np.ndarray) -> np.ndarray:
    copied = good.copy()
    copied.flags.writeable = False
    return copied


LAYOUTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # the same numbers, of float32
    "float32": lambda good: good.astype(np.float32),
    "Fortran order": np.asfortranarray,
    "strided": _strided,
    "negative stride": lambda good: good[::-1].copy()[::-1],
    "read-only": _read_only,
    "big-endian": lambda good: good.astype(">f8"),
    "objects": lambda good: good.astype(object),
    "long double": lambda good: good.astype(np.longdouble),
    "(N, T)": lambda good: good[..., 0] if _one_feature(good) else good,
}
