"""Pointwise log-likelihoods: discrete locals summed out exactly, continuous ones by importance sampling.

log p(x_n | t) = log sum_z p(x_n, z | t)                                     discrete z, exact
log p(x_n | t) ~ log 1/K sum_k p(x_n, z_k | t) / q(z_k | x_n),  z_k ~ q      continuous z (Burda et al. 2016, eq. 8)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyro
import torch
from pyro.poutine import condition, trace
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor

from inference.data.check import check
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.running.checked import Checked, at
from inference.running.densities import run
from inference.running.effort import check_effort
from inference.running.marginal import pointwise
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.words import check_bool, check_count
from zoo.base import Batch, ModelGuide, is_local, sample_sites
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn


@in_turn
@or_program("draws")
def log_likelihood(pair: ModelGuide, posterior: Posterior, data: Any, *, particles: int = 100, seed: int = 0) -> Tensor:
    """log p(x_n | global latents) at each draw, (chain, draw, N), in nats.

    Without global latents it is the marginal log p(x_n), the same number for every draw.

    Args:
        pair: the pair.
        posterior: draws of the globals.
        data: see `inference.data`; any number of rows.
        particles: importance samples K of continuous locals (without globals: 10 K, since they are drawn once).
        seed: seeds them.

    Raises:
        ValueError: the posterior is not this pair's; no particles asked for, or so many that they would take weeks.
    """
    check_count("particles", particles)
    given = check(pair, data)
    posterior = check_posterior(given, posterior)
    check_particles(given, posterior, particles)
    return scores(given, posterior, particles, seed)


@in_turn
@or_program("scores")
def log_score(pair: ModelGuide, posterior: Posterior, data: Any, *, particles: int = 100, seed: int = 0) -> Tensor:
    """Log posterior predictive density of each observation, (N,), in nats: its likelihood averaged over the draws.

    log p(x_n | the data of the fit) = log 1/S sum_s p(x_n | t_s), of rows that the posterior has not seen: the score
    that a held-out test reports (Gelman, Hwang & Vehtari 2014). Arguments and errors are those of `log_likelihood`.
    """
    found = log_likelihood(pair, posterior, data, particles=particles, seed=seed).flatten(0, 1)
    return found.double().logsumexp(0) - math.log(len(found))


def check_particles(given: Checked, posterior: Posterior, particles: int) -> None:
    """Refuse particles that would take weeks; where none are drawn, any number will do."""
    if given.continuous_locals:
        check_effort(given, "particles", particles, posterior.chains * posterior.size if posterior.globals else 10)


def scores(given: Checked, posterior: Posterior, particles: int = 100, seed: int = 0) -> Tensor:
    """`log_likelihood` of data and draws that have been checked."""
    pair, fixed = given.pair, posterior.flat(posterior.globals)
    lead = (posterior.chains, posterior.size)
    total = posterior.chains * posterior.size if fixed else 1
    check_room("draws", total, total * given.size * pair.dtype.itemsize)
    kept = torch.empty(total, given.size, dtype=pair.dtype, device=pair.device)
    with quietly(seed, pair):
        for rows, part in pointwise(given, fixed, total, particles if fixed else 10 * particles):
            kept[:, rows] = part
    return kept.unflatten(0, lead) if fixed else kept.expand(*lead, given.size)


def local_log_weights(pair: ModelGuide, data: Any, particles: int = 500, *, seed: int = 0) -> Tensor:
    """log p(x_n, z | t) - log q(z | x_n) at draws of all latents from the guide, (particles, N)."""
    given = check(pair, data)
    check_room("particles", particles, particles * given.size * pair.dtype.itemsize)
    kept = torch.empty(particles, given.size, dtype=pair.dtype, device=pair.device)
    with quietly(seed, pair):
        for rows, part, some in given.sweep(particles):
            kept[some, rows] = run(pair, part, some.stop - some.start).log_weight
    return kept


def has_continuous_locals(pair: ModelGuide, data: Any) -> bool:
    """Whether any observation has a continuous latent of its own."""
    return check(pair, data).continuous_locals


@in_turn
@or_program("discrete")
def assignments(pair: ModelGuide, posterior: Posterior, data: Any, *, new: bool = False) -> dict[str, Tensor]:
    """Posterior probabilities of each enumerated local latent, averaged over draws: site -> (N, categories).

    Args:
        pair: the pair.
        posterior: draws of its latents.
        data: see `inference.data`.
        new: the posterior has not seen these rows, as when a classifier predicts: a draw t then counts in proportion
            to p(x_n | t), and the mean is p(z_n | x_n, the data of the fit).

    Raises:
        ValueError: the posterior is not this pair's, or the pair has no enumerated local latent, or more than one in a
            row of the trace.
    """
    check_bool("new", new)
    given = check(pair, data)
    posterior = check_posterior(given, posterior)
    sites = [name for name in given.locals if given.sites[name].enumerated]
    if len(sites) != 1:
        raise ValueError(f"expected one enumerated local latent, found {len(sites)}: {', '.join(sites) or 'none'}")
    values = posterior.flat(posterior.globals)
    total = posterior.chains * posterior.size
    kept = []
    with quietly(0, pair):
        for _, part in given.rows():
            parts = []
            for some in given.draws(total, part):
                factor = _joint_factor(pair, part, at(values, some), some)
                parts.append((factor if new else factor.log_softmax(0)).logsumexp(1))  # (K, B)
            kept.append(torch.stack(parts).logsumexp(0).softmax(0).T)
    return {sites[0]: torch.cat(kept)}


def _joint_factor(pair: ModelGuide, part: Batch, values: Mapping[str, Tensor], piece: slice) -> Tensor:
    """log p(x_n, z_n = k | globals), (K, S, B)."""
    fixed = {name: value.unsqueeze(1) for name, value in values.items()}
    draws = piece.stop - piece.start
    with pyro.plate("draws", draws, dim=-2), condition(data=fixed), EnumMessenger(first_available_dim=-3):
        recorded = trace(pair.model).get_trace(part)
    recorded.compute_log_prob()
    local = [node["unscaled_log_prob"] for node in sample_sites(recorded).values() if is_local(node)]
    factor: Tensor = sum(local[1:], local[0])
    return factor.expand(factor.shape[0], draws, part.size)
