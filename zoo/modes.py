"""Training and evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(pair: nn.Module) -> Iterator[None]:
    """Evaluation mode: no dropout, no run counted among batch statistics. Each module's own mode is put back."""
    modes = [(module, module.training) for module in pair.modules()]
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
