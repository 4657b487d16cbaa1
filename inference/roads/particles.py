"""Weights of particles in islands: the next temperature, resampling, evidence. Tensors are (I, N): islands first."""

from __future__ import annotations

import math

import torch
from torch import Tensor

HALVINGS = 60  # of the interval in which the next temperature is sought


def normalised(log_weights: Tensor) -> Tensor:
    """Log weights that sum to one in each island."""
    return log_weights - log_weights.logsumexp(-1, keepdim=True)


def effective(log_weights: Tensor) -> Tensor:
    """Effective sample size of normalised weights as a share of the particles, (I,)."""
    found: Tensor = (-(2 * log_weights).logsumexp(-1)).exp() / log_weights.shape[-1]
    return found


def conditional(log_weights: Tensor, gain: Tensor) -> Tensor:
    """Conditional effective sample size of weights multiplied by exp(gain), as a share, (I,).

    (sum W w)^2 / sum W w^2 (Zhou, Johansen & Aston 2016, "Toward automatic model comparison", eq. 15): how far the
    one step goes, whatever the weights are by then.
    """
    found: Tensor = (2 * (log_weights + gain).logsumexp(-1) - (log_weights + 2 * gain).logsumexp(-1)).exp()
    return found


def next_beta(log_weights: Tensor, log_ratio: Tensor, beta: float, share: float) -> float:
    """The inverse temperature to which the conditional effective sample size falls to a share, in the worst island.

    Args:
        log_weights: normalised.
        log_ratio: log r at each particle; minus infinity where the posterior is zero.
        beta: now.
        share: of what is left once particles where the posterior is zero are gone.
    """
    dead = torch.where(log_ratio == -math.inf, log_ratio, 0.0)
    least = share * conditional(log_weights, dead)

    def near(step: float) -> bool:
        gain = torch.where(log_ratio == -math.inf, log_ratio, step * log_ratio)
        return bool((conditional(log_weights, gain) >= least).all())

    whole = 1.0 - beta
    if near(whole):
        return 1.0
    low, high = math.log(1e-300), math.log(whole)  # log of the step: priors may be vague by any power of ten
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if near(math.exp(middle)) else (low, middle)
    return min(1.0, beta + math.exp(low))


def systematic(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices of particles, each as often as its weight says but for less than one: (I, N), within islands."""
    islands, count = log_weights.shape
    shift = torch.rand(islands, 1, dtype=log_weights.dtype, device=log_weights.device, generator=generator)
    places = (torch.arange(count, device=log_weights.device) + shift) / count
    bounds = log_weights.exp().cumsum(-1)
    found = torch.searchsorted(bounds / bounds[:, -1:], places, right=True)
    return found.clamp(max=count - 1)


def log_mean(log_values: Tensor) -> tuple[float, float]:
    """Log of the mean of several independent estimates, given as logs, (I,), and its standard error; NaN of one."""
    count = len(log_values)
    total = log_values.logsumexp(0) - math.log(count)
    error = (log_values - total).exp().std() / math.sqrt(count) if count > 1 else torch.tensor(math.nan)
    return float(total), float(error)
