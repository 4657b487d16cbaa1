"""What a fitted model of sequences says about hidden states and the future.

Works for any pair whose observed site is a distribution with hidden states: one that offers `states` (their number K),
`smooth(x)`, `viterbi(x)` and `forecast(x, horizon)`, such as `zoo.sequences.chain.HiddenMarkovChain`. Everything is
computed under each draw of the posterior, in pieces (draws x sequences) of bounded memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from inference.data import as_batch, chunks
from inference.marginal import work
from inference.memory import BUDGET, pieces, quietly
from inference.posterior import Posterior, vectorised
from zoo.base import FIELDS, Batch, ModelGuide


class HiddenStates(Protocol):
    """A distribution over sequences whose hidden states are summed out."""

    states: int

    def smooth(self, x: Tensor) -> Tensor:
        """p(z_t | x), (..., T, K)."""

    def viterbi(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable states, (..., T), and their log joint density with x, (...)."""

    def forecast(self, x: Tensor, horizon: int) -> Any:
        """The distribution of the next `horizon` steps."""


def smooth(pair: ModelGuide, posterior: Posterior, data: Any, draws: int | None = None, *, mean: bool = True) -> Tensor:
    """Probabilities of the hidden states at each step, given the whole sequence.

    Past the end of a sequence they are the probabilities predicted for that step. States keep the labels of each draw:
    averages mean something when the draws agree about labels, as those of one guide do.

    Args:
        pair: the pair.
        posterior: draws of its latents.
        data: the sequences.
        draws: use only so many draws of each chain, evenly spaced; default all.
        mean: average over chains and draws.

    Returns:
        (N, T, K), or (chain, draw, N, T, K) when `mean` is false.

    Raises:
        ValueError: the pair has no hidden states.
    """
    return _collect(pair, posterior, data, draws, lambda fn, x: fn.smooth(x), mean)


def viterbi(pair: ModelGuide, posterior: Posterior, data: Any, draws: int | None = None) -> Tensor:
    """The most probable sequence of states under each draw, (chain, draw, N, T); -1 past the end of a sequence.

    Arguments and errors are those of `smooth`.
    """
    return _collect(pair, posterior, data, draws, lambda fn, x: fn.viterbi(x)[0])


def forecast(
    pair: ModelGuide, posterior: Posterior, data: Any, horizon: int, draws: int | None = None, *, seed: int = 0
) -> Tensor:
    """One draw, under each draw of the posterior, of the `horizon` steps after the last valid step of each sequence.

    Other arguments and errors are those of `smooth`.

    Returns:
        (chain, draw, N, horizon) or (chain, draw, N, horizon, D).
    """
    if isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1:
        raise ValueError(f"horizon: expected a whole number of at least 1, got {horizon!r}")
    return _collect(pair, posterior, data, draws, lambda fn, x: fn.forecast(x, horizon).sample(), seed=seed)


def _collect(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    draws: int | None,
    function: Callable[[HiddenStates, Tensor], Tensor],
    mean: bool = False,
    seed: int = 0,
) -> Tensor:
    """`function` of the observed site under each draw, put together or averaged."""
    posterior = posterior if draws is None else posterior.thin(draws)
    batch = as_batch(pair, data)
    total = posterior.chains * posterior.size
    result = torch.empty(0)
    with quietly(seed):
        for rows, piece, fn, x in _sites(pair, posterior, batch, total):
            value = function(fn, x)  # (S, B, ...)
            value = value.expand(piece.stop - piece.start, rows.stop - rows.start, *value.shape[2:])
            if result.numel() == 0:
                result = value.new_zeros(*([] if mean else [total]), batch.size, *value.shape[2:])
            if mean:
                result[rows] += value.sum(0) / total
            else:
                result[piece, rows] = value
    return result if mean else result.unflatten(0, (posterior.chains, posterior.size))


def _sites(
    pair: ModelGuide, posterior: Posterior, batch: Batch, total: int
) -> Iterator[tuple[slice, slice, HiddenStates, Tensor]]:
    """Rows, draws, and the observed distribution and its values there, in pieces of bounded memory."""
    values = posterior.flat()

    def observed(part: Batch, rows: slice, piece: slice) -> tuple[HiddenStates, Tensor]:
        here = {n: v[piece][:, rows] if n in posterior.local else v[piece] for n, v in values.items()}
        trace = vectorised(pair.model, part, piece.stop - piece.start, here, posterior.local)
        found = [name for name in FIELDS if name in trace.nodes and trace.nodes[name]["is_observed"]]
        for name in found:
            fn = trace.nodes[name]["fn"]
            if all(hasattr(fn, method) for method in ("states", "smooth", "viterbi", "forecast")):
                return fn, getattr(part, name)
        raise ValueError(f"{pair.registry_name or type(pair).__name__} has no hidden states at {' or '.join(found)}")

    one = slice(0, 1)
    states = observed(batch.select(one), one, one)[0].states
    cost = states**3 * (work(batch) // batch.size)  # of one draw and one sequence
    for rows, part in chunks(batch, max(1, min(batch.size, BUDGET // cost))):
        for piece in pieces(total, cost * part.size):
            yield rows, piece, *observed(part, rows, piece)
