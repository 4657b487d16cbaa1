"""`zoo compare`: fitted models of the same data, by what each expects of observations left out."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from inference.command import files
from inference.posterior.comparing import Entry, compared, of_container
from inference.reporting.compared import Comparison
from inference.reporting.page import check_place
from inference.running.loading import arviz

POSTERIOR = "posterior.nc"


def compare_runs(options: argparse.Namespace) -> None:
    """A line a run, the best first; refused where they score other data."""
    if len(set(options.folders)) < max(2, len(options.folders)):
        raise ValueError(f"expected at least two runs, each once, got {', '.join(options.folders)}")
    if options.out:
        files.check_free([Path(options.out)], replace=options.replace)
        if Path(options.out).suffix.lower() != ".csv":
            raise ValueError(f"--out {options.out}: expected a name that ends in .csv")
    check_place(Path(options.page))
    found = {folder: _entry(folder) for folder in options.folders}
    for folder, entry in found.items() if len({entry.rows for entry in found.values()}) > 1 else ():
        known = files.load(folder).card.get("metrics", {}).get("observations", len(entry.scores.pointwise))
        if known != len(entry.scores.pointwise):  # a sample of the rows, and not the same one
            raise ValueError(
                f"'{folder}' holds scores of {len(entry.scores.pointwise)} of its {known} observations: "
                f"zoo score {folder} scores them all"
            )
    table = compared(found)
    shown = table.drop(columns="scale", errors="ignore")
    print(shown.to_string(float_format=lambda value: f"{value:.2f}"))
    name = "elpd_loo" if "elpd_loo" in table else "elpd"
    print(f"{name}: log density expected of new data, in nats, summed over the rows; dse: of the difference")
    unsure = [
        f"{folder}: {entry.scores.unsure} observations with a Pareto k above {entry.scores.threshold:.2f}"
        for folder, entry in found.items()
        if entry.scores.unsure
    ]
    for note in unsure:
        print(f"note: {note}")
    comparison = Comparison(table, unsure, shlex.join(["zoo", "compare", *options.folders]))
    for line in comparison.told:
        print(line)
    if options.out:
        files.save(Path(options.out), {"run": list(table.index), **{str(key): list(table[key]) for key in table}})
        print(f"also in {options.out}")
    print(f"The page is {comparison.save(Path(options.page))}.")


def _entry(folder: str) -> Entry:
    """What the scores of a run left."""
    path = Path(folder) / POSTERIOR
    if not path.is_file():
        files.load(folder)  # says what is wrong with the folder, if that is it
        raise ValueError(f"'{folder}' has no scores: zoo score {folder} makes them")
    try:
        return of_container(arviz().from_netcdf(str(path)))
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"'{path}': {error}") from error
