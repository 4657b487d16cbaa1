"""Draws of the global latents said in the data's own units, of pairs that can."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inference.posterior.latents import Posterior
from zoo.abilities import InUnits
from zoo.base import ModelGuide
from zoo.columns import named


def in_units(
    pair: ModelGuide, posterior: Posterior, columns: tuple[str, ...] | None = None
) -> dict[str, tuple[Tensor, dict[str, tuple[str, ...]]]]:
    """Name -> draws (chain, draw, *event) in the data's units, and the labels of each dimension of the event.

    Args:
        pair: the pair; of one that has no other units than its sites' there are none.
        posterior: draws of its global latents, all of them.
        columns: names of the columns of x, where the data at hand have some.
    """
    if not isinstance(pair, InUnits) or not posterior.globals:
        return {}
    example = pair.simulate(1)[0]
    width = 0 if example.x is None else example.x.shape[-1]
    with torch.no_grad():
        found = pair.in_units(posterior.flat(posterior.globals), named(pair, columns, width))
    lead = (posterior.chains, posterior.size)
    return {
        name: (value.unflatten(0, lead), {dim: tuple(words) for dim, words in labels.items()})
        for name, (value, labels) in found.items()
    }


def entries(name: str, labels: Mapping[str, Sequence[Any]]) -> list[str]:
    """What to call the entries of a variable in a picture: `locs[0, waiting]`, by the labels of each of its dims.

    Numbers that have a name each, of a dim called after the variable, `probs_2_entry`, go by that alone.
    """
    if list(labels) == [f"{name}_entry"]:
        return list(map(str, labels[f"{name}_entry"]))
    each = itertools.product(*labels.values())
    return [f"{name}[{', '.join(map(str, entry))}]" if labels else name for entry in each]
