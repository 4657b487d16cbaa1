"""What to say beside "converged" where a guide over global latents is far from the posterior that it converged beside.

The ELBO has converged where the guide is the best of its family. How good that is the weights p / q of its draws tell:
their effective share, (sum w)^2 / (S sum w^2), is near 1 for a good guide. It costs one run of so many draws and no
import; `inference.khat` has k̂ and the share of more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from inference.fitting.exact import log_weights
from inference.fitting.loop import CONVERGED
from inference.running.checked import Checked
from inference.running.width import width
from zoo.abilities import Cautious
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.threads.randomness import apart

_DRAWS = 1000
_POOR = 0.2  # of log weights with a deviation of 1.3


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
    weights = weights_of(given, seed)
    if weights is None or not bool(weights.isfinite().any()):
        return reason
    share = share_of(weights)
    if share >= _POOR:
        return reason
    far = f"the guide is a poor fit: effective share of its weights {share:.1%}, see inference.khat"
    return f"{reason}, but {far}"


def weights_of(given: Checked, seed: int) -> Tensor | None:
    """Log weights log p - log q of draws of the guide, (1000,); None where `said` would not judge them."""
    if not given.globals or given.continuous_locals:
        return None
    if _DRAWS * given.size * width(given.pair, given.batch) > settings.memory:
        return None
    with apart():
        return log_weights(given.pair, given, _DRAWS, seed)


def share_of(weights: Tensor) -> float:
    """Effective share of log weights, (S,)."""
    shares = (weights.double() - weights.max()).nan_to_num(-torch.inf).softmax(0)
    return 1 / float(shares.square().sum()) / len(weights)
