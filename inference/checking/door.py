"""`inference.check`: all that can be said for and against a posterior, and one verdict."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from inference.checking.chains import of_chains
from inference.checking.findings import Check, Finding, State
from inference.checking.guides import RUN, of_rows, of_run, of_weights
from inference.checking.observed import of_coverage, of_left_out
from inference.checking.predictive import FEWEST, of_predictions, of_prior
from inference.checking.sensitivity import of_scaling
from inference.codes.collapse import CollapseWarning, collapsed
from inference.data.check import check as accepted
from inference.posterior.check import check_posterior
from inference.posterior.draws import draw, predict
from inference.posterior.draws import prior as draw_prior
from inference.posterior.khat import khat
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import scores
from inference.posterior.loo import leaving_out, weights_of
from inference.posterior.psis import EXACT, Numbers, check_enough, effective_share
from inference.roads.grounds import Inferred
from inference.running.checked import Checked
from inference.running.marginal import log_prior
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.words import check_bool
from inference.sampling.options import Start
from inference.sampling.sample import sample
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

__all__ = ["Check", "check"]
DRAWS, PREDICTED, CHAINS, SHORT, WARM = 1000, 200, 16, 60, 200
ROWS, CELLS = 500, 4_000_000  # predicted once more: rows at most, and numbers


@in_turn
@or_program("checks")
def check(pair: ModelGuide, data: Any, posterior: Posterior | None = None, *, run: bool = True, seed: int = 0) -> Check:
    """Can this posterior be believed? Findings, each a number beside its threshold, and one verdict.

    Of draws by MCMC: R-hat, effective draws, divergences, energy. Of a guide: k̂ and what its weights move, the guides
    of the rows, and a short Hamiltonian run that begins at its draws, since weights cannot see a guide that is too
    narrow. Of what `inference.infer` gives: the evidence of its road. Of all: leave-one-out, coverage of predictions,
    codes that say nothing.

    Args:
        pair: the pair.
        data: what it was fitted to; see `inference.data`.
        posterior: from `draw`, `sample`, `infer` or `resample`; by default draws of the fitted guide.
        run: whether chains are run, from draws of a guide.
        seed: seeds what is drawn here; the caller's random state is left as it was.

    Returns:
        A `Check`: its `verdict` is `trust`, `caution` or `do not trust`, its `reasons` say why.

    Raises:
        ValueError: data that do not fit the pair, or draws that are not this pair's.

    Example::

        pair, data = zoo.create("gmm", features=2, components=2), zoo.datasets.load("faithful")
        inference.fit(pair, data, progress=False)
        print(inference.check(pair, data))
    """
    check_bool("run", run)
    given = accepted(pair, data)
    if posterior is None:
        posterior = draw(pair, given, DRAWS, seed=seed)
    checked = check_posterior(given, posterior)
    globals_alone = bool(checked.globals) and not given.continuous_locals
    begin: Start = "guide" if pair.trained else "auto"
    found = of_draws(
        posterior if isinstance(posterior, Inferred) else checked,
        partial(sample, pair, given, SHORT, CHAINS, start=begin, max_warmup=WARM, seed=seed, progress=False),
        run if globals_alone else None,
    )
    if given.continuous_locals and checked.method not in ("mcmc", "prior") and not isinstance(posterior, Inferred):
        found += safely(_rows, pair, given, seed, bears=True)
    if not found:
        told = "all of its parameters are points: there is no posterior of them to judge"
        found.append(Finding("posterior", "could not be judged", told, bears=True))
    misses = any(finding.state == "wrong" and "k̂" in finding.name for finding in found)
    for part in (
        (_codes, _coverage) if misses else (_codes, _left_out, _coverage, _prior)
    ):  # which presupposes that it does not
        found += safely(part, pair, given, checked, seed)
    return Check(pair.name, tuple(found))


def of_draws(posterior: Posterior, short: Callable[[], Posterior], run: bool | None) -> list[Finding]:
    """What draws say of themselves, by how they were made, and a short run of chains where a guide made them.

    Args:
        posterior: the draws.
        short: makes the run, from their place.
        run: whether it is made; None: there is nothing that it could judge.
    """
    if isinstance(posterior, Inferred):
        return list(_of_road(posterior))
    if posterior.method == "mcmc":
        return list(of_chains(posterior))
    found, exact = list[Finding](), False
    if posterior.globals and posterior.method != "psis":
        found += of_weights(posterior)
        if {"log_p", "log_q"} <= posterior.stats.keys():
            ratios = (posterior.stats["log_p"] - posterior.stats["log_q"]).flatten().double().cpu().numpy()
            exact = float(effective_share(ratios)) >= EXACT
    if exact or run is None:
        return found
    if not run:
        told = "left out, and weights cannot see a guide that is too narrow"
        return [*found, Finding(RUN, "could not be judged", told, advice="Let it run, run=True", bears=True)]
    return found + safely(_of_short, posterior, short, bears=True, name=RUN)


def _of_road(posterior: Inferred) -> Iterator[Finding]:
    """The evidence that `inference.infer` found sufficient, or not."""
    for ground in posterior.grounds:
        state: State = "ok" if ground.holds else "wrong"
        source = f"inference.infer, {posterior.road} road"
        yield Finding(ground.name, state, str(ground), ground.value, source, posterior.advice, bears=True)


def _of_short(posterior: Posterior, short: Callable[[], Posterior]) -> Iterator[Finding]:
    yield from of_run(posterior.flat(posterior.globals), short())


def _rows(pair: ModelGuide, given: Checked, seed: int) -> Iterator[Finding]:
    yield from of_rows(khat(pair, given, 200, 200, seed=seed))


def _codes(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    if not given.continuous_locals:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapseWarning)
        notes = collapsed(pair, given, seed=seed)
    told = " ".join(notes) or "every dimension of a code says something of the data"
    yield Finding("codes", "look" if notes else "ok", told, float(len(notes)), "Burda et al. 2016", "A smaller code")


def _left_out(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    """What is left out is also predicted."""
    few, rows, weights = posterior, _some(given), None
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


def _prior(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    if not given.globals:
        return
    part = given.select(_some(given, 100).to(given.pair.device))
    before = draw_prior(pair, part, 2 * DRAWS, seed=seed)
    drawn = predict(pair, before, part, seed=seed)
    for name, value in _seen(part).items():
        yield from of_prior(name, value, drawn[name].flatten(0, 1))


def _some(given: Checked, most: int = ROWS) -> Tensor:
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


def _coverage(pair: ModelGuide, given: Checked, posterior: Posterior, seed: int) -> Iterator[Finding]:
    fields = given.batch.fields()
    seen = {n: fields[n] for n in given.observed if n in fields and _real(given.sites[n], fields[n])}
    if not seen:
        return
    few = max(1, PREDICTED // posterior.chains)
    found = predict(pair, posterior, given, few, seed=seed)
    yield from of_coverage(seen, {name: found[name].flatten(0, 1) for name in seen})


def _real(site: Any, value: Tensor) -> bool:
    return value.is_floating_point() and not site.discrete


def safely(part: Callable[..., Iterator[Finding]], *given: Any, bears: bool = False, name: str = "") -> list[Finding]:
    """What a part finds; where it cannot be made, that, and why.

    Args:
        part: makes findings of what is `given`.
        bears: whether nothing is trusted where it cannot.
        name: of the finding then; by default that of the part.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return list(part(*given))
    except (ValueError, NotImplementedError, RuntimeError) as error:
        called = name or part.__name__.strip("_").replace("_", " ")
        return [Finding(called, "could not be judged", str(error).splitlines()[0], bears=bears)]
