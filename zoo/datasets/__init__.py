"""Real data by name, and the user's own files.

    >>> from zoo import datasets
    >>> datasets.load("faithful").x.shape
    torch.Size([272, 2])
    >>> datasets.load("prices.csv", target="price")  # doctest: +SKIP

A data set is one decorated function in `embedded.py`; `describe` tells its source and licence without loading it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.config import nearest
from zoo.datasets import embedded as _embedded  # noqa: F401  (its data sets register themselves)
from zoo.datasets import series as _series  # noqa: F401
from zoo.datasets.idx import read_idx
from zoo.datasets.opening import kind_of
from zoo.datasets.readers import READERS, Table, assemble, read
from zoo.datasets.registry import Description, arrays, dataset, describe, names
from zoo.datasets.tables import table
from zoo.dates.calendar import Calendar
from zoo.schema.design import Design
from zoo.schema.schema import Column, Schema

if TYPE_CHECKING:
    from zoo.batch import Batch

__all__ = [
    "Column",
    "Description",
    "Design",
    "Schema",
    "Table",
    "dataset",
    "describe",
    "load",
    "names",
    "read",
    "read_idx",
    "table",
]


def load(name: str | Path, *, target: str | None = None) -> Batch:
    """A known data set, or the user's own file, as a batch.

    Args:
        name: one of `names()`, or the path of a file: .csv, .tsv, .txt, .dat, .arff, .npy, .npz, .parquet or IDX.
        target: the column of `x` that becomes `y` instead. Without it the labels y that come with a known data set
            are spare: a pair that has no use for them leaves them aside.

    Raises:
        ValueError: unknown name (with the nearest that exists), missing or damaged file, unknown column.
    """
    if isinstance(name, str) and name in names():
        values = arrays(name)
        try:
            known = describe(name)
            batch = assemble(values, known.columns, target).batch
            # Labels come with many known data sets, for whoever wants them.
            return batch.but(spare=("y",) if target is None else (), when=_calendar(known))
        except ValueError as error:
            raise ValueError(f"data set '{name}': {error}") from error
    path = Path(name)
    if isinstance(name, Path) or kind_of(path) in READERS or os.sep in name or path.exists():
        return read(path, target=target).batch
    raise ValueError(
        f"unknown data set '{name}'{nearest(name, names())}; known: {', '.join(names())}; "
        f"or a file ending in {', '.join(READERS)}"
    )


def _calendar(known: Description) -> Calendar | None:
    """The calendar of a series with dates."""
    if not known.start:
        return None
    import pandas as pd
    from pandas.tseries.frequencies import to_offset

    return Calendar(known.columns[:1], (pd.Timestamp(known.start),), to_offset(known.freq))
