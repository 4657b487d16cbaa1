"""Reader of ARFF, Weka's text format of tables whose header names and types the columns.

    % a comment
    @relation people
    @attribute age numeric
    @attribute 'home town' {Ulm, 'New York'}
    @data
    31, 'New York'
    ?, Ulm

Numbers are `numeric`, `real` or `integer`; categories stand in braces, and keep that order; `string` and `date` are
texts. `?` is missing. Rows that list only their cells other than zero (sparse ones, in braces) are refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.datasets.cells import distinct, number
from zoo.datasets.opening import whole_text
from zoo.schema.column import listed

if TYPE_CHECKING:
    import pandas as pd

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_CELL = re.compile(rf"""\s*({_QUOTED}|[^,'"]*?)\s*(,|$)""")
_BRACES = re.compile(r"\{(.*)\}\s*(?:%.*)?")  # a comment may follow
_ATTRIBUTE = re.compile(rf"@attribute\s+({_QUOTED}|[^\s{{'\"]+(?=[\s{{]))\s*(.+)", re.IGNORECASE)


class Attribute(NamedTuple):
    """A column of the header: its categories, or whether it holds numbers."""

    name: str
    numeric: bool
    categories: list[str] | None = None


def read_arff(path: Path) -> pd.DataFrame:
    """The table of an ARFF file; its categories as pandas' own.

    Raises:
        ValueError: the text is no ARFF file, or a cell does not suit its attribute; row and column are named.
    """
    import pandas as pd

    attributes: list[Attribute] = []
    columns: list[list[Any]] | None = None
    row = 0
    for line in map(str.strip, whole_text(path).splitlines()):
        if not line or line.startswith("%"):
            continue
        if columns is not None:
            row += 1
            _read_row(line, row, attributes, columns)
        elif line.lower().startswith("@attribute"):
            attributes.append(_attribute(line))
        elif line.lower().startswith("@data"):
            columns = [[] for _ in attributes]
        elif not line.lower().startswith("@relation"):
            raise ValueError(f"not an ARFF file: a header line is {line!r:.50}")
    if not columns:
        raise ValueError(f"not an ARFF file: it has no {'@attribute' if columns == [] else '@data'} line")
    distinct(tuple(attribute.name for attribute in attributes))
    return pd.DataFrame(
        {
            attribute.name: values if attribute.categories is None else pd.Categorical(values, attribute.categories)
            for attribute, values in zip(attributes, columns, strict=True)
        }
    )


def _attribute(line: str) -> Attribute:
    found = _ATTRIBUTE.fullmatch(line)
    if found is None:
        raise ValueError(f"not an ARFF file: an attribute line is {line!r:.80}")
    name, kind = _unquoted(found[1]) or "", found[2].strip()
    if inner := _BRACES.fullmatch(kind):
        categories = [cell or "?" for cell in _cells(inner[1], f"attribute '{name}'")]
        distinct(tuple(categories))
        return Attribute(name, numeric=False, categories=categories)
    word = kind.split()[0].lower()
    if word not in ("numeric", "real", "integer", "string", "date"):
        raise ValueError(f"attribute '{name}': expected numeric, string, date or {{categories}}, got {kind!r:.50}")
    return Attribute(name, numeric=word not in ("string", "date"))


def _read_row(line: str, row: int, attributes: list[Attribute], columns: list[list[Any]]) -> None:
    if line.startswith("{"):
        raise ValueError(f"row {row}: sparse rows are not read")
    cells = _cells(line, f"row {row}")
    if len(cells) != len(attributes):
        raise ValueError(f"row {row}: expected {len(attributes)} cells, got {len(cells)}")
    for cell, attribute, values in zip(cells, attributes, columns, strict=True):
        value = number(cell or "nan") if attribute.numeric else cell
        if attribute.numeric and value is None:
            raise ValueError(f"row {row}, column '{attribute.name}': expected a number, got {cell!r}")
        if attribute.categories is not None and cell is not None and cell not in attribute.categories:
            known = listed(attribute.categories)
            raise ValueError(f"row {row}, column '{attribute.name}': {cell!r} is none of its categories: {known}")
        values.append(value)


def _cells(text: str, where: str) -> list[str | None]:
    """Cells between commas, quotes taken off; None where missing."""
    cells, position = [], 0
    while True:
        found = _CELL.match(text, position)
        if found is None:
            raise ValueError(f"{where}: quotes that do not end, or text beside them, in {text!r:.50}")
        cells.append(_unquoted(found[1]))
        if not found[2]:
            return cells
        position = found.end()


def _unquoted(cell: str) -> str | None:
    if cell[:1] in ("'", '"'):
        return re.sub(r"\\(.)", r"\1", cell[1:-1])
    return None if cell in ("", "?") else cell
