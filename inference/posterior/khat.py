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
from inference.running.densities import is_delta, left_out
from inference.running.words import check_count
from zoo.base import ModelGuide, evaluating, is_local, sample_sites
from zoo.threads.randomness import apart
from zoo.threads.turns import in_turn

Numbers = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class KHat:
    """Pareto k̂: `globals` of the guide over global latents (None without them, or for a point guide); `locals` of
    each observation's own guide, (N,) (None when no observation has continuous latents, or their guide is a point)."""

    globals: float | None
    locals: Numbers | None

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


@in_turn
def khat(pair: ModelGuide, data: Any, draws: int = 1000, particles: int = 500, *, seed: int = 0) -> KHat:
    """Pareto k̂ of the global guide and of each observation's local guide.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: draws of the global latents.
        particles: draws of each observation's local latents.
        seed: seeds both.

    Raises:
        ValueError: data that do not fit the pair, no draws or no particles asked for, or a latent that the guide does
            not draw, of which there is nothing to judge.
    """
    check_count("draws", draws)
    check_count("particles", particles)
    given = check(pair, data)
    _check_guide(given)
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
    local = [site for site in _of_guide(given).values() if is_local(site)]
    return bool(local) and all(is_delta(site["fn"]) for site in local)


def _check_guide(given: Checked) -> None:
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


def pareto_k(log_ratios: np.ndarray[Any, Any]) -> Numbers:
    """Pareto-smoothed importance sampling's k̂ of log importance ratios, draws first: (S, ...) -> (...).

    It is −∞ where all ratios are equal (an exact guide), ∞ where they have no tail that could be fitted.
    """
    rows = np.moveaxis(log_ratios, 0, -1).reshape(-1, len(log_ratios)).astype(np.float64)
    return np.array([_psis(row)[1] for row in rows]).reshape(log_ratios.shape[1:])


def leave_one_out(scores: np.ndarray[Any, Any]) -> tuple[Numbers, Numbers]:
    """PSIS-LOO of independent draws: log p(x_n | draw s), (S, N) -> log p(x_n | the others) and its k̂, (N,) each."""
    columns = scores.T.astype(np.float64)
    weighed = [_psis(-column) for column in columns]
    sums = [weights + column for (weights, _), column in zip(weighed, columns, strict=True)]
    return np.array([_log_sum(row) for row in sums]), np.array([k for _, k in weighed])


@np.errstate(all="ignore")
def _psis(ratios: Numbers) -> tuple[Numbers, float]:
    """Normalised log weights of log ratios, their largest smoothed where those have a tail, and k̂."""
    plain, size = ratios - _log_sum(ratios), int(min(len(ratios) / 5, 3 * len(ratios) ** 0.5))
    if not np.isfinite(ratios.max()) or size < 5:
        return plain, np.inf
    if np.ptp(ratios) < 1e-9:
        return plain, -np.inf
    spread = _spread(ratios)
    tail = np.sort(np.exp(spread - spread.max()))[-size:]
    if tail[int(size / 4 + 0.5) - 1] <= tail[0]:  # many alike, or weights that one dwarfs: ArviZ answers by version
        return plain, np.inf
    from arviz_stats import base  # the same beside ArviZ 0.23 and 1.x

    stats: Any = base
    weights, k = stats.array_stats.psislw(-spread)  # it takes log likelihoods, the negatives of their ratios
    return (plain, np.inf) if np.isnan(k) else (weights, float(k))


def _spread(row: Numbers) -> Numbers:
    """Numbers that rounding made equal, spread evenly over the smallest step between those that differ."""
    values, group, count = np.unique(row, return_inverse=True, return_counts=True)
    steps = np.diff(values)
    if len(values) in (1, len(row)) or not np.isfinite(steps.min()):
        return row
    place = np.empty(len(row))
    place[np.argsort(group, kind="stable")] = np.concatenate([np.arange(size) for size in count])
    return np.asarray(row + steps.min() * ((place + 0.5) / count[group] - 0.5))


def _log_sum(row: Numbers) -> float:
    return float(torch.from_numpy(row).logsumexp(0))
