"""A posterior that can be believed, by the cheapest road whose evidence holds; see `inference.roads`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from inference.codes.refinement import refine
from inference.data.check import check
from inference.data.learnable import check_learnable
from inference.fitting import curvature, exact
from inference.fitting.exact import fixed
from inference.fitting.objective import choose, plain
from inference.fitting.picking import by_size
from inference.posterior.draws import draw, drawn
from inference.posterior.khat import khat
from inference.posterior.loo import resample
from inference.posterior.psis import threshold
from inference.roads.climbing import Road, climb
from inference.roads.covering import covering
from inference.roads.evidence import at_once
from inference.roads.gaussian import gaussian
from inference.roads.grounds import Ground, Inferred
from inference.roads.judging import asked, judged
from inference.roads.paths import Gaussian
from inference.roads.roads import LARGEST, LIMITS, by_gaussian, by_tempered, wanted
from inference.roads.streaming import SOME, WORTH, Streamed, from_some, some_of
from inference.roads.variational import by_steps, doubled, fitted, unfinished
from inference.running.checked import Checked
from inference.running.constants import take
from inference.running.deadline import Deadline
from inference.running.naming import proper
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.words import check_bool, check_count, check_number, listed
from inference.sampling import starts
from inference.sampling.potential import Potential
from inference.sampling.sample import sampled
from zoo import guides
from zoo.base import Batch, ModelGuide
from zoo.history import or_as_it_was, put_back
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart
from zoo.threads.turns import in_turn

READ = 1 << 18  # numbers that one look at all rows may hold, where thousands of looks are to be taken
CODES = 4096  # numbers in the codes of all observations, beyond which no chains are run over them
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
    the latents without constraints, its draws corrected by importance weights, begun on a part of the rows where there
    are many; *variational*, `fit`, in minibatches of large data, judged and corrected by the weights of all rows, for
    more than 200 latents, guides that a pair brings along, latents beside networks, and rows too many for chains;
    *amortised*, for pairs with an encoder: `fit`, judged by the weights of every observation, `refine` where those fall
    short; *Hamiltonian*, `sample`, but for rows too many to be read ten thousand times;
    *tempered*, sequential Monte Carlo from the prior, where modes lie apart or chains disagree. A road whose evidence
    does not hold is told, and the next one taken. Where none does, the best of them is returned with `trusted` False,
    and `advice`.

    Other modes are looked for before a Gaussian is believed, by points led uphill from the prior and from around it,
    and no road is believed that leaves out one that was found. What neither a point nor a draw comes near to is not
    seen: a spike within a wider mode, a thousandth as wide in two dimensions or a tenth as wide in five, is trusted
    away though it hold half of the posterior, for a few of its own widths off nothing in the density or its gradient
    tells of it. A model that knows of such a place says so by a discrete latent, which is summed out. Of more than 200
    latents, and of pairs with an encoder, no Gaussian is tried, and none looks for other modes: chains alone tell then.

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
    with or_as_it_was(pair):
        return climb(pair.name, _roads(given, draws, seed, progress), deadline, wanted, note=_note(given))


def _roads(given: Checked, draws: int, seed: int, progress: bool) -> list[tuple[str, Road]]:
    """The roads that there are for a pair and its data, in order.

    What decides is counted, not timed: the same seed takes the same road on every machine.
    """
    pair, many = given.pair, many_reads(given)
    modes: list[Gaussian] = []  # that the Gaussian road comes to
    exactly = ("exact", partial(_exact, given, draws, seed))
    gaussian = ("Gaussian", partial(_gaussian, given, draws, seed, modes))
    tempered = ("tempered", partial(_tempered, given, draws, seed, modes))
    steps = ("variational", partial(by_steps, given, draws, seed, progress))
    chains = ("Hamiltonian", partial(_hamiltonian, given, draws, seed, progress, modes))
    if all(site.observed or site.enumerated for site in given.sites.values()):
        return [("points", partial(_points, given, draws, seed, progress))]
    if given.continuous_locals and type(pair).guide is not ModelGuide.guide:
        amortised = ("amortised", partial(_amortised, given, draws, seed, progress))
        return [exactly, amortised, *[chains] * (not many)]
    with apart():
        networks = not fixed(pair, given.example)
    if networks:
        return [steps, *[chains] * (not many)]
    large = latents(given) > LARGEST
    first = [exactly] if large else [exactly, gaussian]
    if many:
        return [*first, steps]
    own = bool(pair.own_parameters())  # of a guide; chains begin there
    return [*first, tempered, *[steps] * (large or own), chains, tempered]


def latents(given: Checked) -> int:
    """How many numbers a draw of all continuous latents holds."""
    sites = (site for site in given.sites.values() if not (site.observed or site.enumerated))
    return sum(site.event_shape.numel() * (given.size if site.local else 1) for site in sites)


def many_reads(given: Checked) -> bool:
    """Whether one look at all rows holds so many numbers that chains, which take 10,000 looks or more, are no road."""
    return given.size * given.width > READ or (given.continuous_locals and latents(given) > CODES)


def _note(given: Checked) -> str:
    """What to do where chains would be the road, and are none."""
    if given.continuous_locals or not many_reads(given):
        return ""
    fewer = max(1, READ // 4 // given.width)
    return (
        f"chains would read {given.size:,} rows ten thousand times and more, so none were run: infer from {fewer:,} of "
        "them at random, whose posterior is wider, and can be believed where chains agree"
    )


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
        few = batch
        if batch.size >= WORTH * SOME:  # starting values may take long, and are no closed form of all if not of some
            few = batch.select(torch.arange(SOME, device=pair.device) * (batch.size // SOME)).but(total=SOME)
        evidence = exact.exact_evidence(pair, batch, seed) if trained else _placed(pair, few, seed)
        if evidence is not None and few is not batch and not trained:
            evidence = _placed(pair, batch, seed)
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


def _placed(pair: ModelGuide, batch: Batch, seed: int) -> float | None:
    """The log evidence where the guide, put at its starting values, is the posterior of these rows."""
    values, few = pair.initial(batch), batch.select(slice(0, min(2, batch.size)))
    if pair.automatic is not None and values:
        with torch.no_grad(), unvalidated():
            guides.start(pair.automatic, pair.guide_family, pair.model, few, values)
            curvature.set_widths(pair, batch, plain(choose(pair, few)), values)
    return exact.exact_evidence(pair, batch, seed)


def _gaussian(given: Checked, draws: int, seed: int, modes: list[Gaussian], rest: float | None) -> Inferred | None:
    """A Gaussian over all latents, in double precision; the pair's guide is put there."""
    pair, batch = given.pair, given.batch
    with quietly(seed, pair):
        if not pair.trained:
            take(pair, batch)
        back = put_back(pair)  # with the constants, which the roads that follow stand on
        try:
            wide = doubled(given)
            part = some_of(wide, latents(wide), seed)
            potential = Potential(wide) if part is None else Streamed(wide)
            centre = starts.centre(potential, wide.pair.initial((part or wide).batch))
            search = gaussian if part is None else partial(from_some, wide, part)
            made = by_gaussian(potential, centre, draws, seed, rest=rest, search=search)
        finally:
            back()  # starting values of a guide of the pair's own are not what is sought here
    if made is None:
        return None
    found, near = made
    modes.extend(near.modes)
    if all(ground.holds for ground in found.grounds):
        holds = isinstance(pair.automatic, guides.Standardised)
        with pair.learning("trained" if holds else "sampled"):
            if holds and not potential.local:
                if pair.guide_family == "auto":
                    guides.adopt(pair, by_size(len(near.guide.loc)), given.example)
                guides.put(pair.automatic, near.guide.loc, near.guide.tril)
    kept = {name: value.to(pair.dtype) for name, value in found.draws.items()}
    return replace(found, draws=kept, stats={name: value.to(pair.dtype) for name, value in found.stats.items()})


def _tempered(
    given: Checked, draws: int, seed: int, modes: list[Gaussian], rest: float | None
) -> Inferred | None:  # fmt: skip
    """Particles from the prior, in double precision; the pair ends sampled."""
    pair = given.pair
    with quietly(seed, pair):
        if not pair.trained:
            take(pair, given.batch)
        potential = Potential(doubled(given))
        made = by_tempered(potential, draws, rest, at_once=at_once(given))
        if made is None:
            return None
        potential.uncentre()
        made = covering(made, potential, modes)
    with pair.learning("sampled"):
        pass
    kept = {name: value.to(pair.dtype) for name, value in made.draws.items()}
    return replace(made, draws=kept, stats={name: value.to(pair.dtype) for name, value in made.stats.items()})


def _points(given: Checked, draws: int, seed: int, progress: bool, rest: float | None) -> Inferred:
    """A pair without continuous latents: its parameters are points, its likelihood exact."""
    pair = given.pair
    advice = (
        "its parameters are points, without a posterior that could be believed: judge it by rows held out, as "
        "fit(…, validation=0.2) does"
    )
    if not pair.trained:
        told = unfinished(fitted(given, seed, progress, rest))
        advice = f"{told}; {advice}" if told else advice
    return Inferred(**vars(draw(pair, given, draws, seed=seed)), advice=advice)


def _amortised(given: Checked, draws: int, seed: int, progress: bool, rest: float | None) -> Inferred:
    """A fit, judged by the weights of each observation's guide, refined where they fall short."""
    pair, deadline = given.pair, Deadline(rest)
    steps = None if pair.trained else fitted(given, seed, progress, rest)
    judge = khat(pair, given, seed=seed)
    found = draw(pair, given, draws, seed=seed)
    grounds, advice = list[Ground](), list[str]()
    if judge.globals is not None:
        share = judge.share or 0.0
        exactly = share >= 0.99
        grounds += [
            Ground("k̂ of the globals", judge.globals, np.inf if exactly else threshold(judge.draws)),
            Ground("effective share", share, LIMITS["share"], least=True),
        ]
        if all(ground.holds for ground in grounds):
            found = resample(found, seed=seed)
        else:
            advice.append(
                f"the guide of {listed(sorted(found.globals))} misses part of their posterior: read no intervals off "
                "them, and judge the pair by rows held out, as fit(…, validation=0.2) does"
            )
    if judge.reliable is not None:
        good = float(judge.reliable.mean())
        if good < RELIABLE:
            advice.append(
                f"the encoder falls short for {1 - good:.0%} of the observations: more steps, a larger encoder, or "
                "inference.refine, which fits the code of each observation"
            )
        if good < RELIABLE and not deadline.over(0.7) and not judge.globals:
            better = refine(pair, given, covariance="full", seed=seed)
            gain = float((better.elbo - better.encoder_elbo).mean())
            found = replace(found, draws={**found.draws, **better.draws(draws, seed=seed)})
            advice.append(f"these draws are of refined guides, which gain {gain:.2g} nats an observation")
        grounds.append(Ground("share of observations whose guide weights can correct", good, RELIABLE, least=True))
    advice += filter(None, [unfinished(steps)])
    return Inferred(**vars(found), grounds=tuple(grounds), advice="; ".join(advice), found=judge)


def _hamiltonian(
    given: Checked, draws: int, seed: int, progress: bool, modes: list[Gaussian], rest: float | None
) -> Inferred:  # fmt: skip
    """Chains, and how they agree."""
    found = sampled(given, asked(draws, seed, progress, rest), Deadline(rest))
    made = judged(found, lambda: Potential(given))
    return covering(made, Potential(doubled(given)), modes) if len(modes) > 1 else made
