"""`zoo score`: the scores of a model that was fitted before, from the data that its card names."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from inference.command import exchange, files, room, score, unseen
from inference.command.loading import data_of
from inference.data.check import check
from zoo import datasets
from zoo.base import ModelGuide
from zoo.history import fingerprint


def score_run(options: argparse.Namespace) -> None:
    """`zoo score`: metrics, posterior and pictures of the model in a run folder; or a score of data it has not seen."""
    folder = Path(options.folder)
    if options.new is not None:
        unseen.score_rows(options)
        return
    if options.out is not None:
        raise ValueError("--out: takes the scores of the rows of DATA, as in zoo score RUN DATA --out FILE.csv")
    pair, data, columns, known = of_run(options)
    if options.data:
        known.pop("path", None)
        known |= {"name": options.data} | score.found_from(folder, options.data)
    room.check(folder, check(pair, data), options.draws)
    with score.saying_what_stands(folder), exchange.claimed(folder, new=False) as run:
        score.write(run, pair, data, columns, options, options.score_seconds)
    print(f"Everything is in {folder}.")


def of_run(options: argparse.Namespace) -> tuple[ModelGuide, Any, Any, dict[str, Any]]:
    """The pair in a run folder and the data that it was fitted to, their columns, and what its card says of them.

    Raises:
        ValueError: no run, no data, or data that are others by now.
    """
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
    return pair, data, columns, known


def place_of(folder: Path, source: str, path: str | None) -> str:
    """Where the data of a run are: where the way from its folder leads, else where its card says, from here."""
    if path and (found := Path(os.path.normpath(Path(os.path.realpath(folder), path)))).is_file():
        here = Path(source)
        return source if here.is_file() and here.samefile(found) else os.path.relpath(found)
    return source
