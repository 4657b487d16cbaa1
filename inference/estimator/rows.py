"""Of pairs that explain whole rows: how probable each row is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inference.data.check import check
from inference.estimator.base import Base
from inference.posterior.likelihood import log_likelihood
from inference.running.checked import Checked

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Density(Base):
    """Of pairs that explain whole rows."""

    def score_samples(self, X: ArrayLike) -> NDArray[Any]:
        """Log density of each row under the posterior predictive, in nats, (N,): continuous codes by importance
        sampling with the same noise for every row."""
        batch = self._batch(X)
        given = check(self.pair_, batch)
        seed = self._seed()

        def scores(part: Checked) -> torch.Tensor:
            found = log_likelihood(self.pair_, self.posterior_, part, seed=seed).flatten(0, 1)
            mean: torch.Tensor = found.logsumexp(0) - np.log(len(found))
            return mean

        # A row alone gets the same draws wherever it stands.
        step = 1 if given.continuous_locals else given.size
        parts = [scores(given.select(slice(i, min(i + step, given.size)))) for i in range(0, given.size, step)]
        return torch.cat(parts).double().cpu().numpy()

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Mean log density of the rows, in nats; of classifiers the accuracy."""
        return float(self.score_samples(X).mean())
