"""Tables of a page: the findings, and ArviZ's summary of the posterior."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.checking.findings import Check
from inference.drawing.style import Array
from inference.posterior import containers
from inference.reporting.words import MARKS, STATES
from inference.running.loading import arviz

_LEAST = 4  # draws of each chain that ArviZ wants for its diagnostics


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Args:
        columns: their heads.
        rows: cells as they are shown; the first names its row.
        values: the same as JSON has them, a mapping a row.
        note: a line below; where there are no rows, why.
        states: the state of each row, of findings.
    """

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    values: Sequence[Mapping[str, Any]] = ()
    note: str = ""
    states: Sequence[str] = ()


def findings(check: Check) -> Table:
    """A line a finding: its state, the number beside its threshold, where that comes from, and what to do."""
    rows = [
        (f"{MARKS[f.state]} {f.name}", f.state, f.told, f.advice if f.state != "ok" else "", f.source)
        for f in check.findings
    ]
    values = [
        {
            "name": f.name,
            "state": f.state,
            "value": finite(f.value),
            "told": f.told,
            "source": f.source,
            "advice": f.advice,
            "bears": f.bears,
            "counts": f.counts,
        }
        for f in check.findings
    ]
    columns = ("finding", "state", "number and threshold", "what to do", "source")
    return Table(columns, rows, values, states=[STATES[f.state] for f in check.findings])


def summary(draws: Mapping[str, Array], total: int, method: str) -> tuple[Table, dict[str, float]]:
    """ArviZ's summary of entries of the posterior, and the R-hat of each where draws are by MCMC.

    Independent draws of a guide pass R-hat and effective sizes however wrong it is, so of those they are left out.

    Args:
        draws: entry -> (chain, draw).
        total: entries that there are.
        method: how the draws were made.

    Raises:
        ValueError: too few draws.
    """
    if not draws:
        raise ValueError("no latent that varies: all of them are points")
    chains, size = next(iter(draws.values())).shape
    if size < _LEAST:
        raise ValueError(f"too few draws for a summary: expected at least {_LEAST} of each chain, got {size}")
    kind = "all" if method == "mcmc" else "stats"
    held = containers.build({"posterior": {name: (("chain", "draw"), value) for name, value in draws.items()}})
    summarise: Any = arviz().summary
    frame = summarise(held, kind=kind, round_to="none")
    values: list[dict[str, Any]] = [
        {"name": str(name), **{str(key): finite(float(cell)) for key, cell in row.items()}}
        for name, row in frame.iterrows()
    ]
    rows = [(str(row["name"]), *(short(row[str(key)]) for key in frame.columns)) for row in values]
    notes = [f"{chains} chains of {size:,} draws" if chains > 1 else f"{size:,} draws"]
    if total > len(rows):
        notes.append(f"{len(rows)} of {total:,} entries, some of each latent")
    if kind == "stats":
        notes.append("R-hat and effective sizes say nothing of independent draws, and are left out")
    hats = {str(row["name"]): float(hat) for row in values if (hat := row.get("r_hat")) is not None}
    return Table(("latent", *map(str, frame.columns)), rows, values, f"By ArviZ. {'; '.join(notes)}."), hats


def finite(value: float) -> float | None:
    """A number as JSON has it, which knows no NaN."""
    return float(value) if math.isfinite(value) else None


def short(value: Any) -> str:
    """A number in a cell."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if float(value).is_integer() and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"
