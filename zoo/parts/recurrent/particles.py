"""What a model of sequences with latent states expects of a step before it is seen: a bootstrap particle filter.

    z_t^s ~ p(z_t | h_t^s)      w_s ~ p(x_t | z_t^s, h_t^s)      then S particles are drawn anew by these weights

(Gordon, Salmond & Smith 1993). Moments of x_t are those of the mixture of p(x_t | z_t^s, h_t^s) before x_t is looked
at; their error falls as the root of S.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.parts.recurrent.dynamics import Dynamics
from zoo.settings import settings

PARTICLES = 1000


def one_step_ahead(dynamics: Dynamics, x: Tensor, particles: int = PARTICLES) -> tuple[Tensor, Tensor]:
    """Mean and variance of each step given the steps before it, (*, T, D) twice.

    Args:
        dynamics: the model.
        x: the observations, (*, T, D), NaN where missing.
        particles: S.
    """
    rows = x.reshape(-1, *x.shape[-2:])  # (R, T, D)
    step = max(1, settings.memory // (particles * dynamics.inputs(dynamics.latent, dynamics.features)))
    parts = [_filter(dynamics, part, particles) for part in rows.split(step)]
    mean, variance = (torch.cat(part).reshape(x.shape) for part in zip(*parts, strict=True))
    return mean, variance


def _filter(dynamics: Dynamics, x: Tensor, S: int) -> tuple[Tensor, Tensor]:
    R, T, _ = x.shape
    told, state = dynamics.start(R * S, x), None
    made: list[tuple[Tensor, Tensor]] = []
    for t in range(T):
        h, state = dynamics.net(told, state)  # (R S, 1, H)
        z = dynamics.state(h).sample()  # (R S, 1, L)
        fn = dynamics.emit(h, z)
        mean, variance = (value.expand(R * S, 1, -1).reshape(R, S, -1) for value in (fn.mean, fn.variance))
        made.append((mean.mean(1), variance.mean(1) + mean.var(1, correction=0)))
        now = x[:, t].repeat_interleave(S, 0).unsqueeze(1)  # (R S, 1, D)
        seen = ~now.isnan()
        log_weight = torch.where(seen, fn.log_prob(torch.where(seen, now, 0.0)), 0.0).sum((-1, -2))
        chosen = _resampled(log_weight.reshape(R, S))
        told = dynamics.told(now, z[chosen])
        state = None if state is None else tuple(part[:, chosen] for part in state)
    mean, variance = (torch.stack(part, 1) for part in zip(*made, strict=True))
    return mean, variance


def _resampled(log_weight: Tensor) -> Tensor:
    """Indices of particles drawn by weight, row by row, (R S): one uniform number a row (Kitagawa 1996)."""
    R, S = log_weight.shape
    whole = log_weight.double().softmax(-1).cumsum(-1)
    spot = (torch.arange(S, device=whole.device) + torch.rand(R, 1, dtype=whole.dtype, device=whole.device)) / S
    chosen = torch.searchsorted(whole, spot).clamp(max=S - 1)
    return (chosen + S * torch.arange(R, device=whole.device).unsqueeze(-1)).flatten()
