"""The ELBO estimators, chosen from the trace.

One run of guide and model gives the log densities of each observation with discrete locals summed out (`run`);
from them come the bounds that `fit` climbs (`Objective`) and every pointwise score (`inference.posterior.likelihood`).

ELBO  = sum_n scale * ( E_q[log p(x_n | z_n, t)] - KL(q(z_n) || p(z_n | t)) ) - KL(q(t) || p(t))
IWAE  = sum_n scale * E[ log 1/S sum_s p(x_n, z_ns) / q(z_ns | x_n) ]                       (Burda et al. 2016)

with locals z, globals t and scale = N / B. `Objective.pyro` is the estimator of Pyro that computes the same ELBO.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from torch import Tensor

from inference.running.densities import is_delta, left_out, run
from zoo.base import Batch, ModelGuide, evaluating, is_local, sample_sites
from zoo.threads.randomness import apart

Bound = Literal["elbo", "iwae"]
Estimator = Literal["mean_field", "trace", "enumerate"]


@dataclass(frozen=True)
class Objective:
    """What `fit` climbs. Made by `choose`, which reads the trace.

    Args:
        bound: `elbo` or `iwae`.
        particles: draws S from the guide per step.
        estimator: how latents are treated: closed-form KL, plain Monte Carlo, or enumeration.
        has_globals: whether there are global latents: `iwae` weights are then those of the whole data set.
        free_bits: nats a local latent dimension may cost before its KL counts (Kingma et al. 2016, eq. 15).
    """

    bound: Bound
    particles: int
    estimator: Estimator
    has_globals: bool
    free_bits: float = 0.0

    def loss(self, pair: ModelGuide, batch: Batch, kl_weight: Tensor | float = 1.0) -> Tensor:
        """Minus the bound on log p(all N observations), a scalar. `kl_weight` multiplies every KL term."""
        scale = batch.total / batch.size
        if self.bound == "iwae":
            return -self._iwae(pair, batch, scale)
        vectorised = self.particles if self.particles > 1 else None
        terms = run(pair, batch, vectorised, analytic=self.estimator == "mean_field")
        bound = terms.likelihood.sum(-1)
        if terms.local_kl:
            local = sum((self._floored(kl) for kl in terms.local_kl.values()), bound.new_zeros(()))  # (S?, B) or ()
            bound = bound - kl_weight * local.expand_as(terms.likelihood).sum(-1)
        bound = scale * bound
        bound = bound + kl_weight * (terms.global_log_p - terms.global_log_q)
        return -bound.mean()

    def _floored(self, kl: Tensor) -> Tensor:
        if not self.free_bits:
            return kl.sum(-1) if kl.ndim > (2 if self.particles > 1 else 1) else kl
        # The floor holds for the mean over the minibatch, so that single observations may use less.
        lead = 2 if self.particles > 1 else 1
        mean = kl.mean(dim=tuple(range(lead)))  # () or (L,)
        return mean.clamp(min=self.free_bits).sum()

    def _iwae(self, pair: ModelGuide, batch: Batch, scale: float) -> Tensor:
        terms = run(pair, batch, self.particles)
        if not self.has_globals:
            return scale * _log_mean_exp(terms.log_weight).sum()
        return _log_mean_exp(scale * terms.log_weight.sum(-1) + terms.global_log_p - terms.global_log_q)

    @property
    def plain(self) -> bool:
        """Whether Pyro has this very estimator."""
        return self.bound == "elbo" and not self.free_bits

    def pyro(self) -> Any:
        """Pyro's own estimator of the same ELBO."""
        options = {
            "num_particles": self.particles,
            "vectorize_particles": self.particles > 1,
            "max_plate_nesting": 1,
            "strict_enumeration_warning": False,
        }
        kinds: dict[str, Any] = {"mean_field": TraceMeanField_ELBO, "trace": Trace_ELBO, "enumerate": TraceEnum_ELBO}
        return kinds[self.estimator](**options)


def _log_mean_exp(log_weight: Tensor) -> Tensor:
    return torch.logsumexp(log_weight, 0) - math.log(len(log_weight))


def choose(
    pair: ModelGuide, batch: Batch, bound: Bound = "elbo", particles: int = 1, free_bits: float = 0.0
) -> Objective:
    """Read the trace of guide and model and choose the estimator.

    Raises:
        ValueError: a latent site that neither the guide samples nor the model enumerates, or `iwae` with one particle.
    """
    if bound not in ("elbo", "iwae"):
        raise ValueError(f"objective: expected 'elbo' or 'iwae', got {bound!r}")
    if particles < 1 or (bound == "iwae" and particles < 2):
        raise ValueError(f"particles: {bound} needs at least {2 if bound == 'iwae' else 1}, got {particles}")
    with torch.no_grad(), apart(), poutine.block(), evaluating(pair):
        trace = poutine.trace(pair.guide).get_trace(batch)
        guide = sample_sites(trace)
        model = sample_sites(poutine.trace(poutine.replay(pair.model, trace=trace)).get_trace(batch))
    sampled = [name for name, site in guide.items() if not site["is_observed"]]
    latent = [name for name, site in model.items() if not site["is_observed"]]
    if len(latent) == len(model):
        raise ValueError("the model observes nothing in this batch: every site is latent")
    absent = [name for name in latent if name not in sampled]
    enumerated = [name for name in absent if model[name]["infer"].get("enumerate") == "parallel"]
    for name in absent:
        if name not in enumerated:
            discrete = model[name]["fn"].support.is_discrete
            raise ValueError(left_out(name, discrete=discrete, local=is_local(model[name])))
    for name in sampled:
        if name not in latent and not guide[name]["infer"].get("is_auxiliary"):
            raise ValueError(f"guide site '{name}' has no latent site of that name in the model")
    # Closed-form KL needs model and guide to sample in the same order, and guides with a density.
    aligned = [name for name in sampled if name in latent] == [name for name in latent if name in sampled]
    dense = sampled and not any(is_delta(guide[name]["fn"]) for name in sampled)
    reparameterised = all(guide[name]["fn"].has_rsample for name in sampled)
    estimator: Estimator = "trace"
    if enumerated:
        estimator = "enumerate"
    elif aligned and dense and reparameterised:
        estimator = "mean_field"
    has_globals = any(not is_local(model[name]) for name in latent)
    return Objective(bound, particles, estimator, has_globals, free_bits)


def plain(objective: Objective) -> Objective:
    """The ELBO of one particle, estimated in the same way."""
    return replace(objective, bound="elbo", particles=1, free_bits=0.0)
