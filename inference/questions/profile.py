"""What sets clusters apart: each column within each cluster, how far they differ, and what it tells of the cluster.

With r_nk the probability that row n is of cluster k (or 1 and 0, of labels that are given), of a column of numbers

    mean_k        sum_n r_nk x_n / sum_n r_nk
    difference    (max_k mean_k - min_k mean_k) / s,    s the standard deviation within clusters    (Cohen 1988)

and of a category the same of its indicator, so that `mean_k` is its share in cluster k. `information` is the mutual
information of column and cluster in nats, of numbers cut at their tenths; it is 0 where the column says nothing, and at
most the entropy of the clusters. Missing cells are left out, column by column.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from inference.data.check import check
from inference.posterior.draws import draw
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import assignments
from inference.running.cells import as_cells
from inference.running.checked import Checked
from zoo.base import ModelGuide
from zoo.schema.column import plain
from zoo.settings import settings
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd

Numbers = NDArray[np.float64]
_CUTS = 10


@dataclass(frozen=True)
class Profile:
    """What sets clusters apart.

    Args:
        shares: of the rows that are in each cluster, by its name.
        table: a line for each column of numbers and for each category, the columns that tell most first: `column`,
            `value` ("mean" or the category), the mean or share in each cluster, by its name, `difference` and
            `information`.
    """

    shares: pd.Series[float]
    table: pd.DataFrame

    def __str__(self) -> str:
        """As a table of text."""
        head = ", ".join(f"{name}: {share:.1%}" for name, share in self.shares.items())
        lines = textwrap.wrap(f"rows in each cluster: {head}", 110)
        return "\n".join([*lines, "", self.table.to_string(index=False, float_format=lambda value: f"{value:.3g}")])


@in_turn
def profile(
    pair: ModelGuide, data: Any, labels: Any = None, *, posterior: Posterior | None = None, seed: int = 0
) -> Profile:
    """What sets clusters apart: the mean of each column in each, its difference, and what it tells of the cluster.

    Args:
        pair: a fitted pair; without `labels` one that finds clusters or classes, as `gmm` and `naive_bayes` do. Rows
            then count in each cluster in proportion to their probability.
        data: see `inference.data`; the columns are in the user's units and under their names.
        labels: (N,), of any kind: what else to compare the rows by.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds them.

    Raises:
        ValueError: the pair finds no clusters and no labels are given, or labels of another number of rows.

    Example:
        >>> print(inference.profile(pair, flowers))  # doctest: +SKIP
        rows in each cluster: 0: 36.8%, 1: 33.3%, 2: 29.9%
    """
    import pandas as pd

    given = check(pair, data)
    names, weight = _given(given, labels) if labels is not None else clusters(given, posterior, seed)
    label = next((name for name in given.locals if given.sites[name].enumerated), None)
    fields = {name: value for name, value in given.batch.fields().items() if name in given.observed and name != label}
    lines: list[dict[str, Any]] = []
    for column, values in as_cells(given, fields):
        flat = values.reshape(given.size, -1)
        several = flat.shape[1] > 1  # the steps of a series
        for i in range(flat.shape[1]):
            called = f"{column.name}[{i}]" if several else column.name
            for value, means, difference, information in _lines(flat[:, i], weight, column.categories):
                known = {"column": called, "value": value, **dict(zip(names, means, strict=True))}
                lines.append(known | {"difference": difference, "information": information})
    table = pd.DataFrame(lines, columns=["column", "value", *names, "difference", "information"])
    table = table.sort_values("information", ascending=False, kind="stable", ignore_index=True)
    return Profile(pd.Series(weight.sum(0) / weight.sum(), index=names, name="share"), table)


def clusters(given: Checked, posterior: Posterior | None = None, seed: int = 0) -> tuple[list[str], Numbers]:
    """Names of the clusters that a pair finds, and their probabilities for each row, (N, K).

    Raises:
        ValueError: it finds none.
    """
    pair = given.pair
    if not any(given.sites[name].enumerated for name in given.locals):
        raise ValueError(
            f"{pair.name} finds no clusters; give labels to compare rows by, (N,), such as those of another pair"
        )
    if posterior is None:
        few = given.select(slice(0, 1))
        posterior = draw(pair, few.but(few.batch.but(total=1)), settings.global_draws, stats=False, seed=seed)
    (found,) = assignments(pair, posterior, given).values()
    return cluster_names(pair, found.shape[1]), found.double().cpu().numpy()


def cluster_names(pair: ModelGuide, count: int) -> list[str]:
    """What to call the values of an enumerated latent: the user's classes where they are known, else 0, 1, …"""
    known = pair.target.categories if pair.target is not None else ()
    return [str(name) for name in known] if len(known) == count else [str(k) for k in range(count)]


def _given(given: Checked, labels: Any) -> tuple[list[str], Numbers]:
    """Names and indicators (N, K) of labels, in order of their values; rows without one are in no cluster."""
    values = labels.detach().cpu().tolist() if hasattr(labels, "detach") else list(labels)
    if len(values) != given.size:
        raise ValueError(f"labels: expected {given.size}, one for each row, got {len(values)}")
    cells = [plain(value) for value in values]
    kinds = {cell for cell in cells if cell is not None}
    if not kinds:
        raise ValueError("labels: all are missing")
    if len(kinds) > settings.profile_labels:
        raise ValueError(
            f"labels: {len(kinds)} different values are no clusters, at most {settings.profile_labels}; cut numbers "
            "into intervals first"
        )
    try:
        ordered = sorted(kinds)
    except TypeError:  # numbers and texts together
        ordered = sorted(kinds, key=str)
    indicator = np.array([[float(cell == label) for label in ordered] for cell in cells])
    return [f"{label:g}" if isinstance(label, float) else str(label) for label in ordered], indicator


def _lines(values: Numbers, weight: Numbers, categories: tuple[Any, ...]) -> list[tuple[str, Numbers, float, float]]:
    """Of one column: (what a line is of, its mean in each cluster, the standardised difference, the information)."""
    seen = np.isfinite(values)
    values, weight = values[seen], weight[seen]
    if not len(values):
        return []
    if categories:
        codes = values.astype(int)
        parts = [(str(name), (codes == k).astype(float)) for k, name in enumerate(categories)]
    else:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _CUTS + 1)[1:-1]))
        codes = np.searchsorted(edges, values, side="left")
        parts = [("mean", values)]
    told = _information(codes, weight)
    return [(name, *_apart(numbers, weight), told) for name, numbers in parts]


def _apart(values: Numbers, weight: Numbers) -> tuple[Numbers, float]:
    """Mean in each cluster, (K,), and the widest difference of two of them in standard deviations within clusters."""
    total = weight.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = weight.T @ values / total
        within = np.where(weight > 0, weight * (values[:, None] - means) ** 2, 0.0).sum()
    there = total > 0  # a cluster may have no row that has this column
    width = float(means[there].max() - means[there].min())
    sd = float(np.sqrt(within / total.sum()))
    return means, width / sd if sd > 0 else np.inf if width > 0 else 0.0


def _information(codes: NDArray[np.int_], weight: Numbers) -> float:
    """Mutual information of codes and clusters in nats."""
    joint = np.zeros((codes.max() + 1, weight.shape[1]))
    np.add.at(joint, codes, weight)
    joint /= joint.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0)
    held = joint > 0
    return float((joint[held] * np.log(joint[held] / independent[held])).sum())
