"""From a pair and an objective to loss and gradients: one traced graph, or plain Pyro."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from inference.compiled import Traced, TraceError
from inference.objective import Objective, UnsupportedGuide
from zoo.base import Batch, ModelGuide


class BoundCall(nn.Module):
    """The loss per observation as a module call, so that `functional_call` can swap the parameters."""

    def __init__(self, pair: ModelGuide, objective: Objective) -> None:
        super().__init__()
        self.pair, self.objective = pair, objective

    def forward(self, batch: Batch, kl_weight: Tensor) -> Tensor:
        """The loss, a scalar."""
        return self.objective.loss(self.pair, batch, kl_weight) / batch.total


def bound_and_gradients(
    pair: ModelGuide, objective: Objective, total: int
) -> Callable[..., tuple[Tensor, list[Tensor]]]:
    """A function (parameters, buffers, fields, kl_weight) -> (loss per observation, gradients), nothing else in it.

    `parameters` and `buffers` map names to tensors, `fields` are those of a `Batch` of the `total` observations. It
    reads and writes no state, so `compiled.Traced` can record it.
    """
    call = BoundCall(pair, objective)

    def function(
        parameters: dict[str, Tensor], buffers: dict[str, Tensor], fields: dict[str, Tensor], kl_weight: Tensor
    ) -> Any:
        leaves = {f"pair.{name}": value.detach().requires_grad_() for name, value in parameters.items()}
        batch = Batch(len(next(iter(fields.values()))), total, **fields)
        constants = {f"pair.{name}": value for name, value in buffers.items()}
        loss = functional_call(call, {**leaves, **constants}, (batch, kl_weight))
        gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return loss, [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves.values(), gradients, strict=True)
        ]

    return function


class Stepper:
    """Loss per observation and gradients at the pair's parameters, traced (`graph`) or by plain Pyro (`off`)."""

    def __init__(self, pair: ModelGuide, objective: Objective, mode: str, fallback: bool) -> None:
        self.pair, self.objective, self.mode, self.fallback = pair, objective, mode, fallback
        self.parameters = {name: p for name, p in pair.named_parameters() if p.requires_grad}
        self.buffers = dict(pair.named_buffers())
        self._traced: dict[int, Traced] = {}

    @property
    def trace_seconds(self) -> float:
        """Spent on tracing so far."""
        return sum(traced.seconds for traced in self._traced.values())

    def __call__(self, batch: Batch, kl_weight: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Loss per observation, a scalar, and its gradients in the order of `parameters`."""
        if self.mode == "off":
            return self.plain(batch, kl_weight)
        if batch.total not in self._traced:
            self._traced[batch.total] = Traced(bound_and_gradients(self.pair, self.objective, batch.total))
        traced = self._traced[batch.total]
        try:
            return traced(self.parameters, self.buffers, batch.fields(), kl_weight)  # type: ignore[no-any-return]
        except (TraceError, UnsupportedGuide) as error:
            if not self.fallback:
                raise
            name = self.pair.registry_name or type(self.pair).__name__
            warnings.warn(f"{name}: {error}; fitting with plain Pyro instead", stacklevel=4)
            self.mode = "off"
            return self.plain(batch, kl_weight)

    def plain(self, batch: Batch, kl_weight: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same without a graph: by Pyro's own estimator where it has this objective."""
        with torch.enable_grad():
            if self.objective.plain and float(kl_weight) == 1.0:
                loss = self.objective.pyro().differentiable_loss(self.pair.model, self.pair.guide, batch) / batch.total
            else:
                loss = self.objective.loss(self.pair, batch, kl_weight) / batch.total
            leaves = list(self.parameters.values())
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, gradients, strict=True)]
        return loss.detach(), filled
