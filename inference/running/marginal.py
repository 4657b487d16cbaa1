"""Log densities with the locals summed or integrated out, in pieces of bounded memory.

Everything over draws of the globals runs in pieces (draws x rows): beyond its result it holds at most a few times
`zoo.settings.memory` numbers at a time, whatever N and the number of draws are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from inference.running.densities import run
from inference.running.pieces import chunks, held, pieces, rows_at_once
from inference.running.width import width
from zoo.base import Batch, ModelGuide


def work(batch: Batch) -> int:
    """Numbers in the observations of a batch."""
    return max([batch.size, *(value.numel() for value in batch.fields().values())])


def pointwise(
    pair: ModelGuide, batch: Batch, values: Mapping[str, Tensor], draws: int, particles: int = 100, seed: int = 0
) -> Iterator[tuple[slice, Tensor]]:
    """log p(x_n | globals) of consecutive rows, (S, rows), at S values of the globals, each (S, *event)."""
    continuous = has_continuous_locals(pair, batch)
    repeat = particles if continuous else 1
    per_row = width(pair, batch)
    for rows, part in chunks(batch, rows_at_once(batch, per_row)):
        cost = max(part.size * per_row, held(values))
        kept = [
            _weights(pair, part, {name: value[piece] for name, value in values.items()}, piece, repeat, cost)
            for piece in pieces(draws, cost * min(repeat, 16))
        ]
        yield rows, torch.cat(kept)


def _weights(
    pair: ModelGuide, part: Batch, values: Mapping[str, Tensor], piece: slice, particles: int, cost: int
) -> Tensor:
    """Log-mean-exp of `particles` importance weights for each draw, (S, B), a bounded number at a time."""
    draws = piece.stop - piece.start
    total: Tensor | None = None
    for some in pieces(particles, draws * cost):
        count = some.stop - some.start
        repeated = {name: value.repeat_interleave(count, 0) for name, value in values.items()}
        weight: Tensor = run(pair, part, draws * count, repeated).log_weight.unflatten(0, (draws, count))
        summed = weight.logsumexp(1)
        total = summed if total is None else torch.logaddexp(total, summed)
    if total is None:
        raise ValueError("particles: expected at least 1")
    return total - math.log(particles)


def log_joint(pair: ModelGuide, batch: Batch, values: Mapping[str, Tensor], seed: int = 0) -> Tensor:
    """log p(data, globals) at each of S values of the globals, (S,), locals summed or integrated out."""
    prior = torch.cat(
        [
            torch.as_tensor(run(pair, batch.select(slice(0, 1)), s.stop - s.start, _at(values, s)).global_log_p)
            for s in pieces(_count(values), 4096)
        ]
    )
    return prior + sum(part.sum(-1) for _, part in pointwise(pair, batch, values, _count(values), seed=seed))


def _at(values: Mapping[str, Tensor], piece: slice) -> dict[str, Tensor]:
    return {name: value[piece] for name, value in values.items()}


def _count(values: Mapping[str, Tensor]) -> int:
    return len(next(iter(values.values())))


def has_continuous_locals(pair: ModelGuide, batch: Batch) -> bool:
    """Whether any observation has a latent of its own that has to be integrated out by sampling."""
    sites = pair.sites(batch.select(slice(0, 1)))
    return any(site.local and not site.observed and not site.enumerated for site in sites.values())
