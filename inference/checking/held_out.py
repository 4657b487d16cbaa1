"""Findings on data that a fit has not seen, or should not have: do they score as rows left out of it would?

Rows that are held out and those of the fit are two samples of one population, if nobody mixed them up: their log
scores have the same mean, and no more of them are twins of a row of the fit than rows of the fit are of each other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
from torch import Tensor

from inference.checking.findings import Finding, State
from inference.posterior.psis import Numbers

ERRORS = 4.0


def of_twins(fitted: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Whether rows that are held out are rows of the fit.

    Args:
        fitted, other: fields, (N, ...) and (M, ...).
    """
    own, unseen = _rows(fitted), _rows(other)
    _, number = np.unique(own, axis=0, return_counts=True)
    usual = float(number[number > 1].sum()) / len(own)
    known = {row.tobytes() for row in own}
    twins = sum(row.tobytes() in known for row in unseen)
    room = ERRORS * math.sqrt(len(unseen) * usual * (1 - usual) + usual) + 0.5
    held = twins <= len(unseen) * usual + room
    yield Finding(
        "rows in fit and test", "ok" if held else "wrong",
        f"{twins:,} of {len(unseen):,} held-out rows are rows of the fit, of which {usual:.0%} have twins themselves",
        twins / len(unseen), "binomial band", "Test data have leaked into the fit: split them anew",
    )  # fmt: skip


def of_scores(left_out: Numbers, unseen: Numbers) -> Iterator[Finding]:
    """Whether rows that are held out score as rows of the fit do that are left out.

    Args:
        left_out: log p(x_n | the other rows), (N,), in nats.
        unseen: log p(x_m | the data of the fit), (M,).
    """
    error = math.sqrt(left_out.var() / len(left_out) + unseen.var() / len(unseen))
    gain = float(unseen.mean() - left_out.mean())
    away = gain / max(error, 1e-12)
    state: State = "ok" if abs(away) <= ERRORS else "look"
    better = "Are rows of the test among those of the fit?"
    worse = "The test has other rows than the fit, or the model remembers those it has seen"
    yield Finding(
        "held-out score", state,
        f"{unseen.mean():.3f} nats a row, {left_out.mean():.3f} of rows left out: {away:+.1f} standard errors, "
        f"{ERRORS:g} allowed", away, "Gneiting & Raftery 2007", better if away > 0 else worse,
    )  # fmt: skip


def _rows(fields: Mapping[str, Tensor]) -> Numbers:
    """One row of numbers each, (N, W)."""
    found = [value.detach().double().cpu().reshape(len(value), -1).numpy() for value in fields.values()]
    return np.ascontiguousarray(np.concatenate(found, 1)) + 0.0  # no -0
