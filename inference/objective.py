"""The ELBO estimators, chosen from the trace.

One run of guide and model gives the log densities of each observation with discrete locals summed out (`run`);
from them come the bounds that `fit` climbs (`Objective`) and every pointwise score (`inference.likelihood`).

ELBO  = sum_n scale * ( E_q[log p(x_n | z_n, t)] - KL(q(z_n) || p(z_n | t)) ) - KL(q(t) || p(t))
IWAE  = sum_n scale * E[ log 1/S sum_s p(x_n, z_ns) / q(z_ns | x_n) ]                       (Burda et al. 2016)

with locals z, globals t and scale = N / B. `Objective.pyro` is the estimator of Pyro that computes the same ELBO.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyro
import torch
from opt_einsum import shared_intermediates
from pyro import poutine
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceMeanField_ELBO
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree
from pyro.ops.rings import LogRing
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from zoo.base import Batch, ModelGuide, evaluating, is_local, sample_sites

Bound = Literal["elbo", "iwae"]
Estimator = Literal["mean_field", "trace", "enumerate"]


class UnsupportedGuide(ValueError):
    """The guide has a site that the estimator cannot handle; the message names it."""


@dataclass
class Terms:
    """Log densities of one run; a leading (S,) where S particles or posterior draws ran at once."""

    likelihood: Tensor  # (S?, B) log p(x_n | latents), enumerated locals summed out
    local_kl: dict[str, Tensor] = field(default_factory=dict)  # site -> (S?, B) or (S?, B, L): log q - log p
    global_log_p: Tensor | float = 0.0  # (S?,)
    global_log_q: Tensor | float = 0.0  # (S?,)

    @property
    def log_weight(self) -> Tensor:
        """log p(x_n, z_n | globals) - log q(z_n | x_n), (S?, B)."""
        total = self.likelihood
        for kl in self.local_kl.values():
            total = total - (kl.sum(-1) if kl.ndim > total.ndim else kl)
        return total


def run(
    pair: ModelGuide,
    batch: Batch,
    particles: int | None = None,
    globals_: Mapping[str, Tensor] | None = None,
    analytic: bool = False,
) -> Terms:
    """Run the guide, then the model on its draws, and collect log densities.

    Args:
        pair: the model/guide pair.
        batch: what is observed.
        particles: number S of runs at once; None is one run without a particle dimension.
        globals_: values of the global latents, each (S, *event); the guide then draws the locals alone.
        analytic: use closed-form KL divergences of local and global sites where they exist.

    Raises:
        UnsupportedGuide: a latent site without a reparameterised sample, or that the guide leaves out.
    """
    fixed = {name: value.unsqueeze(1) for name, value in (globals_ or {}).items()}  # (S, 1, *event)
    nesting = 1 if particles is None else 2

    def model(batch: Batch) -> Any:
        with poutine.condition(data=fixed):
            return pair.model(batch)

    def guide(batch: Batch) -> Any:
        with poutine.condition(data=fixed):
            return pair.guide(batch)

    if particles is not None:
        plate = pyro.plate("particles", particles, dim=-2)
        model, guide = plate(model), plate(guide)
    guide_trace = poutine.trace(guide).get_trace(batch)
    with EnumMessenger(first_available_dim=-1 - nesting):
        model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
    for trace in (guide_trace, model_trace):
        trace.compute_log_prob()
    model_trace.pack_tensors()
    shape = (batch.size,) if particles is None else (particles, batch.size)
    return _collect(model_trace, guide_trace, shape, batch.total / batch.size, frozenset(fixed), analytic)


def _collect(
    model_trace: Any,
    guide_trace: Any,
    shape: tuple[int, ...],
    plate_scale: float,
    fixed: frozenset[str],
    analytic: bool,
) -> Terms:
    model = sample_sites(model_trace)
    guide = {name: site for name, site in sample_sites(guide_trace).items() if name not in fixed}
    for name, site in guide.items():
        if not site["fn"].has_rsample and not site["is_observed"]:
            raise UnsupportedGuide(f"guide site '{name}' ({type(site['fn']).__name__}) has no reparameterised sample")
    symbols = _enumerated_symbols(model)
    factors = {n: s for n, s in model.items() if not symbols.isdisjoint(s["packed"]["unscaled_log_prob"]._pyro_dims)}
    shared = [name for name in guide if name in model and name not in factors]
    kls = {name: _analytic_kl(guide[name], model[name], shape) for name in shared if analytic}
    closed = {name: kl for name, kl in kls.items() if kl is not None}

    def density(site: Any) -> Tensor:
        return _density(site, shape, plate_scale)

    like = next(iter(model.values()))["unscaled_log_prob"]
    terms = Terms(like.new_zeros(shape))
    for name, kl in closed.items():
        if is_local(model[name]):
            terms.local_kl[name] = kl
        else:
            terms.global_log_p = terms.global_log_p - kl
    for name in (n for n in model if n not in closed and n not in factors):
        if not is_local(model[name]):
            terms.global_log_p = terms.global_log_p + density(model[name])
        elif name in shared:
            terms.local_kl[name] = -density(model[name])
        else:
            terms.likelihood = terms.likelihood + density(model[name])
    for name in (n for n in guide if n not in closed):
        if is_local(guide[name]):
            terms.local_kl[name] = terms.local_kl.get(name, 0.0) + density(guide[name])
        else:
            terms.global_log_q = terms.global_log_q + density(guide[name])
    if factors:
        terms.likelihood = terms.likelihood + _sum_out(model_trace, factors, symbols, shape)
    return terms


def _density(site: Any, shape: tuple[int, ...], plate_scale: float) -> Tensor:
    """The log density of a site without the plate's scale: (S?, B) of a local, (S?,) of a global one."""
    scale = site["scale"] / plate_scale if is_local(site) else site["scale"]
    value: Tensor = scale_and_mask(site["unscaled_log_prob"], scale, site["mask"])
    if value.ndim > len(shape):  # an enumerated latent with one category leaves a dim of size 1
        value = value.reshape(value.shape[-len(shape) :])
    if is_local(site):
        return value.expand(shape)
    # A global site may stand in other plates at dim -1: sum them, keep the particles.
    return value.sum() if len(shape) == 1 else value.expand(shape[0], *value.shape[1:]).sum(-1)


def _enumerated_symbols(sites: Mapping[str, Any]) -> set[str]:
    symbols = (site["infer"].get("_enumerate_symbol") for site in sites.values())
    return {symbol for symbol in symbols if symbol is not None}


def _sum_out(trace: Any, sites: Mapping[str, Any], symbols: set[str], shape: tuple[int, ...]) -> Tensor:
    """Contract the enumerated dims out of these sites' log factors, keeping particles and observations, (S?, B)."""
    factors: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    for site in sites.values():
        ordinal = frozenset(trace.plate_to_symbol[f.name] for f in site["cond_indep_stack"] if f.vectorized)
        term = packed.scale_and_mask(site["packed"]["unscaled_log_prob"], mask=site["packed"]["mask"])
        factors.setdefault(ordinal, []).append(term)
    with shared_intermediates() as cache:
        contracted = contract_tensor_tree(factors, symbols, ring=LogRing(cache=cache))
    terms = [packed.unpack(term, trace.symbol_to_dim) for group in contracted.values() for term in group]
    total: Tensor = sum(terms[1:], terms[0])
    return total.expand(shape)


def _analytic_kl(guide_site: Any, model_site: Any, shape: tuple[int, ...]) -> Tensor | None:
    """KL(q || p) of one site when it is known in closed form, (S?, B) or (S?, B, L) where it factorises; else None."""
    q, p = guide_site["fn"], model_site["fn"]
    if is_delta(q):
        return None
    factorised = isinstance(q, Independent) and isinstance(p, Independent)
    if factorised and q.reinterpreted_batch_ndims == p.reinterpreted_batch_ndims == 1:
        q, p = q.base_dist, p.base_dist
    else:
        factorised = False
    try:
        kl = kl_divergence(q, p)
    except NotImplementedError:
        return None
    if not is_local(guide_site):
        kl = kl.sum(-1) if factorised else kl
        return kl.sum() if len(shape) == 1 else kl.expand(*shape[:1], *kl.shape[1:]).sum(-1)
    return kl.expand(*shape, kl.shape[-1]) if factorised else kl.expand(shape)


def is_delta(fn: Any) -> bool:
    """Whether a guide's distribution is a point mass, whatever its shape."""
    while hasattr(fn, "base_dist") and not isinstance(fn, Delta):
        fn = fn.base_dist
    return isinstance(fn, Delta)


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
        local = sum(self._floored(kl) for kl in terms.local_kl.values())  # (S?, B) or ()
        local = local.expand_as(terms.likelihood).sum(-1) if isinstance(local, Tensor) else local
        bound = scale * (terms.likelihood.sum(-1) - kl_weight * local)
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
    with torch.no_grad(), torch.random.fork_rng(), poutine.block(), evaluating(pair):
        trace = poutine.trace(pair.guide).get_trace(batch)
        guide = sample_sites(trace)
        model = sample_sites(poutine.trace(poutine.replay(pair.model, trace=trace)).get_trace(batch))
    sampled = [name for name, site in guide.items() if not site["is_observed"]]
    latent = [name for name, site in model.items() if not site["is_observed"]]
    if len(latent) == len(model):
        raise ValueError("the model observes nothing in this batch: every site is latent")
    left_out = [name for name in latent if name not in sampled]
    enumerated = [name for name in left_out if model[name]["infer"].get("enumerate") == "parallel"]
    for name in left_out:
        if name not in enumerated:
            kind = "discrete" if model[name]["fn"].support.is_discrete else "continuous"
            raise ValueError(
                f"{kind} site '{name}' is neither sampled by the guide nor enumerated in the model "
                f"(infer={{'enumerate': 'parallel'}})"
            )
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
