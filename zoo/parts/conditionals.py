"""A column given others and a class, as `inference.compress` takes it: a table, or a linear-Gaussian equation."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Conditional(NamedTuple):
    """A column of x given others, at S draws of the parameters, in each of K classes and U configurations.

    Args:
        column: which.
        switches: its parents of categories, columns; the last one's category changes fastest in U.
        parents: its parents of numbers, columns.
        probs: of a column of categories, (S, K, U, C); None of one of numbers.
        loc, scale: of a column of numbers, (S, K, U): its mean is loc + sum_j slopes_j (x_j - centre_j).
        slopes: (S, K, U, P).
        centres: (P,).
    """

    column: int
    switches: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    probs: Tensor | None = None
    loc: Tensor | None = None
    scale: Tensor | None = None
    slopes: Tensor | None = None
    centres: Tensor | None = None


def of_normals(weights: Tensor, locs: Tensor, tril: Tensor) -> list[Conditional]:
    """Each feature given those before it, of a mixture of normals.

    With x = m + L e and A the inverse of L, e_d = sum_j A_dj (x_j - m_j), so that x_d has the slopes -A_dj / A_dd and
    the scale 1 / A_dd.

    Args:
        weights: (S, K).
        locs: m, (S, K, D).
        tril: L, (S, K, D, D).
    """
    D = locs.shape[-1]
    A = torch.linalg.solve_triangular(tril, torch.eye(D, dtype=tril.dtype).expand_as(tril), upper=False)
    centre = (weights.unsqueeze(-1) * locs).sum(1).mean(0)  # (D,)
    found = []
    for d in range(D):
        slopes = -A[..., d, :d] / A[..., d, d, None]  # (S, K, d)
        loc = locs[..., d] + (slopes * (centre[:d] - locs[..., :d])).sum(-1)
        found.append(
            Conditional(
                d,
                parents=tuple(range(d)),
                loc=loc.unsqueeze(-1),
                scale=A[..., d, d].reciprocal().unsqueeze(-1),
                slopes=slopes.unsqueeze(-2),
                centres=centre[:d],
            )
        )
    return found
