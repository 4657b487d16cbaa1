"""A posterior that can be believed, by the cheapest road whose evidence holds; see `inference.roads`."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from inference.codes.refinement import refine
from inference.data.check import check
from inference.data.learnable import check_learnable
from inference.fitting import curvature, exact
from inference.fitting.fit import Fit, fit
from inference.fitting.objective import choose, plain
from inference.posterior.draws import draw, drawn
from inference.posterior.khat import khat
from inference.posterior.loo import resample
from inference.posterior.psis import threshold
from inference.roads.climbing import Road, climb
from inference.roads.covering import covering
from inference.roads.evidence import at_once
from inference.roads.grounds import Ground, Inferred
from inference.roads.judging import asked, judged
from inference.roads.paths import Gaussian
from inference.roads.roads import LIMITS, by_gaussian, by_tempered, wanted
from inference.running.checked import Checked
from inference.running.constants import take
from inference.running.deadline import Deadline
from inference.running.naming import proper
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.words import check_bool, check_count, check_number
from inference.sampling import starts
from inference.sampling.potential import Potential
from inference.sampling.sample import sampled
from zoo import guides
from zoo.base import ModelGuide
from zoo.history import or_as_it_was, put_back
from zoo.threads.handlers import unvalidated
from zoo.threads.turns import in_turn

RELIABLE = 0.95  # of the observations, whose guides weights can correct
EQUAL = 1e-3  # nats that log weights of an exact guide differ by, at most; in single precision a part of them


@in_turn
@or_program("infer")
def infer(
    pair: ModelGuide,
    data: Any,
    *,
    budget: float | None = None,
    draws: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> Inferred:
    """Draws of the posterior by the cheapest road whose evidence holds, and one line that says why to believe them.

    The roads, in order: *exact*, where the guide is the posterior in closed form; *Gaussian*, a normal distribution of
    the latents without constraints, its draws corrected by importance weights; *amortised*, for pairs with an encoder:
    `fit`, judged by the weights of every observation, `refine` where those fall short; *Hamiltonian*, `sample`;
    *tempered*, sequential Monte Carlo from the prior, where modes lie apart or chains disagree. A road whose evidence
    does not hold is told, and the next one taken. Where none does, the best of them is returned with `trusted` False,
    and `advice`.

    Other modes are looked for before a Gaussian is believed, by points led uphill from the prior and from around it,
    and no road is believed that leaves out one that was found. What neither a point nor a draw comes near to is not
    seen: a spike within a wider mode, a thousandth as wide in two dimensions or a tenth as wide in five, is trusted
    away though it hold half of the posterior, for a few of its own widths off nothing in the density or its gradient
    tells of it. A model that knows of such a place says so by a discrete latent, which is summed out.

    The result is a `Posterior`: `predict`, `log_likelihood`, `loo`, `to_arviz` take it. The pair ends as the road
    leaves it: its guide exact, Gaussian or trained, so that `save` keeps it; after the Hamiltonian road it is sampled.

    Args:
        pair: the pair; a trained one is not fitted again, but judged.
        data: see `inference.data`.
        budget: seconds, after which no further road begins, and the one that is taken ends with what it has; what was
            best by then is returned, and what is missing told. No limit by default.
        draws: how many; of the Hamiltonian road at the least, which draws until 400 are effective in the bulk and in
            the tails and R-hat is below 1.01, or no end of it is seen.
        seed: seeds everything drawn; the caller's random state is left as it was.
        progress: show bars.

    Returns:
        an `inference.Inferred`, which has the road, its evidence, every road tried and what it cost.

    Raises:
        ValueError: data that do not fit the pair, options out of range, no latents.
        SamplingError: no road led to a single draw; the message says how each of them failed.

    Where it raises, an interrupt included, the pair is as it was before, to the bit.

    Example::

        posterior = inference.infer(pair, data)
        print(posterior)  # trust it: Gaussian road, 0.4 s, k̂ 0.32 ≤ 0.67, effective share 0.95 ≥ 0.2, …
    """
    check_options(budget, draws, progress)
    deadline = Deadline(budget)
    with proper():
        given = check(pair, data)
        check_learnable(given)
    roads: list[tuple[str, Road]] = []
    modes: list[Gaussian] = []  # that the Gaussian road comes to
    drawn_apart = given.continuous_locals and type(pair).guide is not ModelGuide.guide
    encoded = bool(pair.own_parameters()) or drawn_apart
    continuous = any(not (site.observed or site.enumerated) for site in given.sites.values())
    if not continuous:
        roads = [("points", partial(_points, given, draws, seed, progress))]
    else:
        roads = [("exact", partial(_exact, given, draws, seed))]
        if encoded:
            roads.append(("amortised", partial(_amortised, given, draws, seed, progress)))
        else:
            roads.append(("Gaussian", partial(_gaussian, given, draws, seed, modes)))
            roads.append(("tempered", partial(_tempered, given, draws, seed, modes)))
        roads.append(("Hamiltonian", partial(_hamiltonian, given, draws, seed, progress, modes)))
        if not encoded:
            roads.append(("tempered", partial(_tempered, given, draws, seed, modes)))
    with or_as_it_was(pair):
        return climb(pair.name, roads, deadline, wanted)


def check_options(budget: Any, draws: Any, progress: Any) -> None:
    """Refuse options out of range.

    Raises:
        ValueError: by name.
    """
    check_count("draws", draws)
    check_bool("progress", progress)
    if budget is not None:
        check_number("budget", budget)


def _exact(given: Checked, draws: int, seed: int, rest: float | None) -> Inferred | None:
    """The closed form, where the pair's guide is one."""
    pair, batch = given.pair, given.batch
    if given.continuous_locals or not given.globals:
        return None
    trained = pair.trained
    with quietly(seed, pair):
        if not trained:
            take(pair, batch)
        back = put_back(pair)  # with the constants, which the roads that follow stand on
        if not trained:
            values, few = pair.initial(batch), batch.select(slice(0, min(2, batch.size)))
            if pair.automatic is not None and values:
                with torch.no_grad(), unvalidated():
                    guides.start(pair.automatic, pair.guide_family, pair.model, few, values)
                    curvature.set_widths(pair, batch, plain(choose(pair, few)), values)
        evidence = exact.exact_evidence(pair, batch, seed)
        if evidence is None:
            back()  # nor does it count as trained where starting values were put
    if evidence is None:
        return None
    with pair.learning("trained"):
        pass
    found = drawn(given, draws, seed=seed)
    spread = float((found.stats["log_p"] - found.stats["log_q"]).std()) if draws > 1 else 0.0
    alike = EQUAL if pair.dtype == torch.float64 else max(EQUAL, 1e-6 * abs(evidence))
    return Inferred(
        **vars(found), grounds=(Ground("deviation of log weights", spread, alike),), log_evidence=evidence, error=0.0
    )


def _gaussian(given: Checked, draws: int, seed: int, modes: list[Gaussian], rest: float | None) -> Inferred | None:
    """A Gaussian over all latents, in double precision; the pair's guide is put there."""
    pair, batch = given.pair, given.batch
    with quietly(seed, pair):
        if not pair.trained:
            take(pair, batch)
        back = put_back(pair)  # with the constants, which the roads that follow stand on
        try:
            wide = _doubled(given)
            potential = Potential(wide)
            centre = starts.centre(potential, wide.pair.initial(wide.batch))
            made = by_gaussian(potential, centre, draws, seed, rest=rest)
        finally:
            back()  # starting values of a guide of the pair's own are not what is sought here
    if made is None:
        return None
    found, gaussian = made
    modes.extend(gaussian.modes)
    if all(ground.holds for ground in found.grounds):
        near = isinstance(pair.automatic, guides.Standardised)
        with pair.learning("trained" if near else "sampled"):
            if near and not potential.local:
                _put(pair.automatic, gaussian.guide.loc, gaussian.guide.tril, pair.dtype)
    kept = {name: value.to(pair.dtype) for name, value in found.draws.items()}
    return replace(found, draws=kept, stats={name: value.to(pair.dtype) for name, value in found.stats.items()})


def _doubled(given: Checked) -> Checked:
    """The pair, or a copy of it, and its data in double precision."""
    pair = given.pair if given.pair.dtype == torch.float64 else copy.deepcopy(given.pair).double()
    return Checked(pair, given.batch.to(dtype=torch.float64), given.example.to(dtype=torch.float64), given.sites)


def _tempered(
    given: Checked, draws: int, seed: int, modes: list[Gaussian], rest: float | None
) -> Inferred | None:  # fmt: skip
    """Particles from the prior, in double precision; the pair ends sampled."""
    pair = given.pair
    with quietly(seed, pair):
        if not pair.trained:
            take(pair, given.batch)
        potential = Potential(_doubled(given))
        made = by_tempered(potential, draws, rest, at_once=at_once(given))
        if made is None:
            return None
        potential.uncentre()
        made = covering(made, potential, modes)
    with pair.learning("sampled"):
        pass
    kept = {name: value.to(pair.dtype) for name, value in made.draws.items()}
    return replace(made, draws=kept, stats={name: value.to(pair.dtype) for name, value in made.stats.items()})


@torch.no_grad()
def _put(auto: Any, loc: torch.Tensor, tril: torch.Tensor, dtype: torch.dtype) -> None:
    """Put an automatic guide at a Gaussian, as far as it can hold one."""
    width = torch.linalg.inv(tril).square().sum(0).rsqrt()  # of each number, the others held
    auto.centre.copy_(loc.to(dtype))
    auto.loc.zero_()
    auto.standardise(width.to(dtype), tril.to(dtype))


def _points(given: Checked, draws: int, seed: int, progress: bool, rest: float | None) -> Inferred:
    """A pair without continuous latents: its parameters are points, its likelihood exact."""
    pair = given.pair
    advice = "there is no posterior of the parameters: compare pairs by what they say of rows held out"
    if not pair.trained:
        told = _fitted(given, seed, progress, rest)
        advice = f"{told.reason}; {advice}"
    return Inferred(**vars(draw(pair, given, draws, seed=seed)), advice=advice)


def _fitted(given: Checked, seed: int, progress: bool, rest: float | None) -> Fit:
    """A fit; an interrupt, with which it ends by itself, is passed on."""
    with or_as_it_was(given.pair):
        told = fit(given.pair, given, seed=seed, progress=progress, max_seconds=rest)
    if told.reason.startswith("interrupted"):
        raise KeyboardInterrupt
    return told


def _amortised(given: Checked, draws: int, seed: int, progress: bool, rest: float | None) -> Inferred:
    """A fit, judged by the weights of each observation's guide, refined where they fall short."""
    pair, deadline = given.pair, Deadline(rest)
    told = None if pair.trained else _fitted(given, seed, progress, rest)
    judge = khat(pair, given, seed=seed)
    found = draw(pair, given, draws, seed=seed)
    grounds, advice = [], ""
    if judge.globals is not None:
        share = judge.share or 0.0
        exactly = share >= 0.99
        grounds += [
            Ground("k̂ of the globals", judge.globals, np.inf if exactly else threshold(judge.draws)),
            Ground("effective share", share, LIMITS["share"], least=True),
        ]
        if all(ground.holds for ground in grounds):
            found = resample(found, seed=seed)
    if judge.reliable is not None:
        good = float(judge.reliable.mean())
        if good < RELIABLE and not deadline.over(0.7) and not judge.globals:
            better = refine(pair, given, covariance="full", seed=seed)
            gain = float((better.elbo - better.encoder_elbo).mean())
            found = replace(found, draws={**found.draws, **better.draws(draws, seed=seed)})
            advice = (
                f"refined guides gain {gain:.2g} nats an observation over the encoder; a larger encoder would too. "
            )
        grounds.append(Ground("share of observations whose guide weights can correct", good, RELIABLE, least=True))
    if told is not None and not told.reason.startswith(("the ELBO has converged", "the guide is the exact")):
        advice += told.reason
    return Inferred(**vars(found), grounds=tuple(grounds), advice=advice.strip(), found=judge)


def _hamiltonian(
    given: Checked, draws: int, seed: int, progress: bool, modes: list[Gaussian], rest: float | None
) -> Inferred:  # fmt: skip
    """Chains, and how they agree."""
    found = sampled(given, asked(draws, seed, progress, rest), Deadline(rest))
    made = judged(found, lambda: Potential(given))
    return covering(made, Potential(_doubled(given)), modes) if len(modes) > 1 else made
