"""How strange each observation is: minus its log density under the fitted model, fast or tight.

    fast    -E[log p(x_n, z | t) - log q(z | x_n)]       minus the bound (ELBO), an upper bound of the surprise
    tight   -log E[p(x_n, z | t) / q(z | x_n)]           the surprise -log p(x_n) itself, by importance sampling

with z from the encoder and t, the global latents, from their posterior; enumerated latents are summed out exactly. The
second needs many more draws, and tends to its number from above (Burda et al. 2016). The two rank rows alike where the
encoder is as good for strange rows as for usual ones, which it seldom is: it was trained on the usual. Of a pair
without continuous latents of single observations nothing is sampled but t, and the first is the mean of the exact
-log p(x_n | t).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inference.codes.annealing import log_mean
from inference.codes.reading import Codes
from inference.data.check import check
from inference.posterior.check import check_posterior
from inference.posterior.draws import drawn
from inference.posterior.latents import Posterior
from inference.running.checked import Checked
from inference.running.densities import run
from inference.running.effort import check_effort
from inference.running.quiet import quietly
from inference.running.words import check_bool, check_count
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd

FAST, TIGHT = 20, 5000  # draws of each row


@in_turn
def anomaly(
    pair: ModelGuide,
    data: Any,
    *,
    tight: bool = False,
    draws: int | None = None,
    reference: Any = None,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """How strange each observation is, a row each: `score`, minus its log density in nats, and the `sd` of that.

    Args:
        pair: a fitted pair.
        data: see `inference.data`; any number of rows.
        tight: the log density itself, not the bound on it.
        draws: of codes and global latents, for each row; by default 20, or 5,000 where `tight`.
        reference: rows of the usual kind that the pair was not fitted to: a column `share` then says how many of them
            are less strange, from 0 to 1. Above 0.99 is stranger than 99 % of these.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds everything drawn; the caller's random state is left as it was.

    Returns:
        a frame of N rows. `sd` is the Monte Carlo error of `score`: that of the tight one is too small where the
        encoder misses where a row's codes are; then `inference.gap` tells more.

    Raises:
        ValueError: the data do not fit the pair, or a tight score of a pair whose codes are points.

    Example:
        >>> inference.anomaly(pair, images, tight=True).nlargest(10, "score")  # doctest: +SKIP
    """
    import pandas as pd

    check_bool("tight", tight)
    given = check(pair, data)
    score, sd = surprise(given, tight=tight, draws=draws, posterior=posterior, seed=seed)
    found = pd.DataFrame({"score": _numbers(score), "sd": _numbers(sd)})
    if reference is not None:
        usual = surprise(check(pair, reference), tight=tight, draws=draws, posterior=posterior, seed=seed)[0]
        found["share"] = _numbers(torch.searchsorted(usual.sort().values, score).to(score) / len(usual))
    return found.rename_axis("row")


def surprise(
    given: Checked,
    *,
    tight: bool = False,
    draws: int | None = None,
    posterior: Posterior | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Minus the log density of each row and its Monte Carlo error, both (N,), in nats; arguments as in `anomaly`.

    Raises:
        ValueError: draws below 2 where something is drawn, or more than can be; a tight score of codes that are points.
    """
    number = draws if draws is not None else TIGHT if tight else FAST
    check_count("draws", number, 2)
    if tight and given.continuous_locals:
        Codes.of(given).check_continuous("a tight score")
    if posterior is not None:
        posterior = check_posterior(given, posterior)
    sampled = given.continuous_locals or bool(given.globals)
    number = number if sampled else 1  # the same each time
    check_effort(given, "draws", number)
    values = _globals(given, posterior, number, seed)
    score, error = (torch.zeros(given.size, dtype=given.pair.dtype, device=given.pair.device) for _ in range(2))
    with quietly(seed, given.pair):
        for rows, part in given.rows():
            part = part.but(total=part.size)  # noqa: PLW2901 - no minibatch scale: these are scores of single rows
            kept = []
            for some in given.draws(number, part):
                which = torch.arange(some.start, some.stop)
                fixed = {name: value[(which % len(value)).to(value.device)] for name, value in values.items()}
                weight = run(given.pair, part, some.stop - some.start, fixed).log_weight
                kept.append(_summed(weight.double(), tight))
            score[rows], error[rows] = (found.to(score) for found in _settled(kept, number, tight))
    return score, error


def _globals(given: Checked, posterior: Posterior | None, number: int, seed: int) -> dict[str, Tensor]:
    """Draws of the global latents, each (S, *event)."""
    if not given.globals:
        return {}
    if posterior is None:  # they do not depend on the rows given
        one = given.but(given.batch.select(slice(0, 1)).but(total=1))
        posterior = drawn(one, min(number, 1000), stats=False, seed=seed, rows=torch.empty(0, dtype=torch.long))
    return posterior.flat(frozenset(posterior.globals))


def _summed(weight: Tensor, tight: bool) -> tuple[Tensor, Tensor, int]:
    """What is kept of log weights (S, B): logs of sums of weights and squares, or mean and squared deviations."""
    if tight:
        return weight.logsumexp(0), (2 * weight).logsumexp(0), len(weight)
    mean = weight.mean(0)
    return mean, (weight - mean).square().sum(0), len(weight)


def _settled(kept: list[tuple[Tensor, Tensor, int]], number: int, tight: bool) -> tuple[Tensor, Tensor]:
    """Score and error of some rows, from the pieces of their draws."""
    first = torch.stack([one for one, _, _ in kept])
    second = torch.stack([two for _, two, _ in kept])
    if tight:
        value, error = log_mean(first.logsumexp(0), second.logsumexp(0), number)
        return -value, error
    count = torch.tensor([float(n) for _, _, n in kept], dtype=first.dtype, device=first.device)[:, None]
    mean = (count * first).sum(0) / number
    squares = (second + count * (first - mean).square()).sum(0)  # within pieces and between them
    return -mean, (squares / max(1, number - 1) / number).sqrt()


def _numbers(value: Tensor) -> Any:
    return value.double().cpu().numpy()


def nats_to_bits(nats: Tensor) -> Tensor:
    """Information in bits."""
    return nats / math.log(2)
