"""What a fitted model of sequences says about hidden states and the future.

`forecast` works for any pair whose observed site has a distribution that is a `zoo.abilities.Forecast`, with a keyword
`inputs` if the next steps depend on inputs known ahead; `one_step_ahead` for a `zoo.abilities.OneStepAhead`. `smooth`,
`viterbi` and `sample_paths` are for those with `zoo.abilities.HiddenStates`, such as
`zoo.parts.chains.chain.HiddenMarkovChain`. Everything is computed under each draw of the posterior, in pieces (draws x
sequences) of bounded memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inference.data.check import check
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.running.checked import Checked, at
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from inference.running.words import check_bool, check_count
from zoo.abilities import Forecast, HiddenStates, OneStepAhead
from zoo.arrays import as_tensor
from zoo.base import FIELDS, Batch, ModelGuide
from zoo.rows import nth
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn


@in_turn
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
        ValueError: the pair has no hidden states, or the posterior is not this pair's, or no draws asked for.
    """
    return _collect(pair, posterior, data, draws, lambda fn, x, _: fn.smooth(x), mean)


@in_turn
def viterbi(pair: ModelGuide, posterior: Posterior, data: Any, draws: int | None = None) -> Tensor:
    """The most probable sequence of states under each draw, (chain, draw, N, T); -1 past the end of a sequence.

    Arguments and errors are those of `smooth`.
    """
    return _collect(pair, posterior, data, draws, lambda fn, x, _: fn.viterbi(x)[0])


@in_turn
def sample_paths(
    pair: ModelGuide, posterior: Posterior, data: Any, draws: int | None = None, *, seed: int = 0
) -> Tensor:
    """One path of hidden states under each draw, from the posterior over states and parameters together.

    Each is drawn exactly, given the whole sequence and the draw's parameters: averages over draws carry the uncertainty
    of both. Other arguments and errors are those of `smooth`.

    Args:
        seed: seeds the paths.

    Returns:
        (chain, draw, N, T), -1 past the end of a sequence.
    """
    return _collect(pair, posterior, data, draws, lambda fn, x, _: fn.sample_states(x), seed=seed)


@in_turn
def forecast(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    horizon: int,
    draws: int | None = None,
    *,
    inputs: Any = None,
    seed: int = 0,
    **options: Any,
) -> Tensor:
    """The `horizon` steps after the last valid step of each sequence: one draw under each draw of the posterior.

    Other arguments are those of `smooth`.

    Args:
        horizon: the number of steps ahead H.
        inputs: exogenous inputs of those steps, (N, H, E), for a pair that has such.
        seed: seeds the draws.
        options: what else the distribution's `forecast` takes, such as a temperature.

    Returns:
        (chain, draw, N, horizon) or (chain, draw, N, horizon, D).

    Raises:
        ValueError: the pair cannot forecast, or not so many steps; inputs that it lacks; inputs or options that it does
            not take.
    """
    check_count("horizon", horizon)
    checked = check(pair, data)
    each = sum(site.event_shape[1:].numel() for site in checked.observed.values())
    count: int = getattr(posterior, "chains", 1) * (draws if isinstance(draws, int) else getattr(posterior, "size", 1))
    check_room("horizon", horizon, horizon * count * checked.size * each * pair.dtype.itemsize)
    ahead = None if inputs is None else _inputs(pair, inputs, checked.size, horizon)

    def future(fn: Any, x: Tensor, rows: slice) -> Tensor:
        given = options if ahead is None else {**options, "inputs": ahead[rows]}
        takes = inspect.signature(fn.forecast).parameters
        for name in given:
            if name not in takes:
                raise ValueError(f"{pair.name} takes no {name}")
        found: Tensor = fn.forecast(x, horizon, **given).sample()
        return found

    wanted = Forecast, "forecast"
    return _collect(pair, posterior, checked, draws, future, seed=seed, horizon=horizon, wanted=wanted)


class StepAhead(NamedTuple):
    """What was expected of each number before it was seen: `mean` and `sd`, each of the shape of the data."""

    mean: Tensor
    sd: Tensor


@in_turn
def one_step_ahead(
    pair: ModelGuide, posterior: Posterior, data: Any, draws: int | None = None, *, seed: int = 0
) -> StepAhead:
    """What each number is expected to be given those before it, and how far it may be off, under the posterior.

    The parameters know all of the data; a step knows the past alone. With both, a residual in units of `sd` has mean 0
    and deviation 1 if the model is right. Moments are exact given a draw of the posterior, but for latent states of a
    network (`variational_autoregressive`), where they come from a particle filter. Of codes they are those of the
    numbers that the codes are. Past the end of a sequence they mean nothing.

        >>> ahead = one_step_ahead(pair, inference.draw(pair, x), x)
        >>> residuals = (x - ahead.mean) / ahead.sd

    Other arguments are those of `smooth`.

    Args:
        seed: seeds what is drawn.

    Returns:
        mean and sd, each (N, T), or (N, T, D), or (N, D) of rows whose features come one after the other.

    Raises:
        ValueError: the pair has no such moments, or the posterior is not this pair's.
    """
    checked = check(pair, data)

    def ahead(fn: Any, x: Tensor, _: slice) -> Tensor:
        found = torch.stack(fn.conditional_moments(x), -1)
        return found if found.ndim > x.ndim + 1 else found.unsqueeze(0)  # the same under every draw

    wanted = OneStepAhead, "moments of one step given those before it"
    found = _collect(pair, posterior, checked, draws, ahead, seed=seed, wanted=wanted).flatten(0, 1).double()
    mean, variance = found.unbind(-1)
    sd = (variance.mean(0) + mean.var(0, correction=0)).sqrt()
    return StepAhead(mean.mean(0).to(pair.dtype), sd.to(pair.dtype))


def _inputs(pair: ModelGuide, inputs: Any, rows: int, horizon: int) -> Tensor:
    """Inputs of the steps ahead as a tensor of the pair's, (N, H, E)."""
    ahead = as_tensor("inputs", inputs).to(device=pair.device, dtype=pair.dtype)
    if ahead.ndim != 3 or ahead.shape[:2] != (rows, horizon):
        raise ValueError(f"inputs: expected shape ({rows}, {horizon}, E), got {tuple(ahead.shape)}")
    if not ahead.isfinite().all():
        row, step, column = (~ahead.isfinite()).nonzero()[0].tolist()
        found = float(ahead[row, step, column])
        raise ValueError(
            f"inputs, row {nth(row)}, step {nth(step)}, column {nth(column)}: expected a finite number, got {found:g}"
        )
    return ahead


def _collect(
    pair: ModelGuide,
    posterior: Posterior,
    data: Any,
    draws: int | None,
    function: Callable[[Any, Tensor, slice], Tensor],
    mean: bool = False,
    seed: int = 0,
    horizon: int = 0,
    wanted: tuple[type, str] = (HiddenStates, "hidden states"),
) -> Tensor:
    """`function` of the observed site, its values and their rows under each draw, put together or averaged.

    `wanted` is the ability that the site has to have, and what it is called.
    """
    check_bool("mean", mean)
    given = check(pair, data)
    posterior = check_posterior(given, posterior, draws, local=True)
    total = posterior.chains * posterior.size
    result = torch.empty(0)
    with quietly(seed, pair):
        for rows, some, fn, x in _sites(given, posterior, total, horizon, wanted):
            value = function(fn, x, rows)  # (S, B, ...)
            value = value.expand(some.stop - some.start, rows.stop - rows.start, *value.shape[2:])
            if result.numel() == 0:
                result = value.new_zeros(*([] if mean else [total]), given.size, *value.shape[2:])
            if mean:
                result[rows] += value.sum(0) / total
            else:
                result[some, rows] = value
    return result if mean else result.unflatten(0, (posterior.chains, posterior.size))


def _sites(
    given: Checked, posterior: Posterior, total: int, horizon: int, wanted: tuple[type, str]
) -> Iterator[tuple[slice, slice, Any, Tensor]]:
    """Rows, draws, and the observed distribution and its values there, in pieces of bounded memory."""
    pair, batch, values = given.pair, given.batch, posterior.flat()
    ability, what = wanted

    def observed(part: Batch, rows: slice, some: slice) -> tuple[Any, Tensor]:
        here = at(values, some, rows, posterior.local)
        trace = vectorised(pair.model, part, some.stop - some.start, here, posterior.local)
        found = [name for name in FIELDS if name in trace.nodes and trace.nodes[name]["is_observed"]]
        for name in found:
            fn = trace.nodes[name]["fn"]
            if isinstance(fn, ability):
                return fn, getattr(part, name)
        raise ValueError(f"{pair.name} has no {what} at {' or '.join(found)}")

    one = slice(0, 1)
    first = observed(batch.select(one), one, one)[0]
    states = first.states if isinstance(first, HiddenStates) else 1
    # of one draw and one sequence: matrices between states, or among the steps ahead
    numbers = max(value.numel() for value in batch.fields().values()) // batch.size
    held = (states**3 + horizon) * (max(1, numbers) + horizon)
    for rows, part, some in given.sweep(total, held):
        yield rows, some, *observed(part, rows, some)
