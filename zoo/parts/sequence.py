"""What models of sequences share: distributions over whole sequences, and how long these are."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from pyro.distributions import Categorical, TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from zoo.base import Batch, ModelGuide

S = TypeVar("S", bound="Sequences")


class Sequences(TorchDistribution):
    """A distribution over whole sequences, whose tensors broadcast against each other."""

    arg_constraints = {}  # noqa: RUF012 - torch's name and type

    def expand(self: S, batch_shape: Any, _instance: Any = None) -> S:
        """The same sequences over more batch dimensions; tensors stay as they are and broadcast."""
        new: S = self._get_checked_instance(type(self), _instance)  # type: ignore[no-untyped-call]
        new.__dict__.update(self.__dict__)
        shape = torch.Size(broadcast_shape(self.batch_shape, batch_shape))
        TorchDistribution.__init__(new, shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new


def moments(fn: Any) -> tuple[Tensor, Tensor]:
    """Mean and variance of each number of a step, (*batch, *event) twice; of codes as the numbers that they are."""
    if isinstance(fn, Categorical):
        codes = torch.arange(fn.probs.shape[-1], dtype=fn.probs.dtype, device=fn.probs.device)
        mean = fn.probs @ codes
        return mean, (fn.probs * (codes - mean.unsqueeze(-1)).square()).sum(-1)
    return fn.mean, fn.variance


def steps_of(batch: Batch, steps: int) -> int:
    """The number of steps T of a batch: those of x, where there is one, of the longest sequence, or `steps`."""
    if batch.x is not None:
        return batch.x.shape[1]
    return steps if batch.lengths is None else int(batch.lengths.max())


def inside(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Sequences (N, T, ...) with NaN past the end of each."""
    if lengths is None:
        return x
    over = torch.arange(x.shape[1], device=x.device) >= lengths.unsqueeze(-1)
    return x.masked_fill(over.reshape(*over.shape, *[1] * (x.ndim - 2)), torch.nan)


def whole(pair: ModelGuide, n: int, steps: int) -> Batch:
    """Inputs of n draws from the prior: lengths, all `steps` of every sequence."""
    return Batch(n, n, lengths=torch.full((n,), steps, device=pair.device))
