"""Log densities with the locals summed or integrated out, in pieces of bounded memory.

Everything over draws of the globals runs in pieces (draws x rows): beyond its result it holds at most a few times
`zoo.settings.memory` numbers at a time, whatever N and the number of draws are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from inference.running.checked import Checked, at
from inference.running.densities import run
from inference.running.pieces import draws_of_globals, held, pieces
from zoo.base import Batch, ModelGuide


def pointwise(
    data: Checked, values: Mapping[str, Tensor], draws: int, particles: int = 100
) -> Iterator[tuple[slice, Tensor]]:
    """log p(x_n | globals) of consecutive rows, (S, rows), at S values of the globals, each (S, *event)."""
    repeat = particles if data.continuous_locals else 1
    for rows, part in data.rows():
        cost = max(part.size * data.width, held(values))
        kept = [
            _weights(data.pair, part, at(values, piece), piece, repeat, cost)
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


def log_joint(data: Checked, values: Mapping[str, Tensor]) -> Tensor:
    """log p(data, globals) at each of S values of the globals, (S,), locals summed or integrated out."""
    count = len(next(iter(values.values())))
    return log_prior(data, values) + sum(part.sum(-1) for _, part in pointwise(data, values, count))


def log_prior(data: Checked, values: Mapping[str, Tensor]) -> Tensor:
    """log p(globals) at each of S values of them, (S,)."""
    count = len(next(iter(values.values())))
    first = data.batch.select(slice(0, 1))
    return torch.cat(
        [
            torch.as_tensor(run(data.pair, first, some.stop - some.start, at(values, some)).global_log_p)
            for some in draws_of_globals(count, held(values))
        ]
    )
