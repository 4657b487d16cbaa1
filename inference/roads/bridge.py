"""Bridge sampling: the evidence from draws of the posterior, however they came about.

With draws u_i of the posterior p(u) / Z and v_j of a proposal q, both (nearly) everywhere where the other is,

    Z = E_q[p h] / E_post[q h],  h = 1 / (s1 p + s2 Z q),  s1 = n1 / (n1 + n2)

found by iteration (Meng & Wong 1996, "Simulating ratios of normalizing constants via a simple identity"); n1 counts
draws by their effective number. The proposal is a Gaussian of free latents, or a mixture with one for each mode, of
half of the draws; the estimate is from the other half, and the other way round (Gronau et al. 2017, "A tutorial on
bridge sampling", sections 4 and 5, which has the error too, after Frühwirth-Schnatter 2004).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.roads.modes import Mixture, mixture
from inference.sampling.effective import effective

ROUNDS, CLOSE = 1000, 1e-10  # most iterations, and when log Z stands still
LEAST = 10  # effective draws in each half

Values = Callable[[Tensor], Tensor]  # log densities at points, (S, P) -> (S,)


@dataclass(frozen=True)
class Bridge:
    """What bridge sampling finds.

    Args:
        value: log Z, in nats.
        error: its standard error.
        modes: Gaussians in the proposal.
    """

    value: float
    error: float
    modes: int


def bridge(points: Tensor, log_p: Tensor, density: Values, generator: torch.Generator) -> Bridge:
    """The log evidence from draws.

    Args:
        points: free latents, (C, n, P).
        log_p: their log density with the Jacobian, (C, n).
        density: the same at other points.
        generator: of the proposal's draws; of numbers other than those that made `points`.

    Raises:
        ValueError: too few draws for what they are.
    """
    if points.shape[0] > 1:
        half = points.shape[0] // 2
        halves = [(points[:half], log_p[:half]), (points[half:], log_p[half:])]
    else:
        half = points.shape[1] // 2
        halves = [(points[:, :half], log_p[:, :half]), (points[:, half:], log_p[:, half:])]
    found = [_one(mixture(of[0].flatten(0, 1)), *by, density, generator) for of, by in (halves, halves[::-1])]
    values, errors = [value for value, _, _ in found], [error for _, error, _ in found]
    # Each half has told where the other's proposal lies, and nothing more of it: the two are nearly independent.
    error = max(math.hypot(*errors) / 2, abs(values[0] - values[1]) / 2)
    return Bridge(sum(values) / 2, error, max(count for _, _, count in found))


def _one(
    proposal: Mixture, points: Tensor, log_p: Tensor, density: Values, generator: torch.Generator
) -> tuple[float, float, int]:
    """log Z, its error and the number of modes, from draws (C, n, P) and a proposal made of others."""
    flat, chains = points.flatten(0, 1), log_p.shape
    own, _ = proposal.draw(len(flat), generator)
    drawn = _ratio(log_p.flatten(), proposal, flat)
    made = _ratio(density(own), proposal, own)
    count = min(len(flat), _effective(drawn.reshape(chains)))
    if count < LEAST:
        raise ValueError(
            f"posterior: bridge sampling needs some {2 * LEAST} effective draws, and finds {2 * count:.0f}: draw more"
        )
    first, second = math.log(count / (count + len(made))), math.log(len(made) / (count + len(made)))
    value = float(drawn.median())
    for _ in range(ROUNDS):
        top = (made - torch.logaddexp(first + made, made.new_tensor(second + value))).logsumexp(0) - math.log(len(made))
        low = (-torch.logaddexp(first + drawn, drawn.new_tensor(second + value))).logsumexp(0) - math.log(len(drawn))
        before, value = value, float(top - low)
        if abs(value - before) < CLOSE * max(1.0, abs(value)):
            break
    up = (made - value - torch.logaddexp(first + made - value, made.new_tensor(second))).exp()
    down = (-torch.logaddexp(first + drawn - value, drawn.new_tensor(second))).exp()
    relative = up.var() / up.mean().square() / len(made)
    relative = relative + down.var() / down.mean().square() / min(len(down), _effective(down.reshape(chains)))
    return value, float(relative.sqrt()), len(proposal.parts)


def _ratio(log_p: Tensor, proposal: Mixture, points: Tensor) -> Tensor:
    """log p - log q, (S,); minus infinity where p is zero or is no number."""
    found = log_p - proposal.log_density(points).logsumexp(-1)
    return found.nan_to_num(nan=-math.inf, posinf=-math.inf, neginf=-math.inf)


def _effective(values: Tensor) -> float:
    """Effective number of draws, of numbers (C, n); all of them where none differ."""
    if values.shape[1] < 8 or not bool(values.isfinite().all()) or bool((values == values[0, 0]).all()):
        return float(values.numel())
    return effective(values.unsqueeze(-1))[0]
