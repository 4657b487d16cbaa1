"""Draws of a Gaussian, what importance weights say of it, and the draws that they correct.

A low k̂ says that weights can correct a guide, and not that it is right, so they always do: what is handed on are draws
resampled in proportion to their Pareto-smoothed weights p / q (Vehtari, Simpson, Gelman, Yao & Gabry 2024).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.posterior.psis import effective_share, smoothed, threshold
from inference.roads.evaluating import Evaluated
from inference.roads.paths import Gaussian

LEAST, MOST = 1024, 8192  # draws
WANTED = (
    900  # of these by their effective number; more where few draws carry the weight, whose tail is a matter of luck
)
UNSURE = 2000
NEARLY = 0.95  # share from which the shape of a tail of nothing does not count
HOPELESS = 0.05  # share below which `MOST` draws are too few
REACH = (1.5, 4.0)  # of wider draws: 1 + so much / sqrt(P) times as wide
SHARES = (0.65, 0.25, 0.1)  # of draws of each width, once there are several


@dataclass(frozen=True)
class Weighed:
    """A Gaussian and its weighed draws.

    Args:
        points: free latents, (S, P).
        log_p, log_q: log densities in nats, (S,); q is the mixture that all draws together come from.
        log_weights: Pareto-smoothed, normalised, (S,).
        k: Pareto k̂.
        share: effective number of the weights, as a share of S.
        shift: the largest change of a mean by the weights, in deviations.
        stretch: the largest change of a deviation, as |log| of the ratio.
        bound: E_q[log p - log q], in nats.
        log_evidence, error: by the weights, and its standard error, in nats.
    """

    points: Tensor
    log_p: Tensor
    log_q: Tensor
    log_weights: Tensor
    k: float
    share: float
    shift: float
    stretch: float
    bound: float
    log_evidence: float
    error: float

    @property
    def limit(self) -> float:
        """The k̂ up to which weights can correct."""
        return threshold(len(self.points))

    def resampled(self, draws: int, generator: np.random.Generator) -> Tensor:
        """Which draws stand for the posterior, (draws,), by systematic resampling, in random order."""
        ends = self.log_weights.exp().cumsum(0).cpu().numpy()
        places = (np.arange(draws) + generator.random()) / draws
        picked = np.searchsorted(ends / ends[-1], places).clip(max=len(ends) - 1)
        return torch.as_tensor(generator.permutation(picked))


def weigh(density: Evaluated, guide: Gaussian, seed: int) -> Weighed:
    """Draw and weigh; where the weights have a tail, or leave few draws, by more draws, some of them spread wider.

    Draws of all widths are weighed by their mixture in the shares in which they were drawn (Veach & Guibas 1995; Owen &
    Zhou 2000, "Safe and effective importance sampling"), so that none of the first is lost.

    Args:
        density: the log density.
        guide: whose draws they are.
        seed: of scrambled Sobol points, which fill the Gaussian evenly.
    """
    P = density.size
    sobol = torch.quasirandom.SobolEngine(P, scramble=True, seed=seed)
    widths = torch.tensor([1.0, *(1 + reach / math.sqrt(P) for reach in REACH)], dtype=torch.float64).to(guide.loc)
    counts = torch.zeros(len(widths), dtype=torch.long)
    noise, values = guide.loc.new_empty(0, P), guide.loc.new_empty(0)

    def more(which: int, count: int) -> None:
        nonlocal noise, values
        uniform = sobol.draw(count, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        new = widths[which] * torch.special.ndtri(uniform).to(guide.loc)
        noise, values = torch.cat([noise, new]), torch.cat([values, density(guide.at(new))[0]])
        counts[which] += count

    more(0, LEAST)
    log_q = _mixed(guide, noise, widths, counts)
    bound = float((values - log_q).mean())
    found = _judged(guide, noise, values, log_q, bound)
    while (
        (
            found.share * len(noise) < (WANTED if found.share > 0.7 else UNSURE)
            or (found.k > found.limit and found.share < NEARLY)
        )
        and 2 * len(noise) <= MOST
        and (found.share > HOPELESS or len(noise) == LEAST)
        and not density.late
    ):
        total = len(noise)
        for which, part in enumerate(SHARES):
            more(which, int(2 * total * part) - int(counts[which]))
        found = _judged(guide, noise, values, _mixed(guide, noise, widths, counts), bound)
    return found


def _mixed(guide: Gaussian, noise: Tensor, widths: Tensor, counts: Tensor) -> Tensor:
    """The log density of draws that are of several widths, (S,)."""
    drawn = counts > 0
    parts = [
        guide.log_prob(noise / width) - noise.shape[1] * width.log() + math.log(int(count) / len(noise))
        for width, count in zip(widths[drawn], counts[drawn], strict=True)
    ]
    return torch.stack(parts).logsumexp(0)


def _judged(guide: Gaussian, noise: Tensor, log_p: Tensor, log_q: Tensor, bound: float) -> Weighed:
    """What the weights say."""
    points = guide.at(noise)
    ratios = (log_p - log_q).cpu().numpy().astype(np.float64)
    known = bool(np.isfinite(ratios).any())  # else all weights are equal, which says nothing of the guide
    ratios = np.where(np.isfinite(ratios), ratios, -1e300)
    share = float(effective_share(ratios)) if known else 0.0
    found, k = smoothed(ratios)
    log_weights = torch.as_tensor(found).to(noise)
    weights = log_weights.exp() / log_weights.exp().sum()
    own = guide.tril.square().sum(-1).sqrt()
    mean = weights @ points
    wide = (weights @ (points - mean).square()).sqrt()
    top = float(ratios.max())
    relative = np.exp(ratios - top)
    error = float(relative.std() / relative.mean() / math.sqrt(len(relative)))
    return Weighed(
        points, log_p, log_q, log_weights, float(k) if known else math.inf, share,
        shift=float(((mean - guide.loc) / own).abs().max()),
        stretch=float((wide / own).log().abs().max()),
        bound=bound,
        log_evidence=top + math.log(float(relative.mean())) if known else -math.inf,
        error=error if known else math.inf,
    )  # fmt: skip
