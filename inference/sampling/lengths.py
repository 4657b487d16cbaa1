"""How long trajectories pay best, once ChEES has said how long they must be to come far.

ChEES (`inference.sampling.adaptation`) looks at squares, and knows no price. Of a Gaussian of unit scale, t spread over
[t/2, 3t/2], it is highest at 1.43. Everything is known there, draws being reversible with Hermite polynomials for
eigenfunctions, of eigenvalue E[cos(t)^k]; effective draws for each draw are then

    t       of the mean   of the square   of the 5 % quantile
    1.43       0.78            0.71             0.83
    1.8        1.49            0.59             0.90
    2.5        4.10            0.30             0.66

so that trajectories are `BEYOND` times as long, up to `TAILS`, where quantiles are known best.

Where tails are heavier than a Gaussian's, ChEES climbs on, far beyond, for once points are forgotten there is no slope
left that leads back. So of longer times half, a quarter and so on are tried when chains have mixed, while that pays:
in effective draws for each gradient, of bulk and tails.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from inference.sampling.effective import COLUMNS, effective
from inference.sampling.store import evenly

TAILS = 1.8  # time after which quantiles of a Gaussian of unit scale are known best
BEYOND = 1.26  # TAILS in that of ChEES, for a Gaussian
PAYS = 1.1  # times as many effective draws for each gradient, at least, that a shorter trajectory must give
FEWEST = 4.0  # effective draws of each chain, at least: of fewer a short window cannot tell


def worth(draws: Tensor, gradients: int) -> tuple[float, float]:
    """What draws tell of bulk and tails for each gradient, the geometric mean; and effective draws of each chain.

    Args:
        draws: (C, n, W).
        gradients: that they cost, of each chain.
    """
    bulk, tail = effective(draws[..., evenly(draws.shape[-1], COLUMNS).to(draws.device)])
    return math.sqrt(bulk * tail) / gradients, bulk / len(draws)


def best(
    time: float, score: Callable[[], float], measure: Callable[[float], tuple[float, float] | None], least: float
) -> float:
    """The time that pays best: somewhat longer than that of ChEES, or the best of it, its half, its quarter, ...

    Args:
        time: t, of ChEES.
        score: effective draws for each gradient at t.
        measure: of a time to the same score and to effective draws of each chain; None: there is no more time for that.
        least: a step.

    Example:
        >>> from inference.sampling.lengths import best
        >>> best(8.0, lambda: 1.0, {4.0: (2.0, 9.0), 2.0: (3.0, 9.0)}.get, 0.1)
        2.0
    """
    if time <= TAILS:
        return min(BEYOND * time, TAILS)
    known = None
    while time / 2 >= max(least, TAILS / 1.5):  # far below, a Gaussian's do not pay
        if known is None:
            known = score()
        found = measure(time / 2)
        if found is None or found[1] < FEWEST or found[0] < PAYS * known:
            break
        time, known = time / 2, found[0]
    return time
