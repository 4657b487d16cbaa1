"""What to say beside "converged" where a guide over global latents is far from the posterior that it converged beside.

The ELBO has converged where the guide is the best of its family. How good that is the weights p / q of its draws tell:
their effective share, (sum w)^2 / (S sum w^2), is near 1 for a good guide, and a mean that they move by more than a
tenth of its width, beyond doubt, is not where it should be: a fit that ends so has not converged. It costs one run of
so many draws and no import; `inference.khat` has k̂ and the share of more.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from inference.fitting.exact import weighed
from inference.fitting.loop import CONVERGED
from inference.running.checked import Checked
from inference.running.width import width
from zoo.abilities import Cautious
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.threads.randomness import apart

_DRAWS = 1000
_POOR = 0.2  # of log weights with a deviation of 1.3
_FAR = 0.1  # deviations that weights may move a mean of a guide that has converged
_FEWEST = 50  # effective draws for a mean


def caution(pair: ModelGuide, train: Batch) -> str:
    """What the pair says of these rows, where it has something to say."""
    return pair.caution(train) if isinstance(pair, Cautious) else ""


def said(given: Checked, reason: str, seed: int) -> str:
    """The reason why a fit stopped, with what stands against it.

    Args:
        given: the data of the fit. Latents of single observations and guides without a density are not judged, nor are
            data of more than `settings.memory` numbers in so many draws.
    """
    if reason != CONVERGED:
        return reason
    found = _drawn(given, seed)
    if found is None or not bool(found[0].isfinite().any()):
        return reason
    weights, draws = found
    share, shares = share_of(weights), _shares(weights)
    off, site = max(((_off(shares, value.double()), name) for name, value in draws.items()), default=(0.0, ""))
    if off:
        said = f"not converged: by the weights of its draws the guide's mean of {site} is off by {off:.2g} deviations"
        return f"{said}, which inference.resample corrects" if share >= _POOR else f"{said}, see inference.khat"
    if share >= _POOR:
        return reason
    far = f"the guide is a poor fit: effective share of its weights {share:.1%}, see inference.khat"
    return f"{reason}, but {far}"


def weights_of(given: Checked, seed: int) -> Tensor | None:
    """Log weights log p - log q of draws of the guide, (1000,); None where `said` would not judge them."""
    found = _drawn(given, seed)
    return None if found is None else found[0]


def _drawn(given: Checked, seed: int) -> tuple[Tensor, dict[str, Tensor]] | None:
    """The log weights, and by site the draws without constraints that they belong to, (1000, P)."""
    if not given.globals or given.continuous_locals:
        return None
    if _DRAWS * given.size * width(given.pair, given.batch) > settings.memory:
        return None
    with apart():
        return weighed(given.pair, given, _DRAWS, seed)


def _shares(weights: Tensor) -> Tensor:
    """Log weights as parts of 1, (S,)."""
    return (weights.double() - weights.max()).nan_to_num(-torch.inf).softmax(0)


def share_of(weights: Tensor) -> float:
    """Effective share of log weights, (S,)."""
    return 1 / float(_shares(weights).square().sum()) / len(weights)


def _off(shares: Tensor, draws: Tensor) -> float:
    """How far the weights move a mean at the most, in deviations of the guide; 0 where that is little or in doubt.

    Draws that are weighed have the noise of their effective number, and the largest of P such is larger than one: what
    is beyond doubt is told at one in a hundred, whatever the number of latents (Bonferroni).

    Args:
        shares: weights of the draws, summing to 1, (S,).
        draws: without constraints, (S, P).
    """
    if 1 / float(shares.square().sum()) < _FEWEST:
        return 0.0
    free = (draws - draws.mean(0)) / draws.std(0)
    moved = shares @ free
    # of the difference of two means of the same draws: nothing where weights are alike
    error = (shares[:, None] * (free - moved) - free / len(free)).square().sum(0).sqrt()
    sure = moved.abs() > _FAR + NormalDist().inv_cdf(1 - 0.005 / free.shape[1]) * error
    return float(moved.abs()[sure].max()) if bool(sure.any()) else 0.0
