"""Mixed tables on their way to a pair and back: files and data sets as columns, completed tables as files."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.codes.completed import user_values
from inference.codes.imputation import Imputation
from inference.data.accept import designed
from zoo import datasets
from zoo.base import Batch, ModelGuide
from zoo.config import nearest
from zoo.schema.design import Design
from zoo.schema.schema import Schema, as_columns

if TYPE_CHECKING:
    import pandas as pd


def load(source: str, kinds: Mapping[str, str] | None = None, header: bool | None = None) -> Any:
    """A table of named columns: from a file, or a known data set with its response as one more column."""
    if source not in datasets.names():
        return datasets.table(source, kinds=kinds, header=header)
    batch, known = datasets.load(source), datasets.describe(source)
    if batch.x is None or batch.x.ndim != 2 or len(known.columns) != batch.x.shape[1]:
        raise ValueError(f"data set '{source}' is no table of named columns")
    columns = {name: batch.x[:, i].tolist() for i, name in enumerate(known.columns)}
    if batch.y is not None and batch.y.ndim == 1:
        columns[known.target or "y"] = batch.y.tolist()
    return columns


def designed_rows(design: Design, source: str, header: bool | None, response: bool = True) -> Batch:
    """The rows of a file or data set as a design codes them."""
    kinds = {column.name: column.kind for column in design.variables if column.categories}
    return designed(design, load(source, kinds, header), response)


def arguments(cls: type[ModelGuide], table: Any, target: str | None, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments `columns` and, where the pair takes one, `target` that suit a table.

    Raises:
        ValueError: no such column, a target that the pair has no use for, or one that is no category.
    """
    schema = Schema.infer(table, **kinds)
    if target is None:
        return {"columns": schema}
    if "target" not in inspect.signature(cls).parameters:
        raise ValueError(f"--target: {cls.registry_name} has no y; it models all columns together")
    if target not in {column.name for column in schema}:
        names = [column.name for column in schema]
        raise ValueError(f"no column '{target}'{nearest(target, names)}; columns: {', '.join(names)}")
    if target not in kinds:  # a class, whatever its numbers look like
        classes = Schema.infer({target: as_columns(table)[0][target]}, **{target: "categorical"})[0]
    else:
        classes = next(column for column in schema if column.name == target)
    if not classes.categories:
        raise ValueError(f"--target {target}: a {classes.kind} column has no classes")
    return {"columns": Schema.of([column for column in schema if column.name != target]), "target": classes}


def described(pair: ModelGuide) -> str:
    """The schema of a pair in lines, for the user to check."""
    lines = [f"  {column}" for column in pair.schema or ()]
    lines += [f"  {pair.target} (the class y)"] if pair.target is not None else []
    return "\n".join(["columns (--kind COLUMN=KIND changes one):", *lines])


def uncertainty(imputation: Imputation, schema: Schema, mass: float = 0.9) -> pd.DataFrame:
    """How sure each imputed cell is, a line a cell.

    Columns: `row` (counted from 1), `column`, `value`, `low` and `high` (interval of numbers and of ordinal columns
    that holds `mass` of the draws), `probability` (of the value, for categories), `ess` (effective draws of its row).
    """
    import pandas as pd

    draws = imputation.values.flatten(0, 1).double().cpu().numpy()  # (S, M)
    low, high = (bound.double().cpu().numpy() for bound in imputation.interval(mass))
    rows, places = imputation.rows.cpu().numpy(), imputation.columns.cpu().numpy()
    points = imputation.point().double().cpu().numpy()[rows, places]
    lines: list[dict[str, Any]] = []
    for cell, (row, place) in enumerate(zip(rows, places, strict=True)):
        column = schema.used[place]
        ordered = not column.categories or column.kind == "ordinal"
        bounds = np.array([low[cell], high[cell]])
        bounds = np.array([np.floor(bounds[0]), np.ceil(bounds[1])]) if column.categories else bounds
        below, above = user_values(column, bounds) if ordered else (None, None)
        lines.append(
            {
                "row": int(row) + 1,
                "column": column.name,
                "value": user_values(column, points[cell : cell + 1])[0],
                "low": below,
                "high": above,
                "probability": float(np.mean(draws[:, cell] == points[cell])) if column.categories else None,
                "ess": float(imputation.ess[row]),
            }
        )
    return pd.DataFrame(lines, columns=["row", "column", "value", "low", "high", "probability", "ess"])


def in_words(imputation: Imputation, schema: Schema, mass: float = 0.9) -> str:
    """A line a column: cells filled, and how sure they are."""
    told = uncertainty(imputation, schema, mass)
    if told.empty:
        return "nothing is missing"
    observed = imputation.observed.double().cpu().numpy()
    lines = []
    for place, column in enumerate(schema.used):
        cells = told[told["column"] == column.name]
        if cells.empty:
            continue
        if column.categories:
            sure = f"mean probability of the value filled in {cells['probability'].mean():.2f}"
        else:
            width = float((cells["high"].astype(float) - cells["low"].astype(float)).mean())
            seen = observed[:, place][~np.isnan(observed[:, place])]
            spread = float(np.diff(np.quantile(seen, [(1 - mass) / 2, (1 + mass) / 2]))[0]) if len(seen) else 0.0
            sure = f"mean {mass:.0%} interval {width:{',.0f' if width >= 1000 else '.3g'}} wide" + (
                f", {width / spread:.0%} of the column's own" if spread > 0 else ""
            )
        lines.append(f"  {column.name}: {len(cells)} filled, {sure}")
    unsure = int((imputation.ess < 10).sum())
    if unsure:
        lines.append(f"  {unsure} rows rest on fewer than 10 effective draws: their intervals may be too narrow")
    return "\n".join(lines)
