"""A start that was worked out in closed form, kept where the steps from it led nowhere higher.

Steps from the maximum can only lose: their gradients are noisy, and what averaging leaves of that is the price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from inference.fitting.curvature import which_rows
from inference.fitting.objective import Objective
from inference.running import pieces
from inference.running.densities import run
from inference.running.quiet import quietly
from inference.running.width import width
from zoo.base import Batch, ModelGuide
from zoo.settings import settings

HIGHEST = "no way up is found from the start, which is kept"
_PARTICLES = 8
_TURNS, _NOISE, _TRIAL = 4, 40_000, 10**8  # of L-BFGS; rows times draws behind it; those times parameters at the most
_DRAWS = 32  # behind the bound of a guide over global latents


class Keeping:
    """Parameters of a pair as they are now, and their bound on each observation, at fixed noise.

    Args:
        pair: without global latents.
        batch: what it is fitted to; the bound is that of at most `settings.hessian_rows` of its rows.
    """

    def __init__(self, pair: ModelGuide, batch: Batch) -> None:
        self.pair, self.total = pair, batch.size
        self.batch = _the_same_rows(pair, batch)
        self.kept = {name: value.detach().clone() for name, value in pair.named_parameters()}
        self.bounds = self._bounds()

    def state(self) -> dict[str, Any]:
        """To make it `again` from."""
        return {"kept": self.kept, "bounds": self.bounds}

    @classmethod
    def again(cls, pair: ModelGuide, batch: Batch, state: Mapping[str, Any]) -> Keeping:
        """From its state, whatever the parameters are now.

        Raises:
            ValueError: it is not of such a pair.
        """
        made = cls.__new__(cls)
        made.pair, made.total = pair, batch.size
        made.batch = _the_same_rows(pair, batch)
        made.kept, made.bounds = _of(pair, dict(pair.named_parameters()), state)
        return made

    def highest(self, tolerance: float) -> bool:
        """Whether no way up is found from here: a few steps of L-BFGS at fixed noise, judged at other noise.

        At the maximum they follow the noise, and lose by it. Anywhere else one or two gain, and no more are taken.

        Args:
            tolerance: gain in nats per observation that counts as none.
        """
        own, rows = [value for value in self.pair.parameters() if value.requires_grad], self.batch.size
        particles = max(_PARTICLES, min(512, _NOISE // rows))
        if rows < self.total or rows * particles * sum(value.numel() for value in own) > _TRIAL:
            return False  # some rows have another maximum than all; and steps of large networks are no trial
        search = torch.optim.LBFGS(own, max_iter=10, line_search_fn="strong_wolfe")

        def bounds(seed: int, slopes: bool = False) -> Tensor:
            """Of all rows, per observation, from each draw, (S,)."""
            with quietly(seed, self.pair), torch.set_grad_enabled(slopes):
                return run(self.pair, self.batch, particles).log_weight.expand(particles, rows).mean(-1)

        def loss() -> Tensor:
            with torch.enable_grad():
                value = -bounds(0, slopes=True).mean()
                gradients = torch.autograd.grad(value, own, allow_unused=True)
            for parameter, gradient in zip(own, gradients, strict=True):
                parameter.grad = None if gradient is None else gradient.contiguous()
            return value.detach()

        def gains() -> bool:
            search.step(loss)
            risen = (bounds(1) - before).double()
            return not float(risen.mean()) <= max(tolerance, 2 * float(risen.std()) / particles**0.5)

        try:
            with torch.no_grad():
                before = bounds(1)
                return not any(gains() for _ in range(_TURNS))
        except (ValueError, RuntimeError):  # of a matrix that is not finite, say: steps will tell
            return False
        finally:
            search.zero_grad()
            self._restore()

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
        self._restore()
        return True

    @torch.no_grad()
    def _restore(self) -> None:
        for name, value in self.pair.named_parameters():
            value.copy_(self.kept[name])


class KeepingGuide:
    """A guide over global latents as it starts, with widths from the curvature, kept where noisy steps lost by it.

    A full covariance has a number for each pair of latents, and one draw a step says little of each.

    Args:
        pair: without parameters but the guide's, and without continuous locals.
        batch: what it is fitted to; the bound is that of at most `settings.hessian_rows` of its rows.
        objective: of the plain ELBO.
    """

    def __init__(self, pair: ModelGuide, batch: Batch, objective: Objective) -> None:
        self.pair, self.objective = pair, objective
        self.rows = which_rows(batch.size)
        self.batch = batch if self.rows is None else batch.select(self.rows.to(pair.device))
        self.kept = _state(pair)
        self.bounds = self._bounds()

    def state(self) -> dict[str, Any]:
        """To make it `again` from."""
        return {"kept": self.kept, "bounds": self.bounds, "rows": self.rows}

    @classmethod
    def again(cls, pair: ModelGuide, batch: Batch, objective: Objective, state: Mapping[str, Any]) -> KeepingGuide:
        """From its state, whatever the guide is now.

        Raises:
            ValueError: it is not of such a pair.
        """
        made = cls.__new__(cls)
        made.pair, made.objective, made.rows = pair, objective, state["rows"]
        made.batch = batch if made.rows is None else batch.select(made.rows.to(pair.device))
        made.kept, made.bounds = _of(pair, _state(pair), state)
        return made

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


def _the_same_rows(pair: ModelGuide, batch: Batch) -> Batch:
    """As many rows as the bound is taken over, the same each time."""
    most = settings.hessian_rows
    some = torch.randperm(batch.size, generator=torch.Generator().manual_seed(0))[:most].to(pair.device)
    return batch if batch.size <= most else batch.select(some)


def _of(pair: ModelGuide, own: Mapping[str, Tensor], state: Mapping[str, Any]) -> tuple[dict[str, Tensor], Tensor]:
    """What is kept and its bounds, out of a file, where they have the shapes of the pair's own."""
    kept = {name: value.to(pair.device) for name, value in state["kept"].items()}
    found, wanted = ({n: (v.shape, v.dtype) for n, v in tensors.items()} for tensors in (kept, own))
    if found != wanted:
        raise ValueError(f"expected the start of {', '.join(own)}, got {', '.join(kept)}")
    return kept, state["bounds"].to(pair.device)
