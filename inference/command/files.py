"""Where a command's data come from, and where tables and pictures go."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import zoo
from inference.command import exchange, tables
from inference.data.check import as_batch
from zoo import Batch, datasets
from zoo.abilities import Text
from zoo.datasets.tables import TABLES
from zoo.schema.column import plain
from zoo.state.files import write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.base import ModelGuide


PICTURES = (".png", ".svg", ".pdf")


def start(options: argparse.Namespace, *more: Path, texts: bool = False) -> ModelGuide:
    """Check, before any work, what would be written; load the model."""
    out = Path(options.out)
    endings = (".csv", ".npy", ".txt") if texts else (".csv", ".npy")
    if out.suffix.lower() not in endings:
        raise ValueError(f"--out {out}: expected a name that ends in {', '.join(endings[:-1])} or {endings[-1]}")
    wanted = [out, *more]
    if options.picture:
        picture = Path(options.picture)
        if picture.suffix.lower() not in PICTURES:
            raise ValueError(f"--picture {picture}: expected a name that ends in {', '.join(PICTURES)}")
        wanted.append(picture)
    for path in wanted:
        if not path.parent.is_dir():
            raise ValueError(f"no folder '{path.parent}' to write '{path.name}' into")
        if path.exists() and not options.replace:
            raise ValueError(f"'{path}' is there already; --replace writes over it")
    pair = load(options.folder)
    if texts and (out.suffix.lower() == ".txt") != (isinstance(pair, Text) and pair.alphabet is not None):
        kind = "texts, which go into a .txt" if out.suffix.lower() != ".txt" else "no texts"
        raise ValueError(f"--out {out}: {pair.name} writes {kind}")
    return pair


def load(folder: str) -> ModelGuide:
    """The model of a run folder, put in order first where a run was killed there."""
    if words := exchange.recover(Path(folder)):
        print(f"note: {words}")
    return zoo.load(folder)


def observed(pair: ModelGuide, source: str) -> Any:
    """The data as the pair takes them: a table by its schema, else a batch."""
    if pair.schema is not None and (source in datasets.names() or Path(source).suffix.lower() in TABLES):
        return as_batch(pair, tables.load(source))
    return as_batch(pair, datasets.load(source))


def sequences(pair: ModelGuide, source: str) -> Any:
    """Sequences as the pair takes them: a table of one column is one series, of several one vector a step."""
    batch = datasets.load(source)
    example = pair.simulate(2)[0]
    field = "x" if example.y is None else "y"
    value, wanted = getattr(batch, field), getattr(example, field)
    if value is not None and value.ndim == wanted.ndim == 2 and value.shape[1] == 1:
        value = value[:, 0]
    if value is not None and value.ndim == wanted.ndim - 1:
        batch = Batch.of(**{field: value[None]})
    return as_batch(pair, batch)


def as_table(pair: ModelGuide, values: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Columns of a table of these observations, in the user's units where the pair knows them."""
    columns: dict[str, Any] = {}
    for site, value in values.items():
        if site == "x" and pair.schema is not None:
            columns |= pair.schema.decode(value)
        elif site == "y" and pair.target is not None:
            columns[pair.target.name] = pair.target.decode(value)
        else:
            flat = value.reshape(len(value), -1)
            columns |= {f"{site}_{i + 1}" if flat.shape[1] > 1 else site: flat[:, i] for i in range(flat.shape[1])}
    return columns


def save(path: Path, columns: dict[str, Sequence[Any]]) -> None:
    """Write columns as .csv, or as the matrix of an .npy."""
    if path.suffix.lower() == ".npy":
        try:
            matrix = np.stack([np.asarray(values, dtype=float) for values in columns.values()], 1)
        except (TypeError, ValueError):
            raise ValueError(f"{path}: category names do not fit into numbers; write a .csv") from None
        content = io.BytesIO()
        np.save(content, matrix)
        write(path, content.getvalue())
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    rows = zip(*columns.values(), strict=True)
    writer.writerows(["" if plain(cell) is None else cell for cell in row] for row in rows)
    write(path, text.getvalue().encode())


def draw_picture(options: argparse.Namespace, figure: Figure) -> None:
    """Write a picture where `--picture` says."""
    figure.savefig(options.picture)
    print(f"drawn in {options.picture}")
