"""Of pairs that sum a class out: clusters, or the classes of y."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.estimator.rows import Density
from inference.posterior.likelihood import assignments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Classes(Density):
    """Of pairs that sum a class out: clusters, or the classes of y."""

    def _unlabelled(self, y: Any) -> bool:
        return y is None

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit the pair to rows X, and to their classes y where these are known; see `Base.fit`.

        Without y it looks for clusters: `labels_` are those of the training rows, (N,).
        """
        if hasattr(self, "classes_"):
            del self.classes_
        super().fit(X, y, sample_weight)
        if y is None or self.pair_.target is None:
            self.labels_ = self.predict_proba(X).argmax(1)
            if self.pair_.target is not None:
                self.classes_ = np.arange(len(self.pair_.target.categories))
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> NDArray[Any]:
        """Fit, and return the cluster of each row, (N,); with y, the class that the fitted pair finds."""
        self.fit(X, y, sample_weight)
        found: NDArray[Any] = self.labels_ if y is None or self.pair_.target is None else self.predict(X)
        return found

    def predict_proba(self, X: ArrayLike) -> NDArray[Any]:
        """Posterior probability of each class, (N, K)."""
        batch = self._batch(X)
        (found,) = assignments(self.pair_, self._given() or self.posterior_, batch, new=True).values()
        return found.cpu().numpy()

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The most probable class of each row, (N,): of y, or the number of a component."""
        best = self.predict_proba(X).argmax(1)
        classes: NDArray[Any] = self.classes_[best] if hasattr(self, "classes_") else best
        return classes
