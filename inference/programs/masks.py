"""Which cells of a site count: those of a partly observed one (`obs_mask`), and what `poutine.mask` leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor


def seen_of(name: str, nodes: Mapping[str, Any]) -> Any:
    """Which cells of a partly observed site were seen, given its latent part `x_unobserved`; None of other sites."""
    stem = name.removesuffix("_unobserved")
    node = nodes.get(f"{stem}_observed") if stem != name else None
    return node["mask"] if node is not None and not nodes[name]["is_observed"] else None


def missing(name: str, batch: torch.Size, first: Any, second: Any) -> Tensor | None:
    """Cells of a partly observed site (`obs_mask`) that are latent: a cell that was seen has a stand-in that nothing
    depends on. None where all are, or which ones differs from run to run."""
    seen = _lasting(batch, *(seen_of(name, trace.nodes) for trace in (first, second)))
    return ~seen if seen is not None and bool(seen.any()) else None


def cells(name: str, first: Any, second: Any) -> Tensor | None:
    """Cells of a site that count, along its plates: of an observed one those that its mask leaves, of the latent part
    of a partly observed one those that were not seen. None where all do or none does, or that differs between runs."""
    node, again = (trace.nodes[name] for trace in (first, second))
    batch = torch.Size(node["fn"].batch_shape)
    found = missing(name, batch, first, second)
    if node["is_observed"]:
        found = _lasting(batch, node["mask"], again["mask"])
    return found if batch and found is not None and bool(found.any()) and not bool(found.all()) else None


def _lasting(batch: torch.Size, one: Any, other: Any) -> Tensor | None:
    """A mask that two runs share, along the plates."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or not torch.equal(one, other):
        return None
    return one.expand(batch) if broadcast_shape(one.shape, batch) == batch else None
