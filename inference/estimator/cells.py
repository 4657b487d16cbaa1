"""Of Bayesian networks: the cells of a row that are missing, given those that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.estimator.rows import Density
from inference.questions.queries import query
from zoo.arrays import as_tensor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Cells(Density):
    """Rows are observations of the nodes of a network."""

    def predict(self, X: ArrayLike) -> Any:
        """Rows with their missing cells filled, (N, D): the mean of a number, the most probable category.

        Exact given the cells of the row that are there, and averaged over the posterior of the tables. Cells that are
        there stay as they are. Without arrows (`edges`) no cell tells of another: a missing one gets what is expected
        of its column. A frame of more than numbers comes back as a frame.
        """
        batch = self._batch(X)
        schema: Any = self.pair_.schema
        columns, x = schema.used, as_tensor("x", batch.x)
        codes = x.double().cpu().numpy()
        table = pd.DataFrame({c.name: c.decode(codes[:, i]) for i, c in enumerate(columns)}, dtype=object)
        filled = codes.copy()
        for i, column in enumerate(columns):
            rows = np.isnan(codes[:, i]).nonzero()[0]
            if not len(rows):
                continue
            evidence = table.iloc[rows].drop(columns=column.name)
            found = query(self.pair_, self.posterior_, [column.name], evidence=evidence).mean.double().cpu().numpy()
            filled[rows, i] = found.argmax(-1) if column.categories else found[:, 0]
        if not self._mixed_:
            return filled
        names = [c.name for c in columns]
        return pd.DataFrame({n: c.decode(filled[:, i]) for i, (n, c) in enumerate(zip(names, columns, strict=True))})
