"""Labels that are known of some rows and hidden of others: their likelihood, and starts for EM that respect them."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from zoo.parts.missing import OrMissing
from zoo.schema.column import Column


class Revealed(TorchDistribution):
    """The label where it is known; NaN, where it is hidden, says nothing.

    Args:
        label: codes, (*).
        target: the column of its categories.
        dtype: of the values.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name and type

    def __init__(self, label: Tensor, target: Column, dtype: torch.dtype) -> None:
        self.label, self.target, self.dtype = label, target, dtype
        super().__init__(label.shape, validate_args=False)

    @property
    def support(self) -> Any:
        """Codes, and NaN."""
        return OrHidden(Code(self.target))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Revealed:
        """The same, (*batch_shape)."""
        return Revealed(self.label.expand(batch_shape), self.target, self.dtype)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """The label, (*sample_shape, *batch)."""
        return self.label.expand(self._extended_shape(torch.Size(sample_shape))).to(self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 where the value is hidden or the label, else -inf."""
        return torch.where(value.isnan() | (value == self.label), 0.0, -torch.inf).to(value.dtype)


class Code(constraints.Constraint):
    """A category's code."""

    is_discrete = True

    def __init__(self, column: Column) -> None:
        self.column = column
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Cell by cell."""
        return (value >= 0) & (value < len(self.column.categories)) & (value == value.floor())

    def in_words(self, _column: int) -> str:
        """What is taken."""
        return self.column.expected()


class OrHidden(OrMissing):
    """A label, or NaN, which a user calls hidden."""

    def in_words(self, column: int) -> str:
        """What is taken."""
        return f"{self.base.in_words(column)}, or NaN where hidden"


def nearest(features: Tensor, known: Tensor, starts: int) -> Tensor:
    """Hard responsibilities (R, N, K) of the nearest centre: of classes with known rows their mean, else by k-means++.

    Args:
        features: (N, F), in equal units.
        known: one-hot classes of rows, zeros where unknown, (N, K).
        starts: how many, R.
    """
    count = known.sum(0)
    centres = features.new_empty(starts, known.shape[1], features.shape[1])
    distance = features.new_ones(starts, len(features))  # squared, to the nearest centre so far
    for i, k in enumerate(count.argsort(descending=True).tolist()):
        if count[k] > 0:
            centres[:, k] = known[:, k] @ features / count[k]
        else:
            centres[:, k] = features[torch.multinomial(distance + torch.finfo(features.dtype).tiny, 1).squeeze(-1)]
        here = torch.cdist(centres[:, k : k + 1], features).squeeze(1).square()
        distance = here if i == 0 else distance.minimum(here)
    return functional.one_hot(torch.cdist(centres, features).argmin(1), known.shape[1]).to(features)


def thinned(hidden: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """At most `limit` rows each of those hidden and known, (n,), at random, and how many each stands for, (n, 1)."""
    rows, weights = [], []
    for mask in (~hidden, hidden):
        every = mask.nonzero().squeeze(-1)
        rows.append(every[torch.randperm(len(every), device=every.device)[:limit]])
        weights.append(torch.full_like(rows[-1], len(every) / max(1, len(rows[-1])), dtype=torch.float64))
    return torch.cat(rows), torch.cat(weights).unsqueeze(-1)
