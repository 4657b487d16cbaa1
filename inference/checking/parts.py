"""What is found of a pair and its data, part by part: each of these makes some findings, or says why it cannot."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.checking.bounds import of_bound, of_gap, of_idle, of_scale
from inference.checking.findings import Finding
from inference.checking.guides import of_rows
from inference.checking.held_out import of_scores, of_twins
from inference.checking.observed import of_coverage, of_left_out
from inference.checking.predictive import FEWEST, of_predictions, of_prior
from inference.checking.sensitivity import of_scaling
from inference.codes.collapse import CollapseWarning, code_kl, collapsed
from inference.codes.gaps import gap
from inference.posterior.draws import drawn, predict
from inference.posterior.draws import prior as draw_prior
from inference.posterior.khat import KHat, check_guide, point_codes
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import assignments, local_log_weights, log_score, scores
from inference.posterior.loo import leaving_out, weights_of
from inference.posterior.psis import LEAST, Numbers, check_enough, effective_share, pareto_k
from inference.running.checked import Checked, at
from inference.running.marginal import log_joint, log_prior
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from zoo.abilities import HiddenStates
from zoo.base import ModelGuide

DRAWS, PREDICTED, EXACT = 1000, 200, 400  # of a guide, of predictions, of a guide that was found without steps
ROWS, CELLS = 250, 2_000_000  # looked at for shares of all: rows at most; and numbers predicted
TOLD = 8  # draws of which the density is worked out anew
BEFORE = 20  # rows predicted by the prior
WORK = 400_000  # likelihoods of rows with codes of their own, in all draws
CODED, STEPS, PARTICLES = 32, 100, 400  # rows whose gaps are looked at, by so many steps and importance samples
GAPS = 2  # draws of the globals that they are averaged over


def of_guide(pair: ModelGuide, given: Checked, seed: int) -> Posterior:
    """Draws of the fitted guide: fewer where rows have codes, of which each draw takes a hundred for its density.

    Those are not drawn here, but where they are asked for.
    """
    none = torch.zeros(0, dtype=torch.long)
    count = EXACT if pair.card.get("fit", {}).get("steps") == 0 else DRAWS
    if given.globals and given.continuous_locals:
        count = max(LEAST, min(DRAWS, WORK // (100 * given.size)))
    found = drawn(given, count, seed=seed, rows=none if given.globals else None)
    return replace(found, local=frozenset(), draws={n: v for n, v in found.draws.items() if n in found.globals})


def work_of(pair: ModelGuide, given: Checked) -> int | None:
    """Gradients of all rows that the fit took, each at one point; None where that is not known.

    Many points at once cost less than as many steps of a fit, one after the other.
    """
    fit = pair.card.get("fit", {})
    steps, rows = fit.get("steps"), fit.get("batch_size")
    return steps * rows // given.size if steps and rows else None


def belongs(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Whether the density that draws came with is that of these data: else nothing, or that they are of others."""
    known = posterior.globals & given.sites.keys()
    if "log_p" not in posterior.stats or given.continuous_locals or not known or known != set(given.globals):
        return
    few = posterior.thin(max(1, TOLD // posterior.chains))
    then = few.stats["log_p"].flatten()[:TOLD].double().cpu()
    with quietly(seed, pair):
        now = log_joint(given, {name: value[:TOLD] for name, value in few.flat(known).items()}).double().cpu()
    away = float((now - then).abs().max())
    room = (1e-6 if pair.dtype == torch.float64 else 1e-2) * (1 + float(then.abs().max()))
    if away > room or not math.isfinite(away):
        yield Finding(
            "posterior and data", "wrong",
            f"draws came with a log density of {float(then[0]):.2f} nats, with these data {float(now[0]):.2f}: "
            "they are of other data, or of the pair as it was before", away, "inference.draw",
            "Draw for this pair and these data: inference.draw(pair, data)",
        )  # fmt: skip


def rows_of(pair: ModelGuide, given: Checked, seed: int) -> Iterator[Finding]:
    """The guides of single observations."""
    check_guide(given)
    if point_codes(given):
        return
    some = given.select(some_of(given).to(pair.device))
    weights = local_log_weights(pair, some, PREDICTED, seed=seed).double().cpu().numpy()
    yield from of_rows(KHat(None, pareto_k(weights), None, effective_share(weights), 0, PREDICTED), given.size)


def codes(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Dimensions of codes that say nothing."""
    if not given.continuous_locals:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        notes = collapsed(pair, given.select(some_of(given, 4 * ROWS).to(pair.device)), seed=seed)
    told = " ".join(notes) or "every dimension of a code says something of the data"
    yield Finding("codes", "look" if notes else "ok", told, float(len(notes)), "Burda et al. 2016", "A smaller code")


def left_out(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """What is left out is also predicted."""
    few, rows, weights = posterior, some_of(given), None
    if posterior.globals and not given.continuous_locals and given.size > 1:
        few = posterior.thin(max(2, DRAWS // posterior.chains)) if posterior.method != "svi" else posterior
        check_enough("posterior: draws", few.chains * few.size, "the Pareto k of a leave-one-out score")
        log_p = _of_rows(given, few, rows, seed)
        log_ratios = weights_of(few)
        found, weights = leaving_out(log_p, log_ratios, range(len(rows)))
        yield from of_left_out(found, given.size)
        yield from _powers(pair, given, few, log_p, log_ratios, seed)
    yield from _predicted(pair, given, few, rows, weights, seed)


def _of_rows(given: Checked, posterior: Posterior, rows: Tensor, seed: int) -> Numbers:
    """log p(x_n | t_s) of these rows, (S, R)."""
    some = given if len(rows) == given.size else given.select(rows.to(given.pair.device))
    return np.asarray(scores(some, posterior, seed=seed).flatten(0, 1).double().cpu().numpy())


def _powers(
    pair: ModelGuide, given: Checked, posterior: Posterior, log_p: Numbers, log_ratios: Numbers | None, seed: int
) -> Iterator[Finding]:
    """Sensitivity to prior and likelihood: that of all rows is what the joint density has beyond the prior."""
    lead, known = (posterior.chains, posterior.size), posterior.globals & given.sites.keys()
    with quietly(seed, pair):
        before = log_prior(given, posterior.flat(known)).reshape(lead)
    if log_p.shape[1] == given.size:
        likelihood = torch.from_numpy(log_p.sum(1)).reshape(lead)
    elif "log_p" in posterior.stats:
        likelihood = posterior.stats["log_p"].double().cpu() - before.double().cpu()
    else:
        told = f"draws came without their density, and {given.size:,} rows are too many to find it anew"
        yield Finding("sensitivity to the prior", "could not be judged", told, counts=False)
        return
    yield from of_scaling({name: posterior.draws[name] for name in known}, before, likelihood, log_ratios)


def bound(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Of the globals' guide, and what its fit reported of all the data."""
    ratios = weights_of(posterior) if "log_q" in posterior.stats else None
    if ratios is None or given.continuous_locals or len(ratios) < 25:
        return
    fit, reported = pair.card.get("fit", {}), None
    told = pair.card.get("metrics", {}).get("elbo_per_observation")
    same = all(shape[0] == given.size for shape in pair.card.get("data", {}).values())
    # Of parts of the rows it is a mean over random ones, and says less than the weights do.
    if told is not None and fit.get("objective") == "elbo" and fit.get("batch_size") == given.size and same:
        reported = told * given.size - 4 * float(ratios.std()) / math.sqrt(10) - 0.001 * abs(told * given.size)
    yield from of_bound(ratios, math.nan, math.nan, reported)


def scale(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Of rows in a part of the data."""
    with quietly(seed, pair):
        yield from of_scale(given)


def gaps(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """What the encoder loses, of some rows."""
    if not given.continuous_locals or not pair.trained or point_codes(given):
        return
    some = given.select(some_of(given, CODED).to(pair.device))
    few = posterior.thin(GAPS) if posterior.chains == 1 and given.globals else None
    few = None if few is None else replace(few, draws={n: few.draws[n] for n in few.globals}, local=frozenset())
    told = gap(pair, some, particles=PARTICLES, steps=STEPS, posterior=few, seed=seed)
    divergence = sum(float(value.sum()) for value in code_kl(pair, some, posterior=few, seed=seed).values())
    yield from of_gap(told.amortisation, told.approximation, divergence)


def idle(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Components of a mixture, states of a chain."""
    few = posterior.thin(max(1, 100 // posterior.chains))
    classes = [name for name in given.locals if given.sites[name].enumerated]
    if len(classes) == 1 and not given.continuous_locals:
        for name, probs in assignments(pair, few, given).items():
            yield from of_idle(f"values of '{name}'", probs.sum(0))
    elif any(isinstance(site.fn, HiddenStates) for site in given.observed.values()):
        yield from of_idle("states", _in_states(pair, given, few, seed))


def _in_states(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Tensor:
    """Steps of all series expected in each hidden state, averaged over draws, (K,)."""
    values, total = posterior.flat(posterior.globals), posterior.chains * posterior.size
    name = next(name for name, site in given.observed.items() if isinstance(site.fn, HiddenStates))
    found: Tensor | None = None
    with quietly(seed, pair):
        for _, part, some in given.sweep(total):
            trace = vectorised(pair.model, part, some.stop - some.start, at(values, some), frozenset())
            site = trace.nodes[name]
            probs = site["fn"].smooth(site["value"])  # (S, B, T, K)
            if part.lengths is not None:
                past = torch.arange(probs.shape[-2], device=probs.device) >= part.lengths[:, None]
                probs = probs.masked_fill(past[..., None], 0.0)
            summed = probs.sum(-2).sum((0, 1)) / total
            found = summed if found is None else found + summed
    return torch.as_tensor(found)


def unseen(pair: ModelGuide, given: Checked, posterior: Posterior, other: Checked, seed: int) -> Iterator[Finding]:
    """Of rows that are held out."""
    yield from of_twins(given.batch.fields(), other.batch.fields())
    few = posterior.thin(max(2, DRAWS // posterior.chains))
    score = log_score(pair, few, other, seed=seed).double().cpu().numpy()
    if posterior.globals and not given.continuous_locals and given.size > 1:
        log_p = _of_rows(given, few, some_of(given), seed)
        known = leaving_out(log_p, weights_of(few))[0].pointwise
    else:
        known = log_score(pair, few, given, seed=seed).double().cpu().numpy()
    yield from of_scores(np.asarray(known), score)


def _predicted(
    pair: ModelGuide, given: Checked, posterior: Posterior, rows: Tensor, weights: Numbers | None, seed: int
) -> Iterator[Finding]:
    """Of codes and classes drawn anew, since those of a row have seen it."""
    if len(rows) < FEWEST:
        return
    part = given.select(rows.to(given.pair.device))
    seen = _seen(part)
    numbers = sum(value[0].numel() for value in seen.values()) * len(rows)
    total = posterior.chains * posterior.size
    alone = replace(posterior, draws={n: posterior.draws[n] for n in posterior.globals}, local=frozenset())
    if weights is None:
        most = min(total if posterior.globals else DRAWS, DRAWS, max(100, CELLS // max(1, numbers)))
        alone = (
            alone.thin(max(1, most // posterior.chains))
            if posterior.globals
            else replace(alone, stats={}, chains=1, size=most)
        )
    made = predict(pair, alone, part, seed=seed)
    for name, value in seen.items():
        yield from of_predictions(name, value, made[name].flatten(0, 1), weights, seed)


def prior(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Whether the prior leaves room for the data."""
    if not given.globals:
        return
    part = given.select(some_of(given, BEFORE).to(given.pair.device))
    before = draw_prior(pair, part, 2 * DRAWS, seed=seed)
    made = predict(pair, before, part, seed=seed)
    for name, value in _seen(part).items():
        yield from of_prior(name, value, made[name].flatten(0, 1))


def some_of(given: Checked, most: int = ROWS) -> Tensor:
    """Rows, evenly spaced."""
    return torch.linspace(0, given.size - 1, min(most, given.size)).round().long()


def _seen(given: Checked) -> dict[str, Tensor]:
    """The observed sites whose fields hold data; NaN past the end of a series."""
    fields = given.batch.fields()
    found = {name: fields[name].double() for name in given.observed if name in fields}
    lengths = given.batch.lengths
    if lengths is None:
        return found
    for name, value in found.items():
        over = torch.arange(value.shape[1], device=value.device) >= lengths[:, None]  # (N, T)
        found[name] = value.masked_fill(over.reshape(*over.shape, *[1] * (value.ndim - 2)), torch.nan)
    return found


def coverage(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Whether intervals hold what they should."""
    rows = some_of(given, 4 * ROWS)
    part = given.select(rows.to(pair.device))
    fields = part.batch.fields()
    seen = {n: fields[n] for n in given.observed if n in fields and _real(given.sites[n], fields[n])}
    if not seen:
        return
    few = max(1, PREDICTED // posterior.chains)
    if given.continuous_locals and not posterior.local and posterior.method == "svi":
        posterior = drawn(given, few, stats=False, seed=seed, rows=rows)
    elif posterior.local:
        for name in posterior.local:
            if (held := posterior.draws[name].shape[2]) != given.size:
                raise ValueError(f"the posterior holds '{name}' of {held:,} rows, and the data are {given.size:,}")
        local = {n: posterior.draws[n][:, :, rows.to(posterior.draws[n].device)] for n in posterior.local}
        posterior = replace(posterior, draws={**posterior.draws, **local})
    found = predict(pair, posterior, part, few, seed=seed)
    yield from of_coverage(seen, {name: found[name].flatten(0, 1) for name in seen})


def _real(site: Any, value: Tensor) -> bool:
    return value.is_floating_point() and not site.discrete
