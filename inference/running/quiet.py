"""A run that leaves no trace: own random state, no gradients, modules' modes put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from numbers import Integral
from typing import Any

import torch

from zoo.base import ModelGuide, evaluating
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Own random state; the caller's is put back.

    Raises:
        ValueError: a seed that is none.
    """
    check_seed(seed)
    with apart(int(seed)):
        yield


@contextmanager
def quietly(seed: int, pair: ModelGuide | None = None) -> Iterator[None]:
    """Own random state, no gradients, no validation, the pair in evaluation mode: all are put back.

    Raises:
        ValueError: a seed that is none.
    """
    check_seed(seed)
    mode = nullcontext() if pair is None else evaluating(pair)
    with apart(int(seed)), torch.no_grad(), unvalidated(), mode:
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
