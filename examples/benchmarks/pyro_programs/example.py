"""One program, its data, and what of its posterior can be compared."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Example:
    """A program of Pyro's documentation in our words.

    Args:
        model: the program; or, where `made`, what makes it of the data.
        data: its arguments as arrays and numbers, made from a fixed seed.
        source: where Pyro's documentation has the like.
        made: whether `model` is called with the arguments to make a program, and returns it with what it takes.
        told: sites whose draws are scored and compared; by default all latents. A network's weights, which may trade
            places, are no more than what they make of the data.
        heavy: positive sites without a variance, compared by the means of their logarithms.
        start: values to start around, of sites with an improper prior.
    """

    model: Callable[..., Any]
    data: Callable[[], tuple[Any, ...]]
    source: str
    made: bool = False
    told: tuple[str, ...] = ()
    heavy: tuple[str, ...] = ()
    start: Mapping[str, Any] = field(default_factory=dict)

    def program(self) -> tuple[Any, tuple[Any, ...]]:
        """The program and its arguments as tensors; floating-point ones are of torch's default type."""
        arguments = tuple(_tensor(value) for value in self.data())
        return self.model(*arguments) if self.made else (self.model, arguments)

    @property
    def name(self) -> str:
        """As its function is called."""
        return self._function.__name__

    @property
    def _function(self) -> Any:
        """Without what Pyro wraps around it."""
        return getattr(self.model, "fn", self.model)

    @property
    def twin(self) -> Callable[..., Any]:
        """The same in NumPyro, which must be installed: takes the data as they are."""
        home = self._function.__module__.rpartition(".")[2]
        found: Callable[..., Any] = getattr(importlib.import_module(f"numpyro_twins.{home}"), self.name)
        return found


def _tensor(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    found = torch.from_numpy(value)
    return found.to(torch.get_default_dtype()) if found.is_floating_point() else found


def listed(*examples: Example) -> dict[str, Example]:
    """By name."""
    return {example.name: example for example in examples}
