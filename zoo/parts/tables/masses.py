"""Probabilities of what the columns of a mixed table hold, between cuts: for tables of whole numbers.

Of a number x with distribution function F, F(b) - F(a) between the cuts a and b, where the tail is nearer: from above
for numbers above the middle, so that a mass of 1e-30 is not a difference of ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from zoo.parts.tables.columns import Columns
from zoo.parts.tables.rows import _negative_binomial

WIDE = 1.5  # a bin of counts that holds more than one


def normal(cuts: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """Masses of normal numbers between cuts (C + 1,), for locs and scales (*): (*, C)."""
    z = (cuts - loc.unsqueeze(-1)) / scale.unsqueeze(-1)
    low, high = z[..., :-1], z[..., 1:]
    above = low > 0
    low, high = torch.where(above, -high, low), torch.where(above, -low, high)
    found: Tensor = torch.special.ndtr(high) - torch.special.ndtr(low)
    return found.clamp(min=0)


def counts(cuts: Tensor, mean: Tensor, concentration: Tensor) -> Tensor:
    """Masses of negative binomial counts between cuts (C + 1,), (*, C); in wide bins by their middle."""
    low, high = cuts[:-1].ceil(), cuts[1:].ceil() - 1
    number = high - low + 1
    middle = torch.where(number > WIDE, (low + high) / 2, low)
    log_mass = _negative_binomial(middle.clamp(min=0), mean.unsqueeze(-1), concentration.unsqueeze(-1))
    return torch.where(middle >= 0, number * log_mass.exp(), 0)


def poisson(cuts: Tensor, rate: Tensor) -> Tensor:
    """Masses of Poisson counts between cuts (C + 1,), (*, C); in wide bins by their middle."""
    low, high = cuts[:-1].ceil(), cuts[1:].ceil() - 1
    number = high - low + 1
    middle = torch.where(number > WIDE, (low + high) / 2, low).clamp(min=0)
    rate = rate.unsqueeze(-1)
    log_mass = torch.xlogy(middle, rate) - rate - torch.lgamma(middle + 1)
    return torch.where(high >= 0, number * log_mass.exp(), 0)


def codes(cuts: Tensor, probs: Tensor) -> Tensor:
    """Masses of codes 0, 1, ..., whose probabilities are (*, K), between cuts (C + 1,), (*, C)."""
    code = torch.arange(probs.shape[-1], dtype=cuts.dtype)
    inside = (code.unsqueeze(-1) >= cuts[:-1]) & (code.unsqueeze(-1) < cuts[1:])  # (K, C)
    return probs @ inside.to(probs)


def of_columns(
    columns: Columns, sizes: Mapping[int, Sequence[int]], values: Mapping[str, Tensor], cuts: Sequence[Tensor | None]
) -> list[Tensor]:
    """Masses of each column given each class, (S, K, C), in the order of the table.

    Args:
        columns: where each kind stands.
        sizes: by number of categories, which of the columns of categories have so many.
        values: parameters of the classes, at S draws: `loc` and `variance` of real and log positive columns, `mean` and
            `concentration` of counts, `probs_C` of categories.
        cuts: of each column (C + 1,); None of categories.
    """
    found: dict[int, Tensor] = {}
    for i, d in enumerate([*columns.real.tolist(), *columns.positive.tolist()]):
        at = _cuts(cuts, d)
        if i >= len(columns.real):
            at = at.clamp(min=0).log()
        loc, scale = values["loc"][..., i], values["variance"][..., i].sqrt()
        found[d] = normal(at, loc, scale)
    for i, d in enumerate(columns.count.tolist()):
        found[d] = counts(_cuts(cuts, d), values["mean"][..., i], values["concentration"][..., i])
    for size, members in sizes.items():
        for i, member in enumerate(members):
            found[int(columns.category[member])] = values[f"probs_{size}"][..., i, :]
    return [found[d] for d in range(len(columns.columns))]


def _cuts(cuts: Sequence[Tensor | None], d: int) -> Tensor:
    found = cuts[d]
    if found is None:
        raise ValueError(f"column {d} holds numbers: expected cuts")
    return found
