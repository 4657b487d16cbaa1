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
from inference.posterior.draws import predict
from inference.posterior.draws import prior as draw_prior
from inference.posterior.khat import khat, point_codes
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import assignments, log_score, scores
from inference.posterior.loo import leaving_out, weights_of
from inference.posterior.psis import Numbers, check_enough
from inference.running.checked import Checked, at
from inference.running.marginal import log_prior
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from zoo.abilities import HiddenStates
from zoo.base import ModelGuide

DRAWS, PREDICTED = 1000, 200
ROWS, CELLS = 500, 4_000_000  # predicted once more: rows at most, and numbers
CODED, STEPS, PARTICLES = 32, 100, 400  # rows whose gaps are looked at, by so many steps and importance samples


def rows_of(pair: ModelGuide, given: Checked, seed: int) -> Iterator[Finding]:
    """The guides of single observations."""
    yield from of_rows(khat(pair, given, 200, 200, seed=seed))


def codes(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Dimensions of codes that say nothing."""
    if not given.continuous_locals:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        notes = collapsed(pair, given, seed=seed)
    told = " ".join(notes) or "every dimension of a code says something of the data"
    yield Finding("codes", "look" if notes else "ok", told, float(len(notes)), "Burda et al. 2016", "A smaller code")


def left_out(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """What is left out is also predicted."""
    few, rows, weights = posterior, some_of(given), None
    if posterior.globals and not given.continuous_locals and given.size > 1:
        few = posterior.thin(max(2, DRAWS // posterior.chains)) if posterior.method != "svi" else posterior
        check_enough("posterior: draws", few.chains * few.size, "the Pareto k of a leave-one-out score")
        log_p = scores(given, few, seed=seed).flatten(0, 1).double().cpu().numpy()
        log_ratios = weights_of(few)
        found, weights = leaving_out(log_p, log_ratios, rows.tolist())
        yield from of_left_out(found)
        lead = (few.chains, few.size)
        with quietly(seed, pair):
            before = log_prior(given, few.flat(few.globals & given.sites.keys()))
        likelihood = torch.from_numpy(log_p.sum(1)).reshape(lead)
        latents = {name: few.draws[name] for name in few.globals & given.sites.keys()}
        yield from of_scaling(latents, before.reshape(lead), likelihood, log_ratios)
    yield from _predicted(pair, given, few, rows, weights, seed)


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
    told = gap(pair, some, particles=PARTICLES, steps=STEPS, seed=seed)
    divergence = sum(float(value.sum()) for value in code_kl(pair, some, seed=seed).values())
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
        log_p = scores(given, few, seed=seed).flatten(0, 1).double().cpu().numpy()
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
    drawn = predict(pair, alone, part, seed=seed)
    for name, value in seen.items():
        yield from of_predictions(name, value, drawn[name].flatten(0, 1), weights, seed)


def prior(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """Whether the prior leaves room for the data."""
    if not given.globals:
        return
    part = given.select(some_of(given, 100).to(given.pair.device))
    before = draw_prior(pair, part, 2 * DRAWS, seed=seed)
    drawn = predict(pair, before, part, seed=seed)
    for name, value in _seen(part).items():
        yield from of_prior(name, value, drawn[name].flatten(0, 1))


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
    fields = given.batch.fields()
    seen = {n: fields[n] for n in given.observed if n in fields and _real(given.sites[n], fields[n])}
    if not seen:
        return
    few = max(1, PREDICTED // posterior.chains)
    found = predict(pair, posterior, given, few, seed=seed)
    yield from of_coverage(seen, {name: found[name].flatten(0, 1) for name in seen})


def _real(site: Any, value: Tensor) -> bool:
    return value.is_floating_point() and not site.discrete
