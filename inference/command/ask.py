"""`zoo query` and `zoo explain`: a network asked, of one case or of every row of a file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.command import files, tables
from inference.questions import explanations, queries
from inference.running.words import listed
from zoo.abilities import Network
from zoo.base import ModelGuide

if TYPE_CHECKING:
    import pandas as pd


def query(options: argparse.Namespace) -> None:
    """P(variables | evidence), or after an intervention."""
    pair = _network(options)
    rows, given, do = _given(pair, options, options.variables)
    how = {"do": do, "mass": options.mass, "seed": options.seed}
    if rows is not None:
        _told(options, queries.query(pair, None, options.variables, rows, **how).frame())
        return
    print(queries.query(pair, None, options.variables, given, **how))
    if options.picture:
        from inference.gallery.network import network

        files.draw_picture(options, network(pair, None, given, **how))


def explain(options: argparse.Namespace) -> None:
    """The most probable explanation of the evidence."""
    pair = _network(options)
    rows, given, do = _given(pair, options, ())
    if rows is not None:
        _told(options, explanations.explain(pair, rows, do=do, seed=options.seed))
    else:
        print(explanations.explain(pair, given, do=do, mass=options.mass, seed=options.seed))


def _network(options: argparse.Namespace) -> ModelGuide:
    """The network of a run folder, or of a file of its own; nothing is asked before it is known that --out can be."""
    if options.out is not None:
        out = Path(options.out)
        if out.suffix.lower() != ".csv":
            raise ValueError(f"--out {out}: expected a name that ends in .csv")
        if options.rows is None:
            raise ValueError("--out: takes the answers of the rows of a file, --given FILE.csv")
        files.check_free([out], replace=options.replace)
    if options.rows is not None and getattr(options, "picture", None):
        raise ValueError("--picture: draws one case: give its values, --given NAME=VALUE")
    pair = files.load(options.folder)
    if pair.schema is None or not isinstance(pair, Network):
        raise ValueError(f"'{options.folder}' holds {pair.name}, which is no network that can be asked")
    return pair


def _given(
    pair: ModelGuide, options: argparse.Namespace, asked: Sequence[str]
) -> tuple[pd.DataFrame | None, dict[str, Any], dict[str, Any]]:
    """Rows of evidence, of a file; else the evidence; and what is set."""
    given, do = (_typed(pair, words, name) for words, name in ((options.given, "--given"), (options.do, "--do")))
    if options.rows is None:
        return None, given, do
    kinds = {column.name: column.kind for column in pair.schema or ()}
    table: Any = tables.load(options.rows, kinds, options.header)
    names = list(getattr(table, "columns", table))
    nodes = pair.schema.names if pair.schema is not None else ()
    for what, out in (
        ("asked for or set", [name for name in names if name in (*asked, *do)]),
        ("no nodes", [name for name in names if name not in kinds]),
    ):
        if out:
            print(f"note: columns of {options.rows} that are {what} are left out: {listed(out)}", flush=True)
    columns = {name: list(table[name]) for name in names if name in nodes and name not in (*asked, *do)}
    for name, value in given.items():
        if name in columns:
            raise ValueError(f"--given {name}={value}: {options.rows} has a column of that name; leave one of them out")
    if not columns:
        raise ValueError(f"--given {options.rows}: no column is a node; nodes: {', '.join(nodes)}")
    import pandas as pd

    rows = pd.DataFrame(columns, dtype=object).assign(**given)
    return rows.set_axis(range(1, len(rows) + 1)), {}, do


def _told(options: argparse.Namespace, frame: pd.DataFrame) -> None:
    """Write or print a line for each row."""
    if options.out is None:
        print(frame.to_string(max_rows=20, float_format=lambda value: f"{value:.4g}"))
        if len(frame) > 20:
            print("--out FILE.csv writes all of them")
        return
    files.save(Path(options.out), {str(name): frame[name].tolist() for name in frame.columns})
    print(f"{len(frame)} rows answered in {options.out}")


def _typed(pair: ModelGuide, words: dict[str, str], option: str) -> dict[str, Any]:
    """Values by name in the user's units: numbers of real variables, words of others."""
    known = {column.name: column for column in (pair.schema.used if pair.schema else ())}
    found: dict[str, Any] = {}
    for name, word in words.items():
        column = known.get(name)
        if column is not None and not column.categories:
            try:
                found[name] = float(word)
            except ValueError:
                raise ValueError(f"{option} {name}={word}: expected a number") from None
        else:
            found[name] = word
    return found
