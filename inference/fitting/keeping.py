"""A start that was worked out in closed form, kept where the steps from it led nowhere higher.

Steps from the maximum can only lose: their gradients are noisy, and what averaging leaves of that is the price.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.fitting.curvature import some_rows
from inference.fitting.objective import Objective
from inference.running import pieces
from inference.running.densities import run
from inference.running.quiet import quietly
from inference.running.width import width
from zoo.base import Batch, ModelGuide
from zoo.settings import settings

_PARTICLES = 8
_DRAWS = 32  # behind the bound of a guide over global latents


class Keeping:
    """Parameters of a pair as they are now, and their bound on each observation, at fixed noise.

    Args:
        pair: without global latents.
        batch: what it is fitted to; the bound is that of at most `settings.hessian_rows` of its rows.
    """

    def __init__(self, pair: ModelGuide, batch: Batch) -> None:
        self.pair, rows = pair, settings.hessian_rows
        some = torch.randperm(batch.size, generator=torch.Generator().manual_seed(0))[:rows].to(pair.device)
        self.batch = batch if batch.size <= rows else batch.select(some)
        self.kept = {name: value.detach().clone() for name, value in pair.named_parameters()}
        self.bounds = self._bounds()

    def _bounds(self) -> Tensor:
        """Estimates of the bound on log p(x_n), (N,)."""
        at_once = pieces.rows_at_once(self.batch, width(self.pair, self.batch), _PARTICLES)
        with quietly(0, self.pair):
            parts = [
                run(self.pair, part, _PARTICLES).log_weight.mean(0) for _, part in pieces.chunks(self.batch, at_once)
            ]
        return torch.cat(parts).double()

    @torch.no_grad()
    def back(self) -> bool:
        """Go back to them unless the bound has risen since, by two standard errors; whether it went back."""
        risen = self._bounds() - self.bounds
        error = float(risen.std()) / len(risen) ** 0.5 if len(risen) > 1 else 0.0
        if not bool(self.bounds.isfinite().all()) or float(risen.mean()) > 2 * error:
            return False
        for name, value in self.pair.named_parameters():
            value.copy_(self.kept[name])
        return True


class KeepingGuide:
    """A guide over global latents as it starts, with widths from the curvature, kept where noisy steps lost by it.

    A full covariance has a number for each pair of latents, and one draw a step says little of each.

    Args:
        pair: without parameters but the guide's, and without continuous locals.
        batch: what it is fitted to; the bound is that of at most `settings.hessian_rows` of its rows.
        objective: of the plain ELBO.
    """

    def __init__(self, pair: ModelGuide, batch: Batch, objective: Objective) -> None:
        self.pair, self.batch, self.objective = pair, some_rows(batch, pair.device), objective
        self.kept = _state(pair)
        self.bounds = self._bounds()

    def _bounds(self) -> Tensor:
        """Estimates of the bound on the log evidence from a draw each, the same every time, (32,)."""
        with quietly(0, self.pair):
            return torch.stack([-self.objective.loss(self.pair, self.batch) for _ in range(_DRAWS)]).double()

    @torch.no_grad()
    def back(self) -> bool:
        """Go back if the bound has fallen since, by two standard errors; whether it went back."""
        fallen = self.bounds - self._bounds()
        if not float(fallen.mean()) > 2 * float(fallen.std()) / _DRAWS**0.5:
            return False
        self.pair.automatic.load_state_dict(self.kept)  # type: ignore[union-attr]
        return True


def _state(pair: ModelGuide) -> dict[str, Tensor]:
    """What stands for the guide: its parameters, and the buffers they are relative to."""
    auto = pair.automatic
    return {} if auto is None else {name: value.detach().clone() for name, value in auto.state_dict().items()}
