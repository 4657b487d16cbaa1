"""Is the guide the exact posterior already? Then a fit has nothing to do.

If q is the posterior, log p(data, t) - log q(t) is the log evidence at every t; if it is the same at every draw of q, q
is the posterior wherever it draws. Pairs whose `initial` places the guide at a closed form come so: conjugate
regressions, networks and tables without missing cells. Nothing is known of them by name.
"""

from __future__ import annotations

import copy

import torch
from pyro import poutine

from inference.data.check import check
from inference.running.checked import Checked
from inference.running.densities import run
from inference.running.marginal import pointwise
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from zoo.base import Batch, ModelGuide, evaluating, is_local, sample_sites
from zoo.threads.randomness import apart

REASON = "the guide is the exact posterior"
_FEW, _MORE = 2, 8  # draws: two tell nearly all others apart
_ALIKE = {torch.float64: 1e-6}  # nats that the log weights may differ by, for rounded parameters; else
_ROUNDED = 1e-3


def exact_evidence(pair: ModelGuide, batch: Batch, seed: int = 0) -> float | None:
    """The log evidence, in nats, if draws of the guide all give the same log p - log q; else None.

    Continuous local latents, parameters of the model and guides without a density are what steps are for: None.
    """
    with apart():
        if not _may_be(pair, batch.select(slice(0, min(2, batch.size)))):
            return None
        double = copy.deepcopy(pair).double()  # in single precision sums over rows are not equal to a nat
        given = check(double, batch.to(dtype=torch.float64))
        if not given.globals:
            return None
        alike = _ALIKE.get(pair.dtype, _ROUNDED)
        for draws in (_FEW, _MORE):
            weights = log_weights(double, given, draws, seed)
            if weights is None or not bool(weights.isfinite().all()) or float(weights.max() - weights.min()) > alike:
                return None
            evidence = float(weights.mean())
    return evidence


def _may_be(pair: ModelGuide, few: Batch) -> bool:
    """Whether the model has no parameter of its own: where a pair learns one, the evidence can still rise."""
    with poutine.block(), torch.enable_grad(), evaluating(pair):
        guide = poutine.trace(pair.guide).get_trace(few)
        fixed = {name: site["value"].detach() for name, site in sample_sites(guide).items() if not is_local(site)}
        parameters = [value for value in pair.parameters() if value.requires_grad]
        terms = run(pair, few, 1, {name: value.unsqueeze(0) for name, value in fixed.items()})
        total = terms.likelihood.sum() + terms.global_log_p
        if terms.local_kl:
            return False
        if not isinstance(total, torch.Tensor) or not total.requires_grad:
            return True
        return not any(g is not None for g in torch.autograd.grad(total.sum(), parameters, allow_unused=True))


def log_weights(pair: ModelGuide, given: Checked, draws: int, seed: int) -> torch.Tensor | None:
    """log p(data, t) - log q(t) at draws of the guide, (S,); None where they do not differ, as those of a point."""
    with quietly(seed, pair):
        first = given.batch.select(slice(0, 1))
        trace = vectorised(pair.guide, given.batch.select(slice(0, min(2, given.size))), draws, {}, frozenset())
        trace.compute_log_prob()
        log_q, values = torch.zeros(draws, dtype=pair.dtype, device=pair.device), {}
        for name, site in sample_sites(trace).items():
            log_q = log_q + site["log_prob"].expand(draws, -1).sum(-1)
            if site["infer"].get("is_auxiliary"):
                continue
            values[name] = site["value"].squeeze(1)
            if torch.equal(values[name][0], values[name][1]):
                return None
        prior = run(pair, first, draws, values).global_log_p
        scale = given.batch.total / given.size
        return prior + scale * sum(part.sum(-1) for _, part in pointwise(given, values, draws)) - log_q
