"""Roads over a log density, whoever's it is: the Gaussian one with its evidence."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from inference.roads.gaussian import Found, gaussian
from inference.roads.grounds import Ground, Inferred
from inference.sampling.density import Density

LIMITS = {"share": 0.3, "effective": 400, "moved": 0.5, "elsewhere": 0.01}
NEARLY = 0.95  # share from which weights are so nearly equal that the shape of their tail says nothing
LARGEST = 200  # latents beyond which no full covariance is tried


def by_gaussian(potential: Density, centre: Tensor, draws: int, seed: int) -> tuple[Inferred, Found] | None:
    """Draws of a Gaussian, corrected by their weights, with the evidence; None where there are too many latents.

    Args:
        potential: the density.
        centre: free latents to start around, (P,).
        draws: how many, all of one chain.
        seed: of all that is drawn.
    """
    if potential.size > LARGEST:
        return None
    found = gaussian(potential, centre, seed)
    weighed = found.weighed
    picked = weighed.resampled(draws, np.random.default_rng(seed)).to(weighed.points.device)
    values, jacobian = potential.constrain(weighed.points[picked].to(potential.dtype))
    log_p = weighed.log_p[picked].to(jacobian) - jacobian
    effective = weighed.share * len(weighed.points)
    tail = () if weighed.share >= NEARLY else (Ground("k̂", weighed.k, weighed.limit),)
    grounds = (
        *tail,
        Ground("effective share", weighed.share, LIMITS["share"], least=True),
        Ground("effective draws", effective, LIMITS["effective"], least=True),
        Ground("weights moved moments by", max(weighed.shift, weighed.stretch), LIMITS["moved"]),
        Ground("other modes hold", found.elsewhere, LIMITS["elsewhere"]),
    )
    made = Inferred(
        {name: value[None] for name, value in values.items()}, potential.local, {"log_p": log_p[None]}, "psis", 1,
        draws, grounds=grounds, log_evidence=weighed.log_evidence, error=weighed.error, found=found,
    )  # fmt: skip
    return made, found
