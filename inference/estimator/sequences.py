"""Of pairs whose numbers come one after the other: rows of a matrix are sequences, or features in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from inference.data.check import check
from inference.estimator.rows import Density
from inference.posterior.draws import generate
from inference.questions.sequences import one_step_ahead, smooth
from zoo.base import Batch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Ahead(Density):
    """A row is a sequence of as many steps as there are columns, or, of a masked network, a vector in its order."""

    sequences: ClassVar[bool]  # whether the pair takes sequences

    def _raw(self, X: NDArray[Any]) -> Batch:
        if not self.sequences:
            return Batch.of(X)
        return Batch.of(X, lengths=np.full(len(X), X.shape[1]))

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit the pair to the rows of X, sequences or vectors in their order; y is not looked at. See `Base.fit`."""
        try:
            return super().fit(X, y, sample_weight)
        except ValueError as error:
            if not self.sequences or getattr(self, "n_features_in_", 0) != 1:
                raise
            raise ValueError(f"{error}; X has 1 feature(s), so that each row is a series of one step") from error

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """What each number of a row is expected to be given those before it, (N, D); see `inference.one_step_ahead`.

        Args:
            X: rows, (N, D).
            return_std: whether to return its standard deviation too, of the same shape.
        """
        batch = self._batch(X)
        given = check(self.pair_, batch)
        # Latent states are drawn: a row alone gets the same draws wherever it stands.
        step = 1 if given.continuous_locals else given.size
        parts = [given.select(slice(i, min(i + step, given.size))) for i in range(0, given.size, step)]
        found = [one_step_ahead(self.pair_, self.posterior_, part, seed=self._seed()) for part in parts]
        whole = (torch.cat(each).reshape(given.size, -1) for each in zip(*found, strict=True))
        mean, sd = (each.double().cpu().numpy() for each in whole)
        return (mean, sd) if return_std else mean

    def sample(self, n_samples: int = 1) -> NDArray[Any]:
        """New rows, (n_samples, D)."""
        if not self.sequences:
            return super().sample(n_samples)
        check_is_fitted(self, "pair_")
        steps = self.n_features_in_
        found = generate(self.pair_, n_samples, posterior=self._given(), seed=self._seed(), steps=steps)["x"]
        new: NDArray[Any] = found.reshape(len(found), -1).cpu().numpy()
        return new


class States(Ahead):
    """Sequences with hidden states. Fitted: `labels_`, the state of each step of each training row, (N, T)."""

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit the pair to sequences, the rows of X; see `Base.fit`."""
        super().fit(X, y, sample_weight)
        self.labels_ = self.most_probable_states(X)
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[Any]:
        """Fit, and return the state of each step, (N, T): `labels_`."""
        states: NDArray[Any] = self.fit(X, y, sample_weight).labels_
        return states

    def states_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Probability of each state at each step given the whole row, (N, T, K)."""
        batch = self._batch(X)
        return smooth(self.pair_, self.posterior_, batch).double().cpu().numpy()

    def most_probable_states(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable state of each step given the whole row, (N, T)."""
        check_is_fitted(self, "pair_")
        best: NDArray[Any] = self.states_proba(X).argmax(-1)
        return best
