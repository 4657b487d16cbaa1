"""Of pairs that explain y by x: regressions and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from inference.data.check import check
from inference.estimator.base import Base
from inference.posterior.likelihood import log_likelihood
from inference.running.checked import at
from inference.running.expectation import expected
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Explains(Base):
    """Of pairs that explain y by x."""

    def _averaged(self, X: ArrayLike, function: Callable[[Any], torch.Tensor]) -> torch.Tensor:
        """`function` of the distribution of y, (..., S, B), averaged over the posterior, (..., N)."""
        batch = self._batch(X)
        given = check(self.pair_, batch, complete=False)
        values, draws = self.posterior_.flat(), self.posterior_.size
        total = torch.empty(0)
        with quietly(self._seed(), self.pair_):
            for rows, part, some in given.sweep(draws):
                count = some.stop - some.start
                trace = vectorised(self.pair_.model, part, count, at(values, some), frozenset())
                found = function(trace.nodes["y"]["fn"])
                if not total.numel():
                    total = found.new_zeros(*found.shape[:-2], given.size)
                total[..., rows] += found.expand(*found.shape[:-2], count, part.size).sum(-2) / draws
        return total


class Labels(Explains):
    """Of pairs that explain classes y by x."""

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Posterior predictive probability of each class, (N, K)."""

        def probabilities(fn: Any) -> torch.Tensor:
            return torch.stack([fn.log_prob(torch.full((), float(k))).exp() for k in range(len(self.classes_))])

        found = self._averaged(X, probabilities).T.double()
        shares: NDArray[Any] = (found / found.sum(1, keepdim=True)).cpu().numpy()
        return shares

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row, (N,)."""
        best = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels


class Response(Explains):
    """Of pairs that explain numbers y by x."""

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The posterior mean of y at each row, (N,)."""
        return self._averaged(X, expected).double().cpu().numpy()

    def log_density(self, X: ArrayLike, y: ArrayLike) -> NDArray[Any]:
        """Log density of y given each row under the posterior predictive, in nats, (N,)."""
        batch = self._batch(X).but(y=torch.as_tensor(np.asarray(y, dtype=float)))
        found = log_likelihood(self.pair_, self.posterior_, batch).flatten(0, 1)
        scores: NDArray[Any] = (found.logsumexp(0) - np.log(len(found))).double().cpu().numpy()
        return scores
