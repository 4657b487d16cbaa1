"""What does not change between the steps of a fit, worked out once: full batches, a pair's constants, what is made of
them.

A recorded graph folds what depends on nothing into constants (`inference.compiling.recording`). Data and buffers are
inputs of it, since they may change; where every step sees the same batch they do not, and a third of the operations of
a step is on them alone. They go in as copies, and whoever writes into the originals from outside, a callback say, is
noticed by their version counters: the graph is then recorded anew, and after a few times no longer folded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo.base import Batch

_MOST = 1 << 22  # numbers that are copied
_OFTEN = 4  # changes from outside after which nothing is folded


class Unfoldable(Exception):
    """A run writes into what was to be constant."""


@dataclass(frozen=True)
class Copies:
    """Constants of a graph."""

    fields: dict[str, Tensor]
    buffers: dict[str, Tensor]

    def untouched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, which raises `Unfoldable` if it writes into any of them."""
        tensors = [*self.fields.values(), *self.buffers.values()]
        versions = [tensor._version for tensor in tensors]

        def call(*arguments: Any) -> Any:
            found = function(*arguments)
            if [tensor._version for tensor in tensors] != versions:
                raise Unfoldable
            return found

        return call


class Folding:
    """What may be folded into the graphs of a fit.

    Args:
        fixed: the batch of every step, or None.
        buffers: of the pair, by name. Those of its automatic guide change when it is standardised anew.
    """

    def __init__(self, fixed: Batch | None, buffers: dict[str, Tensor]) -> None:
        self.fixed = fixed
        self.changing = {name: value for name, value in buffers.items() if name.startswith("auto.")}
        self._buffers = {name: value for name, value in buffers.items() if name not in self.changing}
        self._fields = {} if fixed is None else fixed.fields()
        self._tensors = [*self._fields.values(), *self._buffers.values()]
        self.state = self._versions()
        self._changes = 0
        if sum(tensor.numel() for tensor in self._tensors) > _MOST:
            self.off()

    def holds(self, batch: Batch) -> bool:
        """Whether graphs of this batch may be folded now."""
        if batch is not self.fixed or self.fixed is None:
            return False
        if self.state != (now := self._versions()):
            self.state = now
            self._changes += 1
            if self._changes >= _OFTEN:
                self.off()
        return self.fixed is not None

    def off(self) -> None:
        """Fold nothing from here on."""
        self.fixed = None

    def copies(self) -> Copies:
        """What goes into a graph."""
        fields, buffers = (
            {name: value.detach().clone() for name, value in part.items()} for part in (self._fields, self._buffers)
        )
        return Copies(fields, buffers)

    def _versions(self) -> tuple[int, ...]:
        return tuple(tensor._version for tensor in self._tensors)
