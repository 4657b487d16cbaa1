"""Where chains start: around a point, from the prior, or where a fitted guide says; and where else, if not there."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from inference.fitting import search
from inference.fitting.objective import choose, plain
from inference.posterior.draws import draw
from inference.sampling.chains import SamplingError, unit
from inference.sampling.density import Density
from inference.sampling.hamiltonian import Metric
from inference.sampling.potential import Potential
from zoo.base import ModelGuide

TRIES = 20  # for a start of finite density


Found = TypeVar("Found")


def order(potential: Potential, trained: bool) -> tuple[str, ...]:
    """The starts to try, one after the other."""
    first = ("guide", "jitter") if trained else ("jitter",)
    given = potential.given
    alone = given.globals and not given.continuous_locals and not given.pair.own_parameters()
    return (*first, "mode", "prior") if alone and given.pair.automatic is not None else (*first, "prior")


def first(run: Callable[[str], Found], names: Sequence[str], before: Sequence[str] = ()) -> Found:
    """What `run` gives for the first start from which chains can move, with a note of those from which they could not,
    those `before` among them.

    Raises:
        SamplingError: of the first start, where there is none.
    """
    failed: dict[str, SamplingError] = {}
    for name in names:
        try:
            found = run(name)
        except SamplingError as error:
            failed[name] = error
            continue
        if failed or before:
            vain = ", ".join([*before, *failed])
            told = f"start='auto': chains could not move from {vain}; these started from {name}"
            return cast(Found, replace(cast(Any, found), notes=(told, *cast(Any, found).notes)))
        return found
    raise next(iter(failed.values()))


def find(potential: Potential, start: str, values: dict[str, Tensor], chains: int) -> tuple[Tensor, Metric | None]:
    """Free latents of each chain, (C, P), and the metric that a guide suggests.

    Args:
        potential: the density.
        start: `jitter`, `prior`, `guide`, or `mode`: the Laplace approximation that `inference.fitting.search` finds.
        values: of latents, by site, to jitter around; the others take their prior median.
        chains: how many, C.

    Raises:
        SamplingError: no point of finite density was found.
    """
    metric = None
    if start in ("guide", "mode"):
        cloud = _guide(potential, max(chains, 200), potential.pair if start == "guide" else _at_mode(potential))
        spread = cloud.std(0)
        if bool((spread > 0).all()):
            metric = unit(cloud.mean(0), spread, chains)
        else:  # a point guide
            start, values = "jitter", potential.constrain(cloud[:1])[0]
            values = {name: value[0] for name, value in values.items()}
    if start == "jitter":
        cloud = centre(potential, values)[None]
    return place(potential, start, cloud if start != "prior" else None, chains), metric


def place(potential: Density, start: str, cloud: Tensor | None, chains: int) -> Tensor:
    """Points of finite density for all chains, (C, P), in a few tries.

    Args:
        potential: the density.
        start: `jitter`, about the one point of the cloud; `prior`; any other name: points of the cloud.
        cloud: free latents, (S, P).
        chains: how many, C.

    Raises:
        SamplingError: no point of finite density was found.
    """
    points = torch.empty(0)
    bad = torch.ones(chains, dtype=torch.bool, device=potential.device)
    for attempt in range(TRIES):
        if cloud is None:
            new = potential.prior(chains)
        elif start == "jitter":  # closer and closer to the centre
            around = cloud.expand(chains, -1)
            new = around + (2 * torch.rand_like(around) - 1) * 0.8**attempt
        else:
            new = cloud[torch.randperm(len(cloud), device=cloud.device)[:chains]]
        points = torch.where(bad[:, None], new, points if len(points) else new)
        bad = ~torch.isfinite(potential.log_density(points))
        if not bool(bad.any()):
            return points
    names = potential.culprits(points[bad][0])
    raise SamplingError(
        f"no start of finite log density in {TRIES} tries (start='{start}'): it is not finite at site "
        f"{', '.join(map(repr, names)) or 'none alone, but in their sum'}; check the data against the support and the "
        "prior of that site, or choose another start"
    )


def centre(potential: Density, values: dict[str, Tensor]) -> Tensor:
    """Free latents of these values, (P,), and of others the prior median, or 0 where that cannot be told from it."""
    count = 400
    given = {name: value.expand(count, *value.shape) for name, value in values.items()}
    draws = potential.free(given) if given else potential.prior(count)
    median, spread = draws.median(0).values, draws.quantile(0.75, 0) - draws.quantile(0.25, 0)
    return torch.where(median.abs() > 3 * spread / math.sqrt(count), median, torch.zeros_like(median))


def _at_mode(potential: Potential) -> ModelGuide:
    """A copy of the pair, its guide at the mode.

    Raises:
        SamplingError: no mode was found.
    """
    pair, batch = copy.deepcopy(potential.pair), potential.given.batch
    if not search.move(pair, batch, plain(choose(pair, batch.select(slice(0, min(2, batch.size))))), "graph"):
        raise SamplingError(f"{pair.name}: no mode from which the log density falls on all sides was found")
    return pair


def _guide(potential: Potential, draws: int, pair: ModelGuide) -> Tensor:
    found = draw(pair, replace(potential.given, pair=pair), draws, stats=False, seed=int(torch.randint(2**31, ())))
    return potential.free({block.name: found[block.name][0] for block in potential.blocks if block.name in found.draws})
