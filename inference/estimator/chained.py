"""Rows without a response, of pairs that explain one: the chain rule, column by column.

    p(x_1, ..., x_D) = p(x_1) p(x_2 | x_1) ... p(x_D | x_1, ..., x_{D-1})

Nothing in a matrix says which column is the response, so none is guessed: each is explained by those before it (as in
scikit-learn's `RegressorChain`; Read et al. 2009, "Classifier chains for multi-label classification"), and the factors
multiply to a joint density of rows, whatever the order. It is what the sequence pairs mean by `predict`: each value's
expectation given what comes before it. The first column has its mean and deviation.

A classifier explains classes. The classes of a column are its values where it has at most five; else its two halves,
up to its median and above, each of which stands for the mean of its training values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
LEVELS = 5  # distinct values of a column that are classes by themselves


@dataclass
class Levels:
    """The classes of a column, with the training values of each."""

    cut: float | None  # between the two halves; None where values are classes
    cells: list[Array]

    @classmethod
    def of(cls, column: Array) -> Levels:
        """Its values, or its halves."""
        values = np.unique(column)
        if len(values) <= LEVELS:
            return cls(None, [column[column == value] for value in values])
        cut = float(np.median(column))
        cut = cut if (column > cut).any() else float(values[-2])
        return cls(cut, [column[column <= cut], column[column > cut]])

    def codes(self, column: Array) -> Array:
        """The class of each training value."""
        if self.cut is not None:
            return (column > self.cut).astype(int)
        found: Array = np.searchsorted([cells[0] for cells in self.cells], column)
        return found

    def moments(self, shares: Array) -> tuple[Array, Array]:
        """Mean and variance of the column where its classes have these probabilities, (N, K) -> (N,) twice."""
        means = np.array([cells.mean() for cells in self.cells])
        squares = np.array([cells.var() for cells in self.cells]) + means**2
        mean = shares @ means
        return mean, np.maximum(shares @ squares - mean**2, 0)

    def draw(self, shares: Array, rng: np.random.Generator) -> Array:
        """A value of each row: of a class drawn by these probabilities, one that was seen."""
        chosen = (shares.cumsum(1) < rng.random((len(shares), 1))).sum(1).clip(max=len(self.cells) - 1)
        return np.array([rng.choice(self.cells[k]) for k in chosen])


@dataclass
class Link:
    """One column given those before it.

    Args:
        covariates: those of them that vary.
        estimator: fitted to them; None of a column that is constant, or comes first.
        mean, sd: of the column.
        levels: its classes, where it is explained by them.
        values: those that it takes, where they are at most five: what is drawn is one of them.
    """

    covariates: Array
    estimator: Any
    mean: float
    sd: float
    levels: Levels | None = None
    values: Array | None = None

    def moments(self, X: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the column at each row, (N,) twice."""
        if self.estimator is None:
            return np.full(len(X), self.mean), np.full(len(X), self.sd)
        if self.levels is None:
            found: tuple[Array, Array] = self.estimator.predict(X[:, self.covariates], return_std=True)
            return found
        mean, variance = self.levels.moments(self.estimator.predict_proba(X[:, self.covariates]))
        return mean, np.sqrt(variance)

    def draw(self, X: Array, rng: np.random.Generator) -> Array:
        """A value of the column at each row, (N,)."""
        if self.estimator is not None and self.levels is not None:
            return self.levels.draw(self.estimator.predict_proba(X[:, self.covariates]), rng)
        if self.estimator is not None:
            drawn: Array = self.estimator.response(X[:, self.covariates])
            return drawn if self.values is None else nearest(self.values, drawn)
        if self.levels is not None:
            return self.levels.draw(np.array([[len(c) for c in self.levels.cells]] * len(X)) / self.size, rng)
        return rng.normal(self.mean, self.sd, len(X)) if self.sd else np.full(len(X), self.mean)

    @property
    def size(self) -> int:
        """Training rows behind the classes."""
        return sum(len(cells) for cells in self.levels.cells) if self.levels else 0


def nearest(values: Array, drawn: Array) -> Array:
    """The nearest of these values to each number drawn."""
    found: Array = values[np.abs(drawn[:, None] - values).argmin(1)]
    return found


def links(X: Array, make: Any, classes: bool) -> list[Link]:
    """The links of a chain over the columns of X, (N, D).

    Args:
        X: training rows.
        make: (whether the column has two values) -> (a new estimator, whether it explains classes).
        classes: whether the pair explains classes alone.
    """
    varies = (X[:1] != X).any(0)
    found = []
    for d, column in enumerate(X.T):
        covariates = varies[:d].nonzero()[0]
        mean, sd = float(column.mean()), float(column.std())
        values = np.unique(column)
        if not varies[d] or not len(covariates):
            few = varies[d] and (classes or len(values) <= LEVELS)
            found.append(Link(covariates, None, mean, sd, Levels.of(column) if few else None))
            continue
        estimator, labels = make(len(values) == 2)
        levels = Levels.of(column) if labels else None
        estimator.fit(X[:, covariates], column if levels is None else levels.codes(column))
        found.append(Link(covariates, estimator, mean, sd, levels, values if len(values) <= LEVELS else None))
    return found
