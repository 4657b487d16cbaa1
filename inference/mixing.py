"""Have the chains mixed? The rank-normalised split R-hat, and what keeps chains apart where they have not.

R-hat is that of Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization, folding, and localization:
an improved R-hat for assessing convergence of MCMC". Draws are (C, n, ...): chains, then draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SETTLED = 1.01  # what Vehtari et al. (2021) ask for
_APART = 1.5  # R-hat of chains that do not even overlap in their bulk
_MOST = 7  # permutations of so many labels are tried one by one


def rhat(draws: Tensor) -> Tensor:
    """R-hat of each number, (C, n, ...) to (...): the larger of bulk and tail; NaN of one that never moves."""
    half = draws.shape[1] // 2
    shape = draws.shape[2:]
    flat = draws.reshape(*draws.shape[:2], -1).double()
    split = torch.cat([flat[:, :half], flat[:, -half:]])  # (2C, h, P)
    folded = (split - split.flatten(0, 1).median(0).values).abs()
    return torch.maximum(_plain(_normalised(split)), _plain(_normalised(folded))).reshape(shape)


def _normalised(draws: Tensor) -> Tensor:
    """Normal scores of the ranks."""
    flat = draws.flatten(0, 1)
    ranks = flat.argsort(0).argsort(0) + 1.0
    scores: Tensor = torch.special.ndtri((ranks - 0.375) / (len(flat) + 0.25))
    return scores.reshape(draws.shape)


def _plain(draws: Tensor) -> Tensor:
    count = draws.shape[1]
    within = draws.var(1).mean(0)
    between = draws.mean(1).var(0)
    ratio: Tensor = (count - 1) / count + between / within
    return ratio.sqrt()


def limit(count: int) -> float:
    """R-hat that `count` draws of each chain should not exceed: 1.01, and more where so few cannot tell."""
    return max(SETTLED, 1 + 2.5 / count)


def worst(draws: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest R-hat within each site, by site. A number that no chain ever moves counts as settled."""
    return {name: float(rhat(value).nan_to_num(nan=1.0).max()) for name, value in draws.items()}


def disagreement(
    draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], log_density: Tensor, rhats: Mapping[str, float]
) -> str:
    """Why chains disagree, in words: labels that switch, several modes, or chains that are still under way.

    Args:
        draws: global latents, (C, n, *event).
        dims: names of their event dims; dims of one stem (`state`, `next_state`) are relabelled together.
        log_density: (C, n).
        rhats: of each site.
    """
    names = ", ".join(f"'{n}' ({r:.3f})" for n, r in sorted(rhats.items(), key=lambda item: -item[1]) if r > SETTLED)
    found = f"chains disagree (R-hat above {SETTLED}) about {names}: "
    for stem in _stems(dims):
        aligned = relabelled(draws, dims, stem)
        if aligned is not None and max(worst(aligned).values()) < 1 + 0.3 * (max(rhats.values()) - 1):
            return found + (
                f"labels switch along '{stem}': the chains agree once it is put into one order in each of them. Order "
                "the labels in the model, start all chains in one place (start='guide' after a fit), or compare only "
                "what does not depend on labels"
            )
    if max(rhats.values()) > _APART and len(log_density) > 1:
        groups = _groups(draws, log_density)
        if len(groups) > 1:
            listed = "; ".join(f"{len(g)} at log density {float(log_density[g].mean()):.1f}" for g in groups)
            return found + (
                f"several modes, or chains that are stuck ({listed}). Averages over these chains mean nothing: look at "
                "each group of chains by itself, or change the model so that one is left"
            )
    return found + "they have not mixed yet. More draws or max_warmup, or another parametrisation, may help"


def _stems(dims: Mapping[str, Sequence[str]]) -> list[str]:
    named = {dim for names in dims.values() for dim in names}
    return sorted(dim for dim in named if not any(dim != other and _akin(dim, other) for other in named))


def _akin(dim: str, stem: str) -> bool:
    """Whether a dim counts what its stem does: `next_state` and `state`, `feature_given` and `feature`."""
    return dim == stem or dim.endswith(f"_{stem}") or dim.startswith(f"{stem}_")


def relabelled(draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], stem: str) -> dict[str, Tensor] | None:
    """The draws with each chain's labels along the dims of one stem in the order of the first chain; None without."""
    axes = {name: [axis for axis, dim in enumerate(dims.get(name, ())) if _akin(dim, stem)] for name in draws}
    labelled = {name: value for name, value in draws.items() if axes[name] and value.ndim - 2 == len(dims[name])}
    sizes = {value.shape[2 + axis] for name, value in labelled.items() for axis in axes[name]}
    if len(sizes) != 1 or not 1 < max(sizes) <= _MOST:
        return None
    means = {name: value.mean(1) for name, value in labelled.items()}
    spread = {name: value.std(1).mean(0) + 1e-12 for name, value in labelled.items()}
    orders = [torch.tensor(order) for order in itertools.permutations(range(sizes.pop()))]
    chosen = []
    for chain in range(len(next(iter(draws.values())))):
        costs = [
            sum(
                float((((_permuted(means[n][chain], axes[n], order) - means[n][0]) / spread[n]) ** 2).sum())
                for n in labelled
            )
            for order in orders
        ]
        chosen.append(orders[costs.index(min(costs))])
    for name, value in labelled.items():
        within = [1 + axis for axis in axes[name]]  # after the draws
        chains = [_permuted(chain, within, order) for chain, order in zip(value, chosen, strict=True)]
        labelled[name] = torch.stack(chains)
    return {**draws, **labelled}


def _permuted(value: Tensor, axes: Sequence[int], order: Tensor) -> Tensor:
    for axis in axes:
        value = value.index_select(axis, order.to(value.device))
    return value


def _groups(draws: Mapping[str, Tensor], log_density: Tensor) -> list[list[int]]:
    """Chains whose means lie within a few of their own deviations of each other, joined; the best group first."""
    flat = torch.cat([value.reshape(*value.shape[:2], -1) for value in draws.values()], -1).double()  # (C, n, P)
    means, spread = flat.mean(1), flat.std(1).mean(0) + 1e-12
    near = ((means.unsqueeze(1) - means) / spread).abs().amax(-1) < 4  # (C, C)
    left, groups = set(range(len(means))), []
    while left:
        front, group = [min(left)], set()
        while front:
            chain = front.pop()
            group.add(chain)
            front += [other for other in left - group if bool(near[chain, other])]
        left -= group
        groups.append(sorted(group))
    return sorted(groups, key=lambda group: -float(log_density[group].mean().nan_to_num(nan=-math.inf)))
