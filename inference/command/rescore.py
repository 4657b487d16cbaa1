"""`zoo score`: the scores of a model that was fitted before, from the data that its card names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from inference.command import exchange, files, room, score, tables
from inference.command.fit import fitting_pair, load, text_of
from inference.data.check import as_batch, check
from zoo import datasets
from zoo.abilities import Text
from zoo.base import Batch, ModelGuide
from zoo.datasets.opening import kind_of
from zoo.history import fingerprint


def score_run(options: argparse.Namespace) -> None:
    """`zoo score`: metrics, posterior and pictures of the model in a run folder."""
    folder = Path(options.folder)
    pair = files.load(options.folder)
    known = pair.card.get("data") or {}
    source = options.data or known.get("name")
    if source is None or "fit" not in pair.card or not exchange.holds_a_run(folder):
        raise ValueError(f"'{folder}' was not left by `zoo fit`: its card names no fit and no data")
    place = options.data or place_of(folder, str(source), known.get("path"))
    try:
        data, columns = data_of(pair, place, known.get("target"), known.get("header"))
    except ValueError as error:
        if options.data or place in datasets.names() or Path(place).is_file():
            raise
        raise ValueError(f"{error}; say where the data of '{folder}' are now: --data FILE") from error
    if known.get("checksum", fingerprint(data)) != fingerprint(data):
        raise ValueError(
            f"'{source}' does not hold the data that '{folder}' was fitted to: scores would be of another posterior; "
            "name them with --data"
        )
    if options.data:
        known.pop("path", None)
        known |= {"name": options.data} | score.found_from(folder, options.data)
    room.check(folder, check(pair, data), options.draws)
    with score.saying_what_stands(folder), exchange.claimed(folder, new=False) as run:
        score.write(run, pair, data, columns, options, options.score_seconds)
    print(f"Everything is in {folder}.")


def place_of(folder: Path, source: str, path: str | None) -> str:
    """Where the data of a run are: where the way from its folder leads, else where its card says, from here."""
    if path and (found := Path(os.path.normpath(Path(os.path.realpath(folder), path)))).is_file():
        here = Path(source)
        return source if here.is_file() and here.samefile(found) else os.path.relpath(found)
    return source


def data_of(pair: ModelGuide, source: str, target: str | None, header: bool | None) -> tuple[Batch, Sequence[str]]:
    """The data as a saved pair takes them, and the names of their columns."""
    if kind_of(source) == ".txt" and isinstance(pair, Text) and pair.alphabet is not None:
        return as_batch(pair, text_of(source)), ("character",)
    if pair.schema is not None:
        typed = [*pair.schema, *([pair.target] if pair.target is not None else [])]
        kinds = {column.name: column.kind for column in typed}
        return as_batch(pair, tables.load(source, kinds, header)), pair.schema.names
    data, columns = load(source, target, header)
    return as_batch(pair, fitting_pair(pair.name, pair.config, data, columns, target=target)[1]), columns
