"""Maps of rows: their codes in the plane, or their columns where there are no codes, coloured by any column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inference.codes import encoding
from inference.data.accept import is_table
from inference.data.check import check
from inference.drawing.colour import Colour, coloured_map
from inference.drawing.plane import principal
from inference.posterior.latents import Posterior
from inference.questions.profile import clusters
from inference.running.cells import as_cells
from inference.running.checked import Checked
from zoo.base import Batch, ModelGuide
from zoo.config import nearest
from zoo.schema.column import plain
from zoo.schema.schema import as_columns
from zoo.settings import settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cells = list[Any]


def rows_map(
    pair: ModelGuide,
    data: Any,
    color: Any = None,
    *,
    name: str = "",
    posterior: Posterior | None = None,
    seed: int = 0,
) -> Figure:
    """Rows in the plane: their mean codes where the pair has continuous codes, else their columns.

    More than two dimensions are shown by their first two principal components, of columns in units of their deviations.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; up to `settings.picture_rows`, evenly spaced, are shown.
        color: a column by its name (of a frame any, modelled or not), "y" or the name of the target, "cluster" for the
            most probable class, or values (N,) of any kind; numbers get a scale, categories a legend. By default the
            clusters that the pair finds, if it does.
        name: what to call values; by default as the series that they are.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds them.

    Raises:
        ValueError: no such column (with the nearest that there is), values of another number of rows, or rows that are
            no points: series, or a single number of no code.
    """
    return mapped(check(pair, data), data, color, name, posterior, seed)


def mapped(given: Checked, data: Any, color: Any, name: str, posterior: Posterior | None, seed: int) -> Figure:
    """`rows_map` of data that were checked, beside what they came as."""
    pair = given.pair
    if given.batch.lengths is not None:
        raise ValueError(f"a map shows single rows, and {pair.name} has series")
    found = any(given.sites[site].enumerated for site in given.locals)
    if color is None and found:
        color = "cluster"
    colour = None if color is None else _colour(given, data, color, name, posterior, seed)
    picked = torch.linspace(0, given.size - 1, min(given.size, settings.picture_rows)).round().long()
    some = given.select(picked.to(pair.device))
    points, titles = _points(some, posterior, seed)
    if colour is not None:
        colour = Colour(colour.name, colour.values[picked.numpy()], colour.categories)
    shown = f"{len(picked):,} of {given.size:,} rows" if len(picked) < given.size else ""
    return coloured_map(points, titles, colour, shown)


def _points(some: Checked, posterior: Posterior | None, seed: int) -> tuple[np.ndarray[Any, Any], tuple[str, str]]:
    """The rows in one or two dimensions, and what to call these."""
    if some.continuous_locals:
        codes = encoding.encode(some.pair, some.but(some.batch.but(total=some.size)), posterior=posterior, seed=seed)
        parts = [codes.mean[site].flatten(1) for site in codes.sd]
        return principal(torch.cat(parts, 1).double().cpu().numpy(), "the codes")
    fields = {name: value for name, value in some.batch.fields().items() if name in ("x", "y")}
    cells = [(column, values) for column, values in as_cells(some, fields) if not column.categories]
    numbers = [(column.name, values) for column, values in cells if values.ndim == 1 and np.isfinite(values).all()]
    if not numbers:
        raise ValueError(f"a map needs codes or columns of numbers, all of them known; {some.pair.name} has none here")
    points = np.stack([values for _, values in numbers], 1)
    if len(numbers) <= 2:
        names = [name for name, _ in numbers]
        return points, (names[0], names[-1])
    spread = points.std(0)
    return principal((points - points.mean(0)) / np.where(spread > 0, spread, 1.0), "the columns")


def _colour(given: Checked, data: Any, color: Any, name: str, posterior: Posterior | None, seed: int) -> Colour:
    if not isinstance(color, str):
        cells = color.detach().cpu().tolist() if hasattr(color, "detach") else list(color)
        if len(cells) != given.size:
            raise ValueError(f"color: expected {given.size} values, one for each row, got {len(cells)}")
        called = getattr(color, "name", None)  # of a pandas series
        return Colour.of(name or (called if isinstance(called, str) else ""), _plain(cells))
    columns = columns_of(given, data)
    if color in columns:
        return Colour.of(color, _plain(columns[color]))
    if color == "cluster":
        names, share = clusters(given, posterior, seed)
        return Colour.of("cluster", [names[k] for k in share.argmax(1)])
    raise ValueError(
        f"color: no column '{color}'{nearest(color, [*columns, 'cluster'])}; columns: {', '.join(columns) or 'none'}"
    )


def columns_of(given: Checked, data: Any) -> dict[str, Cells]:
    """What rows may be coloured by: columns of the table they came in, modelled or not, and y."""
    pair, found = given.pair, dict[str, Cells]()
    x = data[0] if isinstance(data, tuple) else data
    if is_table(x):
        found = {str(name): list(values) for name, values in as_columns(x)[0].items()}
    if not found and len(given.observed) and given.pair.image is None:
        for column, values in as_cells(given, {n: v for n, v in given.batch.fields().items() if n in given.observed}):
            if values.ndim == 1:
                found[column.name] = _named(column.categories, values)
    y = data.y if isinstance(data, Batch) else data[1] if isinstance(data, tuple) else None
    if y is not None and np.ndim(y) == 1:  # a pair may have no use for it
        cells = y.detach().cpu().tolist() if hasattr(y, "detach") else list(y)
        coded = pair.target is not None and hasattr(y, "detach")
        found["y"] = _named(pair.target.categories, cells) if coded and pair.target is not None else cells
    return found


def _named(categories: tuple[Any, ...], values: Any) -> Cells:
    if not categories:
        return list(values)
    return [categories[int(value)] if np.isfinite(value) else None for value in values]


def _plain(cells: Cells) -> Cells:
    """Cells as Python has them, truth as text: None where missing."""
    found = [plain(cell) for cell in cells]
    return [str(cell) if isinstance(cell, bool) else cell for cell in found]
