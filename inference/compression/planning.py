"""The passes before the first byte: forms of all columns, counts of their flags and symbols, and the models' tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from inference.compression.chunks import Codec, Part, Piece
from inference.compression.forms import BINS, FINE, REGULAR, Form
from inference.compression.freezing import Named, fine, freeze, marginals, matched
from inference.compression.layout import CELLS, Field, Layout
from inference.compression.surveying import Survey
from zoo.base import ModelGuide

ROWS = 4096  # of a chunk


class Rows(Protocol):
    """Data that can be gone through more than once."""

    kind: str
    fields: tuple[Field, ...]
    extra: dict[str, Any]
    raw: int

    def pieces(self, rows: int) -> Iterator[Piece]:
        """The rows, so many at a time."""

    @property
    def row_literal(self) -> Callable[[Any], str]:
        """How a category is spelled."""


class Plan(NamedTuple):
    """How data will be coded, and why not by the model where it is so."""

    codec: Codec
    own: Part | None  # the pair's
    note: str


def plan(pair: ModelGuide, source: Rows, rows: int) -> Plan:
    """Two passes over the data."""
    named = {name.column: name for name in matched(pair, source.fields)[0]}
    forms = _forms(source, named, rows, FINE if fine(pair) else BINS)
    layout = Layout(source.fields, forms, tuple(tuple((1, 1, 1) for _ in each) for each in forms))
    flags = [[np.zeros(3, dtype=np.int64) for _ in each] for each in forms]
    counts = [[np.zeros(form.size, dtype=np.int64) for form in each] for each in forms]
    for piece in source.pieces(rows):
        for (f, j), cells in zip(layout.columns, Codec(layout, ()).split(piece), strict=True):
            at = source.fields[f].form(j)
            flags[f][at] += np.bincount(cells.flags, minlength=3)
            some = cells.symbols[cells.flags == REGULAR]
            counts[f][at] += np.bincount(some, minlength=len(counts[f][at]))
    told = tuple(tuple((int(a), int(b), int(c)) for a, b, c in each) for each in flags)
    layout = Layout(source.fields, forms, told)
    own, note = freeze(pair, layout)
    rest = marginals(layout, own.columns if own else (), counts)
    return Plan(Codec(layout, tuple(part for part in (own, rest) if part is not None)), own, note)


def most_rows(source: Rows, wanted: int) -> int:
    """How many rows a chunk may have.

    Raises:
        ValueError: not even one: a series that is too long.
    """
    columns = sum(field.columns for field in source.fields)
    if columns > CELLS:
        raise ValueError(f"compress: one row holds {columns:,} cells, at most {CELLS:,}: cut the series into pieces")
    return max(1, min(wanted, CELLS // max(1, columns)))


def _forms(source: Rows, named: dict[int, Named], rows: int, bins: int) -> tuple[tuple[Form, ...], ...]:
    surveys = [[Survey() for _ in range(field.forms)] for field in source.fields]
    for piece in source.pieces(rows):
        for f, field in enumerate(source.fields):
            coded = field.coded(piece.fields[f])
            for at in range(field.forms):
                surveys[f][at].see(coded[:, at :: field.forms].ravel())
    found, d = [], 0
    for f, field in enumerate(source.fields):
        found.append(tuple(_form(surveys[f][at], named.get(d + at), source, bins) for at in range(field.forms)))
        d += field.columns
    return tuple(found)


def _form(survey: Survey, name: Named | None, source: Rows, bins: int) -> Form:
    if name is None:
        return survey.form()
    if name.known is None or not name.known.categories:
        form = survey.form(number=True)
        return replace(form, bins=bins) if form.numeric else form
    ways = [_ways(category, source.row_literal) for category in name.known.categories]
    return survey.form(categories=ways)


def _ways(category: Any, literal: Callable[[Any], str]) -> list[str]:
    """How a category may be written: as itself; a number also as float or text, a text also as number."""
    ways = [literal(category)]
    if isinstance(category, bool):
        return [*ways, literal(str(category)), literal(str(category).lower())]
    if isinstance(category, (int, float)):
        return [*ways, literal(float(category)), literal(str(category))]
    try:
        return [*ways, literal(json.loads(category))]
    except (ValueError, TypeError, RecursionError):
        return ways
