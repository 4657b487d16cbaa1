"""Annealed importance sampling between the guide and the posterior of single observations (Neal 2001)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.codes.reading import Codes, Values
from inference.codes.refinement import Refined, log_normal
from inference.compiling.fallback import traced
from zoo.base import Batch

LEAPFROG = 5  # steps of a Hamiltonian transition
ACCEPT = 0.65  # the acceptance rate that step sizes are adapted to (Beskos et al. 2013)


class Annealing:
    """Annealed importance sampling of each row, from the refined Gaussian to its posterior.

    In the coordinates v in which that Gaussian is N(0, I), log pi_b(v) = (1 - b) log N(v) + b log p(x, v), from b = 0
    to 1. Step sizes of each row at each b are learned in a run of their own, so that the estimate is unbiased.
    """

    def __init__(self, codes: Codes, refined: Refined, temperatures: int, chains: int) -> None:
        self.codes, self.refined, self.temperatures, self.chains = codes, refined, temperatures, chains
        self._ascent = traced(self._density_and_gradient, 2 * LEAPFROG * temperatures)

    def __call__(self, batch: Batch, fixed: Values) -> tuple[Tensor, Tensor]:
        """log p(x_n) and its standard error, both (N,)."""
        values, errors = [], []
        # Gradients hold on to some four tensors for each chain.
        for rows, part in self.codes.rows(batch, 1 + self.chains * 4 // 16):
            step = 0.5 * torch.ones(self.temperatures, part.size).to(self.refined.loc)
            self._run(part, rows, fixed, step, learn=True)
            weight = self._run(part, rows, fixed, step, learn=False)  # (S, B)
            total = weight.logsumexp(0)
            values.append(total - math.log(self.chains))
            spread = ((2 * weight).logsumexp(0) - 2 * total).exp() - 1 / self.chains
            errors.append(spread.clamp(min=0).mul(self.chains / (self.chains - 1)).sqrt())
        return torch.cat(values), torch.cat(errors)

    def _run(self, part: Batch, rows: slice, fixed: Values, step: Tensor, learn: bool) -> Tensor:
        """Log weights of all chains, (S, B); `step`, (temperatures, B), is read, or written when learning."""
        loc = self.refined.loc
        v = torch.randn(self.chains, *loc[rows].shape).to(loc)
        log_p, slope = self._at(v, part, rows, fixed)
        weight = torch.zeros_like(log_p)
        size = step[0].clone()
        for t in range(self.temperatures):
            before, beta = t / self.temperatures, (t + 1) / self.temperatures
            weight = weight + (beta - before) * (log_p - log_normal(v))
            if t == self.temperatures - 1:
                break  # a move at b = 1 would change no weight
            if learn:
                step[t] = size
            v, log_p, slope, accepted = self._move(v, log_p, slope, step[t], beta, part, rows, fixed)
            size = size * (0.2 * (accepted.mean(0) - ACCEPT)).exp()
        return weight

    def _move(
        self,
        v: Tensor,
        log_p: Tensor,
        slope: Tensor,
        step: Tensor,
        beta: float,
        part: Batch,
        rows: slice,
        fixed: Values,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One Hamiltonian transition that leaves pi_b as it is; also its acceptance probability, (S, B)."""

        def energy(v: Tensor, log_p: Tensor, momentum: Tensor) -> Tensor:
            return -(1 - beta) * log_normal(v) - beta * log_p + 0.5 * momentum.square().sum(-1)

        momentum = torch.randn_like(v)
        start = energy(v, log_p, momentum)
        new, new_p, new_slope = v, log_p, slope
        size = step[:, None]
        for _ in range(LEAPFROG):
            momentum = momentum + 0.5 * size * (beta * new_slope - (1 - beta) * new)
            new = new + size * momentum
            new_p, new_slope = self._at(new, part, rows, fixed)
            momentum = momentum + 0.5 * size * (beta * new_slope - (1 - beta) * new)
        # Where a trajectory diverges its energy is not a number: refused.
        accept = (start - energy(new, new_p, momentum)).nan_to_num(-math.inf).clamp(max=0).exp()
        taken = torch.rand_like(accept) < accept
        wide = taken[..., None]
        return (
            torch.where(wide, new, v),
            torch.where(taken, new_p, log_p),
            torch.where(wide, new_slope, slope),
            accept,
        )

    def _at(self, v: Tensor, part: Batch, rows: slice, fixed: Values) -> tuple[Tensor, Tensor]:
        tril = self.refined.tril
        scale = self.refined.scale[rows] if tril is None else tril[rows]
        found: tuple[Tensor, Tensor] = self._ascent(v, self.refined.loc[rows], scale, dict(fixed), part.fields())
        return found

    def _density_and_gradient(
        self, v: Tensor, loc: Tensor, scale: Tensor, fixed: dict[str, Tensor], fields: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """log p(x, v), (S, B), and its gradient in v, (S, B, L)."""
        blank = loc.new_empty(0)
        local = Refined(loc, scale, None if scale.ndim == 2 else scale, blank, blank, blank, self.refined.space)
        part = Batch(len(loc), len(loc)).but(**fields)
        with torch.enable_grad():
            v = v.detach().requires_grad_()
            values, change = local.space.values(local.at(v))
            log_p = self.codes.log_joint(part, values, fixed) + change + local.log_det()
            return log_p.detach(), torch.autograd.grad(log_p.sum(), v)[0]
