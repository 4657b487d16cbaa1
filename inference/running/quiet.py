"""A run that leaves no trace: own random state, no gradients, modules' modes put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from numbers import Integral
from typing import Any

import pyro
import torch

from zoo.base import ModelGuide, evaluating


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Own random state; the caller's is put back.

    Raises:
        ValueError: a seed that is none.
    """
    check_seed(seed)
    with torch.random.fork_rng():
        _seed(seed)
        yield


@contextmanager
def quietly(seed: int, pair: ModelGuide | None = None) -> Iterator[None]:
    """Own random state, no gradients, no validation, the pair in evaluation mode: all are put back.

    Raises:
        ValueError: a seed that is none.
    """
    check_seed(seed)
    mode = nullcontext() if pair is None else evaluating(pair)
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), mode:
        _seed(seed)
        yield


def check_seed(seed: Any) -> None:
    """Refuse what no generator can be seeded with.

    Raises:
        ValueError: no whole number, or none that 64 bits hold.
    """
    if not isinstance(seed, Integral) or isinstance(seed, bool):
        raise ValueError(f"seed: expected a whole number, got {seed!r}")
    if not -(2**63) <= int(seed) < 2**64:
        raise ValueError(f"seed: expected a whole number that 64 bits hold, got {seed}")


def _seed(seed: int) -> None:
    """`torch.manual_seed`, which without an accelerator writes down a stack for each kind that might come."""
    if torch.accelerator.is_available():
        torch.manual_seed(int(seed))
    else:
        torch.default_generator.manual_seed(int(seed))
