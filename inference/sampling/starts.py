"""Where chains start: around a point, from the prior, or where a fitted guide says."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.posterior.draws import draw
from inference.sampling.chains import SamplingError, unit
from inference.sampling.hamiltonian import Metric
from inference.sampling.potential import Potential

TRIES = 20  # for a start of finite density


def find(potential: Potential, start: str, values: dict[str, Tensor], chains: int) -> tuple[Tensor, Metric | None]:
    """Free latents of each chain, (C, P), and the metric that a guide suggests.

    Args:
        potential: the density.
        start: `jitter`, `prior` or `guide`.
        values: of latents, by site, to jitter around; the others take their prior median.
        chains: how many, C.

    Raises:
        SamplingError: no point of finite density was found.
    """
    metric = None
    if start == "guide":
        cloud = _guide(potential, max(chains, 200))
        spread = cloud.std(0)
        if bool((spread > 0).all()):
            metric = unit(cloud.mean(0), spread, chains)
        else:  # a point guide
            start, values = "jitter", potential.constrain(cloud[:1])[0]
            values = {name: value[0] for name, value in values.items()}
    elif start == "prior":
        cloud = potential.prior(chains)
    if start == "jitter":
        cloud = _centre(potential, values).expand(chains, -1)
    points = torch.empty_like(cloud[:chains])
    bad = torch.ones(chains, dtype=torch.bool, device=points.device)
    for attempt in range(TRIES):
        if start == "jitter":  # closer and closer to the centre
            new = cloud + (2 * torch.rand_like(cloud) - 1) * 0.8**attempt
        elif start == "prior":
            new = potential.prior(chains)
        else:
            new = cloud[torch.randperm(len(cloud), device=cloud.device)[:chains]]
        points[bad] = new[bad]
        bad = ~torch.isfinite(potential.log_density(points))
        if not bool(bad.any()):
            return points, metric
    names = potential.culprits(points[bad][0])
    raise SamplingError(
        f"no start of finite log density in {TRIES} tries (start='{start}'): it is not finite at site "
        f"{', '.join(map(repr, names)) or 'none alone, but in their sum'}; check the data against the support and the "
        "prior of that site, or choose another start"
    )


def _centre(potential: Potential, values: dict[str, Tensor]) -> Tensor:
    """Free latents of these values, (P,), and of others the prior median, or 0 where that cannot be told from it."""
    count = 400
    given = {name: value.expand(count, *value.shape) for name, value in values.items()}
    draws = potential.free(given) if given else potential.prior(count)
    median, spread = draws.median(0).values, draws.quantile(0.75, 0) - draws.quantile(0.25, 0)
    return torch.where(median.abs() > 3 * spread / math.sqrt(count), median, torch.zeros_like(median))


def _guide(potential: Potential, draws: int) -> Tensor:
    found = draw(potential.pair, potential.given, draws, stats=False, seed=int(torch.randint(2**31, ())))
    return potential.free({block.name: found[block.name][0] for block in potential.blocks if block.name in found.draws})
