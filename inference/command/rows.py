"""What a fitted model says of single rows and of groups of them: how strange each is, and what sets clusters apart."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.codes.anomaly import anomaly as scored
from inference.command import files, tables
from inference.questions.profile import cluster_names
from inference.questions.profile import profile as told
from zoo.base import ModelGuide
from zoo.config import nearest
from zoo.schema.schema import as_columns

if TYPE_CHECKING:
    import pandas as pd

STRANGEST = 5  # rows that are printed


def anomaly(options: argparse.Namespace) -> None:
    """How strange each row is, as a table beside the strangest ones in print."""
    pair = files.start(options)
    data = files.observed(pair, options)
    reference = None
    if options.reference:
        reference = files.observed(pair, argparse.Namespace(**{**vars(options), "data": options.reference}))
    found = scored(pair, data, tight=options.tight, draws=options.draws, reference=reference, seed=options.seed)
    files.save(Path(options.out), {"row": (found.index + 1).tolist(), **_columns(found)})
    kind = "minus log density" if options.tight else "minus the bound on log density"
    print(f"how strange {len(found)} rows are ({kind}, nats), in {options.out}; the strangest:")
    for row, line in found.nlargest(STRANGEST, "score").iterrows():
        more = f", stranger than {line['share']:.1%} of the usual ones" if "share" in found else ""
        print(f"  row {int(str(row)) + 1}: {line['score']:.4g} ± {line['sd']:.2g}{more}")


def profile(options: argparse.Namespace) -> None:
    """What sets clusters apart, in print and as a table."""
    pair = files.load(options.folder) if not options.out else files.start(options)
    data = files.observed(pair, options)
    labels = None if options.labels is None else column(options.data, options.labels, options.header)
    found = told(pair, data, labels, seed=options.seed)
    print(found)
    if options.out:
        files.save(Path(options.out), _columns(found.table))
        print(f"also in {options.out}")


def _columns(frame: pd.DataFrame) -> dict[str, Any]:
    return {str(name): frame[name].tolist() for name in frame}


def column(source: str, name: str, header: bool | None = None) -> list[Any]:
    """The cells of one column of a data set or file, whether the model reads it or not.

    Raises:
        ValueError: no such column, with the nearest that there is.
    """
    table = as_columns(tables.load(source, header=header))[0]
    if name not in table:
        raise ValueError(f"no column '{name}' in '{source}'{nearest(name, table)}; columns: {', '.join(table)}")
    return list(table[name])


def labels(pair: ModelGuide, probabilities: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The most probable cluster of each row, (N, K) -> columns `cluster` and `probability`."""
    best = probabilities.argmax(1)
    names = cluster_names(pair, probabilities.shape[1])
    numbered = all(name.isdecimal() for name in names)
    cluster = best if numbered and names == [str(k) for k in range(len(names))] else [names[k] for k in best]
    return {"cluster": cluster, "probability": probabilities.max(1)}
