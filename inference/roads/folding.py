"""One of several labellings that a density does not tell apart, and the evidence of all of them from that of one.

A density of K labels that is the same in any order of these has K! copies of every mode. What chains or a Gaussian know
of one copy is known of all: draws are taken to the labelling that is nearest to a reference, R, which every point but
for ties has exactly one of; the density is cut to R there, and log Z = log Z_R + log K!.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference.roads.bridge import Bridge, Values, bridge
from inference.roads.labelling import APART, interchangeable
from inference.roads.weighing import Weighed
from inference.running.words import listed
from inference.sampling.density import Density
from inference.sampling.labels import Ordering, ordering, stems

FEW = 100  # effective draws in R
LOOKED_AT = 256  # draws whose values are taken back to free latents
SURE = 4.0  # standard errors


@dataclass(frozen=True)
class Fold:
    """A density and one of the labellings that it does not tell apart.

    Args:
        density: it.
        orders: of each kind of label, which order takes a point to R.
        labels: what they are called.
        copies: of R, as a log.
    """

    density: Density
    orders: tuple[Ordering, ...]
    labels: tuple[str, ...]
    copies: float

    def home(self, points: Tensor) -> Tensor:
        """Points, (S, P), of the same density with their labels in the order of R."""
        values = self._values(points)
        for order in self.orders:
            values = order.apply(values, order(values))
        return self.density.free(values).to(points)

    def within(self, points: Tensor) -> Tensor:
        """Which points, (S, P), lie in R, (S,)."""
        values, found = self._values(points), torch.ones(len(points), dtype=torch.bool, device=points.device)
        for order in self.orders:
            which = order(values)
            found &= (which == torch.arange(which.shape[1], device=which.device)).all(-1)
            values = order.apply(values, which)
        return found

    def told(self) -> str:
        """Words for one of the labellings."""
        return f"labels of {listed(self.labels)} in one of {math.exp(self.copies):,.0f} equal orders"

    def _values(self, points: Tensor) -> dict[str, Tensor]:
        values = self.density.constrain(points.to(self.density.dtype))[0]
        return {block.name: values[block.name] for block in self.density.blocks}


def fold(density: Density, points: Tensor) -> Fold | None:
    """The labelling of some draws; None where the density tells labels apart, or where they overlap.

    Args:
        density: of the latents.
        points: free latents, draws of it, (S, P).
    """
    named = stems(density.dims)
    if not named:
        return None
    points = points.to(density.dtype)
    values = density.constrain(points)[0]
    values = {block.name: values[block.name] for block in density.blocks}
    found, labels, copies = list[Ordering](), list[str](), 0.0
    for stem in named:
        draws = {name: value[None] for name, value in values.items()}
        order = ordering(draws, density.dims, stem) if interchangeable(density, draws, stem) else None
        if order is not None and order.apart() >= APART:
            found, labels, copies = [*found, order], [*labels, stem], copies + math.lgamma(order.count + 1)
            values = order.apply(values, order(values))
    if not found or not _returns(density, points[:LOOKED_AT]):
        return None
    return Fold(density, tuple(found), tuple(labels), copies)


def bridged(
    density: Density, points: Tensor, log_p: Tensor, look: Values, generator: torch.Generator
) -> Bridge:  # fmt: skip
    """`inference.roads.bridge.bridge`, from draws that may have missed some of the labellings.

    Args:
        density: whose draws they are.
        points, log_p, look, generator: see there; `look` is the density at many points.

    Raises:
        ValueError: too few draws for what they are.
    """
    flat = points.flatten(0, 1)
    folded = fold(density, flat)
    if folded is not None:
        home = folded.home(flat)
        own = look(home).reshape(log_p.shape)
        found = bridge(home.reshape(points.shape), own, _cut(folded, look), generator)
        return replace(found, value=found.value + folded.copies)
    return bridge(points, log_p, look, generator)


def _cut(folded: Fold, look: Values) -> Callable[[Tensor], Tensor]:
    """The density in R, and nothing elsewhere."""
    return lambda points: torch.where(folded.within(points), look(points), -math.inf)


def weighed_evidence(folded: Fold, weighed: Weighed) -> tuple[float, float, bool]:
    """Log evidence of all labellings by weights of draws of a Gaussian, its error, and whether it stands for one.

    NaN where the Gaussian stands for some of the labellings, and its draws are too few to say for how many.

    Args:
        folded: of the draws.
        weighed: them.
    """
    ratio = torch.where(weighed.log_p.isfinite(), weighed.log_p - weighed.log_q, -math.inf)
    top = ratio.max()
    weights = (ratio - top).exp()
    inside = weights * folded.within(weighed.points)
    if bool((weights == 0).all()):
        return weighed.log_evidence, weighed.error, False
    effective = float(inside.sum().square() / inside.square().sum().clamp(min=1e-300))
    if effective < FEW:
        alike = folded.copies + math.log(float(inside.sum() / weights.sum()) + 1e-300)
        unknown = abs(alike) > SURE / math.sqrt(max(effective, 1e-9))
        return (math.nan, math.nan, True) if unknown else (weighed.log_evidence, weighed.error, False)
    value = float(top + inside.mean().log()) + folded.copies
    error = float(inside.std() / inside.mean() / math.sqrt(len(inside)))
    if abs(value - weighed.log_evidence) <= SURE * error:  # the Gaussian has all of them
        return weighed.log_evidence, weighed.error, False
    return value, error, True


def _returns(density: Density, points: Tensor) -> bool:
    """Whether values go back to the points they came from: coordinates chosen on the way may be others."""
    again = density.free(density.constrain(points)[0])
    close = 1e-6 if density.dtype == torch.float64 else 1e-2
    return bool(((again - points).abs() <= close * (1 + points.abs())).double().mean() > 0.999)
