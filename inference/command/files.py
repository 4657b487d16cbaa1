"""Where a command's data come from, and where tables and pictures go."""

from __future__ import annotations

import argparse
import csv
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import zoo
from inference.command import exchange, tables
from inference.data.accept import encoded
from inference.data.check import as_batch
from inference.drawing import style
from zoo import Batch, datasets
from zoo.abilities import FromFile, Text
from zoo.datasets.dated import read_dated
from zoo.datasets.decimals import plain_number
from zoo.datasets.opening import kind_of
from zoo.datasets.tables import TABLES
from zoo.dates.calendar import short
from zoo.notes import DataWarning
from zoo.registry import registry
from zoo.schema.column import plain
from zoo.state.files import write

if TYPE_CHECKING:
    import pandas as pd
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
        wanted.append(picture_path(options.picture, "--picture"))
    check_free(wanted, replace=options.replace)
    pair = load(options.folder)
    if texts and (out.suffix.lower() == ".txt") != (isinstance(pair, Text) and pair.alphabet is not None):
        kind = "texts, which go into a .txt" if out.suffix.lower() != ".txt" else "no texts"
        raise ValueError(f"--out {out}: {pair.name} writes {kind}")
    return pair


def picture_path(name: str, option: str) -> Path:
    """Where a picture is to go.

    Raises:
        ValueError: its name ends in nothing that can be drawn.
    """
    picture = Path(name)
    if picture.suffix.lower() not in PICTURES:
        raise ValueError(f"{option} {picture}: expected a name that ends in {', '.join(PICTURES)}")
    return picture


def check_free(paths: Sequence[Path], *, replace: bool) -> None:
    """Refuse paths in no folder, and those of files that are there, unless they are to be replaced."""
    for path in paths:
        if not path.parent.is_dir():
            raise ValueError(f"no folder '{path.parent}' to write '{path.name}' into")
        if path.exists() and not replace:
            raise ValueError(f"'{path}' is there already; --replace writes over it")


def reader(name: str) -> Any:
    """The class of pairs that a file of this name stands for, or None: of networks, say, for clinic.bif."""
    if not Path(name).suffix:
        return None
    for cls in registry().values():
        if isinstance(cls, FromFile) and name.lower().endswith(tuple(cls.formats)) and not Path(name).is_dir():
            return cls
    return None


def load(folder: str) -> ModelGuide:
    """The model of a run folder, put in order first where a run was killed there; or of a file that stands for one."""
    cls = reader(folder)
    if cls is not None:
        made: ModelGuide = cls(**cls.read(folder))
        return made
    if words := exchange.recover(Path(folder)):
        print(f"note: {words}")
    try:
        return zoo.load(folder)
    except ValueError as error:
        if "import that module first" in str(error):
            raise ValueError(f"{error}: --module FILE.py runs it") from error
        raise


def observed(pair: ModelGuide, options: argparse.Namespace) -> Any:
    """The data as the pair takes them: a table by its schema, else a batch."""
    source = options.data
    if pair.schema is not None and (source in datasets.names() or kind_of(source) in TABLES):
        return as_batch(pair, encoded(pair, table_of(pair, options), options.unknown))
    if pair.design is not None and (source in datasets.names() or kind_of(source) in TABLES):
        check_whole(pair, options)
        return as_batch(pair, tables.designed_rows(pair.design, source, options.header))
    return as_batch(pair, _batch(options))


def check_whole(pair: ModelGuide, options: argparse.Namespace) -> None:
    """Refuse `--unknown missing` for a regression, which would have to do without a cell that it reads.

    Raises:
        ValueError: see above.
    """
    if options.unknown == "missing":
        raise ValueError(
            f"--unknown missing: {pair.name} explains a response by covariates and takes no missing cell: leave the "
            "rows with other categories out, or write one that it has seen there"
        )


def covariates(pair: ModelGuide, options: argparse.Namespace) -> Batch:
    """The columns that a pair explains its response by; that of the response, where the file holds it, is left out."""
    known = pair.card.get("data", {}).get("target")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # it is read again
        named = Path(options.data).is_file() and known in datasets.read(options.data, header=options.header).columns
    batch = _batch(options, known if named or options.data in datasets.names() else None)
    return batch.but(y=None, spare=())


def table_of(pair: ModelGuide, options: argparse.Namespace) -> Any:
    """The table of a file or data set, its columns of the kinds that the pair knows."""
    known = [*(pair.schema or ()), *([pair.target] if pair.target is not None else [])]
    return tables.load(options.data, {column.name: column.kind for column in known}, options.header)


def as_written(options: argparse.Namespace, table: Any) -> pd.DataFrame:
    """The cells of a text table as they stand there; numbers with a decimal point, as all that is written here has."""
    cells = datasets.table(options.data, text=True, header=options.header)
    decimal = cells.attrs["decimal"]
    for name in cells.columns if decimal.mark == "," else ():
        if table[name].dtype.kind in "if":
            cells[name] = [
                plain_number(cell, decimal) or cell if isinstance(cell, str) else cell for cell in cells[name]
            ]
    return cells


def sequences(pair: ModelGuide, options: argparse.Namespace) -> Any:
    """Sequences as the pair takes them (`inference.data.series`); of a table the column that it was fitted to."""
    wanted = options.target or pair.card.get("data", {}).get("target")
    batch = read_dated(options.data, header=options.header)
    if batch is not None:
        wanted = wanted if options.target is not None or wanted in (batch.columns or ()) else None
        batch = read_dated(options.data, target=wanted, header=options.header) if wanted is not None else batch
        return as_batch(pair, _alone(pair, cast(Batch, batch), wanted))
    if options.target is None and wanted is not None and Path(options.data).is_file():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # it is read again
            names = datasets.read(options.data, header=options.header).columns
        wanted = wanted if wanted in names else None
    return as_batch(pair, _alone(pair, _batch(options, wanted), wanted))


def _alone(pair: ModelGuide, batch: Batch, target: str | None) -> Batch:
    """The target alone, of a pair that has no inputs."""
    if batch.y is None or pair.simulate(1)[0].y is not None:
        return batch
    dated = batch.when is not None and target is not None
    return Batch.of(batch.y).but(when=batch.when, columns=(str(target),) if dated else None)


def _batch(options: argparse.Namespace, target: str | None = None) -> Batch:
    """A known data set, or a file; labels that come along are spare."""
    source = options.data
    if source not in datasets.names() and Path(source).is_file():
        batch = datasets.read(source, target=target, header=options.header).batch
    else:
        batch = datasets.load(source, target=target)
    return batch.but(spare=("y",))


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


def save_values(pair: ModelGuide, path: Path, values: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write observations: images as an .npy of their shape, all else as the columns of a table."""
    if pair.image is not None and path.suffix.lower() == ".npy":
        content = io.BytesIO()
        np.save(content, values["x"])
        write(path, content.getvalue())
    else:
        save(path, as_table(pair, values))


def dated_columns(table: pd.DataFrame, *, numbers: bool = False) -> dict[str, Any]:
    """Columns of forecasts for a file; series as their numbers, without dates, where it holds numbers alone."""
    columns = {str(name): table[name].tolist() for name in table}
    if "date" in columns:
        columns["date"] = [short(date) for date in table["date"]]
    if numbers:
        columns.pop("date", None)
        known = list(dict.fromkeys(columns["series"]))
        columns["series"] = [known.index(name) + 1 for name in columns["series"]]
    return columns


def save(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
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
    style.literal(figure).savefig(options.picture)
    print(f"drawn in {options.picture}")
