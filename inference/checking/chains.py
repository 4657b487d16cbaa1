"""Findings on draws by MCMC: do the chains agree, are there draws enough, could they move everywhere?

R-hat and effective sample sizes are those of Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization,
folding, and localization", the energy fraction that of Betancourt (2016), "Diagnosing suboptimal cotangent
disintegrations in Hamiltonian Monte Carlo".
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from inference.checking.findings import Finding, graded
from inference.posterior.latents import Posterior
from inference.sampling.effective import COLUMNS, effective
from inference.sampling.mixing import rhat
from inference.sampling.store import evenly

_VEHTARI, _BETANCOURT = "Vehtari et al. 2021", "Betancourt 2016"
_LONGER = "Draw more, or warm up longer (max_warmup); if labels switch or modes lie apart, no length of run helps"


def of_chains(posterior: Posterior) -> Iterator[Finding]:
    """R-hat, effective draws, divergences, energy."""
    names = [name for name in posterior.draws if name in posterior.globals] or list(posterior.draws)
    columns = {name: _columns(posterior.draws[name]) for name in names}
    if posterior.size < 8:
        yield Finding(
            "R-hat", "could not be judged", f"{posterior.size} draws of each chain are too few", bears=True,
            source=_VEHTARI, advice="Draw more",
        )  # fmt: skip
        return
    if posterior.chains < 2:
        yield Finding(
            "R-hat", "could not be judged", "there is one chain: nothing to compare it with", bears=True,
            source=_VEHTARI, advice="Draw several chains from places apart",
        )  # fmt: skip
    else:
        worst = {name: float(rhat(value).nan_to_num(nan=1.0).max()) for name, value in columns.items()}
        site = max(worst, key=worst.__getitem__)
        yield Finding(
            "R-hat", graded(worst[site], 1.01, 1.05), f"at most {worst[site]:.3f} (of '{site}'), 1.01 allowed",
            worst[site], _VEHTARI, _LONGER, bears=True,
        )  # fmt: skip
    both = {name: effective(value) for name, value in columns.items()}
    for i, what in enumerate(("bulk", "tail")):
        site = min(both, key=lambda name: both[name][i])
        least = both[site][i]
        told = f"{least:,.0f} at least (of '{site}'), 400 wanted" if math.isfinite(least) else "no latent moves"
        yield Finding(
            f"{what} effective draws", graded(least, 400, 100), told, least, _VEHTARI, "Draw more", bears=what == "bulk"
        )
    yield from _moves(posterior)


def _moves(posterior: Posterior) -> Iterator[Finding]:
    diverging, energy = posterior.stats.get("diverging"), posterior.stats.get("energy")
    if diverging is not None:
        number, share = int(diverging.sum()), float(diverging.double().mean())
        yield Finding(
            "divergences", "ok" if not number else graded(share, 0, 1e-3),
            f"{number:,} of {diverging.numel():,} transitions", float(number), _BETANCOURT,
            "Too few draws lie near corners they could not follow: a non-centred parametrisation, or a tighter prior",
        )  # fmt: skip
    if energy is not None and posterior.size >= 8:
        values = energy.double()
        fraction = values.diff(dim=1).square().mean(1) / values.var(1).clamp(min=torch.finfo(torch.float64).tiny)
        least = float(fraction.median())
        yield Finding(
            "E-BFMI", graded(least, 0.3, 0.1), f"{least:.2f} in the median chain, 0.3 wanted", least, _BETANCOURT,
            "Heavy tails: momenta cannot carry the chains across; another parametrisation of scales",
        )  # fmt: skip


def _columns(value: Tensor) -> Tensor:
    """Some numbers of each draw, (C, n, W)."""
    flat = value.reshape(*value.shape[:2], -1)
    return flat[..., evenly(flat.shape[-1], COLUMNS).to(flat.device)]
