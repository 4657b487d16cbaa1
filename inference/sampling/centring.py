"""Latents of a location and a scale that other latents decide, in the coordinates in which they are best sampled.

With x ~ F(m, s), where m and s are drawn too, chains walk on z instead of x, each number by a share c of its own,

    x = m + s^(1 - c) (z - c m),        log |dx / dz| = (1 - c) log s

(Papaspiliopoulos, Roberts & Skold 2007, "A general framework for the parametrization of hierarchical models";
Gorinova, Moore & Hoffman 2020, "Automatic reparameterisation of probabilistic programs"): c = 1 is x as the program has
it, and c = 0 its standardised form, which no scale narrows to a funnel. Which is better depends on how much the data
say of each number. It is told from draws, as the share under which the posterior is nearest to a Gaussian: up to what
does not depend on c, the divergence from the one of the same mean and variance is

    J(c) = log(sd of z) + (1 - c) E[log s],

z being what m and log s do not explain linearly, since a full metric sees to that.
"""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor

SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)
GAIN = 0.1  # nats by which another share has to be better: both are estimates
_KINDS = (dist.Normal, dist.LogNormal, dist.StudentT, dist.Cauchy, dist.Laplace, dist.Logistic, dist.Gumbel)


def placed(fn: Any, shape: torch.Size) -> tuple[Tensor, Tensor] | None:
    """Location and log scale of a distribution's free numbers, each of this shape; None where it has none.

    Args:
        fn: the distribution of a latent. Of a log-normal one they are those of the logarithm.
        shape: of the free numbers.
    """
    while hasattr(fn, "base_dist") and not isinstance(fn, torch.distributions.TransformedDistribution):
        fn = fn.base_dist  # without what expands, masks or reshapes it
    if not isinstance(fn, _KINDS):
        return None
    loc, scale = fn.loc, fn.scale
    if broadcast_shape(loc.shape, scale.shape, shape) != shape:
        return None  # it stands along a discrete latent that is summed out
    return loc.expand(shape), scale.log().expand(shape)


def shifted(free: Tensor, place: tuple[Tensor, Tensor], old: Tensor, new: Tensor) -> Tensor:
    """Numbers z at other shares: `free`, where they stand at share `old`, brought to share `new`."""
    loc, log_scale = place
    return (free - old * loc) * ((new - old) * log_scale).exp() + new * loc


def better(free: Tensor, place: tuple[Tensor, Tensor], share: Tensor, dense: bool) -> Tensor:
    """The share of each number, (n,), under which draws of the posterior are nearest to a Gaussian.

    Args:
        free: numbers z at the shares of now, (S, n).
        place: location and log scale, each (S, n).
        share: those of now, (n,).
        dense: whether a metric sees to what depends linearly on location and scale.
    """
    scores = []
    for other in (share, *(torch.full_like(share, c) for c in SHARES)):
        z = shifted(free, place, share, other)
        z = z - z.mean(0)
        for known in _apart(*place) if dense else ():
            z = z - known * ((known * z).sum(0) / known.square().sum(0).clamp(min=1e-300))
        scores.append(0.5 * z.square().mean(0).log() + (1 - other) * place[1].mean(0))
    now, *rest = (score.nan_to_num(nan=math.inf) for score in scores)
    least, which = torch.stack(rest).min(0)
    return torch.where(least < now - GAIN, torch.tensor(SHARES).to(share)[which], share)


def _apart(loc: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Both about their means, the second without what the first explains of it; each (S, n)."""
    loc, log_scale = loc - loc.mean(0), log_scale - log_scale.mean(0)
    slope = (loc * log_scale).sum(0) / loc.square().sum(0).clamp(min=1e-300)
    return loc, log_scale - slope * loc
