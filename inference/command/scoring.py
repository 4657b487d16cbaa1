"""Scores of a fitted pair within a given time: k̂ of all the data that were fitted, and scores of single rows.

k̂ compares guide and posterior, and the posterior is that of all rows: its log densities are summed over all of them,
for as many draws as the time allows. Scores of single rows are those of a random sample of rows, as large as the time
allows, of which the summary and metrics.json tell. Given time enough, everything is scored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from inference.posterior import likelihood
from inference.posterior.draws import Posterior, drawn
from inference.posterior.khat import KHat, point_codes
from inference.posterior.psis import LEAST, Numbers, effective_share, pareto_k
from inference.running.checked import Checked
from zoo import held
from zoo.settings import settings

_LEAST = 100  # draws that tell a k̂: its tail then has 20 of them
_ROWS = 50  # single rows to be scored, before more draws are asked for
_PARTICLES = 500  # of each row's local guide, behind its k̂
_WHOLE = 100, 1000  # particles behind `log_likelihood`, with and without global latents
Progress = Callable[[int, int], None]  # told how many rows are done, and of how many


@dataclass(frozen=True)
class Scored:
    """What was found.

    Args:
        given: all the data of the fit.
        rows: those scored one by one, (n,), ascending.
        some: the same, as data; their total is that of all.
        posterior: draws of the globals, and of the locals of these rows. `stats` are of all the data.
        scores: log p(x_n | globals) of these rows, (chain, draw, n).
        believed: k̂ of the global guide over all the data, and of these rows' own guides.
        predictive: the most predictive draws that the time left allows.
        notes: what the time did not allow, each a sentence.
    """

    given: Checked
    rows: Tensor
    some: Checked
    posterior: Posterior
    scores: Tensor
    believed: KHat
    predictive: bool | int
    notes: tuple[str, ...]


class Watch:
    """A time that runs: infinite where `seconds` is None."""

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self.began = math.inf if seconds is None else seconds, time.perf_counter()

    def left(self, share: float = 1.0) -> float:
        """Seconds until this share of the time is over; none below 0."""
        return max(0.0, share * self.seconds - (time.perf_counter() - self.began))


def score(given: Checked, draws: int, seconds: float | None = None, *, seed: int = 0, progress: Progress) -> Scored:
    """Score a fitted pair.

    Args:
        given: all the data of the fit, with their total.
        draws: of the posterior, S.
        seconds: about the time it may take; None for as long as it takes.
        seed: seeds everything drawn, and the sample of rows.
        progress: called now and then.
    """
    watch, notes = Watch(seconds), []
    none = torch.empty(0, dtype=torch.long, device=given.pair.device)
    count, each = _draws_within(given, draws, watch.left(0.4), seed)
    judged = bool(count) and bool(given.globals)
    posterior = drawn(given, count or draws, stats=judged, seed=seed, rows=none)
    if given.globals and count < draws:
        took = f"the log densities of {draws} draws over all observations take about {_told(draws * each)}"
        notes.append(f"{took}: {f'{count} draws were kept' if count else 'there is no k̂ of the global guide'}")
    overall = share = None
    told = judged and bool(posterior.globals) and given.pair.guide_family != "delta" and held.of(given.pair) is None
    if told and posterior.size < LEAST:
        notes.append(f"there is no k̂ of the global guide: it needs at least {LEAST} draws, {posterior.size} were kept")
    elif told:
        ratios = (posterior.stats["log_p"] - posterior.stats["log_q"]).flatten().double().cpu().numpy()
        overall, share = float(pareto_k(ratios)), float(effective_share(ratios))
    kept, rows, scores, local, predictive = _rows_within(given, posterior, watch, seed, progress)
    if kept.size < posterior.size:
        notes.append(f"a row takes so long that {kept.size} of {posterior.size} draws were kept")
    some = given if len(rows) == given.size else given.select(rows)
    if any(not given.sites[name].enumerated for name in given.locals):
        whole = drawn(given, posterior.size, stats=False, seed=seed, rows=rows).thin(kept.size)
        kept = replace(kept, draws=whole.draws, local=whole.local)
    if len(rows) < given.size:
        notes.append(f"scores of single rows are those of {len(rows)} of {given.size} observations, taken at random")
    believed = KHat(overall, local[0], share, local[1], posterior.size, _PARTICLES)
    return Scored(given, rows, some, kept, scores, believed, predictive, tuple(notes))


def _draws_within(given: Checked, draws: int, seconds: float, seed: int) -> tuple[int, float]:
    """How many of so many draws get their log densities over all rows in that time, and the seconds that one takes.

    None if they are too few to tell anything. Tried on a few rows first: a pass over all may take an hour.
    """
    if not given.globals:
        return draws, 0.0
    few, rows = min(4, draws), torch.arange(min(given.size, 64), device=given.pair.device)
    each = _timed(given.select(rows), few, seed) * given.size / len(rows)
    if len(rows) < given.size and each * few <= seconds / 5:
        each = _timed(given, few, seed)
    if each * draws > seconds and (more := int(seconds / 4 / each)) > 2 * few:
        each = _timed(given, min(more, draws), seed)  # of many draws at once each takes less
        seconds *= 3 / 4
    count = draws if each * draws <= seconds else int(seconds / each)
    return (count if count >= min(draws, _LEAST) else 0), each


def _timed(given: Checked, draws: int, seed: int) -> float:
    """Seconds that the log densities of a draw take."""
    began = time.perf_counter()
    drawn(given, draws, seed=seed, rows=torch.empty(0, dtype=torch.long))
    return (time.perf_counter() - began) / draws


def _rows_within(
    given: Checked, posterior: Posterior, watch: Watch, seed: int, progress: Progress
) -> tuple[Posterior, Tensor, Tensor, tuple[Numbers | None, Numbers | None], bool | int]:
    """Score rows in random order until the time is over.

    Returns:
        the draws that were used, which rows, their scores (chain, draw, n), k̂ and effective share of their own guides
        (n,), and how many predictive draws of them the time that is left allows.
    """
    order = torch.randperm(given.size, generator=torch.Generator().manual_seed(int(seed)))[: settings.summary_rows]
    judged = given.continuous_locals and not point_codes(given)

    def scored(rows: Tensor, seed: int) -> tuple[Tensor, tuple[Numbers, Numbers] | None]:
        part = given if len(rows) == given.size else given.select(rows.to(given.pair.device))
        found = likelihood.scores(part, posterior, seed=seed)
        if not judged:
            return found, None
        weights = likelihood.local_log_weights(part.pair, part, _PARTICLES, seed=seed)
        ratios = weights.double().cpu().numpy()
        return found, (pareto_k(ratios), effective_share(ratios))

    def seconds_of(rows: Tensor) -> float:
        began = time.perf_counter()
        scored(rows, seed)
        return (time.perf_counter() - began) / len(rows)

    each, most = seconds_of(order[:1]), watch.left(0.75)
    if each * (wanted := min(_ROWS, len(order))) > most and posterior.globals:
        posterior = posterior.thin(max(1, int(posterior.size * most / (each * wanted))))
        each = seconds_of(order[:1])
    if len(order) > 1 and each * 8 < watch.left(0.75):
        each = seconds_of(order[:8])
    step = len(order) if each * len(order) <= watch.left(0.75) / 1.5 else max(1, int(watch.left(0.75) / 20 / each))
    done, found, told, began = 0, [], [], time.perf_counter()
    while done < len(order) and (not done or watch.left(0.75) > 0):
        rows = order[done : done + step].sort().values
        one, own = scored(rows, seed + done)
        found.append(one)
        told += [own] if own is not None else []
        done += len(rows)
        progress(done, len(order))
    each = (time.perf_counter() - began) / done
    ranks = torch.cat([order[i : i + step].sort().values for i in range(0, done, step)]).sort()
    scores = torch.cat(found, -1)[..., ranks.indices.to(found[0].device)]
    local: tuple[Numbers | None, Numbers | None] = (None, None)
    if judged:
        ks, shares = (np.concatenate(found)[ranks.indices.numpy()] for found in zip(*told, strict=True))
        local = ks, shares
    return (
        posterior,
        ranks.values.to(given.pair.device),
        scores,
        local,
        _predictive(given, posterior, each, done, watch),
    )


def _predictive(given: Checked, posterior: Posterior, each: float, rows: int, watch: Watch) -> bool | int:
    """Predictive draws of so many rows for half of the time left, where scoring a row takes `each` seconds."""
    if math.isinf(watch.seconds):
        return True
    passes = posterior.size if posterior.globals else 1
    if given.continuous_locals:
        passes = passes * _WHOLE[not posterior.globals] + _PARTICLES
    most = max(1, int(watch.left() / 2 / max(1e-9, each / passes * rows)))
    return True if most >= posterior.size else most


def _told(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"
