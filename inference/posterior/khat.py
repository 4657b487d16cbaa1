"""How far a guide can be believed: Pareto k̂ of its importance ratios (Yao et al. 2018; Vehtari et al. 2024).

k̂ < 0.5 good; up to min(1 - 1 / log10 S, 0.7) for S draws usable; above it the guide misses mass of the posterior:
correct it, or choose a richer family. Where the effective share of the weights is 0.99 or more they are all nearly one:
the guide is exact for all purposes, and k̂ the shape of a tail of nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro import poutine

from inference.data.check import check
from inference.posterior.draws import draw
from inference.posterior.likelihood import local_log_weights
from inference.posterior.psis import EXACT, Numbers, check_enough, effective_share, pareto_k, threshold
from inference.running.checked import Checked
from inference.running.densities import is_delta, left_out
from inference.running.programmed import or_program
from inference.running.words import check_count
from zoo import held
from zoo.base import ModelGuide, evaluating, is_local, sample_sites
from zoo.state.memory import check_room
from zoo.threads.randomness import apart
from zoo.threads.turns import in_turn


@dataclass(frozen=True)
class KHat:
    """How near a guide is to the posterior, by draws of its importance weights.

    Args:
        globals: Pareto k̂ of the guide over global latents; None without them, or for a point guide.
        locals: k̂ of each observation's own guide, (N,); None when no observation has continuous latents, or their
            guide is a point. k̂ is −∞ where all weights are equal.
        share: effective sample size of the global guide's weights, as a share of the draws, from 0 to 1.
        local_share: the same for each observation, (N,).
        draws, particles: how many the two were judged by, which sets the k̂ that is still usable.
    """

    globals: float | None
    locals: Numbers | None
    share: float | None = None
    local_share: Numbers | None = None
    draws: int = 1000
    particles: int = 500

    @property
    def reliable(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Which observations' guides weights can correct: k̂ below its threshold, or weights nearly equal, (N,)."""
        if self.locals is None:
            return None
        return np.asarray((self.locals < threshold(self.particles)) | np.asarray(self.exact))

    @property
    def exact(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Which observations' guides are exact: all their weights nearly equal, (N,)."""
        if self.locals is None:
            return None
        return np.asarray((self.locals if self.local_share is None else self.local_share) >= EXACT)

    def __str__(self) -> str:
        """In words."""
        lines = []
        if self.globals is not None:
            lines.append(f"guide over the global latents: {verdict(self.globals, self.draws, self.share)}")
        if self.locals is not None:
            lines.append(f"guides of single observations: {self._of_observations()}")
        return "\n".join(lines) or "no guide was judged by its density"

    def _of_observations(self) -> str:
        exact, reliable = np.asarray(self.exact), np.asarray(self.reliable)
        if exact.all():
            return "exact: the weights of their draws are equal"
        limit, some = threshold(self.particles), f", {exact.mean():.0%} are exact" if exact.any() else ""
        middle = np.median(self.locals[~exact])  # type: ignore[index]
        share = "" if self.local_share is None else f"; median effective share {np.median(self.local_share):.0%}"
        return f"median k̂ = {middle:.2f}; {reliable.mean():.0%} are below {limit:.2f} or exact{some}{share}"


def verdict(k: float, draws: int = 1000, share: float | None = None) -> str:
    """What a value of k̂ means, of so many draws whose weights have this effective share."""
    if k == -math.inf or (share is not None and share >= EXACT):
        return "exact: the weights of its draws are equal" + (
            "" if share is None or share > 0.9995 else f" (share {share:.1%})"
        )
    limit, beside = threshold(draws), "" if share is None else f"; effective share {share:.0%}"
    if k < min(0.5, limit):
        words = "good: the guide is close to the posterior"
    elif k < limit:
        words = f"usable (below {limit:.2f}): importance weights can correct the guide"
    else:
        words = f"poor (above {limit:.2f}): the guide misses part of the posterior; try a richer guide, or MCMC"
    return f"k̂ = {k:.2f}, {words}{beside}"


@in_turn
@or_program("fit")
def khat(pair: ModelGuide, data: Any, draws: int = 1000, particles: int = 500, *, seed: int = 0) -> KHat:
    """Pareto k̂ and effective share of the weights, of the global guide and of each observation's local guide.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: draws of the global latents, at least 25: with fewer the weights have no tail to tell by.
        particles: draws of each observation's local latents, at least 25 too.
        seed: seeds both.

    Raises:
        ValueError: data that do not fit the pair, too few draws or particles asked for, or a latent that the guide does
            not draw, of which there is nothing to judge.
    """
    check_count("draws", draws)
    check_count("particles", particles)
    given = check(pair, data)
    check_guide(given)
    judged = bool(given.continuous_locals) and not point_codes(given)
    weighed = pair.guide_family != "delta" and held.of(pair) is None
    if given.globals and weighed:
        check_enough("draws", draws)
    if judged:
        check_enough("particles", particles)
    if given.continuous_locals:
        check_room("particles", particles, particles * given.size * pair.dtype.itemsize)
    posterior = draw(pair, given, draws, seed=seed)
    overall = share = None
    if posterior.globals and weighed:
        log_ratio = (posterior.stats["log_p"] - posterior.stats["log_q"]).flatten()
        ratios = log_ratio.double().cpu().numpy()
        overall, share = float(pareto_k(ratios)), float(effective_share(ratios))
    local = local_share = None
    if judged:
        weights = local_log_weights(pair, given, particles, seed=seed).double().cpu().numpy()
        local, local_share = pareto_k(weights), effective_share(weights)
    return KHat(overall, local, share, local_share, draws, particles)


def point_codes(given: Checked) -> bool:
    """Whether the guide puts every local latent at a point, as deterministic autoencoders do: it has no density."""
    local = [site for site in _of_guide(given).values() if is_local(site)]
    return bool(local) and all(is_delta(site["fn"]) for site in local)


def check_guide(given: Checked) -> None:
    """Refuse a guide that leaves a latent to the prior: its ratios would tell of the others alone."""
    drawn = _of_guide(given)
    for name in [*given.globals, *given.locals]:
        site = given.sites[name]
        if name not in drawn and not site.enumerated:
            raise ValueError(f"khat: {left_out(name, discrete=site.discrete, local=site.local)}")


def _of_guide(given: Checked) -> dict[str, Any]:
    """The sample sites of the guide, from one run on the example."""
    with torch.no_grad(), apart(), poutine.block(), evaluating(given.pair):
        return sample_sites(poutine.trace(given.pair.guide).get_trace(given.example))
