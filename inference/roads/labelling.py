"""Labels that a model does not tell apart, put in one order across draws before anything is summarised.

Whether it tells them apart its density says: that of draws whose labels are in another order is the same, or is not.
Columns of a regression have names too, and are no labels. Nor are numbers that merely come from one distribution, such
as the effects of groups alike, though their density is the same in any order: sorted, they would be order statistics,
and no draws of the posterior. Labels are those whose orders are copies of a mode, one apart from the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from inference.sampling.density import Density
from inference.sampling.labels import aligned, apart, ordering, permuted, stems

APART = 0.9  # of normal draws around the means of an order, in it: where there are fewer, orders overlap
FEW = 16  # draws whose labels are permuted
SAME = 1e-8  # times the log density, and as many nats, that rounding changes it by in double precision


def in_order(density: Density, draws: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The draws with every kind of interchangeable label in one order, and what these labels are called.

    Draws of which the orders overlap stay as they are.

    Args:
        density: of the latents.
        draws: its latents by site, (C, n, *event).
    """
    found, told = dict(draws), list[str]()
    for stem in stems(density.dims):
        better = aligned(found, density.dims, stem) if are_labels(density, found, stem) else None
        if better is not None:
            found, told = better, [*told, stem]
    return found, told


def are_labels(density: Density, draws: Mapping[str, Tensor], stem: str) -> bool:
    """Whether the density does not tell labels of one stem apart, and draws, (C, n, *event), in order lie apart."""
    if not interchangeable(density, draws, stem):
        return False
    latents = {block.name: draws[block.name] for block in density.blocks}
    order = ordering(latents, density.dims, stem)
    return order is not None and order.apart() >= APART


def are_free(density: Density, draws: Mapping[str, Tensor], stem: str) -> bool:
    """Whether the density has copies of its modes, since it does not tell labels apart and two of them lie apart.

    Not all of them need: a component that is empty overlaps with every other.

    Args:
        density: of the latents.
        draws: around one mode, (C, n, *event) by site.
        stem: what the labels are called.
    """
    if not interchangeable(density, draws, stem):
        return False
    return apart({block.name: draws[block.name] for block in density.blocks}, density.dims, stem) >= APART


def interchangeable(density: Density, draws: Mapping[str, Tensor], stem: str) -> bool:
    """Whether the density is the same with labels of one stem in any order, at some of these draws, of all chains."""
    latents = {block.name: draws[block.name].flatten(0, 1) for block in density.blocks}
    whole = len(next(iter(latents.values())))
    picked = torch.linspace(0, whole - 1, min(FEW, whole)).round().long()
    some = {name: value[None, picked.to(value.device)] for name, value in latents.items()}
    other = permuted(some, density.dims, stem, torch.Generator().manual_seed(0))
    if other is None:
        return False
    try:
        before, after = _log_p(density, some), _log_p(density, other)
    except (ValueError, RuntimeError):  # values that no bijection takes back, such as numbers out of order
        return False
    close = SAME if density.dtype == torch.float64 else 1e-4
    return bool(((before - after).abs() <= close * (1 + before.abs())).all())


def _log_p(density: Density, draws: Mapping[str, Tensor]) -> Tensor:
    """The log density of values, without the Jacobian, (S,)."""
    points = density.free({name: value.flatten(0, 1) for name, value in draws.items()}).to(density.dtype)
    return density.log_density(points) - density.constrain(points)[1]
