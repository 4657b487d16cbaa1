"""Of pairs that explain y by x: regressions and classifiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from inference.data.check import check
from inference.estimator.base import Base
from inference.estimator.chained import Link, links
from inference.estimator.weights import repeats
from inference.posterior.draws import predict
from inference.posterior.likelihood import log_likelihood
from inference.running.checked import at
from inference.running.expectation import expected
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from inference.running.words import check_count

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Explains(Base):
    """Of pairs that explain y by x.

    Without y, each column of X is explained by those before it, and `predict` gives the rows expected so, (N, D): see
    `inference.estimator.chained`. That takes D - 1 fits; `chain_` holds them, and `pair_`, `fit_` and `posterior_` are
    those of the last column that took one.
    """

    chain_: list[Link]

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit the pair to y given X, or, without y, to each column of X given those before it; see `Base.fit`."""
        if hasattr(self, "chain_"):
            del self.chain_
        if y is not None:
            return super().fit(X, y, sample_weight)
        rows = self._matrix(X, reset=True).astype(np.float64)
        rows = rows if sample_weight is None else rows[repeats(sample_weight, len(rows))]
        if len(rows) < 2:
            raise ValueError(f"{self.model}: 1 sample is too few to explain columns by those before them")
        if self.n_features_in_ < 2:
            raise ValueError(
                f"{self.model} requires y to be passed, but the target y is None, and 1 feature(s) leave nothing to "
                "explain one column of X by another"
            )
        self.chain_ = links(rows, self._link, isinstance(self, Labels))
        fitted = [link.estimator for link in self.chain_ if link.estimator is not None]
        if not fitted:
            raise ValueError(f"{self.model}: fewer than two columns of X vary, so none explains another")
        self._mixed_, self.suited_ = False, f"{self.model}: without y each column is explained by those before it"
        self.pair_, self.fit_, self.posterior_ = fitted[-1].pair_, fitted[-1].fit_, fitted[-1].posterior_
        self.n_iter_ = sum(link.n_iter_ for link in fitted)
        return self

    def _link(self, two: bool) -> tuple[Any, bool]:
        """A new estimator of one column, and whether it explains classes: of two values, where the pair can."""
        cls: type[Any] = type(self)
        params = {name: value for name, value in self.get_params().items() if name not in ("features", "classes")}
        if two and params.get("task") == "regression":
            cls, params = self.remade(self.model, "classification").__class__, {**params, "task": "classification"}
        made = cls(**params)
        return made, isinstance(made, Labels)

    def _rows(self, X: ArrayLike, return_std: bool = False) -> Any:
        """The rows that the chain expects, (N, D), and their standard deviations."""
        rows = self._matrix(X)
        found = [link.moments(rows) for link in self.chain_]
        mean, sd = (np.stack(part, 1) for part in zip(*found, strict=True))
        return (mean, sd) if return_std else mean

    def sample(self, n_samples: int = 1) -> NDArray[Any]:
        """New responses, (n_samples,); of a fit without y new rows, (n_samples, D), column after column."""
        check_is_fitted(self, "pair_")
        if not hasattr(self, "chain_"):
            return super().sample(n_samples)
        check_count("n_samples", n_samples)
        rows, rng = np.zeros((n_samples, self.n_features_in_)), np.random.default_rng(self._seed())
        for d, link in enumerate(self.chain_):
            rows[:, d] = link.draw(rows, rng)
        return rows

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
        """The most probable class of each row, (N,); of a fit without y the rows expected, (N, D)."""
        check_is_fitted(self, "pair_")
        if hasattr(self, "chain_"):
            return self._rows(X)  # type: ignore[no-any-return]
        best = self.predict_proba(X).argmax(1)
        labels: NDArray[Any] = self.classes_[best]
        return labels


class Response(Explains):
    """Of pairs that explain numbers y by x. Fitted: `centre_`, the mean of y."""

    def _encoded(self, y: Any) -> NDArray[Any]:
        numbers: NDArray[Any] = super()._encoded(y)
        self.centre_ = float(numbers.mean())
        return numbers

    def response(self, X: ArrayLike) -> NDArray[Any]:
        """A new y at each row, (N,), each under a draw of the posterior of its own, noise included."""
        batch = self._batch(X)
        found = predict(self.pair_, self.posterior_, batch, seed=self._seed())["y"].flatten(0, 1)
        row = torch.arange(batch.size)
        drawn: NDArray[Any] = found[row % len(found), row].double().cpu().numpy()
        return drawn

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """The posterior mean of y at each row, (N,); of a fit without y the rows expected, (N, D).

        Args:
            X: rows, (N, D).
            return_std: whether to return its predictive standard deviation too, (N,): of a new y, noise included.
        """
        check_is_fitted(self, "pair_")
        if hasattr(self, "chain_"):
            return self._rows(X, return_std)
        centre = self.centre_

        def moments(fn: Any) -> torch.Tensor:
            mean = expected(fn)
            return torch.stack([mean, fn.variance.expand_as(mean) + (mean - centre).square()])

        if not return_std:
            return self._averaged(X, expected).double().cpu().numpy()
        mean, square = self._averaged(X, moments).double()
        return mean.cpu().numpy(), (square - (mean - centre).square()).clamp(min=0).sqrt().cpu().numpy()

    def log_density(self, X: ArrayLike, y: ArrayLike) -> NDArray[Any]:
        """Log density of y given each row under the posterior predictive, in nats, (N,)."""
        batch = self._batch(X).but(y=torch.as_tensor(np.asarray(y, dtype=float)))
        found = log_likelihood(self.pair_, self.posterior_, batch).flatten(0, 1)
        scores: NDArray[Any] = (found.logsumexp(0) - np.log(len(found))).double().cpu().numpy()
        return scores
