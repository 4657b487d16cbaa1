"""Are numbers from 0 to 1 uniform? Of dependent ones by their order, of independent ranks by their whole course.

PIT values of one posterior depend on each other, since all of it comes from the same data. Tests of single order
statistics, u_(i) ~ Beta(i, N + 1 - i), joined by the Cauchy combination of those below 1/2, hold their level then
nearly (Tesso & Vehtari 2026, "LOO-PIT predictive model checking", the test POT-C of ArviZ 1.x and of R's posterior).

Ranks of independent fits are a sample in the plain sense, and the course of their ECDF has a band that all of it keeps
within with a given probability (Säilynoja, Bürkner & Vehtari 2022, "Graphical test for discrete uniformity and its
applications in goodness-of-fit evaluation and multiple sample comparison"). The narrowest pointwise band that an ECDF
would touch has an exact p-value: the ECDF goes from point to point as a Markov chain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import bdtr, bdtrc, betainc, gammaln, xlog1py, xlogy

from inference.posterior.psis import Numbers

POINTS = 100  # at which the course of an ECDF is looked at, at most
_ROUNDING = 1e-9


def dependent(values: np.ndarray[Any, Any]) -> float:
    """The p-value of N numbers strictly between 0 and 1, (N,), that may depend on each other; NaN of none.

    Of independent uniform numbers the test calls twice as many unlikely as it says, whatever N (1.9 % at 0.01, 9.5 % at
    0.05): what it leaves out are the p-values above 1/2. So its p-value counts twice here.
    """
    if not len(values):
        return float("nan")
    return min(1.0, 2 * of_order(values))


def of_order(values: np.ndarray[Any, Any]) -> float:
    """POT-C, as ArviZ has it from 1.x on, whose import takes seconds."""
    places = np.arange(1, len(values) + 1)
    below = betainc(places, places[::-1], np.sort(values))
    each = 2 * np.minimum(below, 1 - below)
    return cauchy(each[each < 0.5])


def cauchy(each: np.ndarray[Any, Any]) -> float:
    """One p-value of several that may depend on each other (Liu & Xie 2020): 1 where there are none."""
    if not len(each):
        return 1.0
    heavy = np.tan((0.5 - np.clip(each, 1e-300, 1 - 1e-15)) * np.pi)
    mean = float(heavy.mean())
    return float(np.arctan2(1.0, mean) / np.pi)  # of large means without cancellation


def of_ranks(ranks: np.ndarray[Any, Any], most: int) -> float:
    """The p-value of N independent ranks, each from 0 to `most`, (N,), against all being as likely.

    Args:
        ranks: whole numbers.
        most: number of draws among which each was ranked, L.
    """
    count, steps = len(ranks), _steps(most)
    below = np.searchsorted(np.sort(ranks), steps, side="left")  # ranks smaller than each step
    points = steps / (most + 1)
    least = float(_pointwise(count, points)[np.arange(len(points)), below].min())
    return max(0.0, 1 - _stays(count, points, least * (1 + _ROUNDING)))


def band(count: int, most: int, level: float = 0.95) -> tuple[Numbers, Numbers, Numbers]:
    """The band that the ECDF of N uniform ranks keeps within, all of it, with a probability.

    Args:
        count: number of ranks, N.
        most: of draws among which each was ranked, L.
        level: the probability.

    Returns:
        points from 0 to 1, (K,), and the lowest and highest share of ranks below each, (K,).
    """
    points = _steps(most) / (most + 1)
    low, high = 0.0, 1.0
    for _ in range(40):  # the largest pointwise level at which enough stay inside
        middle = (low + high) / 2
        low, high = (middle, high) if _stays(count, points, middle) >= level else (low, middle)
    inside = _pointwise(count, points) > low
    lowest = inside.argmax(1)
    highest = count - inside[:, ::-1].argmax(1)
    return points, lowest / count, highest / count


def _steps(most: int) -> np.ndarray[Any, Any]:
    """Ranks that the ECDF is looked at just below, evenly over 1 to L."""
    return np.unique(np.linspace(1, most, min(most, POINTS)).round().astype(int))


def _pointwise(count: int, points: Numbers) -> Numbers:
    """Two-sided p-values of each number of N that lie below each point, (K, N + 1)."""
    numbers = np.arange(count + 1)
    lower = bdtr(numbers, count, points[:, None])
    upper = np.where(numbers > 0, bdtrc(np.maximum(numbers - 1, 0), count, points[:, None]), 1.0)
    return np.asarray(np.minimum(1.0, 2 * np.minimum(lower, upper)))


def _stays(count: int, points: Numbers, level: float) -> float:
    """The probability that at no point the pointwise p-value of a uniform sample is `level` or less."""
    inside = _pointwise(count, points) > level
    chance, before = np.zeros(count + 1), 0.0
    chance[0] = 1.0
    for point, kept in zip(points, inside, strict=True):
        there, to = np.flatnonzero(chance), np.flatnonzero(kept)
        if not len(there) or not len(to):
            return 0.0
        more = to[None, :] - there[:, None]
        step = _binomial(more, count - there[:, None], (point - before) / (1 - before))
        after = np.zeros(count + 1)
        after[to] = chance[there] @ step
        chance, before = after, float(point)
    return float(chance.sum())


def _binomial(successes: np.ndarray[Any, Any], count: np.ndarray[Any, Any], p: float) -> Numbers:
    """The probability of so many of `count`, 0 below none and above all."""
    k = np.clip(successes, 0, count)
    log_p = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1) + xlogy(k, p) + xlog1py(count - k, -p)
    return np.asarray(np.where(successes == k, np.exp(log_p), 0.0))
