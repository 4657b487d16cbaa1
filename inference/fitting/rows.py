"""The order in which a fit sees its rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class Minibatches:
    """Endless index tensors of `size` rows: a stream of permutations cut into equal pieces.

    Every row comes once per permutation and no piece is smaller, so one traced graph serves them all.
    """

    def __init__(self, total: int, size: int, generator: torch.Generator) -> None:
        self.total, self.size, self.generator = total, size, generator
        self.left = torch.empty(0, dtype=torch.long)
        self.before: Tensor | None = None  # the generator, before the permutation that is being cut

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        while len(self.left) < self.size:
            self.before = self.generator.get_state()
            self.left = torch.cat([self.left, torch.randperm(self.total, generator=self.generator)])
        found, self.left = self.left[: self.size], self.left[self.size :]
        return found

    def state(self) -> dict[str, Any]:
        """To go on from; what is left is told by its number, since it is the end of one permutation."""
        now = self.generator.get_state()
        if self.before is None:
            return {"generator": now, "left": None}
        return {"generator": self.before, "left": len(self.left)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.generator.set_state(state["generator"])
        if state["left"] is not None:
            self.before = state["generator"]
            self.left = torch.randperm(self.total, generator=self.generator)[self.total - int(state["left"]) :]
