"""Pyro's No-U-Turn sampler (Hoffman & Gelman 2014), one chain after another, on the traced log density: a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.infer import MCMC, NUTS
from torch import Tensor

from inference.compiling.fallback import Fastest
from inference.sampling.chains import DENSE, Chains

_TOLD = ("step_size", "lp", "diverging")  # what Pyro's kernel tells of each draw


def nuts(
    chains: Chains, points: Tensor, draws: int, warmup: int, thin: int, progress: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Draws of free latents, (C, draws, P), and their stats, (C, draws).

    Args:
        chains: whose log density it is.
        points: to start from, (C, P).
        draws: of each chain.
        warmup: transitions before them.
        thin: transitions for each draw.
        progress: show Pyro's bar.
    """
    evaluate = Fastest(chains.potential.value_and_gradient, chains.fallback).bind()
    found, stats = [], dict[str, list[list[float]]]()
    for point in points:
        kernel = NUTS(
            potential_fn=lambda free: -_Evaluated.apply(free["point"], evaluate),  # type: ignore[no-untyped-call]
            adapt_step_size=True,
            full_mass=chains.potential.size <= DENSE,
        )
        kept: dict[str, list[float]] = {name: [] for name in _TOLD}

        def look(kernel: Any, free: Any, stage: str, index: int, kept: dict[str, list[float]] = kept) -> None:
            if stage.lower().startswith("sample"):
                kept["step_size"].append(float(kernel.step_size))
                kept["lp"].append(-float(kernel._potential_energy_last))
                kept["diverging"].append(float(index in kernel._divergences))

        chain = MCMC(
            kernel, draws * thin, warmup, initial_params={"point": point.clone()},
            disable_progbar=not progress, hook_fn=look,
        )  # fmt: skip
        with torch.enable_grad():
            chain.run()
        found.append(chain.get_samples()["point"][thin - 1 :: thin])
        for name, values in kept.items():
            stats.setdefault(name, []).append(values[thin - 1 :: thin])
    told = {name: torch.tensor(values).to(points) for name, values in stats.items()}
    told["diverging"] = told["diverging"].bool()
    return torch.stack(found), told


class _Evaluated(torch.autograd.Function):
    """A log density whose gradient is known already."""

    @staticmethod
    def forward(context: Any, point: Tensor, evaluate: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        value, gradient = evaluate(point.detach().unsqueeze(0))
        context.save_for_backward(gradient.squeeze(0))
        return value.squeeze(0)

    @staticmethod
    def backward(context: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        (gradient,) = context.saved_tensors
        return gradient * upstream[0], None
