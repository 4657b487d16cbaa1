"""Which of a program's own sites, latents and parameters are not finite, where a fit of the pair made of it fails.

That pair has a latent and an observation of its own (`inference.programs.flat`), whose names would tell a user nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inference.fitting.loop import NonFiniteError
from inference.programs.guided import Guided
from inference.programs.potential import ProgramPotential
from inference.programs.runs import sites_of
from inference.programs.visiting import Visit
from inference.running.words import listed

TRIES = 64  # places where a density may be finite, before it is said to be so nowhere
_UNTOLD = "some draws of the guide make it so, others do not"


def of_density(visit: Visit) -> Callable[[Tensor], str]:
    """What is not finite at points of the flat space, (..., P), in words."""
    latents = visit.seen.latents

    def at(point: Tensor) -> str | None:
        outside = [latent.name for latent in latents if not _finite(latent.flatten(latent.unflatten(point)))]
        if outside:
            return f"the guide's draw of site {listed(outside)} is not finite"
        if names := visit.culprits(point):
            return f"log density of site {listed(names)} is not finite"
        gradient = visit.value_and_gradient(point)[1]
        names = [latent.name for latent in latents if not _finite(gradient[latent.begin : latent.end])]
        every = "is not finite though every site's log density is"
        return f"the gradient of the log density by site {listed(names)} {every}" if names else None

    def told(points: Tensor) -> str:
        flat = points.detach().reshape(-1, points.shape[-1]).to(visit.seen.dtype)
        return next((words for words in map(at, flat) if words), _UNTOLD)

    return told


def of_bound(guided: Guided) -> Callable[[Tensor], str]:
    """The same of a guide of the user's own, of a draw of it."""

    def told(_: Tensor) -> str:
        run = guided._run()
        for whose, trace in (("the guide's ", run.guide), ("", run.model)):
            names = [name for name, node in sites_of(trace).items() if not _finite(node["log_prob"])]
            if names:
                return f"log density of {whose}site {listed(names)} is not finite"
        with torch.enable_grad():
            bound, leaves = guided.bound(_), guided.leaves
            asked = torch.autograd.grad(bound, list(leaves.values()), allow_unused=True) if bound.requires_grad else ()
        slopes = dict(zip(leaves, asked, strict=False))
        bad = [name for name, slope in slopes.items() if slope is not None and not _finite(slope)]
        return f"the gradient by parameter {listed(bad)} is not finite" if bad else _UNTOLD

    return told


def check_density(potential: ProgramPotential, centre: Tensor) -> None:
    """Refuse a density that is finite neither at a point, (P,), nor around it, nor where the prior is.

    Raises:
        NonFiniteError: with the sites at fault.
    """
    if _finite(potential.log_density(centre[None])):
        return
    reach = torch.linspace(0.01, 4, TRIES, dtype=centre.dtype, device=centre.device)[:, None]
    around = centre + reach * (2 * torch.rand(TRIES, len(centre), dtype=centre.dtype, device=centre.device) - 1)
    if not bool(torch.isfinite(potential.log_density(torch.cat([potential.prior(TRIES), around]))).any()):
        raise NonFiniteError(_nowhere(potential.name, of_density(potential.visit)(centre)))


def check_bound(guided: Guided) -> None:
    """The same of a guide of the user's own, by draws of it."""
    point: Any = torch.zeros(1)
    if not any(_finite(guided.bound(point)) for _ in range(TRIES)):
        raise NonFiniteError(_nowhere(guided.seen.call.program.name, of_bound(guided)(point)))


def _nowhere(name: str, told: str) -> str:
    return f"{name}: the log density is finite at none of the places that a fit might start from: {told}"


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())
