"""Annealed importance sampling between the guide and the posterior of single observations (Neal 2001)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from inference.codes.reading import Codes, Values
from inference.codes.refinement import Refined, log_normal
from inference.compiling.fallback import Fastest
from inference.running.naming import naming_the_site
from inference.sampling.hamiltonian import leapfrog, stand, transition
from zoo.base import Batch

LEAPFROG = 5  # steps of a Hamiltonian transition
ACCEPT = 0.65  # the acceptance rate that step sizes are adapted to (Beskos et al. 2013)


def log_mean(total: Tensor, squares: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Log of the mean of so many weights and its standard error, from the logs of their sum and of their squares'."""
    variance = ((squares - 2 * total).exp() - 1 / count).clamp(min=0) * (count / max(1, count - 1))
    return total - math.log(count), variance.sqrt()


class Annealing:
    """Annealed importance sampling of each row, from the refined Gaussian to its posterior.

    In the coordinates z in which that Gaussian is N(0, I), log pi_b(z) = (1 - b) log N(z) + b log p(x, z), from b = 0
    to 1. Step sizes of each row at each b are learned in a run of their own, so that the estimate is unbiased.
    """

    def __init__(self, codes: Codes, refined: Refined, temperatures: int, chains: int) -> None:
        self.codes, self.refined, self.temperatures, self.chains = codes, refined, temperatures, chains
        self._step = Fastest.of(self._leap, codes.pair.name, "annealing", 2 * LEAPFROG * temperatures)

    def __call__(self, batch: Batch, fixed: Values) -> tuple[Tensor, Tensor]:
        """log p(x_n) and its standard error, both (N,)."""
        values, errors = [], []
        # Gradients hold on to some four tensors for each chain.
        for rows, part in self.codes.rows(batch, 1 + self.chains * 4 // 16):
            metric = self.refined.metric(rows)
            leap = self._step.bind(dict(fixed), part.fields(), metric.centre, metric.scale)
            sizes = 0.5 * torch.ones(self.temperatures, part.size, 1).to(metric.centre)
            self._run(leap, metric.centre, sizes, learn=True)
            weight = self._run(leap, metric.centre, sizes, learn=False) + metric.log_det()  # (S, B)
            value, error = log_mean(weight.logsumexp(0), (2 * weight).logsumexp(0), self.chains)
            values.append(value)
            errors.append(error)
        return torch.cat(values), torch.cat(errors)

    def _run(self, leap: Callable[..., Any], like: Tensor, sizes: Tensor, learn: bool) -> Tensor:
        """Log weights of all chains but for log |du/dz|, (S, B).

        Args:
            leap: one leapfrog step.
            like: (B, L), as are the codes.
            sizes: of its steps, (temperatures, B, 1): read, or written when learning.
            learn: whether to.
        """
        z = torch.randn(self.chains, *like.shape).to(like)
        state = stand(leap, z, torch.zeros_like(sizes[0]), like.new_zeros(()))
        weight = torch.zeros_like(state.log_density)
        size = sizes[0].clone()
        for t in range(self.temperatures):
            before, beta = t / self.temperatures, (t + 1) / self.temperatures
            weight = weight + (beta - before) * (state.log_density - log_normal(state.z))
            if t == self.temperatures - 1:
                break  # a move at b = 1 would change no weight
            if learn:
                sizes[t] = size
            noise = torch.randn_like(state.z)
            log_uniform = torch.rand_like(weight).log()
            state, move = transition(leap, state, noise, log_uniform, sizes[t], LEAPFROG, like.new_tensor(beta))
            # Not dual averaging, which settles: the best size changes along the path.
            size = size * (0.2 * (move.acceptance.mean(0) - ACCEPT)).exp().unsqueeze(-1)
        return weight

    def _leap(self, fixed: dict[str, Tensor], fields: dict[str, Tensor], *arguments: Tensor) -> Any:
        """One leapfrog step on log p(x, u), where it is also a function of global latents and data."""

        def value_and_gradient(u: Tensor) -> tuple[Tensor, Tensor]:
            rows = u.shape[1]
            with torch.enable_grad(), naming_the_site():
                u = u.detach().requires_grad_()
                values, change = self.refined.space.values(u)
                log_p = self.codes.log_joint(Batch(rows, rows).but(**fields), values, fixed) + change  # (S, B)
                return log_p.detach(), torch.autograd.grad(log_p.sum(), u)[0]

        return leapfrog(value_and_gradient)(*arguments)
