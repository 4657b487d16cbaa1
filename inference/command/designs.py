"""Regressions on tables of named columns: `zoo fit --formula` and `--target`, and `zoo predict`."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inference.command import files, tables
from inference.data.check import as_batch, check, example
from inference.data.suited import design_in_words, pair_for, worded
from inference.posterior.draws import Posterior, draw
from inference.questions.effects import effects
from inference.questions.predictions import predictions, r_squared
from inference.running.words import check_mass
from zoo import datasets
from zoo.base import Batch, ModelGuide, registered
from zoo.config import hints
from zoo.notes import DataWarning
from zoo.schema.schema import as_columns

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROWS, _DRAWS = 500, 1000  # that R² and effects are read off


def fitting(options: argparse.Namespace, config: Mapping[str, Any]) -> tuple[ModelGuide, Batch, tuple[str, ...]] | None:
    """A pair with the design that the table calls for, its data and their columns; None where it calls for none.

    A formula calls for one, and a target in a table that holds more than numbers.

    Raises:
        ValueError: a formula for a pair that takes none, or beside a target; what the design refuses.
    """
    if "design" not in hints(registered(options.name).__init__):
        if options.formula:
            raise ValueError(f"--formula: {options.name} explains no response by covariates")
        return None
    if options.formula and options.target:
        raise ValueError("--formula names the response itself: leave --target out")
    table = _table(options)
    if table is None:
        return None
    words = {"formula": options.formula} if options.formula else {"target": options.target}
    pair = pair_for(options.name, table, seed=options.seed, tell=None, **words, **config)
    design = pair.design
    if design is None:
        return None
    if options.double:  # before numbers take on its type
        pair.double()
    print(f"design: {design_in_words(pair, design)}", flush=True)
    options.target = design.response.name  # what pictures call y
    return pair, as_batch(pair, table), design.columns


def _table(options: argparse.Namespace) -> Any:
    """The table, where its columns are to be coded; None where they are numbers, which are read as before."""
    if options.formula:
        return tables.load(options.data, header=options.header)
    if not options.target or options.data in datasets.names():
        return None
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", DataWarning)
        try:
            table = tables.load(options.data, header=options.header)
        except ValueError:
            return None  # whoever reads it as numbers says what is wrong
        used = worded(table) and options.target in table
    for note in notes if used else ():
        warnings.warn_explicit(note.message, note.category, note.filename, note.lineno)
    return table if used else None


def predict(options: argparse.Namespace) -> None:
    """What is expected of the response at each row of a table, as a table."""
    pair = files.start(options)
    files.check_whole(pair, options)
    check_mass(options.mass)
    if pair.design is not None:
        data = tables.designed_rows(pair.design, options.data, options.header, response=False)
    elif pair.schema is not None:
        data = files.observed(pair, options)
    else:
        data = files.covariates(pair, options)
    posterior = draw(pair, example(pair), options.draws, stats=False, seed=options.seed)
    kept = Posterior({name: posterior[name] for name in posterior.globals}, size=posterior.size)
    found = predictions(pair, kept, data, mass=options.mass, seed=options.seed)
    columns = {"row": list(range(1, len(found) + 1)), **{str(name): found[name].tolist() for name in found}}
    files.save(Path(options.out), columns)
    print(f"{_response(pair)} of {len(found)} rows ({', '.join(map(str, found.columns))}) in {options.out}")


def explained(pair: ModelGuide, data: Batch, options: argparse.Namespace) -> None:
    """Print how much of the response a regression explains, and what each covariate changes in it."""
    given = check(pair, data)
    x = given.batch.x
    if "y" not in given.observed or "x" in given.observed or given.locals or x is None or x.ndim != 2 or len(x) < 2:
        return
    rows = torch.linspace(0, len(x) - 1, min(_ROWS, len(x))).round().long().unique()
    posterior = draw(pair, example(pair), _DRAWS, stats=False, seed=options.seed)
    posterior = Posterior({name: posterior[name] for name in posterior.globals}, size=posterior.size)
    shown: Any = given.batch.select(rows.to(x.device))
    share = r_squared(pair, posterior, shown)
    if pair.design is not None:
        table = as_columns(tables.load(options.data, header=options.header))[0]
        shown = {name: [cells[i] for i in rows.tolist()] for name, cells in table.items()}
    over = f", over {len(rows)} of {len(x)} rows" if len(rows) < len(x) else ""
    low, high = share.iloc[2:]
    print(f"R² {share['estimate']:.3f}, 95% interval {low:.3f} to {high:.3f}{over}")
    unit = "in its probability" if given.sites["y"].discrete else f"in {_response(pair)}"
    print(f"effects: what one unit, or one level, changes {unit} on average{over} (inference.effects)")
    print(f"{effects(pair, posterior, shown).to_string(float_format='{:.4g}'.format)}\n", flush=True)


def _response(pair: ModelGuide) -> str:
    response = pair.design.response if pair.design is not None else pair.target
    return response.name if response is not None else str(pair.card.get("data", {}).get("target") or "y")
