"""Findings on what a posterior predicts: is each observation as likely to lie anywhere among its predictions?

The PIT of y_n is the share of predictions below it: uniform, if the model is right (Gelman et al. 2013, ch. 6). With
predictions that were made of y_n too it lies too near the middle; so draws are weighed by what leaving y_n out makes of
them (LOO-PIT; Gelfand, Dey & Chang 1992; Gabry et al. 2019). Of whole numbers, and among ties, it is drawn (Czado,
Gneiting & Held 2009). Counts have a rootogram besides (Kleiber & Zeileis 2016), classes their calibration: what is
predicted beside what isotonic regression makes of it, as a difference of Brier scores (Dimitriadis, Gneiting & Jordan
2021, "Stable reliability diagrams for probabilistic classifiers").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from inference.checking.findings import Finding, State
from inference.checking.uniformity import dependent
from inference.posterior.psis import Numbers

LEVEL = 0.01  # p-value below which a finding is looked at
FEWEST = 20  # rows, below which nothing is asked of PIT values
COLUMNS = 40  # of a row, most that are looked at, evenly spaced
CLASSES = 12  # values that differ, above which whole numbers are counts
REPEATS = 999  # simulated sets of classes
COVERED = 0.999  # of a prior predictive distribution, which the data are to lie in
_ADVICE = "The model does not expect data like these: other noise, heavier tails, or what it leaves out"


def of_predictions(
    name: str, seen: Tensor, predicted: Tensor, weights: Numbers | None, seed: int = 0
) -> Iterator[Finding]:
    """PIT values, a rootogram of counts and the calibration of classes, of one observed site.

    Args:
        name: of the site.
        seen: observations, (N, ...); NaN is none.
        predicted: draws of the same, (S, N, ...).
        weights: of each draw for each row, (S, N), as where the row is left out; None: all alike.
        seed: of what is drawn among ties.
    """
    values, draws = _table(seen), _numpy(predicted)
    if len(values) < FEWEST:
        return
    picked = np.unique(np.linspace(0, values.shape[1] - 1, min(COLUMNS, values.shape[1])).round().astype(int))
    values, draws = values[:, picked], draws[:, :, picked]
    generator = np.random.default_rng(seed)
    each = [_of_column(values[:, i], draws[:, :, i], weights, generator) for i in range(len(picked))]
    each = [p for p in each if not math.isnan(p)]
    if each:
        yield _of_p(
            f"{'PIT' if weights is None else 'LOO-PIT'} of '{name}'", min(1.0, min(each) * len(each)),
            "where observations lie among their predictions" + (f", in {len(each)} columns" if len(each) > 1 else ""),
            "Tesso & Vehtari 2026",
        )  # fmt: skip
    if values.shape[1] > 1 or not _whole(values) or not _whole(draws):
        return
    known = np.isfinite(values[:, 0])
    values, draws = values[known, 0], draws[:, known, 0]
    weights = None if weights is None else weights[:, known]
    if len(np.union1d(values, draws[0])) > CLASSES:
        yield _of_p(
            f"rootogram of '{name}'", rootogram(values, draws), "how often each count is seen", "Kleiber & Zeileis 2016"
        )
    else:
        p = calibrated(values, draws, weights, generator)
        yield _of_p(f"calibration of '{name}'", p, "classes beside their probabilities", "Dimitriadis et al. 2021")


def of_prior(name: str, seen: Tensor, predicted: Tensor) -> Iterator[Finding]:
    """Whether the prior predictive distribution covers the data.

    Args:
        name: of the site.
        seen: observations, (N, ...); NaN is none.
        predicted: draws from the prior, (S, N, ...).
    """
    values, draws = _table(seen), np.nan_to_num(_numpy(predicted), nan=np.inf)
    ends = int(len(draws) * (1 - COVERED) / 2)
    draws = np.sort(draws, 0)
    low, high = draws[ends], draws[len(draws) - 1 - ends]
    inside = ((low <= values) & (values <= high))[np.isfinite(values)]
    if not len(inside):
        return
    share = float(inside.mean())
    # Numbers of one data set share its latents, and lie outside together: by Markov's inequality no more than a share
    # LEVEL of right data sets has a tenth of its numbers there.
    least = 1 - (1 - COVERED) / LEVEL
    yield Finding(
        f"prior predictive of '{name}'", "ok" if share >= least else "look",
        f"{share:.1%} of {len(inside):,} numbers lie in its central 99.9 %, {least:.0%} at least wanted",
        share, "Gabry et al. 2019", "A prior that leaves room for such data, or data in other units",
    )  # fmt: skip


def pit(values: Numbers, draws: Numbers, weights: Numbers | None, generator: np.random.Generator) -> Numbers:
    """The share of predictions, (S, N), below each value, (N,): drawn among ties, and never 0 or 1.

    As if the value were one draw more, since it is as likely to be any of them in order.
    """
    share = np.full(draws.shape, 1 / len(draws)) if weights is None else weights
    below, equal = (share * (draws < values)).sum(0), (share * (draws == values)).sum(0)
    size = 1 / (share**2).sum(0)  # effective draws
    found = (size * (below + generator.random(len(values)) * equal) + generator.random(len(values))) / (size + 1)
    return np.asarray(found.clip(1e-12, 1 - 1e-12))


def rootogram(values: Numbers, draws: Numbers) -> float:
    """The posterior predictive p-value of how often each count is seen, by chi-square over bins of 5 or more expected.

    Args:
        values: counts, (N,).
        draws: predictions, (S, N).
    """
    grid, number = np.unique(draws, return_counts=True)
    expected = number / len(draws)
    edges, total = [], 0.0
    for value, size in zip(grid, expected, strict=True):
        total += size
        if total >= 5:
            edges.append(value)
            total = 0.0
    edges = edges[:-1]  # the last bin takes all above

    def counted(some: Numbers) -> Numbers:
        return np.bincount(np.searchsorted(edges, some, side="left"), minlength=len(edges) + 1).astype(np.float64)

    own = np.stack([counted(row) for row in draws])
    mean = own.mean(0).clip(min=1e-12)
    away = ((own - mean) ** 2 / mean).sum(1)
    seen = ((counted(values) - mean) ** 2 / mean).sum()
    return float((1 + (away >= seen).sum()) / (1 + len(away)))


def calibrated(values: Numbers, draws: Numbers, weights: Numbers | None, generator: np.random.Generator) -> float:
    """The p-value of the miscalibration of classes, against classes drawn with the probabilities predicted.

    Args:
        values: classes, (N,).
        draws: predictions, (S, N).
        weights: see `of_predictions`.
        generator: draws them.
    """
    from scipy.optimize import isotonic_regression  # of some tenths of a second to import

    classes = np.union1d(values, draws)
    share = np.full(draws.shape, 1 / len(draws)) if weights is None else weights
    probs = np.stack([(share * (draws == one)).sum(0) for one in classes], 1)  # (N, K)
    probs = (probs * len(draws) + 1 / len(classes)) / (len(draws) + 1)
    used = range(1, 2) if len(classes) == 2 else range(len(classes))
    orders = [np.argsort(probs[:, k], kind="stable") for k in used]

    def miscalibration(some: np.ndarray[Any, Any]) -> float:
        total = 0.0
        for k, order in zip(used, orders, strict=True):
            p, y = probs[order, k], (some[order] == k).astype(float)
            total += float(((p - y) ** 2 - (isotonic_regression(y).x - y) ** 2).mean())
        return total

    seen = miscalibration(np.searchsorted(classes, values))
    ends = probs.cumsum(1)
    ends /= ends[:, -1:]
    others = [
        miscalibration((generator.random((len(values), 1)) > ends).sum(1)) for _ in range(REPEATS)
    ]  # fmt: skip
    return float((1 + sum(other >= seen for other in others)) / (1 + REPEATS))


def _of_column(values: Numbers, draws: Numbers, weights: Numbers | None, generator: np.random.Generator) -> float:
    """The p-value of the PIT values of one column; NaN where too few are known, or nothing varies."""
    known = np.isfinite(values) & ~_given(values, draws)
    if known.sum() < FEWEST:
        return float("nan")
    some = None if weights is None else weights[:, known]
    return dependent(pit(values[known], draws[:, known], some, generator))


def _given(values: Numbers, draws: Numbers) -> np.ndarray[Any, Any]:
    """Which values every prediction repeats, (N,): the first steps of a series, which its model takes as they are."""
    near = 1e-5 * np.abs(values)
    return np.asarray((np.abs(draws - values) <= near).all(0))


def _of_p(name: str, p: float, what: str, source: str) -> Finding:
    state: State = "ok" if p > LEVEL else "look"
    return Finding(name, state, f"p = {p:.2g} of {what}, above {LEVEL} wanted", p, source, _ADVICE)


def _whole(values: np.ndarray[Any, Any]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite)) and bool((finite == finite.round()).all())


def _table(values: Tensor) -> Numbers:
    """(N, ...) to (N, W)."""
    return np.asarray(values.detach().double().cpu().reshape(len(values), -1).numpy())


def _numpy(draws: Tensor) -> Numbers:
    """(S, N, ...) to (S, N, W)."""
    return np.asarray(draws.detach().double().cpu().reshape(*draws.shape[:2], -1).numpy())
