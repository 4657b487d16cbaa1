"""Have the chains mixed? The rank-normalised split R-hat, and what keeps chains apart where they have not.

R-hat is that of Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization, folding, and localization:
an improved R-hat for assessing convergence of MCMC". Draws are (C, n, ...): chains, then draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from inference.running.pieces import pieces
from inference.sampling.labels import relabelled, stems

SETTLED = 1.01  # what Vehtari et al. (2021) ask for
MIXED = 1.05  # R-hat of chains, each of which has been everywhere some ten times
FEW = 16  # chains, too few to tell by what they have in common
_DRIFT = 4.0  # errors of the mean change of all chains: of some hundred numbers, now and then one is as far
_APART = 1.5  # R-hat of chains that do not even overlap in their bulk
_STAYS = 1.1  # R-hat, within groups, of chains that stay in theirs; of one on its way it is 1.3 and more
_FAR = 4.0  # deviations between means of chains that do not meet


def rhat(draws: Tensor) -> Tensor:
    """R-hat of each number, (C, n, ...) to (...): the larger of bulk and tail; NaN of one that never moves."""
    chains, count, *shape = draws.shape
    flat = draws.reshape(chains, count, -1)
    found = [_rhat(flat[..., piece]) for piece in pieces(flat.shape[2], 8 * chains * count)]
    return torch.cat(found).reshape(shape)


def roughly(draws: Tensor) -> Tensor:
    """The split R-hat of the draws as they are, (C, n, P) to (P,): a hint, in a hundredth of the time."""
    return _plain(halves(draws))


def halves(draws: Tensor) -> Tensor:
    """(C, n, P) to (P, 2C, h), each chain in two."""
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, -half:]]).double().permute(2, 0, 1).contiguous()


def _rhat(draws: Tensor) -> Tensor:
    split = halves(draws)
    flat = split.flatten(1)
    low, high = flat.aminmax(dim=1)
    still = high - low <= 16 * torch.finfo(draws.dtype).eps * high.abs()  # rounding at most, as in a correlation of 1
    folded = (flat - flat.median(1, keepdim=True).values).abs()
    found = torch.maximum(*(_plain(_normalised(values).view_as(split)) for values in (flat, folded)))
    return found.masked_fill(still, math.nan)


def _normalised(flat: Tensor) -> Tensor:
    """Normal scores of the ranks, (P, S)."""
    ranks = torch.arange(1.0, flat.shape[1] + 1, dtype=flat.dtype, device=flat.device)
    scores = torch.special.ndtri((ranks - 0.375) / (flat.shape[1] + 0.25))
    return torch.empty_like(flat).scatter_(1, flat.argsort(1), scores.expand_as(flat))


def _plain(split: Tensor) -> Tensor:
    """(P, 2C, h) to (P,)."""
    count = split.shape[2]
    within = split.var(2).mean(1)
    between = split.mean(2).var(1)
    ratio: Tensor = (count - 1) / count + between / within
    return ratio.sqrt()


def limit(count: int) -> float:
    """R-hat that `count` draws of each chain should not exceed: 1.01, and more where so few cannot tell."""
    return max(SETTLED, 1 + 2.5 / count)


def steady(draws: Tensor) -> bool:
    """Whether the chains, taken together, stay as they are: mean and variance of each number, from half to half.

    R-hat of short chains that move slowly is above 1.01 for lack of draws, however long ago they forgot where they
    began. What all of them still have in common is seen in the mean of their changes: by t-tests, chains being
    independent.

    Args:
        draws: (C, n, W), of chains whose R-hat is at most `MIXED`.
    """
    chains, half = len(draws), draws.shape[1] // 2
    if chains < FEW:
        return False
    z = draws.double() - draws.double().mean((0, 1))
    for value in (z, z.square()):
        change = value[:, -half:].mean(1) - value[:, :half].mean(1)
        error = change.std(0) / math.sqrt(chains)
        if bool((change.mean(0).abs() > _DRIFT * error).any()):
            return False
    return True


def worst(draws: Mapping[str, Tensor]) -> dict[str, float]:
    """The largest R-hat within each site, by site. A number that no chain ever moves counts as settled."""
    return {name: float(rhat(value).nan_to_num(nan=1.0).max()) for name, value in draws.items()}


def standstill(
    draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], log_density: Tensor
) -> tuple[str, list[list[int]]]:
    """What keeps chains apart for good, in words, empty where they may come together; and groups that are apart by now.

    They stay apart where the means of some lie four deviations or more from those of all others, and where, each group
    of chains taken by itself, all agree from the first half to the second. A chain that is slow, or still on its way
    to the others, does not: it moves between the halves.

    Args:
        draws: global latents, (C, n, *event).
        dims: names of their event dims.
        log_density: of data and latents, (C, n).
    """
    apart = _groups(draws, log_density)
    numbers = _numbers(draws)
    moves = (numbers[:, 1:] != numbers[:, :-1]).any(-1).double().mean(1)  # a chain that is stuck may yet get loose
    if len(apart) < 2 or bool((moves < 0.5).any()):
        return "", []
    for stem, aligned in _relabelled(draws, dims, log_density):
        groups = _groups(aligned, log_density)
        if len(groups) < len(apart) and _stay(aligned, groups, log_density):
            return f"labels switch along '{stem}'", apart
    return f"they stay in {len(apart)} groups far apart" if _stay(draws, apart, log_density) else "", apart


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
    worst_of_all, apart = max(rhats.values()), _groups(draws, log_density)
    for stem, aligned in _relabelled(draws, dims, log_density):
        if max(worst(aligned).values()) < 1 + 0.3 * (worst_of_all - 1):
            return found + (
                f"labels switch along '{stem}': the chains agree once it is put into one order in each of them. "
                f"{_ORDER}"
            )
        groups = _groups(aligned, log_density)
        if len(groups) < len(apart) and _stay(aligned, groups, log_density):
            return found + (
                f"labels switch along '{stem}', and once it is put into one order in each chain, several modes are "
                f"left ({_listed(groups, log_density)}). {_ORDER}, and look at each group of chains by itself"
            )
    if len(apart) > 1 and (worst_of_all > _APART or _stay(draws, apart, log_density)):
        return found + (
            f"several modes, or chains that are stuck ({_listed(apart, log_density)}). Averages over these chains mean "
            "nothing: look at each group of chains by itself, or change the model so that one is left"
        )
    return found + "they have not mixed yet. More draws or max_warmup, or another parametrisation, may help"


_ORDER = (
    "Order the labels in the model, start all chains in one place (start='guide' after a fit), or compare only what "
    "does not depend on labels"
)


def _listed(groups: Sequence[Sequence[int]], log_density: Tensor, most: int = 5) -> str:
    told = [f"{len(group)} at log density {float(log_density[group].mean()):.1f}" for group in groups[:most]]
    return "; ".join(told + [f"and {len(groups) - most} groups more"] * (len(groups) > most))


def _relabelled(
    draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], log_density: Tensor
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each name that labels may run along, and the draws in the order of the chain of the highest density."""
    best = int(log_density.mean(1).nan_to_num(nan=-math.inf).argmax())
    for stem in stems(dims):
        aligned = relabelled(draws, dims, stem, best)
        if aligned is not None:
            yield stem, aligned


def _stay(draws: Mapping[str, Tensor], groups: Sequence[Sequence[int]], log_density: Tensor) -> bool:
    """Whether chains agree, first half with second, each group in units of its own mean and deviation."""
    numbers = _numbers({**draws, "": log_density})
    for group in groups:
        own = numbers[group]
        numbers[group] = (own - own.mean((0, 1))) / (own.std((0, 1)) + 1e-12)
    return worst({"": numbers})[""] < _STAYS


def _groups(draws: Mapping[str, Tensor], log_density: Tensor) -> list[list[int]]:
    """Chains whose means lie within a few of their own deviations of each other, joined; the best group first."""
    numbers = _numbers(draws)
    means = numbers.mean(1) / (numbers.std(1).mean(0) + 1e-12)
    near = torch.cdist(means, means, p=math.inf) < _FAR  # (C, C)
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


def _numbers(draws: Mapping[str, Tensor]) -> Tensor:
    """All numbers of all sites, (C, n, P)."""
    return torch.cat([value.reshape(*value.shape[:2], -1) for value in draws.values()], -1).double()
