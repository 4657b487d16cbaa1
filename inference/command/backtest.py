"""`zoo backtest`: how good the forecasts of a model would have been."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from inference.command import files
from inference.command.fit import fitting_pair, load
from inference.command.words import arguments
from inference.data.check import as_batch
from inference.data.series import understood
from inference.forecasting.backtest import backtest
from zoo.base import Batch, ModelGuide


def backtest_pair(options: argparse.Namespace) -> None:
    """`zoo backtest`: scores of past forecasts, by model and by steps ahead."""
    out = None if options.out is None else Path(options.out)
    if out is not None:
        if out.suffix.lower() != ".csv":
            raise ValueError(f"--out {out}: expected a name that ends in .csv")
        if out.exists() and not options.replace:
            raise ValueError(f"'{out}' is there already; --replace writes over it")
    pair, data = _pair_and_data(options)
    print(f"{pair.name} on {options.data}: {understood(data)}", flush=True)
    found = backtest(
        pair,
        data,
        options.horizon,
        options.folds,
        stride=options.stride,
        refit=not options.once,
        season=options.season,
        mass=options.mass,
        draws=options.draws,
        seed=options.seed,
        **({} if options.steps is None else {"steps": options.steps}),
    )
    print(found)
    print(f"\nCRPS by steps ahead\n{found.by_step['crps'].unstack('model').round(4).to_string()}")
    if out is not None:
        files.save(out, files.dated_columns(found.lines))
        print(f"\n{len(found.lines)} lines in {out}")


def _pair_and_data(options: argparse.Namespace) -> tuple[ModelGuide, Batch]:
    """The pair of a run folder, or a new one of a name; and the series."""
    if Path(options.source).is_dir():
        if options.set:
            raise ValueError(f"--set: '{options.source}' is a run folder, whose arguments stay as they are")
        pair = files.load(options.source)
        return pair, files.sequences(pair, options)
    config: dict[str, Any] = arguments(options.source, options.set)
    data, columns = load(options.data, options.target, options.header, series=True)
    pair, data = fitting_pair(options.source, config, data, columns, target=options.target, seed=options.seed)
    return pair.double(), as_batch(pair, data)
