"""Fit a guide to the model's own simulations.

    minimise  -E log q(z | x)   over (x, z) ~ p(x, z | t),  t from the guide over the global latents or a posterior

in the parameters that are the guide's alone. Its minimum over all q is the posterior: the divergence KL(p || q) covers
every mode, where the ELBO's KL(q || p) may pick one, and no gradient passes through the model, which is not touched.

The sleep phase of Hinton et al. 1995, "The wake-sleep algorithm for unsupervised neural networks"; also known as
neural posterior estimation (Papamakarios & Murray 2016, "Fast epsilon-free inference of simulation models").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from tqdm.auto import tqdm

from inference.codes.reading import Codes
from inference.compiling.fallback import Fastest
from inference.data.check import check, example
from inference.fitting.adam import Adam, update
from inference.fitting.schedule import Averaging, learning_rate
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.running.constants import take
from inference.running.naming import naming_the_site
from inference.running.quiet import quietly
from inference.running.words import check_bool, check_count
from zoo.base import Batch, ModelGuide
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn


@in_turn
def fit_by_simulation(
    pair: ModelGuide,
    *,
    steps: int = 2000,
    batch_size: int = 128,
    lr: float = 1e-3,
    data: Any = None,
    posterior: Posterior | None = None,
    seed: int = 0,
    progress: bool = True,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Train the encoder on observations that the model makes up, in place; the model keeps its parameters.

    Only parameters that the guide has to itself move: one that the model uses too (the noise scale an encoder divides
    by, say) stays, and a guide without any of its own is refused.

    Args:
        pair: the pair.
        steps: of Adam, with a cosine decay to zero; the last tenth is averaged.
        batch_size: simulated observations a step.
        lr: step size.
        data: rows to take covariates and lengths from, and the pattern of missing cells; by default `pair.inputs`.
        posterior: of the global latents; by default they are drawn from the guide at each step.
        seed: seeds everything drawn; the caller's random state is left as it was.
        progress: show a bar.

    Returns:
        -log q(z | x) per observation in nats, one a step, (steps,); NaN where a step was not finite, and not taken.

    Raises:
        ValueError: the guide draws no code, or is a point mass, or shares all its parameters with the model, or
            options out of range.
    """
    check_bool("progress", progress)
    check_count("steps", steps)
    check_count("batch_size", batch_size)
    if not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise ValueError(f"lr: expected a finite number above 0, got {lr!r}")
    given = example(pair) if data is None else check(pair, data, complete=False)
    batch = None if data is None else given.batch
    if posterior is not None:  # before anything of the pair is changed
        posterior = check_posterior(given, posterior)
    codes = Codes.of(given)
    codes.check_continuous("fit_by_simulation")
    check_room("steps", steps, 8 * steps)
    check_room("batch_size", batch_size, batch_size * codes.width * pair.dtype.itemsize)
    own = _own_parameters(codes)
    losses = np.full(steps, np.nan)
    # in evaluation mode: training would count the model's batch statistics too
    with pair.learning("trained"), quietly(seed, pair):
        if batch is not None and not pair.trained and codes.observed.keys() <= batch.fields().keys():
            take(pair, batch)
        simulations = _Simulations(codes, batch, posterior)
        adam, averaging = Adam.of(list(own.values()), pair.device), Averaging(list(own.values()))
        rate = torch.zeros((), dtype=torch.float64, device=pair.device)
        unlimited = torch.full((), math.inf, dtype=torch.float32, device=pair.device)
        step_of = Fastest.of(_step(codes, batch_size), pair.name, "fitting", steps).bind(own, adam.tensors())
        for step in tqdm(range(steps), disable=None if progress else True, unit="step"):
            rate.fill_(lr * learning_rate("cosine", step, steps))
            losses[step] = float(step_of(*simulations.next(batch_size), rate, unlimited))
            if step >= 0.9 * steps:
                averaging.add()
        averaging.apply()
    return losses


def _own_parameters(codes: Codes) -> dict[str, nn.Parameter]:
    """Parameters that log q of the codes depends on and the model does not.

    Raises:
        ValueError: there are none.
    """
    pair = codes.pair
    parameters = {name: p for name, p in pair.named_parameters() if p.requires_grad}
    with quietly(0, pair), torch.enable_grad():
        batch = codes.given.example
        fixed = codes.global_draws(batch, None, draws=1)[0]
        fixed = {name: value.detach() for name, value in fixed.items()}
        values, _ = codes.propose(batch, 1, fixed)
        values = {name: value.detach() for name, value in values.items()}
        log_q, log_p = codes.log_guide(batch, values, fixed).sum(), codes.log_joint(batch, values, fixed).sum()
        used = [
            torch.autograd.grad(density, list(parameters.values()), allow_unused=True)
            if density.requires_grad
            else [None] * len(parameters)
            for density in (log_q, log_p)
        ]
    own = {
        name: p
        for (name, p), guide, model in zip(parameters.items(), *used, strict=True)
        if guide is not None and model is None
    }
    if not own:
        raise ValueError(f"{pair.name}: every parameter of the guide is the model's too; fit them together")
    return own


class _Simulations:
    """What each step simulates from: covariates, the pattern of missing cells, and global latents."""

    def __init__(self, codes: Codes, data: Batch | None, posterior: Posterior | None) -> None:
        self.codes, self.data = codes, data
        self.example = codes.given.example
        self.globals = None if posterior is None else codes.global_draws(self.example, posterior)
        observed = (
            {} if data is None else {name: value for name, value in data.fields().items() if name in codes.observed}
        )
        self.missing = {name: value.isnan() for name, value in observed.items() if bool(value.isnan().any())}

    def next(self, size: int) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
        """Fields that the model does not generate, masks of missing cells of those it does, and global latents."""
        pair, missing = self.codes.pair, {}
        if self.data is None:
            batch = pair.inputs(size).to(pair.device, pair.dtype)
        else:
            rows = torch.randint(self.data.size, (size,)).to(pair.device)
            batch = self.data.but(total=max(size, self.data.total)).select(rows)
            missing = {name: mask[rows] for name, mask in self.missing.items()}
        fields = {name: value for name, value in batch.fields().items() if name not in self.codes.observed}
        if self.globals is None:
            return fields, missing, dict(self.codes.global_draws(self.example, None, draws=1)[0])
        return fields, missing, dict(self.globals[int(torch.randint(len(self.globals), ()))])


class _SleepLoss(nn.Module):
    """Simulate, then -log q(z | x), as a module call, so that `functional_call` can swap the parameters."""

    def __init__(self, codes: Codes) -> None:
        super().__init__()
        self.pair, self.codes = codes.pair, codes

    def forward(self, batch: Batch, missing: dict[str, Tensor], fixed: dict[str, Tensor]) -> Tensor:
        """The loss per observation, a scalar."""
        with torch.no_grad():
            sites = self.codes.model_given(batch, 1, {}, fixed)
            made = {name: sites[name]["value"][0] for name in self.codes.observed}
        for name, mask in missing.items():
            made[name] = torch.where(mask, torch.nan, made[name])
        values = {name: sites[name]["value"] for name in self.codes.drawn}
        return -self.codes.log_guide(batch.but(**made), values, fixed).mean()


def _step(codes: Codes, size: int) -> Callable[..., Tensor]:
    """A function (own parameters, Adam's state, fields, missing, globals, rate, clip) -> loss, that takes one step."""
    call = _SleepLoss(codes)

    def function(
        own: dict[str, Tensor],
        adam: dict[str, list[Tensor]],
        fields: dict[str, Tensor],
        missing: dict[str, Tensor],
        fixed: dict[str, Tensor],
        rate: Tensor,
        clip: Tensor,
    ) -> Tensor:
        with torch.enable_grad(), naming_the_site():
            leaves = {f"pair.{name}": value.detach().requires_grad_() for name, value in own.items()}
            loss = functional_call(call, leaves, (Batch(size, size).but(**fields), missing, fixed))
            gradients = torch.autograd.grad(loss, list(leaves.values()))
        with torch.no_grad():
            return update(list(own.values()), gradients, Adam.holding(adam), loss.detach(), rate, clip)

    return function
