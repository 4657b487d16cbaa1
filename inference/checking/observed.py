"""Findings on what a posterior says of the data: can single observations be left out, do its predictions cover them?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from inference.checking.findings import Finding, looked_at
from inference.posterior.loo import LeaveOneOut

LEVEL = 0.9
FEWEST = 40  # draws, two of which lie beyond either end of an interval of 90 %


def of_left_out(scores: LeaveOneOut, total: int) -> Iterator[Finding]:
    """How many observations carry so much that the posterior without them is another.

    Args:
        scores: of all observations, or of some.
        total: how many there are, N.
    """
    some = len(scores.pareto_k)
    told = f"{scores.unsure} of {looked_at(some, total)} observations have a Pareto k above {scores.threshold:.2f}"
    elpd, se = scores.elpd * total / some, scores.se * total / some
    yield Finding(
        "leave-one-out", "ok" if not scores.unsure else "look", f"{told}; elpd {elpd:.1f} ± {se:.1f}",
        float(scores.unsure), "Vehtari et al. 2017",
        "Each decides much by itself: look at these rows; its score is unsure, the posterior need not be", counts=False,
    )  # fmt: skip


def of_coverage(seen: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Iterator[Finding]:
    """Whether central 90 % intervals hold 90 % of the observed numbers, as far as so many can tell.

    Args:
        seen: observed site -> (N, ...), real numbers.
        predicted: draws of the same, (S, N, ...).
    """
    for name, value in seen.items():
        draws = predicted[name].flatten(1)
        if len(draws) < FEWEST:
            told = f"{len(draws)} draws are too few for 90 % intervals, {FEWEST} wanted"
            yield Finding(f"coverage of '{name}'", "could not be judged", told, advice="Draw more")
            continue
        flat = value.expand(predicted[name].shape[1:]).flatten()
        known = torch.isfinite(flat)
        tails = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=draws.dtype, device=draws.device)
        low, high = draws.quantile(tails, 0)
        inside = ((low <= flat) & (flat <= high))[known].double()
        if not len(inside):
            continue
        share, band = float(inside.mean()), 4 * math.sqrt(LEVEL * (1 - LEVEL) / len(inside)) + 1 / len(inside)
        held = share >= LEVEL - band
        yield Finding(
            f"coverage of '{name}'", "ok" if held else "look",
            f"90 % intervals hold {share:.1%} of {len(inside):,} numbers, {max(0.0, LEVEL - band):.1%} at least wanted",
            share, "Gelman et al. 2013, ch. 6",
            "The model does not expect data like these: other noise, heavier tails, or what it leaves out",
        )  # fmt: skip
