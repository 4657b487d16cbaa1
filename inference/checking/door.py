"""`inference.check`: all that can be said for and against a posterior, and one verdict."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

from inference.checking import parts
from inference.checking.chains import of_chains
from inference.checking.findings import Check, Finding, State
from inference.checking.guides import RUN, of_run, of_weights
from inference.checking.restarts import of_restarts
from inference.checking.short import short_run
from inference.data.check import check as accepted
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.posterior.psis import EXACT, effective_share
from inference.roads.grounds import Inferred
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.words import check_bool, check_count
from inference.sampling.density import Density
from inference.sampling.potential import Potential
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

__all__ = ["Check", "check"]
LARGE = 100  # latents, from which no run is made where it could only repeat what weights say


@in_turn
@or_program("checks")
def check(
    pair: ModelGuide,
    data: Any,
    posterior: Posterior | None = None,
    *,
    held_out: Any = None,
    restarts: int = 0,
    run: bool = True,
    seed: int = 0,
) -> Check:
    """Can this posterior be believed? Findings, each a number beside its threshold, and one verdict.

    Of draws by MCMC: R-hat, effective draws, divergences, energy. Of a guide: k̂ and what its weights move, the guides
    of the rows, and a short Hamiltonian run that begins at its draws, since weights cannot see a guide that is too
    narrow. Of what `inference.infer` gives: the evidence of its road. Of encoders: codes that say nothing, and what is
    lost to the family and to sharing one. Of all: leave-one-out, where data lie among predictions of the posterior and
    of the prior, sensitivity to the prior, components that hold nothing, bounds and scales that cannot be right. Of
    data held out: whether they are others, and score as they should.

    Of many rows, 250 or 1,000 that are evenly spaced stand for all where shares are judged, which is said; what is
    drawn is bounded in numbers, the run in gradients, by those that the fit took. So memory stays within a few times
    `zoo.settings.memory` numbers beyond data and posterior, and the cost below that of a fit in steps; a closed form
    takes a tenth of a second, and its check up to half a one.

    Args:
        pair: the pair.
        data: what it was fitted to; see `inference.data`.
        posterior: from `draw`, `sample`, `infer` or `resample`; by default draws of the fitted guide.
        held_out: data that the fit has not seen, of the same kind.
        restarts: fits from other random numbers, that have to end at one guide; 2 or more, none by default.
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
    check_count("restarts", restarts, least=0)
    if restarts == 1:
        raise ValueError("restarts: expected 2 or more, or 0 for none: one fit has nothing to agree with")
    given = accepted(pair, data)
    other = None if held_out is None else accepted(pair, held_out)
    if posterior is None:
        posterior = parts.of_guide(pair, given, seed)
    checked = check_posterior(given, posterior)
    foreign = safely(parts.belongs, pair, given, checked, seed, name="posterior and data")
    globals_alone = bool(checked.globals) and not given.continuous_locals
    with quietly(seed, pair):
        found = of_draws(
            posterior if isinstance(posterior, Inferred) else checked,
            lambda: Potential(given),
            run if globals_alone else None,
            seed,
            parts.work_of(pair, given),
        )
    if given.continuous_locals and checked.method not in ("mcmc", "prior") and not isinstance(posterior, Inferred):
        found += safely(parts.rows_of, pair, given, seed, bears=True)
    if not found:
        told = "all of its parameters are points: there is no posterior of them to judge"
        found.append(Finding("posterior", "could not be judged", told, bears=True))
    misses = any(finding.state == "wrong" and "k̂" in finding.name for finding in found)
    always = (parts.codes, parts.bound, parts.scale, parts.gaps)
    for part in (*always, parts.coverage) if misses else (
        *always, parts.left_out, parts.coverage, parts.prior, parts.idle,  # which presuppose that it does not
    ):  # fmt: skip
        found += safely(part, pair, given, checked, seed)
    if other is not None and not misses:
        found += safely(parts.unseen, pair, given, checked, other, seed)
    if restarts:
        found += safely(of_restarts, pair, given, restarts, seed, name="restarts")
    return Check(pair.name, tuple(foreign + found))


def of_draws(
    posterior: Posterior, density: Callable[[], Density], run: bool | None, seed: int, most: int | None = None
) -> list[Finding]:
    """What draws say of themselves, by how they were made, and a short run of chains where a guide made them.

    Args:
        posterior: the draws.
        density: makes the density that chains walk on.
        run: whether it is made; None: there is nothing that it could judge.
        seed: of its momenta.
        most: gradients that it may take.
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
    numbers = sum(posterior.draws[name][0, 0].numel() for name in posterior.globals)
    if run and numbers > LARGE and any(finding.state == "wrong" for finding in found):
        told = "left out: the weights say already that the guide misses the posterior"
        return [*found, Finding(RUN, "could not be judged", told)]
    if not run:
        told = "left out, and weights cannot see a guide that is too narrow"
        return [*found, Finding(RUN, "could not be judged", told, advice="Let it run, run=True", bears=True)]
    return found + safely(_of_short, posterior, density, seed, most, bears=True, name=RUN)


def _of_road(posterior: Inferred) -> Iterator[Finding]:
    """The evidence that `inference.infer` found sufficient, or not."""
    for ground in posterior.grounds:
        state: State = "ok" if ground.holds else "wrong"
        source = f"inference.infer, {posterior.road} road"
        yield Finding(ground.name, state, str(ground), ground.value, source, posterior.advice, bears=True)


def _of_short(posterior: Posterior, density: Callable[[], Density], seed: int, most: int | None) -> Iterator[Finding]:
    potential = density()
    names = {block.name for block in potential.blocks} & posterior.draws.keys()
    if not names:
        return
    guide = posterior.flat(frozenset(names))
    yield from of_run(guide, short_run(potential, potential.free(guide), guide, seed, most))


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
