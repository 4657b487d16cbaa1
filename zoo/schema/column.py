"""One typed column of a mixed table: which cells it takes, and the numbers that stand for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from zoo.config import nearest
from zoo.rows import nth

Kind = Literal["real", "positive", "count", "binary", "categorical", "ordinal", "ignored"]
KINDS: tuple[str, ...] = get_args(Kind)
Unknown = Literal["error", "missing"]  # what a value of no known category is
CATEGORIES = ("binary", "categorical", "ordinal")  # kinds whose cells are codes of `categories`
_SHOWN = 8


class Column(NamedTuple):
    """One column of a table.

    Args:
        name: what the user calls it.
        kind: `real`; `positive` (above zero); `count` (0, 1, 2, ...); `binary`, `categorical` or `ordinal` (in the
            order of `categories`); or `ignored` (in the table, not in the model).
        categories: the values of a binary, categorical or ordinal column, in the order of their codes.
    """

    name: str
    kind: Kind
    categories: tuple[Any, ...] = ()

    @classmethod
    def of(cls, value: Any) -> Column:
        """A column from a Column, from (name, kind) or (name, kind, categories), or K classes called 0 to K - 1.

        Raises:
            ValueError: none of these, an unknown kind, or categories that do not suit the kind.
        """
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return cls("y", "categorical", tuple(range(value)))
        if isinstance(value, str) or not isinstance(value, Sequence) or not 2 <= len(value) <= 3:
            raise ValueError(f"expected a column (name, kind) or (name, kind, categories), got {value!r}")
        name, kind = value[:2]
        if not isinstance(name, str) or not name:
            raise ValueError(f"expected a column's name, got {name!r}")
        if kind not in KINDS:
            close = nearest(str(kind), KINDS)
            raise ValueError(f"column '{name}': kind {kind!r} is unknown{close}; kinds: {', '.join(KINDS)}")
        categories = tuple(plain(item) for item in value[2]) if len(value) == 3 else ()
        if len(set(categories)) < len(categories) or None in categories:
            raise ValueError(f"column '{name}': categories are missing values or not distinct: {listed(categories)}")
        if kind == "binary" and not categories:
            categories = (0, 1)
        if kind in CATEGORIES and len(categories) < (2 if kind == "binary" else 1):
            raise ValueError(
                f"column '{name}': a {kind} column needs its categories, got {listed(categories) or 'none'}"
            )
        if kind == "binary" and len(categories) > 2:
            raise ValueError(f"column '{name}': a binary column has two categories, got {listed(categories)}")
        if kind not in CATEGORIES and categories:
            raise ValueError(f"column '{name}': a {kind} column has no categories, got {listed(categories)}")
        return cls(name, kind, categories)

    def __str__(self) -> str:
        """In a line: name, kind, categories."""
        return f"{self.name}: {self.kind}" + (f" ({listed(self.categories)})" if self.categories else "")

    def encode(self, values: Iterable[Any], unknown: Unknown = "error") -> NDArray[np.float64]:
        """The numbers of a column's values, (N,), NaN where missing.

        Args:
            values: in the user's units and category names.
            unknown: `missing` takes a value that is none of the categories as missing.

        Raises:
            ValueError: a value that is no number, out of the kind's range, or of no known category; its row is named,
                counted as `zoo.rows` says.
        """
        check_unknown(unknown)
        cells = [plain(value) for value in values]
        if self.kind in CATEGORIES:
            codes = {category: code for code, category in enumerate(self.categories)}
            codes |= {str(category): code for category, code in codes.items() if str(category) not in codes}
            # Categories that are texts here may be all digits in another file: '1' beside '3+', or '00054'.
            cells = [
                str(cell) if cell not in codes and str(cell) in codes and cell is not None else cell for cell in cells
            ]
            for row, cell in enumerate(cells):
                if cell is not None and cell not in codes and unknown == "error":
                    close = nearest(str(cell), [str(category) for category in self.categories])
                    raise ValueError(
                        f"column '{self.name}', row {nth(row)}: {cell!r} is none of its categories{close}; "
                        f"they are {listed(self.categories)}"
                    )
            return np.array([np.nan if cell is None else codes.get(cell, np.nan) for cell in cells], dtype=float)
        numbers = np.empty(len(cells))
        for row, cell in enumerate(cells):
            try:
                numbers[row] = np.nan if cell is None else float(cell)
            except (TypeError, ValueError):
                raise ValueError(f"column '{self.name}', row {nth(row)}: expected a number, got {cell!r}") from None
        if (row_ := self.wrong(numbers)) is not None:
            raise ValueError(
                f"column '{self.name}', row {nth(row_)}: expected {self.expected()}, got {numbers[row_]:g}"
            )
        return numbers

    def wrong(self, numbers: NDArray[np.float64]) -> int | None:
        """The first row of encoded numbers that the kind does not allow; NaN is allowed."""
        good = np.isnan(numbers) | np.isfinite(numbers)
        with np.errstate(invalid="ignore"):
            if self.kind == "positive":
                good &= ~(numbers <= 0)
            if self.kind == "count":
                good &= ~((numbers < 0) | (numbers != np.floor(numbers)))
            if self.kind in CATEGORIES:
                good &= ~((numbers < 0) | (numbers != np.floor(numbers)) | (numbers >= len(self.categories)))
        bad = np.flatnonzero(~(good | np.isnan(numbers)))
        return int(bad[0]) if len(bad) else None

    def expected(self) -> str:
        """What a cell may hold, in words."""
        if self.kind in CATEGORIES:
            return f"a code from 0 to {len(self.categories) - 1}"
        words = {"positive": "a number above 0", "count": "a whole number of at least 0"}
        return words.get(self.kind, "a finite number")

    def decode(self, numbers: NDArray[Any]) -> list[Any]:
        """The user's values of encoded numbers; None where they are NaN."""

        def value(number: float) -> Any:
            if np.isnan(number):
                return None
            if self.kind in CATEGORIES:
                return self.categories[int(number)]
            return round(number) if self.kind == "count" else float(number)

        return [value(number) for number in np.asarray(numbers, dtype=float)]


def check_unknown(unknown: str) -> None:
    """Refuse another answer to what a value of no known category is."""
    if unknown not in get_args(Unknown):
        raise ValueError(f"unknown: expected 'error' or 'missing', got {unknown!r}")


def plain(value: Any) -> Any:
    """A cell as None, bool, int (whole numbers), float or str; of no other type."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):  # pandas' own
        return None
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return _number(value)
    try:
        return plain(float(value)) if hasattr(value, "__float__") else str(value)  # Decimal, enumerations
    except (TypeError, ValueError):
        return str(value)


def _number(value: float) -> int | float | str | None:
    if value != value:  # noqa: PLR0124 - NaN
        return None
    try:
        return int(value) if float(value).is_integer() else float(value)
    except OverflowError:  # a whole number that no float holds
        return str(value)


def listed(items: Iterable[Any]) -> str:
    """The first few items, and how many there are."""
    shown = [str(item) for item in items]
    return ", ".join(shown[:_SHOWN]) + (f", … ({len(shown)} in all)" if len(shown) > _SHOWN else "")
