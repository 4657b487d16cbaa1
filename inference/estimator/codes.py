"""Of pairs that draw a code for each row: transformers that can also decode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from inference.codes import encoding
from inference.estimator.rows import Density

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Codes(Density):
    """Of pairs that draw a code for each row."""

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Mean code of each row, (N, L)."""
        batch = self._batch(X)
        found = encoding.encode(self.pair_, batch, posterior=self._given(), seed=self._seed())
        codes = [found.mean[name].flatten(1) for name in found.sd]
        return torch.cat(codes, 1).cpu().numpy()

    def encode(self, X: ArrayLike) -> NDArray[Any]:
        """Mean code of each row, (N, L)."""
        return self.transform(X)

    def inverse_transform(self, Z: ArrayLike) -> NDArray[Any]:
        """The rows expected of codes, (M, L) to (M, D), or images."""
        check_is_fitted(self, "pair_")
        codes = torch.as_tensor(np.asarray(Z, dtype=float))
        found = encoding.decode(self.pair_, codes, posterior=self._given(), seed=self._seed())
        return self._shown(found["x"])

    def decode(self, Z: ArrayLike) -> NDArray[Any]:
        """The rows expected of codes, (M, L) to (M, D)."""
        return self.inverse_transform(Z)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Reconstructions: what the mean code of each row tells of it, in the shape of X."""
        batch = self._batch(X)
        again = encoding.reconstruct(self.pair_, batch, posterior=self._given(), seed=self._seed())
        return self._shown(again)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns that `transform` gives."""
        check_is_fitted(self, "pair_")
        sites = self.pair_.sites().values()
        codes = [site for site in sites if site.local and not site.observed and not site.discrete]
        names = [f"{site.name}{i}" for site in codes for i in range(site.event_shape.numel())]
        return np.array(names, dtype=object)
