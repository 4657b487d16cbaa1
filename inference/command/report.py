"""`zoo report`: one page about a fitted model, in its run folder or elsewhere."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from inference.command.exchange import METRICS
from inference.command.inferring import kept
from inference.command.rescore import of_run
from inference.reporting.door import report
from inference.reporting.page import check_place

PAGE = "report.html"
_GROUPS = ("posterior", "posterior_predictive", "log_likelihood", "observed_data")


def report_run(options: argparse.Namespace) -> int:
    """`zoo report`: the page and, beside it, JSON; 0, 1 or 2 by the verdict."""
    folder = Path(options.folder)
    out = Path(options.out) if options.out else folder / PAGE
    pair, data, columns, _ = of_run(options)
    check_place(out)
    if data.x is not None and data.columns is None and data.x.shape[1:] == (len(columns),):
        data = data.but(columns=tuple(columns))  # so that they stand on pictures
    page = report(pair, data, kept(pair), run=not options.no_run, command=_typed(options), seed=options.seed)
    page = replace(page, notes=[*page.notes, *left(folder)])
    page.save(out)
    print(f"{pair.name}: {page.verdict}")
    for line in page.check.reasons:
        print(f"  {line}")
    print(f"The page is {out}, the same as JSON {out.with_suffix('.json')}.")
    return page.exit


def left(folder: Path) -> Iterator[str]:
    """What is to be said of the scores that a run left: not there, not to be read, or without some of their groups."""
    if not (folder / METRICS).is_file():
        yield f"The run has no scores; zoo score {shlex.quote(str(folder))} makes them."
    path = folder / "posterior.nc"
    if not path.is_file():
        return
    try:
        missing = [name for name in _GROUPS if name not in _groups(path)]
    except (OSError, RuntimeError, ValueError) as error:
        yield f"posterior.nc cannot be read ({str(error).splitlines()[0]}); the draws on this page were made anew."
        return
    if missing:
        yield f"posterior.nc lacks {', '.join(missing)}; the draws on this page were made anew."


def _groups(path: Path) -> set[str]:
    import h5py

    with h5py.File(path, "r") as file:
        return set(file)


def _typed(options: Any) -> str:
    words = ["zoo", "report", options.folder, *(["--data", options.data] if options.data else [])]
    words += ["--out", options.out] if options.out else []
    words += ["--no-run"] if options.no_run else []
    return shlex.join([*map(str, words), "--seed", str(options.seed)])
