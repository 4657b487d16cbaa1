"""Whether draws of one road lie in the modes that another came to: chains may all have stayed in one of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from inference.roads.bridge import bridge
from inference.roads.grounds import Ground, Inferred
from inference.roads.labelling import interchangeable
from inference.roads.modes import mixture
from inference.roads.paths import Gaussian
from inference.roads.scouting import inside, reach
from inference.sampling.density import Density
from inference.sampling.hamiltonian import Metric
from inference.sampling.labels import ordering, stems

HOLDS = 0.01  # of the posterior, from which a mode may not be left out
FEW = 64  # draws of each mode, by which it is seen which labels mean nothing, and in which order they are there
WIDENS = 0.2  # of a variance: so much more with a mode that holds less, and it may not be left out either
AT_ONCE, ENOUGH = 256, 2048  # points whose density is asked for together; draws that tell the evidence
SURE = 2.0  # standard errors
PART = 0.1  # of the draws that a mode should have: where there are fewer, it is left out


def covering(found: Inferred, density: Density, modes: Sequence[Gaussian]) -> Inferred:
    """Draws with one more number of evidence: how many of the known modes they miss.

    A draw that lies in a mode once its labels, which the density does not tell apart, are in another order lies there.
    Two Gaussians at one mode that is none may both be narrower than it, so that no draw of many latents lies in either:
    a mode that draws miss has its middle outside of the Gaussians of all groups in which the draws lie.

    Args:
        found: the draws.
        density: of the latents, in the coordinates of the modes.
        modes: Gaussians, each with a bound on the log evidence of its own.
    """
    bounds = torch.tensor([mode.bound for mode in modes], dtype=torch.float64)
    if len(modes) < 2 or not bool(bounds.isfinite().all()):
        return found
    flat = {block.name: found.draws[block.name].flatten(0, 1).to(density.dtype) for block in density.blocks}
    own = [_values(density, mode) for mode in modes]
    both = {name: torch.cat([values[name][:8] for values in own])[None] for name in flat}
    alike = [stem for stem in stems(density.dims) if interchangeable(density, both, stem)]
    points = density.free(flat).to(modes[0].loc)
    total = max(float(bounds.logsumexp(0)), _evidence(found, density, points))
    missed, groups = 0, mixture(points).parts
    for mode, values in zip(modes, own, strict=True):
        share = math.exp(min(0.0, mode.bound - total))
        far = (mode.loc - points.mean(0)).square() / points.var(0).clamp(min=1e-300)
        if (share > HOLDS or share * float(far.max()) > WIDENS) and all(_apart(group, mode) for group in groups):
            near = density.free(_in_order_of(values, flat, density, alike)).to(mode.loc)
            missed += float(inside(mode, near).double().mean()) < PART * share
    return replace(found, grounds=(*found.grounds, Ground("known modes that draws miss", missed, 0)))


def _evidence(found: Inferred, density: Density, points: Tensor) -> float:
    """The log evidence, or that of what the draws cover: it is no less than this, but for a rare error of the estimate.

    Bounds of Gaussians that fit ill are far below what their modes hold, so that one of no mass may be as high as any.

    Args:
        found: the draws.
        density: of the latents.
        points: the draws in its coordinates, (S, P).
    """
    if math.isfinite(found.log_evidence):
        return found.log_evidence

    def log_density(at: Tensor) -> Tensor:
        parts = at.to(density.dtype).split(AT_ONCE)
        return torch.cat([density.log_density(part).detach() for part in parts]).to(at)

    chains = points.unflatten(0, (found.chains, -1))
    some = chains[:, :: max(1, -(-len(points) // ENOUGH))]
    generator = torch.Generator(points.device).manual_seed(0)
    try:
        told = bridge(some, log_density(some.flatten(0, 1)).unflatten(0, (found.chains, -1)), log_density, generator)
    except ValueError:  # too few effective draws
        return -math.inf
    return told.value - SURE * told.error if math.isfinite(told.error) else -math.inf


def _apart(group: Metric, mode: Gaussian) -> bool:
    """Whether the middle of a mode lies outside of a group of draws."""
    return float(group.into(mode.loc[None]).square().sum()) > reach(len(mode.loc))


def _values(density: Density, mode: Gaussian) -> dict[str, Tensor]:
    """Draws of a mode, by site, (FEW, *event)."""
    noise = torch.randn(FEW, density.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    values = density.constrain(mode.at(noise.to(mode.loc)).to(density.dtype))[0]
    return {block.name: values[block.name] for block in density.blocks}


def _in_order_of(
    own: Mapping[str, Tensor], draws: Mapping[str, Tensor], density: Density, alike: Sequence[str]
) -> dict[str, Tensor]:
    """Draws, (S, *event) by site, their labels in the order that is nearest to those of a mode's own."""
    found = dict(draws)
    for stem in alike:
        order = ordering({name: value[None] for name, value in own.items()}, density.dims, stem)
        if order is not None:
            found = order.apply(found, order(found))
    return found
