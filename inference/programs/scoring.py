"""Gradients of a bound by draws that have none themselves: discrete ones, or others without a reparameterised sample.

With cost c = log p - log q of a draw z ~ q, and c' that of another, independent one,

    d/dq E[c] = E[ (c - c') d log q(z) ]

(the score function, or REINFORCE, estimator; Williams 1992), each of two draws the other's baseline (Kool et al. 2019,
"Buy 4 REINFORCE samples, get a baseline for free!"). Of a latent inside plates c is the cost of its own rows and of
what stands outside their plates, since that of other rows does not depend on it: as `pyro.infer.Trace_ELBO` has it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from pyro.infer.util import MultiFrameTensor
from torch import Tensor

from inference.programs.runs import sites_of


@dataclass(frozen=True)
class Drawn:
    """One run of guide and model, with log densities."""

    guide: Any  # their traces
    model: Any
    alone: Tensor  # the log density of sites that no latent touches which is summed out, ()
    summed: Tensor  # that of the others, ()

    @property
    def log_p(self) -> Tensor:
        """Of all that the model draws or observes, ()."""
        return self.alone + self.summed

    @property
    def log_q(self) -> Tensor:
        """Of what the guide draws, ()."""
        found: Tensor = sum((node["log_prob_sum"] for node in sites_of(self.guide).values()), torch.zeros(()))
        return found

    @property
    def bound(self) -> Tensor:
        """log p - log q."""
        return self.log_p - self.log_q

    def costs(self) -> Any:
        """log p - log q by plates, without gradients. What is summed out, all of it together, stands outside of any."""
        sites = sites_of(self.model)
        enumerated = any("_enumerate_dim" in node["infer"] for node in sites.values())
        outside = self.log_p if enumerated else torch.zeros(())
        found: Any = MultiFrameTensor(((), outside.detach()))
        for node in () if enumerated else sites.values():
            found.add((node["cond_indep_stack"], node["log_prob"].detach()))
        for node in sites_of(self.guide).values():
            found.add((node["cond_indep_stack"], -node["log_prob"].detach()))
        return found


def surrogate(one: Drawn, other: Drawn, scored: Collection[str]) -> Tensor:
    """A number whose value is 0 and whose gradient is the score function's part of that of the bound at `one`, ().

    Args:
        one, other: runs, independent of each other.
        scored: sites of the guide whose draws have no gradient.
    """
    costs, baselines = one.costs(), other.costs()
    total = torch.zeros(())
    for name in scored:
        node, twin = one.guide.nodes[name], other.guide.nodes[name]
        gain = costs.sum_to(node["cond_indep_stack"]) - baselines.sum_to(twin["cond_indep_stack"])
        # Not scaled by the plates' shares of rows: costs are. log q at the draw itself has a gradient of mean 0.
        score: Tensor = node["unscaled_log_prob"]
        if node["mask"] is not None:
            score = torch.where(torch.as_tensor(node["mask"]), score, 0.0)
        part = (score * gain).sum() + node["log_prob_sum"]
        total = total + part - part.detach()
    return total
