"""What one unit, or one level, of a covariate changes in y, on average over rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from inference.data.accept import is_table
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.questions.coefficients import summarised
from inference.questions.explained import averaged, explaining
from inference.questions.predictions import class_names
from inference.running.checked import Checked
from inference.running.quiet import quietly
from inference.running.words import check_mass
from zoo.base import ModelGuide
from zoo.columns import named
from zoo.config import nearest
from zoo.schema.column import Column, listed
from zoo.schema.schema import as_columns
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

STEP = 0.1  # of a numeric covariate, in its standard deviations: wide enough for trees, narrow enough for a slope


class Contrast(NamedTuple):
    """Two versions of the rows that differ in one covariate.

    Args:
        variable: the covariate.
        label: what is compared, `+1`, `1 - 0` or `b - a`.
        low, high: its values in each version, (N,).
        unit: how far they are apart, (N,).
    """

    variable: str
    label: str
    low: list[Any]
    high: list[Any]
    unit: NDArray[np.float64]


@in_turn
def effects(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    *,
    contrasts: Mapping[str, tuple[Any, Any]] | None = None,
    mass: float = 0.95,
    draws: int | None = 1000,
) -> pd.DataFrame:
    """What one unit, or one level, of each covariate changes in the mean of y, on average over the rows.

    Average predictive comparisons (Gelman & Hill 2007, section 21.4), or average marginal effects: the other covariates
    stay as they are in each row. A numeric covariate has the slope, per unit (`+1`), by central differences over a
    tenth of its standard deviation within the range of the rows; one of zeros and ones the difference `1 - 0`; a
    category each level against the first, `b - a`. Powers, products and functions of a covariate in a formula move
    with it.

    Args:
        pair: a fitted regression or classification.
        posterior: draws of its global latents.
        data: the rows to average over, as a rule those of the fit: a frame where the pair has a design.
        contrasts: instead, the two values to compare of some covariates: `{"age": (30, 40), "town": ("a", "c")}`.
        mass: of the central posterior intervals.
        draws: use only so many draws of each chain.

    Returns:
        a frame with a line for each (variable, contrast), of classes (class, variable, contrast): `estimate`, `sd` and
        the ends of the interval, in units of y, or as differences of probability.

    Raises:
        ValueError: the pair explains no y by x; a covariate or level of `contrasts` that is not there; data or a
            posterior that do not fit the pair; options out of range.
    """
    check_mass(mass)
    given = explaining(pair, data, "effects")
    posterior = check_posterior(given, posterior, draws)
    table = as_columns(data)[0] if pair.design is not None and is_table(data) else None
    labels: list[tuple[Any, ...]] = []
    found: list[torch.Tensor] = []
    with quietly(0, pair):
        for each in _asked(given, table, contrasts):
            weight = torch.from_numpy(1 / (each.unit * given.size)).to(given.batch.x)
            ends = [_changed(given, table, each.variable, values) for values in (each.low, each.high)]
            low, high = (averaged(posterior, end, weight) for end in ends)
            found.append(high - low)  # (S, K)
            labels.append((each.variable, each.label))
    import pandas as pd

    values = torch.stack(found, -1)  # (S, K, lines)
    index, names = labels, ["variable", "contrast"]
    if given.sites["y"].discrete:
        classes = class_names(pair, values.shape[1])
        index, names = [(name, *label) for name in classes for label in labels], ["class", *names]
    return summarised(values.flatten(1).double().cpu().numpy(), pd.MultiIndex.from_tuples(index, names=names), mass)


def _asked(
    given: Checked, table: Mapping[str, list[Any]] | None, contrasts: Mapping[str, tuple[Any, Any]] | None
) -> Iterator[Contrast]:
    """The contrasts of every covariate, or those that were asked for."""
    pair, x = given.pair, given.batch.x
    if table is not None and pair.design is not None:
        known = {column.name: (column, table[column.name]) for column in pair.design.variables}
    else:
        matrix = x.double().cpu().numpy() if x is not None else np.empty((0, 0))
        names = named(pair, given.batch.columns, matrix.shape[1])
        known = {name: (Column(name, "real"), matrix[:, i].tolist()) for i, name in enumerate(names)}
    if contrasts is None:
        for column, cells in known.values():
            yield from _every(column, cells)
        return
    for name, ends in contrasts.items():
        if name not in known:
            raise ValueError(f"contrasts: no covariate '{name}'{nearest(name, known)}; there are: {listed(known)}")
        column, cells = known[name]
        if not isinstance(ends, (tuple, list)) or len(ends) != 2:
            raise ValueError(f"contrasts, '{name}': expected two values, got {ends!r}")
        column.encode(ends)  # which refuses what is none of its levels
        low, high = ends
        yield Contrast(name, f"{high} - {low}", [low] * len(cells), [high] * len(cells), np.ones(len(cells)))


def _every(column: Column, cells: list[Any]) -> Iterator[Contrast]:
    ones = np.ones(len(cells))
    if column.categories:
        first, *others = column.categories
        for level in others:
            yield Contrast(column.name, f"{level} - {first}", [first] * len(cells), [level] * len(cells), ones)
        return
    values = column.encode(cells)
    if set(values) <= {0.0, 1.0}:
        yield Contrast(column.name, "1 - 0", [0.0] * len(cells), [1.0] * len(cells), ones)
        return
    half = STEP * values.std() / 2
    low, high = np.maximum(values - half, values.min()), np.minimum(values + half, values.max())
    if half > 0:
        yield Contrast(column.name, "+1", low.tolist(), high.tolist(), high - low)


def _changed(given: Checked, table: Mapping[str, list[Any]] | None, name: str, values: list[Any]) -> Checked:
    """The rows with other values of one covariate."""
    x, design = given.batch.x, given.pair.design
    if x is None:
        raise ValueError("effects need covariates x")
    if table is not None and design is not None:
        changed = torch.from_numpy(design.encode({**table, name: values}, response=False)[0])
    else:
        changed = x.clone()
        column = named(given.pair, given.batch.columns, x.shape[1]).index(name)
        changed[:, column] = torch.tensor(values, dtype=torch.float64).to(x)
    return given.but(given.batch.but(x=changed.to(x)))
