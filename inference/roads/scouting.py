"""Whether there are other modes: many points, each led uphill with care, that do not end at the Gaussian at hand.

A third of them come from the prior, a third from around the Gaussian, from near to a million of its deviations away (a
heavy-tailed prior of other units than the data's leaves their mode there), the rest from about a centre; half of all
mirror the others, so that some lie on either side. They climb together by BFGS in the coordinates of the Gaussian, a
gradient a step for each, none of more than one of its Newton steps before it knows the curvature where it is: longer
ones leap over the mode at hand. What comes to the Gaussian is left out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.roads.evaluating import FEW, Evaluated
from inference.roads.paths import Gaussian, around
from inference.sampling.density import Density

POINTS = FEW  # as many as go through the density at once
STEPS = 60  # uphill
FAR = (0.5, 6.0)  # powers of ten: deviations from the Gaussian at which a third of the points begin, evenly spread
ENDS = 12  # that are looked at more closely, at most
SMALL = 400  # numbers of all of these together, where there are many latents
STILL = 1e-3  # squared Newton decrement at which a point has arrived
APART = 0.3  # deviations between two ends, at the least


def scout(potential: Density, density: Evaluated, known: Gaussian, centre: Tensor, seed: int) -> list[Gaussian]:
    """Gaussians at other modes than the known one, as far as some points come to them, the highest bound first.

    Args:
        potential: the density; its prior is drawn from.
        density: its gradient.
        known: the Gaussian at hand.
        centre: free latents of which a third of the points lie around, (P,).
        seed: of all that is drawn.
    """
    if not math.isfinite(known.log_scale):
        return []
    generator = torch.Generator().manual_seed(seed + 1)
    at = _begin(potential, known, centre, generator)
    ends = _uphill(density, known, at)
    P = len(known.loc)
    chosen = _distinct(known, *ends, min(ENDS, max(3, SMALL // P)))
    if not len(chosen) or density.late:
        return []
    return around(density, chosen, generator)


def inside(guide: Gaussian, points: Tensor) -> Tensor:
    """Which points lie where the draws of a Gaussian do, (S, P) -> (S,)."""
    return guide.away(points) < reach(len(guide.loc))


def reach(size: int) -> float:
    """Squared deviations from its mean that hardly any draw of a Gaussian of so many numbers exceeds."""
    return size + 4 * math.sqrt(2 * size)


def _begin(potential: Density, known: Gaussian, centre: Tensor, generator: torch.Generator) -> Tensor:
    """Where points begin, (K, P)."""
    P, few = len(centre), POINTS // 6
    centre = centre.double()
    low, high = FAR
    aim = torch.randn(few, P, dtype=torch.float64, generator=generator)
    aim = aim / aim.square().mean(-1, keepdim=True).sqrt()
    place = (torch.arange(few, dtype=torch.float64) + torch.rand(few, dtype=torch.float64, generator=generator)) / few
    reach = 10 ** (low + (high - low) * place[:, None])
    off = (aim * reach).to(known.loc) @ known.tril.mT
    width = 1 + 3 * torch.rand(few, 1, dtype=torch.float64, generator=generator)
    near = (width * (2 * torch.rand(few, P, dtype=torch.float64, generator=generator) - 1)).to(known.loc)
    prior = potential.prior(POINTS // 2 - 2 * few).double()
    mirrored = 2 * prior.mean(0) - prior
    still = prior.std(0) == 0  # what cannot be drawn
    spread = torch.cat([prior, mirrored])
    spread = torch.where(still | ~spread.isfinite(), known.loc, spread)
    return torch.cat([known.loc + off, known.loc - off, centre + near, centre - near, spread])


def _uphill(density: Evaluated, known: Gaussian, at: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Points that climbed and did not come to the Gaussian, (K, P), their log densities and whether they arrived."""
    P = at.shape[1]
    value, gradient = density(at)
    left = value.isfinite() & ~inside(known, at)
    at, value, slope = at[left], value[left], gradient[left] @ known.tril
    inverse = torch.eye(P).to(at).expand(len(at), P, P).clone()  # of minus the Hessian, as far as it is known
    length = torch.ones(len(at)).to(at)
    arrived = torch.zeros(len(at), dtype=torch.bool, device=at.device)
    for _ in range(STEPS):
        if not len(at) or bool(arrived.all()) or density.late:
            break
        step = (inverse @ slope[:, :, None])[..., 0]
        rise = (step * slope).sum(-1)
        # No leap over the mode at hand: where the curvature is not known yet, no more than a few deviations.
        move = length[:, None] * step
        tried = at + move @ known.tril.mT
        new, gradient = density(tried)
        fresh = gradient @ known.tril
        good = (new >= value + 1e-4 * length * rise) & ~arrived
        turn = slope - fresh  # of the gradient of minus the log density
        bent = (move * turn).sum(-1)
        learned = good & (bent > 1e-10 * move.norm(dim=-1) * turn.norm(dim=-1))
        inverse = torch.where(learned[:, None, None], _updated(inverse, move, turn, bent), inverse)
        flat = good & ~learned  # uphill without an end in sight
        arrived = arrived | (rise.abs() < STILL) | (length < 1e-9)
        length = torch.where(good, torch.where(flat, 2 * length, 1.0), length / 4)
        at = torch.where(good[:, None], tried, at)
        value, slope = torch.where(good, new, value), torch.where(good[:, None], fresh, slope)
        left = ~inside(known, at)
        at, value, slope, inverse = at[left], value[left], slope[left], inverse[left]
        length, arrived = length[left], arrived[left]
    return at, value, arrived


def _updated(inverse: Tensor, move: Tensor, turn: Tensor, bent: Tensor) -> Tensor:
    """BFGS: an inverse Hessian, (K, P, P), that takes turns to moves."""
    rho = 1 / bent.clamp(min=1e-300)
    seen = (inverse @ turn[:, :, None])[..., 0]  # (K, P)
    scale = (1 + rho * (turn * seen).sum(-1)) * rho
    cross = rho[:, None, None] * move[:, :, None] * seen[:, None]
    return inverse + scale[:, None, None] * move[:, :, None] * move[:, None] - cross - cross.mT


def _distinct(known: Gaussian, at: Tensor, value: Tensor, arrived: Tensor, most: int) -> Tensor:
    """A few points, (K, P), no two at one end: those that arrived first, the highest first."""
    order = sorted(range(len(at)), key=lambda k: (not bool(arrived[k]), -float(value[k])))
    place = known.noise(at)
    chosen: list[int] = []
    for k in order:
        if len(chosen) < most and all(float((place[k] - place[j]).square().sum()) > APART**2 for j in chosen):
            chosen.append(k)
    return at[chosen]
