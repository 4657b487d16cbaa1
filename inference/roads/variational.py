"""The variational road: a guide fitted in steps, and what its importance weights over all rows say of it.

For what no Gaussian of a moment holds: parameters of networks beside the latents, hundreds of latents, guides that a
model brings along, more rows than full gradients can read. `inference.fit` takes the steps, in minibatches where the
data are large (Hoffman, Blei, Wang & Paisley 2013, "Stochastic variational inference"; Kucukelbir et al. 2017). A
minibatch tells of no posterior, so the weights p / q are those of all rows, read in pieces; where they hold, the draws
are corrected by them.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import torch

from inference.fitting.fit import Fit, fit
from inference.posterior.draws import drawn
from inference.posterior.latents import Posterior
from inference.posterior.loo import picked_by
from inference.posterior.psis import Numbers, effective_share, smoothed, threshold
from inference.roads.grounds import Ground, Inferred
from inference.roads.roads import LIMITS, NEARLY
from inference.running.checked import Checked
from zoo.history import or_as_it_was

DRAWS = 1024  # at the least, by which the guide is judged
ENDED = ("the ELBO has converged", "the guide is the exact")  # reasons after which no more steps are wanted


def by_steps(given: Checked, draws: int, seed: int, progress: bool, rest: float | None) -> Inferred:
    """Draws of a fitted guide over global latents, corrected by their weights where these hold.

    Args:
        given: the pair, which is fitted in place unless it is trained, and its data.
        draws: how many, all of one chain.
        seed: of all that is drawn.
        progress: show a bar.
        rest: seconds, after which no step is taken.

    Raises:
        NonFiniteError: the loss is no number.
    """
    told = None if given.pair.trained else fitted(given, seed, progress, rest)
    wide = doubled(given)  # of many rows single precision sums to a part of a nat
    found = drawn(wide, max(draws, DRAWS), seed=seed)
    if "log_q" not in found.stats or not bool(found.stats["log_q"].isfinite().all()):
        advice = "the guide is a point, or draws without a density: nothing tells how far it can be believed"
        return _back(given, Inferred(**vars(found.thin(draws)), advice=advice))
    ratios = (found.stats["log_p"] - found.stats["log_q"]).flatten().double().cpu().numpy()
    grounds = weighed(ratios, found)
    advice = unfinished(told)
    if all(ground.holds for ground in grounds):
        found = picked_by(smoothed(ratios)[0], found, draws, seed)  # believed, by all of the evidence
        known, error = _evidence(ratios)
        return _back(given, Inferred(**vars(found), grounds=grounds, advice=advice, log_evidence=known, error=error))
    return _back(given, Inferred(**vars(found.thin(draws)), grounds=grounds, advice=advice))


def doubled(given: Checked) -> Checked:
    """The pair, or a copy of it, and its data in double precision."""
    pair = given.pair if given.pair.dtype == torch.float64 else copy.deepcopy(given.pair).double()
    return Checked(pair, given.batch.to(dtype=torch.float64), given.example.to(dtype=torch.float64), given.sites)


def _back(given: Checked, found: Inferred) -> Inferred:
    """Draws and densities in the pair's own type."""
    draws, stats = (
        {name: value.to(given.pair.dtype) if value.is_floating_point() else value for name, value in values.items()}
        for values in (found.draws, found.stats)
    )
    return replace(found, draws=draws, stats=stats)


def weighed(ratios: Numbers, found: Posterior) -> tuple[Ground, ...]:
    """What weights say of draws.

    Args:
        ratios: log p - log q, (S,).
        found: the draws, of one chain.
    """
    share = float(effective_share(ratios))
    log_weights, k = smoothed(ratios)
    tail = () if share >= NEARLY else (Ground("k̂", float(k), threshold(len(ratios))),)
    return (
        *tail,
        Ground("effective share", share, LIMITS["share"], least=True),
        Ground("effective draws", share * len(ratios), min(LIMITS["effective"], len(ratios)), least=True),
        Ground("weights moved moments by", _moved(log_weights, found), LIMITS["moved"]),
    )


def _moved(log_weights: Numbers, found: Posterior) -> float:
    """The largest change of a mean, in deviations, or of a deviation, as |log| of the ratio, of any number."""
    weights = torch.as_tensor(np.exp(log_weights))
    most = 0.0
    for name in found.globals:
        value = found.draws[name][0].double().cpu().reshape(len(weights), -1)  # (S, numbers)
        mean, wide = value.mean(0), value.std(0)
        moves = wide > 0
        after = weights @ value
        narrow = (weights @ (value - after).square()).sqrt()
        shift, stretch = ((after - mean) / wide)[moves].abs(), (narrow / wide)[moves].log().abs()
        most = max([most, *(float(part.max()) for part in (shift, stretch) if part.numel())])
    return most


def _evidence(ratios: Numbers) -> tuple[float, float]:
    """log of the mean weight, in nats, and its standard error."""
    top = float(ratios.max())
    relative = np.exp(ratios - top)
    error = float(relative.std() / relative.mean() / math.sqrt(len(relative)))
    return top + math.log(float(relative.mean())), error


def fitted(given: Checked, seed: int, progress: bool, rest: float | None) -> Fit:
    """A fit; an interrupt, with which it ends by itself, is passed on.

    Raises:
        KeyboardInterrupt: it was interrupted; the pair is put back by the caller.
        NonFiniteError: the loss is no number; the pair is as it was.
    """
    with or_as_it_was(given.pair):
        told = fit(given.pair, given, seed=seed, progress=progress, max_seconds=rest)
    if told.reason.startswith("interrupted"):
        raise KeyboardInterrupt
    return told


def unfinished(told: Fit | None) -> str:
    """Why a fit stopped, where that was not its end."""
    if told is None or told.reason.startswith(ENDED):
        return ""
    early = told.reason.startswith("stopped")
    return f"the fit {told.reason}, before it had converged: give it more time" if early else told.reason
