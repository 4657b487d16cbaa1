"""Chains as evidence: do they agree, do they hold enough independent draws, could they move everywhere?

Thresholds are those of Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization, folding, and
localization: an improved R-hat", and of Betancourt (2016), "Diagnosing suboptimal cotangent disintegrations in
Hamiltonian Monte Carlo". Labels that a model does not tell apart are put in one order first: R-hat of the aligned draws
is what counts then, and the draws are handed on aligned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from inference.roads.grounds import Ground, Inferred
from inference.roads.labelling import are_labels
from inference.sampling.density import Density
from inference.sampling.effective import together
from inference.sampling.engine import Sampled
from inference.sampling.labels import relabelled, stems
from inference.sampling.mixing import worst
from inference.sampling.number import CHAINS, FEW
from inference.sampling.options import Run

RHAT, EFFECTIVE, ENERGY = 1.01, 400, 0.3
MOST = 2000  # draws of each chain
TARGETS = (0.8, 0.95, 0.99)  # acceptances: each further one where transitions diverged in longer steps


def asked(draws: int, seed: int, progress: bool, rest: float | None) -> Run:
    """What is asked of the sampler: to draw until there is evidence, or it is seen that there will be none.

    Args:
        draws: of all chains together, at the least.
        seed: of everything.
        progress: show a bar.
        rest: seconds.
    """
    return Run(
        max(MOST, math.ceil(draws / FEW)), CHAINS, "hmc", "auto", 2000, rest, 1, seed, "auto", None, progress,
        EFFECTIVE, TARGETS, draws, resigns=True, sized=True,
    )  # fmt: skip


def judged(found: Sampled, density: Callable[[], Density] | None = None) -> Inferred:
    """Draws by MCMC with their evidence.

    Args:
        found: the draws.
        density: of the latents, which says which labels it does not tell apart; without it none are put in order.
    """
    draws, names = dict(found.draws), [name for name in found.rhat if name in found.draws]
    rhat = max(found.rhat.values(), default=math.nan)  # chains cut short of four draws have none
    aligned = ""
    if rhat > RHAT and density is not None:
        draws, rhat, aligned = _aligned(draws, names, density(), rhat)
    # Infinite of draws of which no number ever moves, as where all are so large that no step changes them.
    bulk, tail = (size if math.isfinite(size) else 0.0 for size in together([draws[name] for name in names]))
    diverging = found.stats.get("diverging")
    energy = found.stats.get("energy")
    grounds = [
        Ground(f"R-hat{aligned}", rhat, RHAT),
        Ground("bulk ESS", bulk, EFFECTIVE, least=True),
        Ground("tail ESS", tail, EFFECTIVE, least=True),
        Ground("divergences", 0.0 if diverging is None else float(diverging.sum()), 0),
    ]
    if energy is not None and found.size >= 4:
        fraction = (energy.diff(dim=1).square().mean(1) / energy.var(1).clamp(min=1e-300)).double()
        grounds.append(Ground("E-BFMI", float(fraction.median()), ENERGY, least=True))
    return Inferred(
        draws, found.local, found.stats, found.method, found.chains, found.size,
        grounds=tuple(grounds), advice=" ".join(found.notes), found=found,
    )  # fmt: skip


def _aligned(
    draws: dict[str, Tensor], names: Sequence[str], density: Density, rhat: float
) -> tuple[dict[str, Tensor], float, str]:
    """Draws with their labels in the order that makes chains agree, their R-hat, and words for it.

    Of labels that the density does not tell apart alone, in orders that lie apart: chains in modes of which one is
    higher do not agree, nor do those that are slow, whichever of numbers alike is compared with which.
    """
    best, found, told = rhat, draws, ""
    for stem in stems(density.dims):
        tried = relabelled(draws, density.dims, stem) if are_labels(density, draws, stem) else None
        if tried is not None and (mine := max(worst({name: tried[name] for name in names}).values())) < best:
            best, found, told = mine, tried, f" with labels of '{stem}' in one order ({rhat:.2f} as they came)"
    return found, best, told
