"""The scikit-learn face: `Estimator("gaussian_vae", latent=8)` fits, predicts, encodes, decodes, samples and scores.

What an estimator can do is read from the pair's trace, and its class is made from that: a pair that draws codes is a
transformer; one with an enumerated class that y tells is a classifier; one that explains y by x a regressor; every one
has `sample`, `score_samples` and `score`. It works in a `Pipeline` and in `GridSearchCV`.

Needs the extra `sklearn`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import zoo
from inference.codes import encoding
from inference.data.accept import is_table
from inference.data.check import check, may_be_missing
from inference.fitting.fit import fit
from inference.posterior.draws import Posterior, draw, generate
from inference.posterior.likelihood import assignments, log_likelihood
from inference.running.checked import Checked, at
from inference.running.expectation import expected
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from zoo.base import Batch, ModelGuide, registered
from zoo.config import hints, nearest
from zoo.schema.schema import Column, Schema, as_columns
from zoo.threads.randomness import apart

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError("the estimator needs scikit-learn: pip install 'pyro-zoo[sklearn]'") from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

OPTIONS = {  # of the fit; the rest of an estimator's arguments are the pair's
    "epochs": None, "steps": None, "batch_size": None, "lr": None, "objective": "elbo", "particles": None,
    "validation": 0.0, "draws": 100, "double": False, "device": "auto", "random_state": 0, "unknown": "error",
}  # fmt: skip
_OWN = ("draws", "double", "random_state", "unknown")  # of these options, not of `inference.fit`
_FROM_DATA = ("features", "columns", "target", "classes", "edges")  # arguments read off the data unless they are given


def Estimator(model: str, **params: Any) -> Any:  # noqa: N802 - users meet it as a class
    """An estimator of a registered pair.

    Args:
        model: its name.
        params: arguments of the pair (`features`, `columns`, `target` and `classes` are read off the data when left
            out; `task="classification"` makes a classifier where a pair has the choice), and of the fit: `epochs`,
            `steps`, `batch_size`, `lr`, `objective`, `particles`, `validation`, `device` as in `inference.fit`; `draws`
            of the global latents to average over; `double` to compute in float64; `random_state`, a whole number;
            `unknown`: what a category of a table is that was not seen in the fit, an `error` or `missing`.

    Raises:
        ValueError: unknown name or argument (with the nearest that exists), or a pair of sequences.
    """
    cls = estimator_class(model, params.get("task"))
    known = inspect.signature(cls).parameters
    for key in params:
        if key not in known:
            raise ValueError(f"{model}: no argument '{key}'{nearest(key, known)}; it takes: {', '.join(known)}")
    return cls(**params)


@functools.cache
def estimator_class(model: str, task: str | None = None) -> type[BaseEstimator]:
    """The estimator class of a registered pair, made from what its trace can do; `task` is an argument of some."""
    zoo.names()
    pair_class = registered(model)
    chosen: dict[str, Any] = {"task": task} if task is not None else {}
    pair = pair_class(**chosen)
    example = pair.simulate(2)[0]
    if example.lengths is not None:
        raise ValueError(f"{model} takes sequences, and an estimator takes a matrix: use inference.fit")
    sites = pair.sites(example).values()
    classes = any(site.local and site.enumerated for site in sites)
    codes = any(site.local and not site.observed and not site.discrete for site in sites)
    observed = {site.name for site in sites if site.observed}
    bases: list[type] = [_Density]
    if codes:
        bases = [TransformerMixin, _Codes]
    elif classes:
        bases = [*([ClassifierMixin] if "y" in observed else []), _Classes]
    elif "y" in observed:
        discrete = any(site.name == "y" and site.discrete for site in sites)
        bases = [ClassifierMixin, _Labels] if discrete else [RegressorMixin, _Response]
    defaults = {name: parameter.default for name, parameter in inspect.signature(pair_class).parameters.items()}
    defaults |= {name: None for name in _FROM_DATA if name in defaults} | chosen | OPTIONS

    def initialise(self: Any, **params: Any) -> None:
        for name, default in defaults.items():
            setattr(self, name, params.pop(name, default))
        if params:
            raise TypeError(f"{model}: unexpected arguments {', '.join(params)}")

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    keywords = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=d) for n, d in defaults.items()]
    initialise.__signature__ = inspect.Signature([own, *keywords])  # type: ignore[attr-defined]
    name = f"{pair_class.__name__}Estimator"
    body = {
        "__init__": initialise,
        "__doc__": pair_class.__doc__,
        "model": model,
        "chosen": task,
        "__module__": __name__,
    }
    return type(name, tuple(bases), body)


def _blank(model: str, task: str | None = None) -> Any:
    cls: Any = estimator_class(model, task)
    return cls.__new__(cls)


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What every estimator has. Fitted: `pair_`, `fit_`, `posterior_` (of the global latents), `n_features_in_`."""

    model: str
    chosen: str | None  # the task that made this class

    def __reduce__(self) -> tuple[Any, ...]:
        return _blank, (self.model, self.chosen), self.__getstate__()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = _takes_missing(self.model)
        tags.non_deterministic = False
        tags.target_tags.required = self._explains()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = []
        return tags

    def _explains(self) -> bool:
        return isinstance(self, (ClassifierMixin, RegressorMixin))

    def fit(self, X: Any, y: Any = None) -> Any:
        """Fit the pair to a matrix (N, D) or frame X, and to y (N,) where it explains one.

        The kinds of columns are inferred for a frame that holds more than numbers; a frame of numbers is a matrix, and
        its columns are real, unless `columns` says otherwise.
        """
        table = X if "columns" in vars(self) and _is_mixed(X) else None
        self._mixed_ = table is not None
        if table is None:
            X = self._matrix(X, reset=True)
        else:
            self.n_features_in_, self.feature_names_in_ = len(list(table)), np.array(list(table), dtype=object)
        config = {name: value for name, value in self.get_params().items() if name not in OPTIONS}
        config = {name: value for name, value in config.items() if name not in _FROM_DATA or value is not None}
        config |= self._from_data(config, table)
        codes = self._encoded(y) if self._explains() else None
        if isinstance(self, _Labels) and "classes" in vars(self):
            config.setdefault("classes", len(self.classes_))
        if isinstance(self, RegressorMixin) and codes is not None and len(codes) == 1:
            raise ValueError(f"{self.model}: 1 sample is too few to explain y by x")
        if codes is not None and "target" in vars(self) and "target" not in config:
            config["target"] = Column.of(("y", "categorical", self.classes_.tolist()))
        with apart(self._seed()):
            pair = zoo.create(self.model, **config)
        pair = pair.double() if self.double else pair
        data = Batch.of(X if pair.schema is None or table is None else pair.schema.encode(table), codes)
        options = {name: getattr(self, name) for name in OPTIONS if name not in _OWN}
        self.fit_ = fit(pair, data, seed=self._seed(), progress=False, **options)
        self.pair_ = pair
        self.posterior_ = self._globals(pair, data)
        self.n_iter_ = self.fit_.steps
        return self

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(np.random.default_rng(self.random_state.randint(2**31)).integers(2**31))

    def _matrix(self, X: Any, reset: bool = False) -> NDArray[Any]:
        finite = "allow-nan" if _takes_missing(self.model) else True
        matrix: NDArray[Any] = validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=finite
        )
        return matrix

    def _from_data(self, config: dict[str, Any], table: Any) -> dict[str, Any]:
        takes = hints(registered(self.model).__init__)
        found: dict[str, Any] = {}
        if "features" in takes and "features" not in config:
            found["features"] = self.n_features_in_
        if "edges" in takes and "edges" not in config:
            found["edges"] = []  # nothing in a matrix says what depends on what
        if "columns" in takes and "columns" not in config:
            found["columns"] = ["real"] * self.n_features_in_ if table is None else Schema.infer(table)
        return found

    def _encoded(self, y: Any) -> NDArray[Any]:
        if y is None:
            raise ValueError(f"{self.model} requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        if not isinstance(self, ClassifierMixin):
            numbers: NDArray[Any] = np.asarray(y, dtype=float)
            if not np.isfinite(numbers).all():
                raise ValueError("Input y contains NaN or infinity")
            return numbers
        check_classification_targets(y)
        self._labels_ = LabelEncoder().fit(y)
        self.classes_ = self._labels_.classes_
        if len(self.classes_) < 2:
            raise ValueError(f"y holds one class, {self.classes_[0]!r}: a classifier needs two")
        codes: NDArray[Any] = self._labels_.transform(y).astype(float)
        return codes

    def _globals(self, pair: ModelGuide, data: Batch) -> Posterior:
        found = draw(pair, data.select(slice(0, min(2, data.size))), self.draws, stats=False, seed=self._seed())
        kept = {name: found[name] for name in found.globals}
        return Posterior(kept, size=found.size if kept else 1)

    def _given(self) -> Posterior | None:
        return self.posterior_ if self.posterior_.draws else None

    def _batch(self, X: Any) -> Batch:
        """New rows, of a fitted estimator."""
        check_is_fitted(self, "pair_")
        if self._mixed_ and is_table(X) and self.pair_.schema is not None:
            return Batch.of(self.pair_.schema.encode(X, self.unknown))
        return Batch.of(self._matrix(X))

    def sample(self, n_samples: int = 1) -> NDArray[Any]:
        """New observations, (n_samples, D), or of y where the pair explains one."""
        check_is_fitted(self, "pair_")
        found = generate(self.pair_, n_samples, posterior=self._given(), seed=self._seed())
        return found["x" if "x" in found else "y"].cpu().numpy()


class _Density(_Estimator):
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


class _Codes(_Density):
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
        """The rows expected of codes, (M, L) to (M, D)."""
        check_is_fitted(self, "pair_")
        codes = torch.as_tensor(np.asarray(Z, dtype=float))
        found = encoding.decode(self.pair_, codes, posterior=self._given(), seed=self._seed())
        return found["x"].cpu().numpy()

    def decode(self, Z: ArrayLike) -> NDArray[Any]:
        """The rows expected of codes, (M, L) to (M, D)."""
        return self.inverse_transform(Z)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Reconstructions: what the mean code of each row tells of it, (N, D)."""
        batch = self._batch(X)
        again = encoding.reconstruct(self.pair_, batch, posterior=self._given(), seed=self._seed())
        return again.cpu().numpy()

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Names of the columns that `transform` gives."""
        check_is_fitted(self, "pair_")
        sites = self.pair_.sites().values()
        codes = [site for site in sites if site.local and not site.observed and not site.discrete]
        names = [f"{site.name}{i}" for site in codes for i in range(site.event_shape.numel())]
        return np.array(names, dtype=object)


class _Classes(_Density):
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


class _Explains(_Estimator):
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


class _Labels(_Explains):
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


class _Response(_Explains):
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


def _is_mixed(X: Any) -> bool:
    """Whether X is a table that holds more than numbers."""
    return is_table(X) and any(np.asarray(column).dtype.kind not in "iuf" for column in as_columns(X)[0].values())


@functools.cache
def _takes_missing(model: str) -> bool:
    pair = registered(model)()
    return any(site.name == "x" and may_be_missing(site) for site in pair.sites().values() if site.observed)
