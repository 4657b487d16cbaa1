"""Of pairs that sum a class out: clusters, or the classes of y."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inference.estimator.rows import Density
from inference.posterior.likelihood import assignments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Classes(Density):
    """Of pairs that sum a class out: clusters, or the classes of y."""

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
