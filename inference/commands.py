"""What the `zoo` command does with a fitted model: sample, encode, reconstruct, impute. Files in, files out."""

from __future__ import annotations

import argparse
import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import zoo
from inference import amortised, gallery, tables
from inference.data import as_batch
from inference.posterior import generate
from inference.writing import write_text
from zoo import Batch, datasets
from zoo.datasets.column import plain
from zoo.datasets.tables import TABLES
from zoo.state.files import write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from zoo.base import ModelGuide

PICTURES = (".png", ".svg", ".pdf")


def sample(options: argparse.Namespace) -> None:
    """New observations from the fitted model."""
    pair = start(options, texts=True)
    letters = getattr(pair, "alphabet", None)
    if isinstance(letters, str):
        write_text(options, pair, letters)
        return
    if options.prefix is not None:
        raise ValueError(f"--prefix: {pair.registry_name} writes no text")
    found = generate(pair, options.number, seed=options.seed)
    save(Path(options.out), _table(pair, {name: value.cpu().numpy() for name, value in found.items()}))
    print(f"{options.number} new observations in {options.out}")
    if options.picture:
        draw_picture(options, gallery.samples(pair, options.number, seed=options.seed))


def encode(options: argparse.Namespace) -> None:
    """Means and standard deviations of the codes."""
    pair = start(options)
    data = _data(pair, options.data)
    codes = amortised.encode(pair, data, seed=options.seed)
    columns: dict[str, Any] = {}
    for kind, values in (("", codes.mean), ("_sd", codes.sd)):
        for name, value in values.items():
            flat = value.flatten(1).cpu().numpy() if value.ndim > 1 else value[:, None].cpu().numpy()
            columns |= {f"{name}_{i}{kind}": flat[:, i] for i in range(flat.shape[1])}
    save(Path(options.out), columns)
    if codes.sd:  # the probabilities of classes are exact: they do not collapse
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", amortised.CollapseWarning)  # the notes say it
            for line in amortised.collapsed(pair, data):
                print(f"note: {line}")
    print(f"codes of {len(next(iter(columns.values())))} observations in {options.out}")
    if options.picture:
        from inference import plots

        means = next(value for value in codes.mean.values())
        draw_picture(options, plots.latent_map(means.reshape(len(means), -1)))


def reconstruct(options: argparse.Namespace) -> None:
    """What the codes of observations tell of them."""
    pair = start(options)
    data = _data(pair, options.data)
    again = amortised.reconstruct(pair, data, seed=options.seed)
    site = "x" if "x" in pair.dims else "y"
    save(Path(options.out), _table(pair, {site: again.cpu().numpy()}))
    print(f"{len(again)} reconstructions in {options.out}")
    if options.picture:
        draw_picture(options, gallery.reconstructions(pair, data, seed=options.seed))


def impute(options: argparse.Namespace) -> None:
    """The table with its holes filled, and beside it a line a filled cell that says how sure it is."""
    out = Path(options.out)
    told = out.with_name(f"{out.stem}.uncertainty.csv")
    pair = start(options, told)
    if not 0 < options.mass < 1:
        raise ValueError(f"--mass: expected a number between 0 and 1, got {options.mass}")
    table = tables.load(options.data) if pair.schema is not None else _data(pair, options.data)
    found = amortised.impute(pair, table, draws=options.draws, seed=options.seed)
    schema = pair.schema
    if schema is None:
        filled: dict[str, Any] = _table(pair, {"x": found.point().cpu().numpy()})
        schema = datasets.Schema.of([(name, "real") for name in filled])
    else:
        as_text = Path(options.data).suffix.lower() == ".csv" and options.data not in datasets.names()
        given = datasets.table(options.data, text=True) if as_text else table
        filled = tables.filled(found, schema, given)
    save(out, filled)
    tables.uncertainty(found, schema, options.mass).to_csv(told, index=False)
    print(tables.in_words(found, schema, options.mass))
    print(f"{found.values.shape[-1]} cells filled in {out}; how sure each is, in {told}")
    if options.picture and len(found.rows):
        draw_picture(options, gallery.imputations(found, schema))


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
    pair = zoo.load(options.folder)
    if texts and (out.suffix.lower() == ".txt") != isinstance(getattr(pair, "alphabet", None), str):
        kind = "texts, which go into a .txt" if out.suffix.lower() != ".txt" else "no texts"
        raise ValueError(f"--out {out}: {pair.registry_name} writes {kind}")
    return pair


def _data(pair: ModelGuide, source: str) -> Any:
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


def _table(pair: ModelGuide, values: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
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
