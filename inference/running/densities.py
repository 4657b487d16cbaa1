"""Log densities of one run of guide and model, discrete locals summed out.

One run gives the log densities of each observation; from them come the bounds that `fit` climbs
(`inference.fitting.objective`) and every pointwise score (`inference.posterior.likelihood`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
from opt_einsum import shared_intermediates
from pyro import poutine
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree
from pyro.ops.rings import LogRing
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from zoo.base import FIELDS, Batch, ModelGuide, is_local, sample_sites

GIVEN = "_given"  # in `infer` of a site: a handler gave its value, so that nothing has drawn it


class UnsupportedGuide(ValueError):
    """The guide has a site that the estimator cannot handle; the message names it."""


@dataclass
class Terms:
    """Log densities of one run; a leading (S,) where S particles or posterior draws ran at once."""

    likelihood: Tensor  # (S?, B) log p(x_n | latents), enumerated locals summed out
    local_kl: dict[str, Tensor] = field(default_factory=dict)  # site -> (S?, B) or (S?, B, L): log q - log p
    global_log_p: Tensor | float = 0.0  # (S?,)
    global_log_q: Tensor | float = 0.0  # (S?,)
    sites: dict[str, Tensor] = field(default_factory=dict)  # what of `likelihood` is whose, (S?, B); "x+y" of factors
    global_kl: dict[str, Tensor] = field(default_factory=dict)  # site, auxiliary ones too -> (S?,): log q - log p

    @property
    def log_weight(self) -> Tensor:
        """log p(x_n, z_n | globals) - log q(z_n | x_n), (S?, B)."""
        total = self.likelihood
        for kl in self.local_kl.values():
            total = total - (kl.sum(-1) if kl.ndim > total.ndim else kl)
        return total


def left_out(name: str, *, discrete: bool, local: bool) -> str:
    """What to say of a latent that the guide does not sample and the model does not enumerate, and the cure."""
    ways = ["mark it infer={'enumerate': 'parallel'} in the model"] if discrete else []
    if local:
        ways.append(f"write a `guide` that samples '{name}', with self.global_guide(batch) for the global latents")
    else:
        ways.append(f"let the `guide` sample '{name}', by self.global_guide(batch) or a statement of its own")
    kind = "discrete" if discrete else "continuous"
    return f"{kind} site '{name}' is neither sampled by the guide nor enumerated in the model: {', or '.join(ways)}"


def run(
    pair: ModelGuide,
    batch: Batch,
    particles: int | None = None,
    globals_: Mapping[str, Tensor] | None = None,
    analytic: bool = False,
) -> Terms:
    """Run the guide, then the model on its draws, and collect log densities.

    A local latent that the guide leaves out is drawn by the model, from its prior: that is its proposal then, and the
    two densities cancel.

    Args:
        pair: the model/guide pair.
        batch: what is observed.
        particles: number S of runs at once; None is one run without a particle dimension.
        globals_: values of the global latents, each (S, *event); the guide then draws the locals alone.
        analytic: use closed-form KL divergences of local and global sites where they exist.

    Raises:
        UnsupportedGuide: a latent site of the guide without a reparameterised sample.
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
    _weigh_points(guide_trace)
    for trace in (guide_trace, model_trace):
        trace.compute_log_prob()
    model_trace.pack_tensors()
    shape = (batch.size,) if particles is None else (particles, batch.size)
    return _collect(model_trace, guide_trace, shape, batch.total / batch.size, frozenset(fixed), analytic)


def _weigh_points(trace: Any) -> None:
    """Give point masses of a guide, drawn where they stand, the density that they come with.

    Automatic guides draw all latents as one vector and hand them out as such. Pyro's own density asks of each number
    whether it is itself first.
    """
    for site in sample_sites(trace).values():
        fn = site["fn"]
        if type(fn) is Delta and not site["is_observed"] and not site["infer"].get(GIVEN):
            found = site["unscaled_log_prob"] = fn.log_density.expand(fn.batch_shape)
            site["log_prob"] = scale_and_mask(found, site["scale"], site["mask"])
            site["log_prob_sum"] = site["log_prob"].sum()


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
            terms.global_log_p, terms.global_kl[name] = terms.global_log_p - kl, kl
    for name in _counted(model, guide.keys(), closed.keys() | factors.keys()):
        found = density(model[name])
        if not is_local(model[name]):
            terms.global_log_p, terms.global_kl[name] = terms.global_log_p + found, -found
        elif name in shared:
            terms.local_kl[name] = -found
        else:
            terms.likelihood, terms.sites[name] = terms.likelihood + found, found
    for name in (n for n in guide if n not in closed):
        found = density(guide[name])
        if is_local(guide[name]):
            terms.local_kl[name] = terms.local_kl.get(name, 0.0) + found
        else:
            terms.global_log_q = terms.global_log_q + found
            terms.global_kl[name] = terms.global_kl.get(name, 0.0) + found
    if factors:
        found = _sum_out(model_trace, factors, symbols, shape)
        seen = [name for name, site in factors.items() if site["is_observed"]]
        terms.likelihood, terms.sites["+".join(seen)] = terms.likelihood + found, found
    return terms


def _counted(model: Mapping[str, Any], guide: Collection[str], elsewhere: Collection[str]) -> list[str]:
    """Sites of the model whose density counts by itself: not that of a local latent drawn from its prior."""

    def from_prior(name: str) -> bool:
        known = model[name]["is_observed"] or model[name]["infer"].get(GIVEN) or name in guide or name in FIELDS
        return is_local(model[name]) and not known

    return [name for name in model if name not in elsewhere and not from_prior(name)]


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
