"""What a run folder is used for: sample, impute, encode, reconstruct, forecast."""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference.codes import collapse, completed, encoding, imputation
from inference.command import files, rows, tables
from inference.data.accept import encoded
from inference.forecasting.table import forecast_table
from inference.gallery import imputations, observations
from inference.posterior.draws import draw, generate
from inference.questions import texts
from zoo import datasets
from zoo.abilities import Text
from zoo.base import ModelGuide
from zoo.datasets.opening import TEXTS, kind_of
from zoo.state.files import write


def forecast(options: argparse.Namespace) -> None:
    """The steps after the end of each series: dates and names, median, mean, and an interval."""
    pair = files.start(options)
    if not 0 < options.mass < 1:
        raise ValueError(f"--mass: expected a number between 0 and 1, got {options.mass}")
    data = files.sequences(pair, options)
    posterior = draw(pair, data, options.draws, stats=False, seed=options.seed)
    table = forecast_table(pair, data, options.horizon, posterior, mass=options.mass, seed=options.seed)
    files.save(Path(options.out), files.dated_columns(table, numbers=Path(options.out).suffix.lower() == ".npy"))
    print(f"{options.horizon} steps ahead of {data.size} series, with {options.mass:.0%} intervals, in {options.out}")
    if options.picture:
        from inference.gallery.future import future

        both = sorted({0.5, options.mass})
        table = forecast_table(pair, data, options.horizon, posterior, mass=both, seed=options.seed)
        files.draw_picture(options, future(pair, data, table))


def sample(options: argparse.Namespace) -> None:
    """New observations from the fitted model."""
    pair = files.start(options, texts=True)
    if isinstance(pair, Text) and pair.alphabet is not None:
        write_text(options, pair)
        return
    for name in ("prefix", "stop"):
        if getattr(options, name):
            raise ValueError(f"--{name}: {pair.name} writes no text")
    found = generate(pair, options.number, seed=options.seed)
    files.save_values(pair, Path(options.out), {name: value.cpu().numpy() for name, value in found.items()})
    print(f"{options.number} new observations in {options.out}")
    if options.picture:
        files.draw_picture(options, observations.samples(pair, options.number, seed=options.seed))


def encode(options: argparse.Namespace) -> None:
    """Means and standard deviations of the codes."""
    pair = files.start(options)
    data = files.observed(pair, options)
    codes = encoding.encode(pair, data, seed=options.seed)
    columns: dict[str, Any] = {}
    for kind, values in (("", codes.mean), ("_sd", codes.sd)):
        for name, value in values.items():
            flat = value.flatten(1).cpu().numpy() if value.ndim > 1 else value[:, None].cpu().numpy()
            columns |= {f"{name}_{i}{kind}": flat[:, i] for i in range(flat.shape[1])}
    for name in codes.mean.keys() - codes.sd.keys():
        if Path(options.out).suffix.lower() == ".csv":
            columns |= rows.labels(pair, codes.mean[name].cpu().numpy())
    files.save(Path(options.out), columns)
    if codes.sd:  # the probabilities of classes are exact: they do not collapse
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", collapse.CollapseWarning)  # the notes say it
            for line in collapse.collapsed(pair, data):
                print(f"note: {line}")
    print(f"codes of {len(next(iter(columns.values())))} observations in {options.out}")
    if options.picture:
        from inference.drawing import plane

        means = next(value for value in codes.mean.values())
        files.draw_picture(options, plane.latent_map(means.reshape(len(means), -1)))


def reconstruct(options: argparse.Namespace) -> None:
    """What the codes of observations tell of them."""
    pair = files.start(options)
    data = files.observed(pair, options)
    again = encoding.reconstruct(pair, data, seed=options.seed)
    site = "x" if "x" in pair.dims else "y"
    files.save_values(pair, Path(options.out), {site: again.cpu().numpy()})
    print(f"{len(again)} reconstructions in {options.out}")
    if options.picture:
        files.draw_picture(options, observations.reconstructions(pair, data, seed=options.seed))


def impute(options: argparse.Namespace) -> None:
    """The table with its holes filled, and beside it a line a filled cell that says how sure it is."""
    out = Path(options.out)
    told = out.with_name(f"{out.stem}.uncertainty.csv")
    copies = [out.with_name(f"{out.stem}.{k}{out.suffix}") for k in range(1, options.copies + 1)]
    if options.copies > options.draws:
        raise ValueError(f"--copies: expected at most --draws {options.draws}, got {options.copies}")
    pair = files.start(options, told, *copies)
    if not 0 < options.mass < 1:
        raise ValueError(f"--mass: expected a number between 0 and 1, got {options.mass}")
    table = files.table_of(pair, options) if pair.schema is not None else None
    data = files.observed(pair, options) if table is None else encoded(pair, table, options.unknown)
    found = imputation.impute(pair, data, draws=options.draws, seed=options.seed)
    schema = pair.schema
    if schema is None:
        given: Any = files.as_table(pair, {"x": found.observed.cpu().numpy()})
        schema = datasets.Schema.of([(name, "real") for name in given])
        found = replace(found, schema=schema)
    else:
        as_text = kind_of(options.data) in TEXTS and options.data not in datasets.names()
        given = files.as_written(options, table) if as_text else table
    files.save(out, completed.filled(given, found.cells(found.point()[found.rows, found.columns])))
    for path, number in zip(copies, found.spaced(len(copies)) if copies else [], strict=True):
        files.save(path, completed.filled(given, found.cells(found.values.flatten(0, 1)[number])))
    tables.uncertainty(found, schema, options.mass).to_csv(told, index=False)
    print(tables.in_words(found, schema, options.mass))
    print(f"{found.values.shape[-1]} cells filled in {out}; how sure each is, in {told}")
    if copies:
        print(f"{len(copies)} completed tables with draws in their missing cells: {copies[0]} to {copies[-1]}")
    if options.picture and len(found.rows):
        files.draw_picture(options, imputations.imputations(found, schema))


def write_text(options: argparse.Namespace, pair: ModelGuide) -> None:
    """Texts, one after the other, as a text file."""
    stops = [stop.replace("\\n", "\n").replace("\\t", "\t") for stop in options.stop]  # as a shell leaves them
    said = texts.write(
        pair,
        options.number,
        prompt=options.prefix or "",
        stop=stops,
        length=options.length,
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
    )
    write(Path(options.out), "\n\n".join(said).encode() + b"\n")
    size = f"up to {options.length}" if stops else f"{options.length}"
    print(f"{options.number} texts of {size} characters in {options.out}; the first:\n\n{said[0]}")
