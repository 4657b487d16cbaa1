"""Which decimal mark a text table writes: decided by the file as a whole, and said where a cell alone would not tell.

A point or a comma before three digits, as in 55.868, may be either a decimal mark or one of thousands. Cells that
cannot be both decide for these.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from zoo.notes import DataWarning

_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+(?:[eE][+-]?\d+)?")  # 3,5 and 1.234,5
_POINT = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d*)\.\d+(?:[eE][+-]?\d+)?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3}){2,}")  # 1.234.567
_COMMAS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3}){2,}")


class Decimal(NamedTuple):
    """The decimal mark of a file, and whether points are marks of thousands there."""

    mark: str
    grouped: bool


class Marks:
    """What the cells of a file say of its decimal mark, row by row."""

    def __init__(self) -> None:
        self.commas = self.points = 0  # of cells that tell
        self.maybe: dict[int, str] = {}  # by column, the first cell with a point that does not tell
        self.other: dict[int, str] = {}  # the first with a comma
        self.sure: set[int] = set()  # columns in which points are of thousands without doubt

    def see(self, cells: Sequence[str]) -> None:
        """Count the cells of a row."""
        for j, cell in enumerate(cells):
            if "," not in cell and "." not in cell:
                continue
            text = cell.strip()
            whole, comma, digits = text.partition(",")
            if comma and len(digits) != 3 and digits.isdecimal() and whole.isdecimal():  # most cells, without patterns
                self.commas += 1
            elif _EITHER.fullmatch(text):
                (self.other if "," in text else self.maybe).setdefault(j, text)
            elif _COMMA.fullmatch(text) or _POINTS.fullmatch(text):
                self.commas += 1
                if "." in text:
                    self.sure.add(j)
            elif _POINT.fullmatch(text) or _COMMAS.fullmatch(text):
                self.points += 1

    def decide(self, delimiter: str) -> Decimal:
        """The mark that most cells tell; a comma where none tells, commas stand there, and they cut no cells."""
        if self.commas or self.points:
            return Decimal("," if self.commas > self.points else ".", not self.points)
        return Decimal("," if self.other else ".", delimiter == ";" or not self.maybe)

    def tell(self, decimal: Decimal, columns: Sequence[str]) -> None:
        """Say which columns were read as whole thousands only because the rest of the file writes decimal commas."""
        doubtful = [j for j in self.maybe if j not in self.sure and j < len(columns)]
        if decimal == (",", True) and doubtful:
            names = ", ".join(f"'{columns[j]}'" for j in doubtful[:8])
            cell = self.maybe[doubtful[0]]
            warnings.warn(
                f"column {names}: points were read as marks of thousands, {cell} as {cell.replace('.', '')}, since the "
                "file writes decimal commas; where they are decimal points, write all columns with points",
                DataWarning,
                stacklevel=4,
            )


def plain_number(cell: str, decimal: Decimal) -> str | None:
    """A cell of a file with decimal commas, with a point instead; None where its points could be either mark."""
    text = cell.strip()
    if "." not in text and text[-1:] != ",":
        return text.replace(",", ".")  # and two of them are no number
    if _COMMA.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    return text.replace(".", "") if decimal.grouped and (_EITHER.fullmatch(text) or _POINTS.fullmatch(text)) else None
