"""Is the guide the exact posterior already? Then a fit has nothing to do.

If q is the posterior, log p(data, t) - log q(t) is the log evidence at every t; if it is the same at every draw of q, q
is the posterior wherever it draws. That there is no more of the posterior elsewhere, a mirrored mode, say, the same
difference tells at points that are spread ten and a hundred times as wide. Pairs whose `initial` places the guide at a
closed form come so: conjugate regressions, networks and tables without missing cells. Nothing is known of them by name.
"""

from __future__ import annotations

import copy
from typing import Any

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import biject_to, constraints

from inference.data.check import check
from inference.running.checked import Checked
from inference.running.densities import run
from inference.running.marginal import pointwise
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from zoo import held
from zoo.base import Batch, ModelGuide, evaluating, is_local, sample_sites
from zoo.threads.randomness import apart

REASON = "the guide is the exact posterior"
_FEW, _MORE = 2, 8  # draws: two tell nearly all others apart
_SPREAD, _FAR = (10.0, 100.0), 16  # times the width of the guide, and points at each
_EDGE = 20.0  # logits and logs that these go at most: no probability is rounded to nothing
_DIGITS = {torch.float64: 1e-9}  # of log q that log p is equal to, far out, for rounded parameters; else
_FEW_DIGITS = 1e-6
_ALIKE = {torch.float64: 1e-6}  # nats that the log weights may differ by, for rounded parameters; else
_ROUNDED = 1e-3


def exact_evidence(pair: ModelGuide, batch: Batch, seed: int = 0) -> float | None:
    """The log evidence, in nats, if draws of the guide all give the same log p - log q; else None.

    Continuous local latents, parameters of the model and guides without a density are what steps are for: None.
    """
    with apart():
        if held.of(pair) is not None or not fixed(pair, batch.select(slice(0, min(2, batch.size)))):
            return None
        double = copy.deepcopy(pair).double()  # in single precision sums over rows are not equal to a nat
        given = check(double, batch.to(dtype=torch.float64))
        if not given.globals:
            return None
        alike, digits = _ALIKE.get(pair.dtype, _ROUNDED), _DIGITS.get(pair.dtype, _FEW_DIGITS)
        for draws in (_FEW, _MORE):
            weights = log_weights(double, given, draws, seed)
            if weights is None or not bool(weights.isfinite().all()) or float(weights.max() - weights.min()) > alike:
                return None
            evidence = float(weights.mean())
        for spread in _SPREAD:
            weights, log_q, _ = _log_weights(double, given, _FAR, seed, spread)
            if bool((weights > evidence + alike + digits * log_q.abs()).any()):
                return None
    return evidence


def fixed(pair: ModelGuide, few: Batch) -> bool:
    """Whether the model has no parameter of its own: where a pair learns one, the evidence can still rise."""
    with poutine.block(), torch.enable_grad(), evaluating(pair):
        guide = poutine.trace(pair.guide).get_trace(few)
        fixed = {name: site["value"].detach() for name, site in sample_sites(guide).items() if not is_local(site)}
        parameters = [value for value in pair.parameters() if value.requires_grad]
        terms = run(pair, few, 1, {name: value.unsqueeze(0) for name, value in fixed.items()})
        total = terms.likelihood.sum() + terms.global_log_p
        if terms.local_kl:
            return False
        if not isinstance(total, Tensor) or not total.requires_grad:
            return True
        return not any(g is not None for g in torch.autograd.grad(total.sum(), parameters, allow_unused=True))


def log_weights(pair: ModelGuide, given: Checked, draws: int, seed: int) -> Tensor | None:
    """log p(data, t) - log q(t) at draws of the guide, (S,); None where they do not differ, as those of a point."""
    try:
        return _log_weights(pair, given, draws, seed)[0]
    except _PointError:
        return None


def weighed(pair: ModelGuide, given: Checked, draws: int, seed: int) -> tuple[Tensor, dict[str, Tensor]] | None:
    """`log_weights`, and the draws without constraints, site -> (S, P); None where they do not differ."""
    try:
        weights, _, sites = _log_weights(pair, given, draws, seed)
    except _PointError:
        return None
    found = {}
    for name, (fn, value) in sites.items():
        if not fn.support.is_discrete:
            found[name] = biject_to(fn.support).inv(value).reshape(draws, -1)
    return weights, found


class _PointError(Exception):
    """Draws do not differ."""


def _log_weights(
    pair: ModelGuide, given: Checked, draws: int, seed: int, spread: float = 1.0
) -> tuple[Tensor, Tensor, dict[str, tuple[Any, Tensor]]]:
    """The log weights, and log q, at draws of the guide, or at points spread so many times as wide, each (S,); and of
    each site the guide's distribution and these draws."""
    with quietly(seed, pair):
        first, few = given.batch.select(slice(0, 1)), given.batch.select(slice(0, min(2, given.size)))
        trace = vectorised(pair.guide, few, draws, {}, frozenset())
        if spread != 1:
            with poutine.replay(trace=_spread(trace, spread)):
                trace = vectorised(pair.guide, few, draws, {}, frozenset())
        trace.compute_log_prob()
        log_q, values = torch.zeros(draws, dtype=pair.dtype, device=pair.device), {}
        sites: dict[str, tuple[Any, Tensor]] = {}
        for name, site in sample_sites(trace).items():
            log_q = log_q + site["log_prob"].expand(draws, -1).sum(-1)
            if site["infer"].get("is_auxiliary"):
                continue
            values[name] = site["value"].squeeze(1)
            sites[name] = site["fn"], values[name]
            # Points far out are alike where their support ends, and that says nothing of the guide.
            if spread == 1 and torch.equal(values[name][0], values[name][1]):
                raise _PointError
        prior = run(pair, first, draws, values).global_log_p
        scale = given.batch.total / given.size
        likelihood = sum(part.sum(-1) for _, part in pointwise(given, values, draws))
        return prior + scale * likelihood - log_q, log_q, sites


def _spread(trace: poutine.Trace, times: float) -> poutine.Trace:
    """The random sites of a guide, so many times as far from their mean, without constraints, as they were drawn."""
    found = poutine.Trace()
    for name, site in sample_sites(trace).items():
        if isinstance(site["fn"], dist.Delta):
            continue
        support = site["fn"].support
        transform = biject_to(support)
        free = transform.inv(site["value"])
        away = times * (free - free.mean(0))
        bounded = getattr(support, "base_constraint", support) is not constraints.real
        away = away.clamp(-_EDGE, _EDGE) if bounded else away
        found.add_node(name, **{**site, "value": transform(free.mean(0) + away)})
    return found
