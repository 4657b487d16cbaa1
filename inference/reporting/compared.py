"""The page of `zoo compare`: which model is expected to predict new data best, and whether that is sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.drawing import style
from inference.drawing.style import COLOURS, INK, MUTED
from inference.reporting.numbers import Table, finite, short
from inference.reporting.origins import listed, used_versions
from inference.reporting.page import rendered, saved
from inference.reporting.parts import Part, part

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SMALL, _SURE = 4.0, 2.0  # nats; standard errors of a difference
_SOURCE = "Vehtari, Gelman & Gabry 2017; Sivula, Magnusson & Vehtari 2020"


@dataclass(frozen=True)
class Comparison:
    """Models of the same data on one page.

    Args:
        table: from `inference.compare`, a line a model, the best first.
        notes: what else is to be said, such as rows whose scores are unsure.
        command: that made the page.
    """

    table: pd.DataFrame
    notes: Sequence[str] = ()
    command: str = ""

    @property
    def told(self) -> list[str]:
        """A sentence on each model, the best first."""
        best = str(self.table.index[0])
        lines = [f"'{best}' is expected to predict new data best."]
        for name, row in list(self.table.iterrows())[1:]:
            lines.append(f"'{name}' {_apart(abs(float(row['elpd_diff'])), float(row['dse']))}")
        return lines

    def save(self, path: Path) -> Path:
        """Write the page and, beside it, the JSON; see `Page.save`."""
        origins = {"This page": listed({"command": self.command}), "Versions": used_versions()}
        kept = self.table.drop(columns="scale", errors="ignore")
        values = [
            {"name": str(name), **{str(key): _plain(cell) for key, cell in row.items()}}
            for name, row in kept.iterrows()
        ]
        rows = [(str(row["name"]), *(short(row[str(key)]) for key in kept.columns)) for row in values]
        note = (
            "elpd: log density expected of new data, nats, summed over the rows; dse: standard error of a difference."
        )
        table = Table(("model", *map(str, kept.columns)), rows, values, note)
        html = rendered(
            "comparison.html",
            title=f"{len(rows)} models compared",
            told=self.told,
            notes=self.notes,
            picture=self._picture(),
            table=table,
            source=_SOURCE,
            origins=origins,
        )
        record = {"told": self.told, "models": values, "notes": list(self.notes), "origins": origins}
        return saved(path, html, record)

    def _picture(self) -> list[Part]:
        alt = f"the expected log density of each of {len(self.table)} models, with its standard error, the best on top"
        return [part("compared", alt, partial(_drawn, self.table))]


def _apart(difference: float, error: float) -> str:
    """How a model stands to the best one."""
    told = f"is behind by {difference:.1f} ± {error:.1f} nats"
    if difference < _SMALL:
        return f"{told}: less than {_SMALL:g} nats, too little to tell the two apart."
    if difference < _SURE * error:
        return f"{told}: less than {_SURE:g} standard errors, so that it may as well be the better one."
    return f"{told}, more than {_SURE:g} standard errors: it predicts worse."


def _drawn(table: pd.DataFrame) -> Figure:
    name = "elpd_loo" if "elpd_loo" in table else "elpd"
    figure, axes = style.new_figure(6.4, 1.3 + 0.45 * len(table))
    places = np.arange(len(table))
    elpd, se = table[name].to_numpy(dtype=float), table["se"].to_numpy(dtype=float)
    axes.hlines(places, elpd - se, elpd + se, color=COLOURS[0], linewidth=2)
    axes.plot(elpd, places, "o", color="white", markeredgecolor=COLOURS[0], markersize=6)
    axes.axvline(elpd[0], color=MUTED, linewidth=1, linestyle="--")
    axes.set_yticks(places, [str(label)[-30:] for label in table.index], color=INK)
    axes.set_ylim(len(table) - 0.5, -0.5)
    style.labelled(axes, "log density expected of new data (nats)", "", "dots: estimates; lines: one standard error")
    return figure


def _plain(cell: Any) -> Any:
    if isinstance(cell, (bool, np.bool_)):
        return bool(cell)
    return finite(float(cell)) if isinstance(cell, (int, float, np.number)) else str(cell)
