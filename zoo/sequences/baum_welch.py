"""Starting values for hidden Markov models: expectation maximisation over several starts at once (Baum et al. 1970).

Every start is k-means on single steps, or, where states follow one another from left to right, a cut of each sequence
at random places (Rabiner 1989, section V.C). All R starts run as one batch: R stands left of the sequences' dimension.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.base import Batch
from zoo.mixtures import em
from zoo.sequences import transitions

if TYPE_CHECKING:
    from zoo.sequences.hmm import HMM


def best(pair: HMM, batch: Batch, starts: int, iterations: int) -> dict[str, Tensor]:
    """The global latents of highest log joint density after so many runs of so many iterations, by site.

    States are numbered in the order of their means, or from left to right.

    Raises:
        ValueError: a batch without observations.
    """
    if batch.x is None:
        raise ValueError("hmm: starting values need the observations, got a batch without 'x'")
    K = pair.states
    limit = max(1000, 5_000_000 // (starts * K**3))  # steps; bounds the memory
    some = batch.select(torch.randperm(batch.size, device=batch.x.device)[: max(1, limit // batch.x.shape[1])])
    x = some.x[:, :limit].double()  # type: ignore[index]
    T = x.shape[1]
    lengths = torch.full((len(x),), T, device=x.device) if some.lengths is None else some.lengths.clamp(max=T)
    over = torch.arange(T, device=x.device) >= lengths.unsqueeze(-1)  # (B, T)
    seen = ~x.isnan() & ~(over if x.ndim == 2 else over.unsqueeze(-1))
    states = _cut(starts, lengths, T, K) if pair.transitions == "left_right" else _clusters(pair, x, seen, starts)
    states = states.to(x.dtype)
    pairs = (states[:, :, :-1, :, None] * states[:, :, 1:, None, :]) * ~over[:, 1:, None, None]
    values = m_step(pair, x, seen, states, pairs.sum((1, 2)), None)
    for _ in range(iterations):
        chain = pair.chain(values, T, lengths)
        states, moves = chain.counts(x)
        values = m_step(pair, x, seen, states, moves.squeeze(1), values)
    chain = pair.chain(values, T, lengths)
    log_prior = [fn.log_prob(values[name]).squeeze(-1) for name, fn in pair.prior().items()]
    score = chain.log_prob(x).sum(-1) + sum(log_prior)
    found = {name: value[score.argmax(), 0] for name, value in values.items()}
    if pair.transitions != "left_right":
        found = _ordered(found, pair.states)
    return {name: found[name].to(batch.x.dtype) for name in pair.prior()}


def m_step(
    pair: HMM, x: Tensor, seen: Tensor, states: Tensor, moves: Tensor, before: dict[str, Tensor] | None
) -> dict[str, Tensor]:
    """Global latents, each (R, 1, ...), given states (R, B, T, K) and moves (R, K, K); `before`: the last ones."""
    known = None if before is None else {name: value.squeeze(1) for name, value in before.items()}
    values = {
        "initial": F.normalize(states[:, :, 0].sum(1) + pair.alpha, 1, -1),
        **transitions.most_probable(pair.transitions, moves, pair.moves, pair.alpha, known),
    }
    weights, seen = states.flatten(1, 2), seen.flatten(0, 1)  # (R, n, K), (n) or (n, D)
    x = torch.where(seen, x.flatten(0, 1), 0)
    if pair.emission == "gaussian":
        middle = x.sum(0) / seen.sum(0).clamp(min=1)  # squares of centred values do not cancel
        x = torch.where(seen, x - middle, 0)
        if pair.correlated:
            weights = weights * seen.all(-1, keepdim=True)
            count, locs, scatter = em.moments(x, weights)
            squares = scatter.diagonal(dim1=-2, dim2=-1)
            values["correlations"] = em.correlation_tril(count, scatter, float(pair.features))
            count = count.unsqueeze(-1)
        else:
            count = weights.mT @ seen.to(x.dtype)  # (R, K, D)
            locs = weights.mT @ x / count.clamp(min=1e-9)
            squares = (weights.mT @ x.square() - count * locs.square()).clamp(min=0)
        values["locs"] = locs + middle
        values["scales"] = em.scale_mode(count, squares, pair.scale.double())
    elif pair.emission == "poisson":
        values["rates"] = (weights.mT @ x + 0.1) / (weights.mT @ seen.to(x.dtype) + 0.1)
    else:
        marks = F.one_hot(x.long(), pair.categories).to(x.dtype) * seen.unsqueeze(-1)
        values["probs"] = F.normalize(weights.mT @ marks + pair.alpha, 1, -1)
    return {name: value.unsqueeze(1) for name, value in values.items()}


def _cut(starts: int, lengths: Tensor, steps: int, states: int) -> Tensor:
    """States in turn, (R, B, T, K): each sequence cut at its own random places, in the first start into equal parts."""
    places = torch.rand(starts, len(lengths), 1, states - 1, device=lengths.device).sort(-1).values
    places[0] = torch.arange(1, states, device=lengths.device) / states
    when = (torch.arange(steps, device=lengths.device) + 0.5) / lengths.unsqueeze(-1)  # (B, T)
    return F.one_hot((when.unsqueeze(-1) > places).sum(-1), states)


def _clusters(pair: HMM, x: Tensor, seen: Tensor, starts: int) -> Tensor:
    """States of single steps by k-means, (R, B, T, K); none where nothing is seen."""
    points = _points(pair, x, seen)  # (B, T, P)
    some = seen if x.ndim == 2 else seen.any(-1)
    states = x.new_zeros(starts, *x.shape[:2], pair.states)
    states[:, some] = em.kmeans(points[some], pair.states, starts)
    return states


def _points(pair: HMM, x: Tensor, seen: Tensor) -> Tensor:
    """What k-means looks at, (B, T, P), features in equal units and missing ones at their mean."""
    if pair.emission == "categorical":  # which categories are common around each step
        codes = torch.where(seen, x, 0).long()
        marks = F.one_hot(codes, pair.categories).to(x.dtype) * seen.unsqueeze(-1)
        return F.avg_pool1d(marks.mT, 9, stride=1, padding=4).mT
    x = x if x.ndim == 3 else x.unsqueeze(-1).sqrt()
    flat = torch.where(seen if seen.ndim == 3 else seen.unsqueeze(-1), x, torch.nan).flatten(0, 1)
    centred = x - flat.nanmean(0).nan_to_num()
    sd = (flat - flat.nanmean(0)).square().nanmean(0).sqrt()
    return torch.where(flat.view_as(x).isnan(), 0, centred / torch.where(sd > 0, sd, 1))


def _ordered(values: dict[str, Tensor], states: int) -> dict[str, Tensor]:
    """The same states, numbered in the order of the means of their (first) feature."""
    if "locs" in values:
        means = values["locs"][..., 0]
    elif "rates" in values:
        means = values["rates"]
    else:
        means = (values["probs"] * torch.arange(values["probs"].shape[-1], device=values["probs"].device)).sum(-1)
    order = means.argsort()
    ordered = {name: value[order] for name, value in values.items() if value.ndim}
    if "transition" in values:
        ordered["transition"] = ordered["transition"][:, order]
    return {**values, **ordered}
