"""Leave-one-out scores and posterior draws, corrected for a guide that is not the posterior.

Draws of a guide q count as draws of the posterior p once weighed by p / q. Leaving observation n out weighs them by
another 1 / p(x_n | t_s) (Magnusson et al. 2019, "Bayesian leave-one-out cross-validation for large data", eq. 6):

    elpd_n = log sum_s w_ns p(x_n | t_s),     w_ns proportional to p(x, t_s) / q(t_s) / p(x_n | t_s), Pareto-smoothed

Without p / q, as `az.loo` has it, a factorised guide's draws give the score of a posterior that they do not come from.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.data.check import check
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.posterior.likelihood import scores
from inference.posterior.psis import Numbers, check_enough, log_sum, smoothed, threshold
from inference.running.programmed import or_program
from inference.running.words import check_count, told
from zoo.base import ModelGuide
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn


@dataclass(frozen=True)
class LeaveOneOut:
    """What to expect of new data: log p(x_n | the other observations), in nats.

    Args:
        pointwise: of each observation, (N,).
        pareto_k: how far each can be relied on, (N,): up to `threshold`.
        penalty: p_loo, by how much the observations' own density lies higher, in all.
        threshold: min(1 - 1 / log10 S, 0.7) of S draws.
        weighted: whether draws of a guide were weighed by p / q.
    """

    pointwise: Numbers
    pareto_k: Numbers
    penalty: float
    threshold: float
    weighted: bool

    @property
    def elpd(self) -> float:
        """The sum over observations."""
        return float(self.pointwise.sum())

    @property
    def se(self) -> float:
        """Its standard error, over observations."""
        return float((len(self.pointwise) * self.pointwise.var()) ** 0.5)

    @property
    def unsure(self) -> int:
        """Observations whose k is above the threshold."""
        return int((self.pareto_k > self.threshold).sum())

    def __repr__(self) -> str:
        of = "guide draws weighed by p / q" if self.weighted else "draws as they are"
        unsure = f", {self.unsure} of {len(self.pareto_k)} unsure (Pareto k above {self.threshold:.2f})"
        return f"LeaveOneOut(elpd {self.elpd:.2f}, se {self.se:.2f}, p_loo {self.penalty:.2f}, {of}{unsure})"


@in_turn
@or_program("scores")
def loo(pair: ModelGuide, posterior: Posterior, data: Any, *, site: str | None = None, seed: int = 0) -> LeaveOneOut:
    """Leave-one-out scores by Pareto-smoothed importance sampling; draws of a guide are weighed by p / q.

    Args:
        pair: the pair.
        posterior: of all its global latents, 25 draws or more: from `draw`, with `stats`, or from `sample`.
        data: what it was fitted to; see `inference.data`.
        site: of a program with several observed sites, which is scored; of a pair all of a row are, together.
        seed: seeds the importance samples of continuous local latents.

    Raises:
        ValueError: the posterior is not this pair's, has too few draws, or draws of a guide came without `stats`;
            several observed sites of a program and no `site`.

    Example::

        inference.loo(pair, inference.draw(pair, data, 1000), data).elpd
    """
    given = check(pair, data)
    if site is not None:
        raise ValueError(f"site: {given.pair.name} is a pair, of which all that a row observes is scored together")
    posterior = check_posterior(given, posterior)
    check_enough("posterior: draws", posterior.chains * posterior.size, "the Pareto k of a leave-one-out score")
    log_ratios = weights_of(posterior)
    return leave_one_out(scores(given, posterior, seed=seed).flatten(0, 1).double().cpu().numpy(), log_ratios)


def weights_of(posterior: Posterior) -> Numbers | None:
    """log p - log q of draws of a guide, (S,); None for other draws, or without global latents.

    Raises:
        ValueError: draws of a guide without these densities.
    """
    if posterior.method != "svi" or not posterior.globals:
        return None
    if not {"log_p", "log_q"} <= posterior.stats.keys():
        raise ValueError(
            "these draws of a guide lack log_p and log_q: draw them with stats=True; where a guide or the arguments "
            "hold a part of a plate's rows, there are none"
        )
    ratios = (posterior.stats["log_p"] - posterior.stats["log_q"]).flatten().double().cpu().numpy()
    return np.asarray(ratios) if np.isfinite(ratios).all() else None  # a point guide has no density


def leave_one_out(log_p: np.ndarray[Any, Any], log_ratios: Numbers | None = None) -> LeaveOneOut:
    """PSIS-LOO of log p(x_n | draw s), (S, N), of independent draws, or of those that count by log p / q, (S,)."""
    return leaving_out(log_p, log_ratios)[0]


def leaving_out(
    log_p: np.ndarray[Any, Any], log_ratios: Numbers | None = None, rows: Sequence[int] = ()
) -> tuple[LeaveOneOut, Numbers]:
    """The same, and the weight of each draw where one of these rows is left out, (S, R); each column adds up to 1."""
    columns = log_p.T.astype(np.float64)
    base = np.zeros(len(log_p)) if log_ratios is None else smoothed(log_ratios)[0]
    plain = base - log_sum(base)
    ratios = plain if log_ratios is None else log_ratios
    weighed = [smoothed(ratios - column) for column in columns]
    each = [log_sum(weights + column) for (weights, _), column in zip(weighed, columns, strict=True)]
    own = [log_sum(plain + column) for column in columns]
    pointwise, k = np.array(each), np.array([k for _, k in weighed])
    found = LeaveOneOut(pointwise, k, float(sum(own) - pointwise.sum()), threshold(len(log_p)), log_ratios is not None)
    kept = [np.exp(weighed[row][0] - log_sum(weighed[row][0])) for row in rows]
    return found, np.stack(kept, 1) if kept else np.empty((len(log_p), 0))


def resample(posterior: Posterior, draws: int | None = None, *, seed: int = 0) -> Posterior:
    """Draws of a guide, resampled in proportion to their Pareto-smoothed weights p / q: draws of the posterior, nearly.

    Whatever takes them, `az.loo`, `az.summary`, `predict`, then sees the posterior and not the guide. Some come more
    than once. Draws that are no guide's are returned as they are, thinned to `draws`.

    Args:
        posterior: from `draw`, with `stats`; 25 draws or more.
        draws: how many to keep; as many as there are by default.
        seed: seeds the choice; the caller's random state is left as it was.

    Returns:
        draws of `method` "psis", with their `log_p`.

    Warns:
        UserWarning: k̂ is above the threshold: no weights can make up for what the guide misses.

    Example::

        inference.to_arviz(pair, inference.resample(inference.draw(pair, data, 4000), 1000), data)
    """
    if not isinstance(posterior, Posterior):
        raise ValueError(f"posterior: expected draws from inference.draw, got {told(posterior)}")
    check_count("draws", draws if draws is not None else 1)
    log_ratios = weights_of(posterior)
    if log_ratios is None:
        return posterior if draws is None else posterior.thin(draws)
    total = len(log_ratios)
    wanted = draws or total
    check_room("draws", wanted, wanted * sum(value[0, 0].nbytes for value in posterior.draws.values()))
    check_enough("posterior: draws", total, "the k̂ of draws to resample")
    log_weights, k = smoothed(log_ratios)
    if k > threshold(total):
        warnings.warn(
            f"k̂ = {k:.2f} is above {threshold(total):.2f}: the guide misses part of the posterior, these draws do too",
            stacklevel=2,
        )
    return picked_by(log_weights, posterior, wanted, seed)


def picked_by(log_weights: Numbers, posterior: Posterior, wanted: int, seed: int) -> Posterior:
    """Draws resampled in proportion to weights, whatever k̂ is: see `resample`.

    Args:
        log_weights: smoothed, (S,), of all draws of the posterior.
        posterior: whose draws they are.
        wanted: how many to keep.
        seed: of the choice.
    """
    generator = np.random.default_rng(seed)
    ends = np.cumsum(np.exp(log_weights))
    places = (np.arange(wanted) + generator.random()) / wanted  # systematic: the least noise
    picked = torch.as_tensor(np.searchsorted(ends / ends[-1], places).clip(max=len(log_weights) - 1))
    picked = picked[torch.as_tensor(generator.permutation(wanted))]  # no draw beside its copies

    def some(value: Tensor) -> Tensor:
        return value.flatten(0, 1)[picked.to(value.device)][None]

    kept = {name: some(value) for name, value in posterior.draws.items()}
    stats = {"log_p": some(posterior.stats["log_p"])}
    return replace(posterior, draws=kept, stats=stats, method="psis", chains=1, size=wanted)
