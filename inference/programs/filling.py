"""Cells that a mask hides may be NaN: they stand for nothing, and still their gradient would be NaN and not 0."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import MaskedDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to


class Filled(Messenger):
    """Around a program: what is NaN and hidden by a mask is observed as some value of the support instead."""

    def _pyro_sample(self, message: Any) -> None:
        fn, value = message["fn"], message["value"]
        masks = [part for part in (message["mask"], _own_mask(fn)) if isinstance(part, Tensor)]
        if not message["is_observed"] or not isinstance(value, Tensor) or not value.is_floating_point() or not masks:
            return
        missing = value.isnan()
        if value.requires_grad or not bool(missing.any()):
            return
        seen = torch.ones((), dtype=torch.bool, device=value.device)
        for mask in masks:
            seen = seen & mask.bool()
        seen = seen.reshape(*seen.shape, *[1] * fn.event_dim)
        message["value"] = torch.where(missing & ~seen, _inside(fn, value), value)


def _own_mask(fn: Any) -> Any:
    return fn._mask if isinstance(fn, MaskedDistribution) else None


def _inside(fn: Any, value: Tensor) -> Tensor:
    """A value of the support; where none can be told, 0."""
    try:
        transform = biject_to(fn.support)
        zero = value.new_zeros(transform.inverse_shape(fn.batch_shape + fn.event_shape))
        found: Tensor = transform(zero).detach().to(value.dtype)
    except NotImplementedError:  # of numbers that are counted
        return torch.zeros_like(value)
    return found
