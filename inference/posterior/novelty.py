"""How strange an observation is to a fitted pair: what draws of the global latents disagree about.

Where the data were dense, every draw t_s of the globals explains x about equally well; far from them, each extrapolates
in its own way. Two measures of the spread of log p(x | t_s) over S draws, both zero when all agree:

    variance   = Var_s log p(x | t_s)
    ess        = log S - log ESS,   ESS = 1 / sum_s w_s^2,   w_s = p(x | t_s) / sum_r p(x | t_r)

`ess` is the effective sample size of Daxberger & Hernández-Lobato 2019, section 4; it cannot exceed log S, where one
draw takes all the weight, so that `variance` ranks very strange observations better. For a small spread they agree.

Low likelihood finds rows that no part of the data resembles, disagreement finds rows where the model extrapolates:
for data that vary much in complexity, where a simple stranger is likelier than the data themselves, it can find what
likelihood cannot; elsewhere likelihood may well be the better detector. Try both on strangers of your own.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from inference.data.check import check
from inference.posterior.check import check_posterior
from inference.posterior.draws import draw
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import check_particles, scores
from inference.running.checked import Checked
from inference.running.pieces import pieces
from inference.running.words import check_count
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

Score = Literal["variance", "ess"]


@in_turn
def novelty(
    pair: ModelGuide,
    data: Any,
    posterior: Posterior | None = None,
    *,
    draws: int = 50,
    particles: int = 50,
    score: Score = "variance",
    reference: Any = None,
    seed: int = 0,
) -> Tensor:
    """A score for every observation, (N,): the higher, the stranger.

    Args:
        pair: a fitted pair with global latents.
        data: see `inference.data`; any number of rows.
        posterior: draws of the globals, from `draw` or MCMC; by default `draws` of the guide.
        draws: how many, S.
        particles: importance samples of continuous locals for each draw and row. Their Monte Carlo noise is part of
            the spread: it falls with more of them, and is itself larger where the guide was never trained.
        score: `variance` (nats squared) or `ess` (nats, from 0 to log S).
        reference: rows of the usual kind that the pair was not fitted to. Given them, a score is the fraction of them
            that are less strange, from 0 to 1: above 0.99 is stranger than 99 % of these.
        seed: seeds everything drawn; the caller's random state is left as it was.

    Raises:
        ValueError: the pair has no global latents, the posterior is not the pair's, fewer than two draws, no particles,
            or an unknown score.
    """
    if score not in get_args(Score):
        raise ValueError(f"score: expected one of {', '.join(get_args(Score))}, got {score!r}")
    check_count("draws", draws)
    check_count("particles", particles)
    given = check(pair, data)
    if posterior is not None:
        posterior = check_posterior(given, posterior)
    if not given.globals:
        raise ValueError(f"novelty: {pair.name} has no global latents to disagree; rank rows by log_likelihood instead")
    if posterior is None:  # the globals do not depend on the rows given: one will do
        posterior = draw(pair, given.but(given.batch.select(slice(0, 1)).but(total=1)), draws, seed=seed)
    if posterior.chains * posterior.size < 2:
        raise ValueError(f"novelty: one draw cannot disagree; expected at least 2, got {posterior.size}")
    check_particles(given, posterior, particles)
    found = _spread(posterior, given, particles, score, seed)
    if reference is None:
        return found
    usual = _spread(posterior, check(pair, reference), particles, score, seed).sort().values
    return torch.searchsorted(usual, found).to(found) / len(usual)


def _spread(posterior: Posterior, given: Checked, particles: int, score: Score, seed: int) -> Tensor:
    parts = []
    for rows in pieces(given.size, posterior.chains * posterior.size):  # beside the result, (S, rows) scores
        part = given.but(given.batch.select(rows))
        log_p = scores(part, posterior, particles, seed).flatten(0, 1)  # (S, rows)
        # In double precision: with draws that agree, log S and log ESS cancel.
        spread = log_p.double().var(0) if score == "variance" else _lost(log_p.double())
        parts.append(spread.to(log_p))
    return torch.cat(parts)


def _lost(log_p: Tensor) -> Tensor:
    """log S - log ESS of weights with these logarithms, (S, N) -> (N,)."""
    lost: Tensor = math.log(len(log_p)) + (2 * log_p.log_softmax(0)).logsumexp(0)
    return lost
