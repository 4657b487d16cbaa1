"""Constants of a prior, kept in buffers: they move with the pair, have its type, and are saved with it."""

from __future__ import annotations

import torch
from torch import nn


def constants(module: nn.Module, **values: float) -> None:
    """Make each number a buffer of this name, ()."""
    for name, value in values.items():
        module.register_buffer(name, torch.tensor(value))
