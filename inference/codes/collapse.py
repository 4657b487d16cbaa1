"""Posterior collapse (Bowman et al. 2016): which dimensions the codes of the data use at all.

Active units: Burda et al. 2016, "Importance weighted autoencoders", section 5.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from inference.codes.encoding import encode
from inference.codes.reading import Codes
from inference.compiling.fallback import somebodys_level
from inference.data.check import check
from inference.posterior.draws import Posterior
from inference.running.densities import run
from inference.running.effort import check_effort
from inference.running.quiet import quietly
from inference.running.words import check_count, check_number
from zoo.base import ModelGuide
from zoo.threads.turns import in_turn


class CollapseWarning(UserWarning):
    """No dimension of any code says anything about its observation."""


@in_turn
def active_units(
    pair: ModelGuide, data: Any, threshold: float = 0.01, *, posterior: Posterior | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """Which dimensions of each code vary with the observation: Var_n E[z | x_n] > threshold (Burda et al. 2016).

    Returns:
        site -> (L,) or the event shape of the code, boolean.

    Raises:
        ValueError: the guide draws no code, or `threshold` is no number of at least 0.
    """
    check_number("threshold", threshold)
    given = check(pair, data)
    codes = Codes.of(given)
    codes.check_continuous("active_units", density=False)
    mean = encode(pair, given, posterior=posterior, seed=seed).mean
    return {name: mean[name].double().var(0, correction=0) > threshold for name in codes.drawn}


@in_turn
def code_kl(
    pair: ModelGuide, data: Any, *, draws: int = 100, posterior: Posterior | None = None, seed: int = 0
) -> dict[str, Tensor]:
    """What each dimension of a code costs: KL(q(z_l | x_n) || p(z_l)), averaged over observations, in nats.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: from the guide, for divergences that have no closed form.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds the draws.

    Returns:
        site -> (L,) where guide and prior factorise over dimensions; else one number, the total, ().

    Raises:
        ValueError: the guide draws no code, or is a point mass.
    """
    check_count("draws", draws)
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    codes.check_continuous("code_kl")
    check_effort(given, "draws", draws)
    total: dict[str, Tensor] = {}
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        for _, part in codes.rows(batch):
            factorised = {n for n, kl in run(pair, part, 1, globals_[0], analytic=True).local_kl.items() if kl.ndim > 2}
            # Closed forms need no more draws than there are of the globals.
            number = len(globals_) if factorised.issuperset(codes.drawn) else max(draws, len(globals_))
            for some, fixed in codes.draws(number, part, globals_):
                terms = run(pair, part, some.stop - some.start, fixed, analytic=True)
                for name in codes.drawn:
                    kl = terms.local_kl[name].sum((0, 1)) / (number * batch.size)
                    total[name] = total.get(name, torch.zeros_like(kl)) + kl
    return total


@in_turn
def collapsed(
    pair: ModelGuide, data: Any, threshold: float = 0.01, *, posterior: Posterior | None = None, seed: int = 0
) -> list[str]:
    """What to tell the user about dimensions of a code that say nothing about the data; empty when all do.

    A dimension is unused when its mean hardly varies (`active_units`), or when it costs less than `threshold` nats
    (`code_kl`, where that is known for each dimension).

    Warns:
        CollapseWarning: no dimension of any code is used.

    Raises:
        ValueError: see `active_units`.
    """
    check_number("threshold", threshold)
    given = check(pair, data)
    codes = Codes.of(given)
    active = active_units(pair, given, threshold, posterior=posterior, seed=seed)
    kl = {} if codes.points else code_kl(pair, given, posterior=posterior, seed=seed)
    notes, all_unused = [], True
    for name, used in active.items():
        if name in kl:
            used = used & (kl[name] >= threshold)  # noqa: PLW2901 - a total holds for all dimensions
        unused = (~used.reshape(-1)).nonzero().squeeze(1).tolist()
        all_unused &= len(unused) == used.numel()
        notes += [] if not unused else [_in_words(pair.name, name, unused, used.numel(), kl.get(name), threshold)]
    if all_unused:
        warnings.warn("; ".join(notes), CollapseWarning, stacklevel=somebodys_level())
    return notes


def _in_words(pair: str, site: str, unused: list[int], total: int, kl: Tensor | None, threshold: float) -> str:
    little = f"carry less than {threshold:g} nats"
    if kl is None or float(kl.sum()) >= threshold * total:
        little = f"hardly vary with the observation (variance of the mean below {threshold:g})"
    if len(unused) == total:
        return (
            f"{pair}: the code '{site}' has collapsed: all {total} dimensions {little}, so the decoder ignores it; "
            "anneal the KL terms, give free bits, or make the decoder less flexible"
        )
    which = ", ".join(map(str, unused))
    return f"{pair}: {len(unused)} of {total} dimensions of the code '{site}' are unused ({which}): they {little}"
