"""Posterior probabilities of latents that were summed out.

With log Z the log density of a run whose discrete latents z are summed out, and w_k a number added to the log density
of z = k,

    p(z = k | observed, latents) = d log Z / d w_k   at w = 0,

which is the marginal of belief propagation, got by automatic differentiation (Darwiche 2003, "A differential approach
to inference in Bayesian networks"), in whatever order the sum was taken. Chains of states get their smoothed
probabilities so, mixtures their responsibilities.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from inference.posterior.latents import Posterior
from inference.programs import draws as drawing
from inference.programs.contracting import contracted
from inference.programs.outline import Outline
from inference.programs.rows import outline_of_all
from inference.programs.visiting import Visit
from inference.running.quiet import quietly
from zoo.programs import Program

__all__ = ["assignments"]


def assignments(
    program: Program, posterior: Posterior, *args: Any, draws: int | None = None, **kwargs: Any
) -> dict[str, Tensor]:
    """Posterior probabilities of each discrete latent that was summed out, averaged over draws.

    Args:
        program: see `zoo.program`.
        posterior: draws of its continuous latents, from `sample` or `draw`.
        args, kwargs: what its model takes, those of the posterior.
        draws: use only so many draws of each chain, evenly spaced; default all.

    Returns:
        site -> (*plates, K), over the K values of its support in order; NaN in cells that a mask hides.

    Raises:
        ValueError: the posterior is not this program's, or no latent was summed out.
    """
    with quietly(0):
        seen = outline_of_all(program, args, kwargs, sampled=True)
        if not seen.enumerated:
            raise ValueError(f"{program.name}: it has no discrete latent that is summed out")
        posterior = drawing.check(seen, posterior, draws)
        visit = Visit(seen)
        return drawing.averaged(seen, lambda values: _marginals(seen, visit.enumerated(values)), posterior)


def _marginals(seen: Outline, trace: Any) -> dict[str, Tensor]:
    """Of one run: site -> (*plates, K)."""
    weights: dict[str, Tensor] = {}
    with torch.enable_grad():
        for name, site in seen.enumerated.items():
            node = trace.nodes[name]
            dim = node["infer"]["_enumerate_dim"]
            count = node["value"].shape[dim]
            shape = [1] * -dim
            shape[0] = count
            for plate in site.plates:
                shape[plate.dim] = plate.size
            weights[name] = torch.zeros(
                shape, dtype=node["unscaled_log_prob"].dtype, device=seen.device, requires_grad=True
            )
            node["unscaled_log_prob"] = node["unscaled_log_prob"] + weights[name]
        _, factors = contracted(trace, seen.call.program.name)
        total = sum((factor.sum() for factor in factors.values()), torch.zeros(()))
        slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
    found = {}
    for (name, weight), slope in zip(weights.items(), slopes, strict=True):
        mass = torch.zeros_like(weight) if slope is None else slope
        share = (mass / mass.sum(0)).movedim(0, -1)  # a scale of the user's own drops out
        found[name] = share.reshape(*seen.sites[name].shape, weight.shape[0])
    return found
