"""Labels that a model does not tell apart, put in one order across draws before anything is summarised.

Whether it tells them apart its density says: that of draws whose labels are in another order is the same, or is not.
Columns of a regression have names too, and are no labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from inference.sampling.density import Density
from inference.sampling.labels import aligned, permuted, stems

FEW = 16  # draws whose labels are permuted
SAME = 1e-8  # times the log density, and as many nats, that rounding changes it by in double precision


def in_order(density: Density, draws: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The draws with every kind of interchangeable label in one order, and what these labels are called.

    Args:
        density: of the latents.
        draws: its latents by site, (C, n, *event).
    """
    found, told = dict(draws), list[str]()
    for stem in stems(density.dims):
        if interchangeable(density, found, stem):
            better = aligned(found, density.dims, stem)
            if better is not None:
                found, told = better, [*told, stem]
    return found, told


def interchangeable(density: Density, draws: Mapping[str, Tensor], stem: str) -> bool:
    """Whether the density is the same with labels of one stem in any order, at some of these draws."""
    latents = {block.name: draws[block.name] for block in density.blocks}
    count = min(FEW, next(iter(latents.values())).shape[1])
    some = {name: value[:1, :count] for name, value in latents.items()}
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
