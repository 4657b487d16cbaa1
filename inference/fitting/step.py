"""From a pair and an objective to steps of an optimiser: one graph a step, or plain Pyro."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from inference.compiling.compiled import Mode, Traced
from inference.compiling.fallback import FAILED, Fallback
from inference.fitting.adam import Adam, update
from inference.fitting.folding import Folding, Unfoldable
from inference.fitting.objective import Objective
from inference.running.densities import UnsupportedGuide
from inference.running.naming import naming_the_site
from zoo.base import Batch, ModelGuide
from zoo.threads.handlers import unvalidated

SINGULAR: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
_FUSED_FROM = 16_384  # numbers among the parameters from which torch's own fused Adam beats a compiled one


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
        batch = Batch(len(next(iter(fields.values()))), total).but(**fields)
        constants = {f"pair.{name}": value for name, value in buffers.items()}
        with naming_the_site():
            loss = functional_call(call, {**leaves, **constants}, (batch, kl_weight))
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        return loss.detach(), _filled(list(leaves.values()), gradients)

    return function


class Stepper:
    """Loss per observation, its gradients, and steps of Adam at a pair's parameters.

    Args:
        pair: its parameters are written in place.
        objective: what to climb.
        mode: `graph` or `inductor` (see `inference.compiling.compiled`), or `off`: Pyro's own estimator where it has
            this objective.
        fallback: where the mode fails, go on with the next slower one (see `inference.compiling.fallback`).
        fixed: a batch that comes again and again: what a graph makes of it, and of the pair's constants, is worked out
            once (`inference.fitting.folding`).
    """

    def __init__(
        self, pair: ModelGuide, objective: Objective, mode: Mode, fallback: bool, fixed: Batch | None = None
    ) -> None:
        self.pair, self.objective = pair, objective
        self.fallback = Fallback(pair.name, "fitting", mode, fallback)
        self.parameters = {name: p for name, p in pair.named_parameters() if p.requires_grad}
        self.buffers = dict(pair.named_buffers())
        self.adam = Adam.of(list(self.parameters.values()), pair.device)
        self.folding = Folding(fixed, self.buffers)
        self._sound = False  # whether Pyro has found nothing wrong with a step
        self._traced: list[Traced] = []
        self._bound: dict[Any, Callable[..., Any]] = {}

    @property
    def mode(self) -> Mode:
        """How steps are taken now."""
        return self.fallback.mode

    @property
    def trace_seconds(self) -> float:
        """Spent on recording and compiling so far."""
        return sum(traced.seconds for traced in self._traced)

    def __call__(self, batch: Batch, kl_weight: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Loss per observation, a scalar, and its gradients in the order of `parameters`."""
        found: tuple[Tensor, list[Tensor]] = self._run("gradients", batch, kl_weight)
        return found

    def step(self, batch: Batch, kl_weight: Tensor, rate: Tensor, clip: Tensor) -> Tensor:
        """One step of Adam (`inference.fitting.adam`); the loss per observation before it, NaN if none was possible."""
        loss: Tensor = self._run("step", batch, kl_weight, rate, clip)
        return loss

    def _run(self, what: str, batch: Batch, kl_weight: Tensor, *scalars: Tensor) -> Any:
        while self.mode != "off":
            folded = self.mode == "graph" and self.folding.holds(batch)
            key = what, batch.total, self.mode, folded and self.folding.state
            try:
                if folded:
                    if key not in self._bound:
                        self._bound[key] = self._folded(what, batch.total)
                    return self._bound[key](kl_weight, *scalars)
                if key not in self._bound:
                    self._bound[key] = self._make(what, batch.total)
                return self._bound[key](batch.fields(), kl_weight, *scalars)
            except Unfoldable:
                self.folding.off()
            except (*FAILED, UnsupportedGuide) as error:
                self.fallback.down(error)
        loss, gradients = self.plain(batch, kl_weight)
        if what == "gradients":
            return loss, gradients
        with torch.no_grad():
            rate, clip = scalars
            return update(list(self.parameters.values()), gradients, self.adam, loss, rate, clip)

    def _folded(self, what: str, total: int) -> Callable[..., Any]:
        """The same for the batch that stays: it and the pair's constants are part of the graph."""
        gradients, state = bound_and_gradients(self.pair, self.objective, total), self.adam.tensors()
        kept, changing = self.folding.copies(), self.folding.changing

        def found(parameters: Any, buffers: Any, weight: Tensor) -> tuple[Tensor, list[Tensor]]:
            return gradients(parameters, {**kept.buffers, **buffers}, kept.fields, weight)

        def step(parameters: Any, buffers: Any, state: Any, weight: Tensor, rate: Tensor, clip: Tensor) -> Tensor:
            loss, slopes = found(parameters, buffers, weight)
            with torch.no_grad():
                return update(list(parameters.values()), slopes, Adam.holding(state), loss, rate, clip, fused=True)

        self._traced.append(Traced(kept.untouched(found if what == "gradients" else step), "graph"))
        bound = (self.parameters, changing) if what == "gradients" else (self.parameters, changing, state)
        return self._traced[-1].bind(*bound)

    def _make(self, what: str, total: int) -> Callable[..., Any]:
        """What `_run` calls, with everything bound that stays."""
        gradients, state = bound_and_gradients(self.pair, self.objective, total), self.adam.tensors()
        # The parameters themselves: somebody may give them new storage, as Pyro does when one is assigned to.
        bound = (self.parameters, self.buffers)
        large = sum(p.numel() for p in self.parameters.values()) >= _FUSED_FROM
        fused = self.mode == "graph" or large

        def apply(
            parameters: dict[str, Tensor],
            state: dict[str, list[Tensor]],
            loss: Tensor,
            found: list[Tensor],
            rate: Tensor,
            clip: Tensor,
        ) -> Tensor:
            with torch.no_grad():
                return update(list(parameters.values()), found, Adam.holding(state), loss, rate, clip, fused)

        def step(parameters: Any, buffers: Any, state: Any, fields: Any, weight: Tensor, *scalars: Tensor) -> Tensor:
            return apply(parameters, state, *gradients(parameters, buffers, fields, weight), *scalars)

        def recorded(function: Callable[..., Any], mode: Mode, *arguments: Any) -> Callable[..., Any]:
            self._traced.append(Traced(function, mode))
            return self._traced[-1].bind(*arguments)

        if what == "gradients":
            return recorded(gradients, self.mode, *bound)
        if self.mode == "graph" or not large:
            return recorded(step, self.mode, *bound, state)
        first, second = recorded(gradients, self.mode, *bound), recorded(apply, "graph", self.parameters, state)
        return lambda fields, weight, *scalars: second(*first(fields, weight), *scalars)

    def plain(self, batch: Batch, kl_weight: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The same without a graph: by Pyro's own estimator where it has this objective.

        Pyro looks at shapes and arguments until one step was good; after that, as in a graph, numbers that are not
        finite make a step that is not taken, and no error.
        """
        if self._sound:
            with unvalidated():
                return self._plain(batch, kl_weight)
        try:
            found = self._plain(batch, kl_weight)
        except ValueError:
            with unvalidated():
                found = self._plain(batch, kl_weight)
            if all(bool(tensor.isfinite().all()) for tensor in (found[0], *found[1])):
                raise
            return found
        self._sound = True
        return found

    def _plain(self, batch: Batch, kl_weight: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            if self.objective.plain and float(kl_weight) == 1.0:
                loss = self.objective.pyro().differentiable_loss(self.pair.model, self.pair.guide, batch) / batch.total
            else:
                loss = self.objective.loss(self.pair, batch, kl_weight) / batch.total
            leaves = list(self.parameters.values())
            gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        return loss.detach(), _filled(leaves, gradients)


def _filled(leaves: list[Any], gradients: Any) -> list[Tensor]:
    pairs = zip(leaves, gradients, strict=True)
    return [torch.zeros_like(leaf) if gradient is None else gradient for leaf, gradient in pairs]
