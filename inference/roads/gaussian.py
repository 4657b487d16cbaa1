"""The Gaussian road: a normal distribution of free latents near the posterior, corrected by importance weights.

Starts -> Newton paths, the best bound on them (`paths`) -> batch and match, then the bound itself (`matching`) -> draws
with Pareto-smoothed weights (`weighing`). Paths that end elsewhere are other modes; how much of the posterior they hold
their bounds tell. One that differs in the order of its labels alone is no other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.roads.evaluating import Evaluated
from inference.roads.labelling import interchangeable
from inference.roads.matching import climb, match
from inference.roads.paths import Gaussian, walk
from inference.roads.scouting import inside, scout
from inference.roads.weighing import Weighed, weigh
from inference.running.deadline import Deadline
from inference.sampling import starts
from inference.sampling.chains import SamplingError
from inference.sampling.density import Density
from inference.sampling.labels import relabelled, stems

STARTS, CLOUD = 8, 8  # paths; points of a handful, each of which gives one: the first path begins at the best of all
ITERATIONS = 100  # of batch and match
RIVALS = 3  # other ends that are brought to the highest bound
NEAR = 10.0  # nats below the best bound, from which an end may come near it once it is looked at
WIDER = 0.02  # of its variance, by which an end far off would change a number: it is looked at, however little it holds
FEW = 64  # draws by which labels are put in order
STEPPED, STEP, NOISE = 8, 1e-3, 0.01  # draws from which steps are taken, of so many deviations; nats left unexplained


@dataclass(frozen=True)
class Found:
    """What the Gaussian road comes to.

    Args:
        guide: the Gaussian.
        weighed: its draws.
        elsewhere: the part of the posterior, from 0 to 1, that other paths found in modes of their own.
        stretch: by how much these would change a standard deviation, as |log| of the ratio: a mode of little mass does
            where it is far off.
        relabelled: whether a path ended at the same mode with its labels in another order.
        apart: how many of the paths ended in places of their own, whatever the density there.
        points: at how many the density was looked at.
        cut: what the time did not allow, in words; other modes may then hold all, for what is known.
        modes: the Gaussian and those of other modes.
    """

    guide: Gaussian
    weighed: Weighed
    elsewhere: float
    stretch: float
    relabelled: bool
    apart: int
    points: int
    cut: str = ""
    modes: tuple[Gaussian, ...] = ()


def gaussian(
    potential: Density,
    centre: Tensor,
    seed: int = 0,
    density: Evaluated | None = None,
    rest: float | None = None,
) -> Found:
    """A Gaussian near a density, and its weighed draws.

    Args:
        potential: the density.
        centre: free latents around which half of the starts lie, (P,); the others are drawn from the prior.
        seed: of all that is drawn.
        density: its gradient, where that is recorded already.
        rest: seconds, after which it ends with the Gaussian that it has.

    Raises:
        SamplingError: no start of finite density.
    """
    generator = torch.Generator().manual_seed(seed)
    density = Evaluated(potential) if density is None else density
    density.deadline = Deadline(rest)
    walked = walk(density, _starts(potential, density, centre), generator)
    ends = smooth(density, walked) or walked  # on a ridge without an end all may be where digits are gone
    if not ends:
        raise SamplingError(f"{potential.name}: no Gaussian has a finite bound on the evidence around any start")

    def finished(end: Gaussian) -> Gaussian:
        return climb(density, match(density, end, ITERATIONS, generator), generator)

    cut = "its Newton paths were not walked to the end" if density.late else ""
    guide, rivals, same = finished(ends[0]), list[Gaussian](), False
    cut = cut or ("the Gaussian was not brought to the highest bound" if density.late else "")
    others = [*ends[1:], *(smooth(density, scout(potential, density, guide, centre, seed)) if not density.late else ())]
    for end in sorted(others, key=lambda end: -end.bound):
        if density.late:
            cut = cut or "not every end of a path was looked at, which may be a mode"
            break
        if not _weighs(guide, end) or any(_inside(known, end) for known in (guide, *rivals)):
            continue
        copied = [_relabelled(potential, known, end, generator) for known in (guide, *rivals)]
        if any(copied):
            same |= copied[0]
            continue
        other = finished(end) if len(rivals) < RIVALS else end
        if any(_inside(known, other) and _inside(other, known) for known in (guide, *rivals)):
            continue
        if other.bound > guide.bound:
            guide, other = other, guide
        rivals.append(other)
    masses = [math.exp(max(-700.0, rival.bound - guide.bound)) for rival in rivals]
    elsewhere, stretch = sum(masses) / (1 + sum(masses)), widening([guide, *rivals], [1.0, *masses])
    apart = sum(not (_inside(guide, end) or _relabelled(potential, guide, end, generator)) for end in ends)
    known = 1.0 if cut else elsewhere
    modes = (guide, *rivals)
    return Found(guide, weigh(density, guide, seed), known, stretch, same, apart, density.count, cut, modes)


def smooth(density: Evaluated, ends: Sequence[Gaussian]) -> list[Gaussian]:
    """Those among whose draws the density changes as its gradient says; where it does not, it is rounding errors.

    A normalising constant of a parameter of 1e20 is a difference of numbers in which no digit is left, and may be as
    high as any mode. The median over draws decides: a kink or a jump of a density is met by few.

    Args:
        density: its values and gradients.
        ends: Gaussians.
    """
    if not ends:
        return []
    noise, aim = torch.randn(
        2, STEPPED, len(ends[0].loc), dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    at = torch.stack([end.at(noise.to(end.loc)) for end in ends])  # (K, S, P)
    step = STEP * torch.stack([aim.to(end.loc) @ end.tril.mT for end in ends])
    value, gradient = density(torch.cat([at, at + step, at - step]).flatten(0, 1))
    here, ahead, behind = value.reshape(3, len(ends), STEPPED)
    told = 2 * (gradient[: here.numel()].reshape_as(step) * step).sum(-1)
    off = (ahead - behind - told).abs()
    room = NOISE + 0.1 * told.abs() + 100 * torch.finfo(density.potential.dtype).eps * here.abs()
    rough = (~(off <= room)).double().mean(-1) > 0.5  # of no number too
    return [end for end, bad in zip(ends, rough.tolist(), strict=True) if not bad]


def widening(modes: Sequence[Gaussian], masses: Sequence[float]) -> float:
    """|log| of a deviation of all modes over that of the first, of the number for which it is largest."""
    shares = torch.tensor(masses, dtype=torch.float64).to(modes[0].loc) / sum(masses)
    locs = torch.stack([mode.loc for mode in modes])
    variances = torch.stack([mode.tril.square().sum(-1) for mode in modes])
    mean = shares @ locs
    whole = shares @ (variances + (locs - mean).square())
    return float(0.5 * (whole / variances[0]).log().abs().max())


def _weighs(guide: Gaussian, end: Gaussian) -> bool:
    """Whether an end may hold so much, or lie so far off, that it counts."""
    gap = end.bound - guide.bound
    far = float(((end.loc - guide.loc).square() / guide.tril.square().sum(-1)).max())
    return gap > -NEAR or gap + math.log(1e-300 + far) > math.log(WIDER)


def _inside(guide: Gaussian, other: Gaussian) -> bool:
    """Whether a mean lies where the draws of a Gaussian do."""
    return bool(inside(guide, other.loc[None]))


def _relabelled(potential: Density, one: Gaussian, other: Gaussian, generator: torch.Generator) -> bool:
    """Whether two Gaussians are the same once their labels are in one order, as far as their widths tell."""
    noise = torch.randn(FEW, len(one.loc), dtype=torch.float64, generator=generator).to(one.loc)
    found = [potential.constrain(gaussian.at(noise).to(potential.dtype))[0] for gaussian in (one, other)]
    known = [block.name for block in potential.blocks if block.name not in potential.local]
    draws = {name: torch.stack([values[name] for values in found]) for name in known}  # (2, FEW, *event)
    for stem in stems(potential.dims):
        aligned = relabelled(draws, potential.dims, stem)
        if aligned is not None and all(_close(value) for value in aligned.values()):
            both = {block.name: torch.stack([values[block.name] for values in found]) for block in potential.blocks}
            if interchangeable(potential, both, stem):
                return True
    return False


def _close(value: Tensor) -> bool:
    """Whether two sets of draws, (2, S, ...), have their means within two deviations."""
    spread = value.std(1).amax(0) + 1e-12
    return bool(((value[0].mean(0) - value[1].mean(0)).abs() < 2 * spread).all())


def _starts(potential: Density, density: Evaluated, centre: Tensor) -> Tensor:
    """Points of finite density to walk from, (K, P): the best of all, then one of each of K - 1 handfuls.

    The others are not the best of theirs: those would all lie at the highest mode. Half of them mirror the other half,
    so that there are some on either side: of 8 that are independent all lie on one side once in a hundred times.
    """
    half = STARTS * CLOUD // 2
    off = 2 * torch.rand(half // 2, len(centre), dtype=centre.dtype, device=centre.device) - 1
    near = centre + torch.cat([off, -off])
    prior = potential.prior(half // 2)
    prior = torch.cat([prior, 2 * prior.mean(0) - prior])
    still = prior.std(0) == 0  # what cannot be drawn
    prior = torch.where(still | ~prior.isfinite(), near.flip(0), prior)
    points = torch.cat([centre[None], near[1:], prior]).double()
    value, _ = density(points)
    first = [int(part.isfinite().long().argmax()) + k * CLOUD for k, part in enumerate(value.split(CLOUD))]
    picked = [int(value.argmax()), *(i for i in first[1:] if bool(value[i].isfinite()))]
    found = points[picked] if bool(value[picked[0]].isfinite()) else points[:0]
    return found if len(found) else starts.place(potential, "jitter", centre[None], STARTS).double()
