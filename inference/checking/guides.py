"""Findings on draws of a guide: do importance weights say that it is the posterior, and do chains from it stay?

k̂ and the weights judge a guide by its own draws, so that they cannot see what it never reaches: one that is too narrow
has a fine k̂ (Yao, Vehtari, Simpson & Gelman 2018, "Yes, but did it work?", section 5). So a short Hamiltonian run
begins at its draws: chains leave a guide that is too narrow, or in the wrong place, within a few transitions. Means
within a quarter of a deviation, and deviations within a fifth, are what posteriordb's users ask for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from inference.checking.findings import Finding, State, graded, looked_at
from inference.checking.short import KEPT, NARROW, SHIFT, WIDE, Short, rows
from inference.posterior.khat import KHat
from inference.posterior.latents import Posterior
from inference.posterior.psis import EXACT, smoothed, threshold

_YAO, _VEHTARI = "Yao et al. 2018", "Vehtari et al. 2024"
_RICHER = "Take a richer guide, or draw by inference.sample"
RUN, _RUN = "a short Hamiltonian run", "posteriordb practice"


def of_weights(posterior: Posterior) -> Iterator[Finding]:
    """k̂, effective share and what the weights move, of draws with their log p and log q."""
    if not {"log_p", "log_q"} <= posterior.stats.keys():
        yield Finding(
            "k̂ of the guide", "could not be judged", "the draws came without log_p and log_q", bears=True,
            source=_VEHTARI, advice="Draw them with stats=True",
        )  # fmt: skip
        return
    ratios = (posterior.stats["log_p"] - posterior.stats["log_q"]).flatten().double().cpu().numpy()
    if len(ratios) < 25 or not np.isfinite(ratios).any():
        yield Finding(
            "k̂ of the guide", "could not be judged", f"{len(ratios)} draws, or a point guide: no weights", bears=True,
            source=_VEHTARI, advice="Draw 1,000",
        )  # fmt: skip
        return
    log_weights, k = smoothed(ratios)
    share = float(1 / (len(ratios) * np.exp(2 * log_weights).sum()))
    limit = threshold(len(ratios))
    exact = share >= EXACT
    told = "all weights are equal" if exact else f"{k:.2f}, {limit:.2f} allowed; effective share {share:.0%}"
    state = "ok" if exact else graded(k, limit, limit)
    yield Finding("k̂ of the guide", state, told, k, _VEHTARI, _RICHER, bears=True)
    if exact or k >= limit:
        return
    shift, stretch, site = _moved(posterior, torch.from_numpy(np.exp(log_weights)))
    yield Finding(
        "moved by the weights", graded(max(shift, stretch), 0.1, SHIFT),
        f"means by {shift:.2f} sd, sds by {stretch:.0%} (at most, of '{site}'); 0.10 allowed",
        max(shift, stretch), _YAO,
        "The weights can correct this: take inference.resample(posterior)",
    )  # fmt: skip


def of_rows(judged: KHat, total: int) -> Iterator[Finding]:
    """The guides of single observations, all of so many or some."""
    reliable = judged.reliable
    if reliable is None:
        return
    share, of = float(reliable.mean()), looked_at(len(reliable), total)
    yield Finding(
        "guides of the rows", graded(share, 0.95, 0.8),
        f"{share:.0%} of {of} have a k̂ below {threshold(judged.particles):.2f}; 95 % wanted",
        share, _VEHTARI, "inference.refine fits the rows themselves; a larger encoder, or longer training", bears=True,
    )  # fmt: skip


def of_run(guide: Mapping[str, Tensor], run: Short) -> Iterator[Finding]:
    """What a short Hamiltonian run from the guide's draws found, beside them: site -> (S, ...)."""
    shift, ratio, moved, scaled, sure = 0.0, 1.0, "", "", False
    for site, theirs in run.means.items():
        ours, sd = rows(guide[site]), run.sds[site]
        live = sd > 0
        if not bool(live.any()):
            continue
        away = ((ours.mean(0) - theirs).abs() / sd)[live]
        apart = float(away.max())
        ratios = (ours.std(0) / sd)[live].clamp(min=1e-12)
        over = torch.maximum(ratios / WIDE, NARROW / ratios).log()
        room = 2 * run.errors[site][:, live]
        sure |= bool((away - SHIFT > room[0]).any()) or bool((over > room[1]).any())
        far = float(ratios[ratios.log().abs().argmax()])
        if apart > shift:
            shift, moved = apart, site
        if abs(math.log(far)) > abs(math.log(ratio)):
            ratio, scaled = far, site
    held = shift <= SHIFT and NARROW <= ratio <= WIDE
    told = f"the guide's means lie {shift:.2f} sd off{_of(moved)}, its sds are {ratio:.2f} times those{_of(scaled)}"
    if held and run.kept >= KEPT:
        yield Finding(
            RUN, "look", f"its chains have hardly moved ({run.kept:.2f} of where they began is left)", run.kept, _RUN,
            "Corners that chains cannot leave: look at a whole run of inference.sample", bears=True,
        )  # fmt: skip
        return
    state: State = "ok" if held else ("look" if run.cut and not sure else "wrong")
    within = ", which is within its errors" if state == "look" else ""
    yield Finding(
        RUN, state, f"{told}; {SHIFT} and {NARROW} to {WIDE} allowed{within}",
        max(shift, abs(math.log(ratio))), _RUN, _RICHER, bears=True,
    )  # fmt: skip


def _of(site: str) -> str:
    return f" (of '{site}')" if site else ""


def _moved(posterior: Posterior, weights: Tensor) -> tuple[float, float, str]:
    """The largest change of a mean, in deviations, and of a deviation, as a share, under the weights, (S,)."""
    shift, stretch, worst = 0.0, 0.0, ""
    for name, value in posterior.flat(posterior.globals).items():
        flat = rows(value)
        mean, sd = flat.mean(0), flat.std(0)
        weighed = weights @ flat
        spread = (weights @ (flat - weighed).square()).sqrt()
        live = sd > 0
        if not bool(live.any()):
            continue
        moved = float(((weighed - mean).abs() / sd)[live].max())
        grown = float((spread / sd - 1).abs()[live].max())
        if max(moved, grown) > max(shift, stretch):
            worst = name
        shift, stretch = max(shift, moved), max(stretch, grown)
    return shift, stretch, worst
