"""What every estimator shares: the fit of a pair that suits the data, and what is asked of it later."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.preprocessing import LabelEncoder
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    raise ImportError("the estimator needs scikit-learn: pip install 'pyro-zoo[sklearn]'") from error

from inference.data.accept import is_table
from inference.data.check import may_be_missing
from inference.data.suited import beside, created, in_words
from inference.estimator.weights import in_order, repeated, repeats
from inference.fitting.fit import fit
from inference.posterior.draws import Posterior, draw, generate
from zoo.arrays import as_tensor
from zoo.base import Batch, ModelGuide, registered
from zoo.images import check_channels
from zoo.schema.column import Unknown
from zoo.schema.design import Design
from zoo.schema.schema import Column, Schema, as_columns
from zoo.suiting import left_out

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

OPTIONS = {  # of the fit; the rest of an estimator's arguments are the pair's
    "epochs": None, "steps": None, "batch_size": None, "lr": None, "objective": "elbo", "particles": None,
    "validation": 0.0, "draws": 100, "double": False, "device": "auto", "random_state": 0, "unknown": "error",
}  # fmt: skip
RENAMED = {"transformation": "transform"}  # arguments of an estimator whose name in the pair is a method of its own
_OWN = ("draws", "double", "random_state", "unknown")  # of these options, not of `inference.fit`


class Base(BaseEstimator):  # type: ignore[misc]
    """What every estimator has.

    Fitted: `pair_`, `fit_`, `posterior_` (of the global latents), `n_features_in_`, and `suited_`: a line that says
    what was read off the data, empty where nothing was.
    """

    model: ClassVar[str]
    chosen: ClassVar[str | None]  # the task that made this class
    from_data: ClassVar[tuple[str, ...]]  # arguments that may be left to the data
    image_: tuple[int, ...] | None  # the shape of images, where such were fitted
    remade: ClassVar[Callable[..., Any]]

    def __reduce__(self) -> tuple[Any, ...]:
        return self.remade, (self.model, self.chosen), self.__getstate__()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = takes_missing(self.model)
        tags.non_deterministic = False
        tags.target_tags.required = self._explains()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = []
        return tags

    def _explains(self) -> bool:
        return isinstance(self, (ClassifierMixin, RegressorMixin))

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit the pair to a matrix (N, D) or frame X, and to y (N,) where it explains one.

        A pair that takes images also takes them here, (N, H, W) or (N, C, H, W), and what it gives are images then.

        What is left out of the arguments is read off the data: see `suited_`. Of a frame that holds more than numbers
        the kinds of columns are inferred, and categories are coded where they explain y (`zoo.datasets.Design`); a
        frame of numbers is a matrix. The order of the rows does not matter.

        Args:
            X: rows, (N, D).
            y: response or labels, (N,).
            sample_weight: how often each row was seen, whole numbers, (N,): the fit is that of the rows repeated.

        Raises:
            ValueError: data that the pair cannot take, or weights that are not whole; by row and column.
        """
        if isinstance(y, np.ma.MaskedArray) and np.ma.getmaskarray(y).any():
            raise ValueError(f"y, row {int(np.ma.getmaskarray(y).nonzero()[0][0])}: masked; every row needs its y")
        table = X if vars(self).keys() & {"columns", "design"} and _is_mixed(X) else None
        self._mixed_ = table is not None
        given = {RENAMED.get(n, n): value for n, value in self.get_params().items() if n not in OPTIONS}
        given = {
            name: value for name, value in given.items() if name not in self.from_data or not left_out(given, name)
        }
        if table is None:
            of_bytes = getattr(X, "dtype", None) == np.uint8
            X = self._matrix(X, reset=True)
            raw = self._raw(X.astype(np.uint8) if of_bytes else X)
            if self.image_ is not None and raw.x is not None:
                raw = raw.but(x=raw.x.reshape(-1, *self.image_))
                given["image"] = given.get("image") or self.image_
        codes = None if self._unlabelled(y) else self._encoded(y) if self._explains() else None
        if table is not None:
            self.n_features_in_, self.feature_names_in_ = len(list(table)), np.array(list(table), dtype=object)
            raw, typed = self._typed(table, codes, given)
            given |= typed
        if codes is not None and hasattr(self, "classes_"):
            given |= self._classes(given)
        if isinstance(self, RegressorMixin) and codes is not None and len(codes) == 1:
            raise ValueError(f"{self.model}: 1 sample is too few to explain y by x")
        suit = registered(self.model).suits(raw, given)
        self.suited_ = in_words(self.model, suit) if suit.words else ""
        pair = created(self.model, {**given, **suit.arguments}, self._seed())
        pair = pair.double() if self.double else pair
        data = self._raw(X) if table is None else self._coded(pair, table)
        data = data if codes is None else data.but(y=as_tensor("y", codes))
        if sample_weight is not None:
            data = repeated(data, repeats(sample_weight, data.size))
        data = in_order(data)
        options = {name: getattr(self, name) for name in OPTIONS if name not in _OWN}
        self.fit_ = fit(pair, data, seed=self._seed(), progress=False, **options)
        self.pair_ = pair
        self.posterior_ = self._globals(pair, data)
        self.n_iter_ = self.fit_.steps
        return self

    def _typed(self, table: Any, codes: Any, given: dict[str, Any]) -> tuple[Batch, dict[str, Any]]:
        """A row of as many numbers as a table becomes, and the argument that says how: its columns, or its design."""
        if "columns" in vars(self):
            schema = Schema.of(given.get("columns") or Schema.infer(table))
            return Batch.of(np.zeros((1, len(schema.used)))), {"columns": schema}
        design = given.get("design")
        if design is None:
            columns = as_columns(table)[0]
            name = next(name for name in ("y", "y_", "response") if name not in columns)
            design = Design.infer(beside(table, name, codes), y=name, classes=isinstance(self, ClassifierMixin))
        return Batch.of(np.zeros((1, Design.of(design).features))), {"design": design}

    def _coded(self, pair: ModelGuide, table: Any, unknown: Unknown = "error") -> Batch:
        """A table as the pair takes it."""
        if pair.schema is not None:
            return Batch.of(pair.schema.encode(table, unknown))
        x, _ = Design.of(pair.design).encode(table, response=False)
        return Batch.of(x)

    def _unlabelled(self, y: Any) -> bool:
        """Whether the pair makes do without the y that it could explain."""
        return False

    def _classes(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments that say which classes y has, where they are left out."""
        if "target" in vars(self):
            labels = Column.of(("y", "categorical", self.classes_.tolist()))
            return {} if "target" in given else {"target": labels}
        return {} if "classes" in given or "classes" not in vars(self) else {"classes": len(self.classes_)}

    def _seed(self) -> int:
        if self.random_state is None:
            return 0
        if isinstance(self.random_state, (int, np.integer)):
            return int(self.random_state)
        return int(np.random.default_rng(self.random_state.randint(2**31)).integers(2**31))

    def _matrix(self, X: Any, reset: bool = False) -> NDArray[Any]:
        if isinstance(X, np.ma.MaskedArray):  # scikit-learn would look behind the mask
            X = as_tensor("X", X).numpy()
        if "image" in vars(self):
            X = self._flattened(X, reset)
        elif reset:
            self.image_ = None
        finite = "allow-nan" if takes_missing(self.model) else True
        matrix: NDArray[Any] = validate_data(
            self, X, reset=reset, dtype=[np.float64, np.float32], ensure_all_finite=finite
        )
        return matrix

    def _flattened(self, X: Any, reset: bool) -> Any:
        """Images as the rows of a matrix; anything else as it is."""
        shape = tuple(getattr(X, "shape", ()))
        if reset:
            self.image_ = shape[1:] if len(shape) in (3, 4) else None
            if self.image_ and vars(self)["image"] is None:
                check_channels(self.image_)
        if len(shape) not in (3, 4):
            return X
        if shape[1:] != self.image_:
            known = f"images of {self.image_}" if self.image_ else f"rows of {self.n_features_in_}"
            raise ValueError(f"{self.model} was fitted to {known}, got images of {shape[1:]}")
        return np.asarray(X).reshape(shape[0], -1)

    def _shown(self, x: Tensor) -> NDArray[Any]:
        """Observations as those of the fit came: images, or rows."""
        values: NDArray[Any] = x.cpu().numpy()
        return values if self.pair_.image is None else values.reshape(len(values), *(self.image_ or (-1,)))

    def _raw(self, X: NDArray[Any]) -> Batch:
        """A matrix as the pair takes it."""
        return Batch.of(X)

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
        if self._mixed_ and is_table(X):
            return self._coded(self.pair_, X, self.unknown)
        return self._raw(self._matrix(X))

    def sample(self, n_samples: int = 1) -> NDArray[Any]:
        """New observations, (n_samples, D), or of y where the pair explains one."""
        check_is_fitted(self, "pair_")
        found = generate(self.pair_, n_samples, posterior=self._given(), seed=self._seed())
        return self._shown(found["x"]) if "x" in found else found["y"].cpu().numpy()


def _is_mixed(X: Any) -> bool:
    """Whether X is a table that holds more than numbers."""
    return is_table(X) and any(np.asarray(column).dtype.kind not in "iuf" for column in as_columns(X)[0].values())


@functools.cache
def takes_missing(model: str) -> bool:
    """Whether x may hold NaN."""
    pair = registered(model)()
    return any(site.name == "x" and may_be_missing(site) for site in pair.sites().values() if site.observed)
