"""Findings on what prior and likelihood each do to a posterior: it is drawn anew with either raised to a power near 1.

Draws are weighed by prior^(a - 1), or likelihood^(a - 1), at a = 0.99 and 1.01; how far that moves the distribution
function of a latent, by the cumulative Jensen-Shannon distance for each doubling of a, is its sensitivity, of which
0.05 is little (Kallioinen, Paananen, Bürkner & Vehtari 2024, "Detecting and diagnosing prior and likelihood sensitivity
with power-scaling"). Sensitive to both: they are at odds. To the prior alone: it is strong, or the data say little.
Of priors that depend on other latents only those at the top are scaled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from inference.checking.findings import Finding
from inference.posterior.psis import Numbers, smoothed
from inference.sampling.store import evenly

LITTLE = 0.05
POWERS = (0.99, 1.01)
COLUMNS = 40  # numbers of each latent, at most


def of_scaling(
    draws: Mapping[str, Tensor], log_prior: Tensor, log_likelihood: Tensor, log_ratios: Numbers | None = None
) -> Iterator[Finding]:
    """Whether prior and likelihood are at odds, or the prior outweighs the data.

    Args:
        draws: latents by site, (chain, draw, ...).
        log_prior, log_likelihood: at each draw, (chain, draw).
        log_ratios: log p - log q of draws of a guide, (S,), which are resampled by them.
    """
    both = [part.detach().double().cpu().numpy() for part in (log_prior, log_likelihood)]
    values = {name: _columns(value) for name, value in draws.items() if value.is_floating_point()}
    if log_ratios is not None:
        picked = _resampled(log_ratios)
        both = [part.reshape(1, -1)[:, picked] for part in both]
        values = {name: value.reshape(1, -1, value.shape[-1])[:, picked] for name, value in values.items()}
    if not values or both[0].shape[1] < 8:
        return
    found = {name: np.stack([sensitivity(value, part) for part in both], 1) for name, value in values.items()}
    name = max(found, key=lambda name: float(found[name][:, 0].max()))
    prior, likelihood = (float(number) for number in found[name][found[name][:, 0].argmax()])
    if prior < LITTLE:
        words, advice = "the data decide", ""
    elif likelihood >= LITTLE:
        words, advice = (
            "prior and data both do, and may be at odds",
            "Is the prior meant so? Look at its draws beside the posterior's",
        )
    else:
        words = "the prior decides, the data say little"
        advice = "Say so where this latent is reported, or find data that tell more of it"
    yield Finding(
        "sensitivity to the prior", "ok" if prior < LITTLE else "look",
        f"{prior:.2f} at most (of '{name}'; to the likelihood {likelihood:.2f}), below {LITTLE} is little: {words}",
        prior, "Kallioinen et al. 2024", advice, counts=False,
    )  # fmt: skip


def sensitivity(values: Numbers, log_density: Numbers) -> Numbers:
    """Of each of W numbers, (C, n, W), to a part of the log density at each draw, (C, n): (W,).

    ArviZ's `power_scale_sense`, written out, since `arviz_stats` takes seconds to import. The weights are not smoothed,
    as at powers so near 1 they need not be.
    """
    if np.ptp(log_density) < 1e-12:
        return np.zeros(values.shape[-1])
    flat, density = values.reshape(-1, values.shape[-1]), log_density.reshape(-1)
    order = np.argsort(flat, 0)
    widths = np.diff(np.take_along_axis(flat, order, 0), axis=0)
    found = np.zeros(flat.shape[1])
    for power in POWERS:
        weights = np.exp((power - 1) * (density - density.max()))
        found += _distance(widths, weights[order] / weights.sum()) / abs(np.log2(power)) / len(POWERS)
    return found


def _distance(widths: Numbers, weights: Numbers) -> Numbers:
    """The cumulative Jensen-Shannon distance of draws, each the same, from draws that are weighed.

    Args:
        widths: between neighbours, (S - 1, W).
        weights: in the same order, (S, W).
    """
    count = len(weights)
    up = np.linspace(1 / count, 1 - 1 / count, count - 1)[:, None]
    ways = ((widths, up, weights.cumsum(0)[:-1]), (widths[::-1], up, weights[::-1].cumsum(0)[:-1]))
    return np.maximum(*(_one_way(*way) for way in ways))


@np.errstate(all="ignore")
def _one_way(widths: Numbers, p: Numbers, q: Numbers) -> Numbers:
    """sqrt of the integral of p log2 p / m + q log2 q / m, m = (p + q) / 2, over that of p + q: (S - 1, W) -> (W,)."""
    middle = (p + q) / 2
    apart = np.where(q > 0, q * np.log2(q / middle), 0.0) + p * np.log2(p / middle)
    total = (widths * (p + q)).sum(0)
    return np.asarray(np.where(total > 0, np.sqrt(np.maximum((widths * apart).sum(0), 0) / total), 0.0))


def _columns(value: Tensor) -> Numbers:
    """(C, n, ...) to (C, n, W)."""
    flat = value.detach().double().cpu().reshape(*value.shape[:2], -1)
    return np.asarray(flat[..., evenly(flat.shape[-1], COLUMNS)].numpy())


def _resampled(log_ratios: Numbers) -> np.ndarray[Any, Any]:
    """Which draws stand for the posterior, (S,), each as often as its weight says."""
    ends = np.exp(smoothed(log_ratios)[0]).cumsum()
    places = (np.arange(len(ends)) + 0.5) / len(ends)
    order = np.random.default_rng(0).permutation(len(ends))  # no draw beside its copies
    return np.asarray(np.searchsorted(ends / ends[-1], places).clip(max=len(ends) - 1)[order])
