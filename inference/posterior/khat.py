"""How far a guide can be believed: Pareto k̂ of its importance ratios (Yao et al. 2018; Vehtari et al. 2024).

k̂ < 0.5 good, < 0.7 usable, above: the guide misses mass of the posterior, correct it or choose a richer family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro import poutine

from inference.data.check import check
from inference.posterior.draws import draw
from inference.posterior.likelihood import local_log_weights
from inference.running.checked import Checked
from inference.running.densities import is_delta
from zoo.base import ModelGuide, evaluating, is_local, sample_sites


@dataclass(frozen=True)
class KHat:
    """Pareto k̂: `globals` of the guide over global latents (None without them, or for a point guide); `locals` of
    each observation's own guide, (N,) (None when no observation has continuous latents, or their guide is a point)."""

    globals: float | None
    locals: np.ndarray[Any, np.dtype[np.float64]] | None

    def __str__(self) -> str:
        """In words."""
        lines = []
        if self.globals is not None:
            lines.append(f"guide over the global latents: k̂ = {self.globals:.2f}, {verdict(self.globals)}")
        if self.locals is not None:
            share = float(np.mean(self.locals < 0.7))
            lines.append(
                f"guides of single observations: median k̂ = {np.median(self.locals):.2f}; {share:.0%} are below 0.7"
            )
        return "\n".join(lines) or "no guide with a density to judge"


def verdict(k: float) -> str:
    """What a value of k̂ means."""
    if k < 0.5:
        return "good: the guide is close to the posterior"
    if k < 0.7:
        return "usable: importance weights can correct the guide"
    return "poor: the guide misses part of the posterior; try a richer guide, or MCMC"


def khat(pair: ModelGuide, data: Any, draws: int = 1000, particles: int = 500, *, seed: int = 0) -> KHat:
    """Pareto k̂ of the global guide and of each observation's local guide.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: draws of the global latents.
        particles: draws of each observation's local latents.
        seed: seeds both.
    """
    given = check(pair, data)
    posterior = draw(pair, given, draws, seed=seed)
    overall = None
    if posterior.globals and pair.guide_family != "delta":
        log_ratio = (posterior.stats["log_p"] - posterior.stats["log_q"]).flatten()
        overall = float(pareto_k(log_ratio.double().cpu().numpy()))
    local = None
    if given.continuous_locals and not point_codes(given):
        weights = local_log_weights(pair, given, particles, seed=seed).double().cpu().numpy()
        local = pareto_k(weights)
    return KHat(overall, local)


def point_codes(given: Checked) -> bool:
    """Whether the guide puts every local latent at a point, as deterministic autoencoders do: it has no density."""
    with torch.no_grad(), torch.random.fork_rng(), poutine.block(), evaluating(given.pair):
        trace = poutine.trace(given.pair.guide).get_trace(given.example)
    local = [site for site in sample_sites(trace).values() if is_local(site)]
    return bool(local) and all(is_delta(site["fn"]) for site in local)


def pareto_k(log_ratios: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Pareto-smoothed importance sampling's k̂ of log importance ratios, draws first: (S, ...) -> (...)."""
    flat = np.moveaxis(log_ratios, 0, -1)
    # Ratios that are all equal (an exact guide) have no tail to fit.
    if np.ptp(flat, axis=-1).max() < 1e-9:
        return np.full(flat.shape[:-1], -np.inf)
    try:
        from arviz_stats.base import array_stats  # ArviZ 1.x, or beside 0.23

        return np.asarray(array_stats.psislw(flat, axis=-1)[1])
    except ImportError:
        import arviz

        psislw: Any = arviz.psislw
        return np.asarray(psislw(flat)[1])
