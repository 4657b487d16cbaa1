"""Log densities of a trace whose discrete latents are enumerated: those summed out, by the plates they stand in.

Sites joined by a latent that is summed out make a component; each is contracted by itself (Obermeyer et al. 2019,
"Tensor variable elimination for plated factor graphs"), and what is left stands along the plates that the whole
component shares.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from opt_einsum import shared_intermediates
from pyro.ops import packed
from pyro.ops.contract import contract_tensor_tree
from pyro.ops.rings import LogRing
from torch import Tensor

from inference.programs.masks import seen_of
from inference.programs.runs import sites_of


def contracted(trace: Any, name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """The log density of the sites that no enumerated latent touches, (), and those of the components.

    Args:
        trace: with log densities, of a program that ran under `enumerating` if it has discrete latents.
        name: of the program.

    Returns:
        The sum of the former; and by the names of the observed sites in it, `a+b`, each component's log density along
        its plates, scaled as its sites are.

    Raises:
        ValueError: sites of one component that are scaled differently.
    """
    sites = sites_of(trace)
    if not any("_enumerate_dim" in node["infer"] for node in sites.values()):
        return sum((_whole(sites, n) for n in sites), torch.zeros(())), {}
    trace.pack_tensors()
    symbols = {node["infer"]["_enumerate_symbol"] for node in sites.values() if "_enumerate_symbol" in node["infer"]}
    joined = {n: symbols & set(node["packed"]["unscaled_log_prob"]._pyro_dims) for n, node in sites.items()}
    alone = [_whole(sites, n) for n in sites if not joined[n]]
    found: dict[str, Tensor] = {}
    for group in _components(joined):
        seen = [n for n in group if sites[n]["is_observed"]]
        key = "+".join(seen) or "+".join(group)
        found[key] = _sum_out(trace, {n: sites[n] for n in group}, symbols, name)
    return sum(alone, torch.zeros(())), found


def _whole(sites: dict[str, Any], name: str) -> Tensor:
    """The log density of a site that stands alone, ().

    Of a partly observed one (`obs_mask`) that stands in a mask of the user's own, Pyro leaves missing cells which that
    hides free to wander off: they have their own prior here, which integrates to one and changes nothing else.
    """
    node, seen = sites[name], seen_of(name, sites)
    if seen is None:
        total: Tensor = node["log_prob_sum"]
        return total
    value: Tensor = torch.where(torch.as_tensor(seen), 0.0, node["unscaled_log_prob"] * node["scale"]).sum()
    return value


def _components(joined: dict[str, set[str]]) -> list[list[str]]:
    """Sites with enumerated symbols, grouped by those that they share."""
    groups: list[tuple[set[str], list[str]]] = []
    for name, symbols in joined.items():
        if not symbols:
            continue
        touched = [group for group in groups if group[0] & symbols]
        merged = (symbols.union(*(group[0] for group in touched)), [n for group in touched for n in group[1]] + [name])
        groups = [group for group in groups if group not in touched] + [merged]
    return [names for _, names in groups]


def _sum_out(trace: Any, sites: dict[str, Any], symbols: set[str], name: str) -> Tensor:
    """One component's log density along its plates, in the shape that a site in them has."""
    scales = [node["scale"] for node in sites.values()]
    first = scales[0]
    if any(scale is not first and not bool(torch.as_tensor(scale == first).all()) for scale in scales):
        raise ValueError(
            f"{name}: sites {', '.join(map(repr, sites))} share a discrete latent that is summed out, and are scaled "
            "differently"
        )
    factors: OrderedDict[frozenset[str], list[Tensor]] = OrderedDict()
    for node in sites.values():
        ordinal = frozenset(trace.plate_to_symbol[f.name] for f in node["cond_indep_stack"] if f.vectorized)
        term = packed.scale_and_mask(node["packed"]["unscaled_log_prob"], mask=node["packed"]["mask"])
        factors.setdefault(ordinal, []).append(term)
    with shared_intermediates() as cache:
        left = contract_tensor_tree(factors, symbols, ring=LogRing(cache=cache))
    (term,) = [term for group in left.values() for term in group]  # one, of a component that hangs together
    total: Tensor = packed.unpack(term, trace.symbol_to_dim) * first
    return total
