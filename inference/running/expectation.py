"""What is expected of a distribution, and the observation that an average of such stands for."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions.torch_distribution import ExpandedDistribution, MaskedDistribution
from torch import Tensor
from torch.distributions import Categorical, Independent

from zoo.abilities import Point, Settle, Summary


def expected(fn: Any) -> Tensor:
    """The expected value of a distribution, (*batch, *event): its `point`, its mean, or that of category numbers.

    A `point` is what a distribution offers when a mean makes no sense of it. Without any, the mean of 200 draws.
    """
    shape, base = fn.batch_shape + fn.event_shape, base_of(fn)
    if isinstance(base, Point):
        value = base.point() if callable(base.point) else base.point
    elif isinstance(base, Categorical):
        value = base.probs @ torch.arange(base.probs.shape[-1], dtype=base.probs.dtype, device=base.probs.device)
    else:
        try:
            value = fn.mean
        except NotImplementedError:
            value = fn.sample((200,)).mean(0)
    found: Tensor = value.expand(shape)
    return found


def summary(fn: Any) -> Tensor:
    """What of a distribution may be averaged over classes, codes and draws: its `summary()`, else what is expected."""
    base = base_of(fn)
    lead = len(base.batch_shape)
    if not isinstance(base, Summary):
        return expected(fn)
    value = base.summary()
    return value.expand(*fn.batch_shape, *value.shape[lead:])


def settle(fn: Any, average: Tensor) -> Tensor:
    """The observation that an average of summaries stands for; categories are settled by vote here."""
    base = base_of(fn)
    return base.settle(average) if isinstance(base, Settle) else average


def base_of(fn: Any) -> Any:
    """The distribution under `to_event`, `expand` and `mask`."""
    while not isinstance(fn, Point) and isinstance(fn, (Independent, ExpandedDistribution, MaskedDistribution)):
        fn = fn.base_dist
    return fn
