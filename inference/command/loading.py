"""Data as a saved pair takes them: read as they were for its fit."""

from __future__ import annotations

from collections.abc import Sequence

from inference.command import tables
from inference.command.fit import fitting_pair, load, text_of
from inference.data.check import as_batch
from zoo.abilities import Text
from zoo.base import Batch, ModelGuide
from zoo.datasets.opening import kind_of


def data_of(pair: ModelGuide, source: str, target: str | None, header: bool | None) -> tuple[Batch, Sequence[str]]:
    """The data as a saved pair takes them, and the names of their columns."""
    if kind_of(source) == ".txt" and isinstance(pair, Text) and pair.alphabet is not None:
        return as_batch(pair, text_of(source)), ("character",)
    if pair.schema is not None:
        typed = [*pair.schema, *([pair.target] if pair.target is not None else [])]
        kinds = {column.name: column.kind for column in typed}
        return as_batch(pair, tables.load(source, kinds, header)), pair.schema.names
    if pair.design is not None:
        return as_batch(pair, tables.designed_rows(pair.design, source, header)), pair.design.columns
    series = pair.simulate(1)[0].lengths is not None
    data, columns = load(source, target, header, series=series)
    return as_batch(pair, fitting_pair(pair.name, pair.config, data, columns, target=target)[1]), columns
