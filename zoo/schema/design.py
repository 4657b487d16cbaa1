"""The design of a regression: the way from the columns of a frame to the numbers that a model reads.

    >>> frame = {"age": [31, 54, 40, 47], "town": ["a", "b", "b", "a"], "wage": [2.1, 3.0, 2.2, 2.9]}
    >>> design = Design.infer(frame, "wage ~ age + town")
    >>> design.columns
    ('age', 'town[T.b]')
    >>> design.encode(frame)[0][1]
    array([54.,  1.])

Texts, booleans and the frame libraries' categories are coded by treatment, the first level being the reference, as R
and patsy do; numbers stay as they are, unless they stand in `C(…)`. What a formula learns from the data (the basis of
`poly`, the mean of `center`, the levels of a category) is kept, saved with the pair as one of its arguments, and used
again on every new frame.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.config import nearest
from zoo.dates.cells import all_dates
from zoo.notes import DataWarning
from zoo.rows import nth
from zoo.schema import formula as formulas
from zoo.schema.column import Column, listed, plain
from zoo.schema.schema import Schema, as_columns

if TYPE_CHECKING:
    import pandas as pd

Matrix = NDArray[np.float64]
_UNSAID = formulas.Levels()


class Design(NamedTuple):
    """How the columns of a frame become covariates x, (N, D), and a response y, (N,).

    Args:
        formula: of the columns, as `y ~ age + town`.
        written: whether somebody wrote it, so that its terms are all there are; otherwise it lists every column.
        variables: the columns that it reads: `real`, or categories with the reference first.
        response: `real`, or the classes of y.
        columns: names of the D coded columns; the intercept is not among them.
        state: what the functions of the formula learned from the data, by the side of the formula.
    """

    formula: str
    written: bool
    variables: tuple[Column, ...]
    response: Column
    columns: tuple[str, ...]
    state: dict[str, Any]

    @classmethod
    def of(cls, value: Any) -> Design:
        """A design from what a saved pair holds of it.

        Raises:
            ValueError: not the parts of a design, or a formula that does more than read columns.
        """
        if isinstance(value, Design):
            return value
        if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != len(cls._fields):
            raise ValueError(f"expected a design, as Design.infer(frame, formula) makes, got {type(value).__name__}")
        formula, written, variables, response, columns, state = value
        if not isinstance(written, bool) or not isinstance(state, Mapping):
            raise ValueError(f"expected the parts {', '.join(cls._fields)} of a design")
        found = tuple(Column.of(column) for column in variables)
        formulas.parsed(formula, [*(column.name for column in found), *_read(formula).response])
        return cls(formula, written, found, Column.of(response), tuple(map(str, columns)), dict(state))

    @classmethod
    def infer(
        cls, table: Any, formula: str | None = None, *, y: str | None = None, classes: bool | None = None
    ) -> Design:
        """The design of a frame.

        Args:
            table: a frame of pandas or polars, an Arrow table, or a mapping of columns.
            formula: `y ~ age + poly(income, 2) + town`; a lone dot stands for all other columns. See
                `zoo.schema.formula` for the functions that it knows.
            y: the response, where there is no formula: all other columns are then covariates.
            classes: whether the response is a class; by default where it holds texts, booleans or categories.

        Raises:
            ValueError: neither or both of formula and y; a formula or y that names no column; no covariates; a
                missing cell; a column of dates or of one level; a function that has no value at a row.
        """
        columns, declared = as_columns(table)
        if (formula is None) == (y is None):
            raise ValueError(
                f"give the response as y='column', or a formula such as 'y ~ age + town'; columns: {listed(columns)}"
            )
        if formula is None:
            _known(str(y), columns)
            kept = _usable(table, [name for name in columns if name != y])
            if not kept:
                raise ValueError(f"no column beside the response '{y}' to explain it by; columns: {listed(columns)}")
            text = f"{formulas.quoted(str(y))} ~ {' + '.join(map(formulas.quoted, kept))}"
        else:
            text = formulas.written_out(formula, columns)
        read = formulas.parsed(text, columns)
        if read.left is None or not read.names:
            missing = "response, as in 'y ~ age'" if read.left is None else "covariate"
            raise ValueError(f"formula '{text}': has no {missing}; columns: {listed(columns)}")
        for name in (*read.names, *read.response):
            _check_whole(name, columns[name])
        known = {column.name: column for column in Schema.infer(_part(table, [*read.names, *read.response]))}
        variables = tuple(
            _variable(known[name], columns[name], read.levels.get(name), name in declared) for name in read.names
        )
        own = read.response[0]
        target = _response(known[own], columns[own], read, own in declared, classes)
        draft = cls(text, formula is not None, variables, target, (), {})
        right, left, state = draft._built(columns, None)
        names = tuple(name for name in right.columns if name != "Intercept")
        found = draft._replace(columns=names, state=state)
        found._check_finite(right[list(names)], left)
        return found

    @property
    def features(self) -> int:
        """The number of coded columns D."""
        return len(self.columns)

    @property
    def factors(self) -> tuple[int, ...]:
        """For each coded column the number of the category that it is an indicator of, -1 for none, (D,)."""
        levels = {f"{column.name}[T.{level}]": i for i, column in enumerate(self.variables) if column.categories
                  for level in column.categories}  # fmt: skip
        return tuple(levels.get(name, -1) for name in self.columns)

    @property
    def function(self) -> str:
        """What is explained where that is a function of a column, as `np.log(wage)`; else empty."""
        name, column = self.response.name, _read(self.formula).response[0]
        return "" if name.strip("`") == column else name

    def in_words(self) -> str:
        """The formula, and the levels of each category, the reference first."""
        levels = [f"{column.name}: {listed(column.categories)}" for column in self.variables if column.categories]
        return self.formula + (f" ({'; '.join(levels)})" if levels else "")

    def encode(self, table: Any, response: bool = True) -> tuple[Matrix, Matrix | None]:
        """The covariates of a frame, (N, D), and its response, (N,), where it has that column and it is asked for.

        Raises:
            ValueError: a column that the frame lacks; a missing cell, a level that was not there at the fit, or a
                function that has no value, by row and column.
        """
        columns, _ = as_columns(table)
        for column in self.variables:
            if column.name not in columns:
                close = nearest(column.name, columns)
                raise ValueError(
                    f"no column '{column.name}'{close}, which '{self.formula}' reads; columns: {listed(columns)}"
                )
            _check_whole(column.name, columns[column.name])
        own = _read(self.formula).response[0]
        if has := response and own in columns:
            _check_whole(own, columns[own])
        right, left, _ = self._built(columns if has else {n: c for n, c in columns.items() if n != own}, self.state)
        x = right[[name for name in right.columns if name != "Intercept"]]
        if tuple(x.columns) != self.columns:
            raise ValueError(f"'{self.formula}' gave the columns {listed(x.columns)}, not {listed(self.columns)}")
        self._check_finite(x, left)
        return np.array(x, dtype=float), left

    def _built(
        self, columns: Mapping[str, list[Any]], state: dict[str, Any] | None
    ) -> tuple[pd.DataFrame, Matrix | None, dict[str, Any]]:
        """The coded columns, the response if there is one, and what was learned for them."""
        import pandas as pd

        read = _read(self.formula)
        data = {column.name: _coded(column, columns[column.name]) for column in self.variables}
        right, learned = _materialised(self.formula, read.right, pd.DataFrame(data), (state or {}).get("x"))
        found: dict[str, Any] = {"x": learned}
        own = read.response[0]
        if own not in columns:
            return right, None, found
        if self.response.categories:
            return right, self.response._replace(name=own).encode(columns[own]), found
        cells = pd.DataFrame({own: Column(own, "real").encode(columns[own])})
        left, found["y"] = _materialised(self.formula, read.left, cells, (state or {}).get("y"))
        if left.shape[1] != 1:
            raise ValueError(f"formula '{self.formula}': the response has {left.shape[1]} columns, one is expected")
        return right, np.array(left.iloc[:, 0], dtype=float), found

    def _check_finite(self, x: pd.DataFrame, y: Matrix | None) -> None:
        sides = {name: x[name].to_numpy(float) for name in x.columns}
        if y is not None:
            sides[self.response.name] = y
        for name, values in sides.items():
            if not np.isfinite(values).all():
                row = int(np.flatnonzero(~np.isfinite(values))[0])
                raise ValueError(f"'{name}', row {nth(row)}: has no finite value there ({values[row]:g})")


def _read(formula: Any) -> formulas.Parsed:
    return formulas.parsed(formula)


def _materialised(text: str, terms: Any, data: pd.DataFrame, state: Any) -> tuple[pd.DataFrame, Any]:
    """The columns of some terms, by formulaic, with the state given or a new one."""
    from formulaic import ModelSpec

    spec = ModelSpec(formula=terms, na_action="ignore", transform_state=_thawed(state or {}))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            made: Any = spec.get_model_matrix(data, context=formulas.CONTEXT)
        except Exception as error:  # formulaic, pandas and NumPy raise many kinds here
            said = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
            raise ValueError(f"formula '{text}': {said[0]}") from None
    return made, _frozen(made.model_spec.transform_state)


def _frozen(value: Any) -> Any:
    """A state as JSON holds it: numbers of keys behind a #, arrays in a list of their own."""
    if isinstance(value, Mapping):
        return {f"#{key}" if isinstance(key, int) else str(key): _frozen(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if hasattr(value, "to_numpy"):
        return {"array": value.to_numpy().tolist()}
    if isinstance(value, (list, tuple)):
        return [_frozen(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _thawed(value: Any) -> Any:
    if isinstance(value, Mapping):
        if set(value) == {"array"}:
            return np.asarray(value["array"])
        return {int(key[1:]) if key[:1] == "#" else key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, (list, tuple)) else value


def _coded(column: Column, cells: list[Any]) -> Any:
    """The cells of a variable: numbers, or pandas' categories with all the levels that there were at the fit."""
    import pandas as pd

    numbers = column.encode(cells)
    if not column.categories:
        return numbers
    levels = pd.Index(column.categories, dtype=object if not _whole(column.categories) else None)
    return pd.Categorical.from_codes(numbers.astype(int).tolist(), categories=levels)


def _whole(levels: Sequence[Any]) -> bool:
    return all(isinstance(level, int) for level in levels)


def _known(name: str, columns: Mapping[str, Any]) -> None:
    if name not in columns:
        raise ValueError(f"no column '{name}'{nearest(name, columns)}; columns: {listed(columns)}")


class _Part(dict[str, Any]):
    """Some columns of a table, with what the table declares of them."""

    declared: dict[str, Any]


def _part(table: Any, names: Sequence[str]) -> _Part:
    own = getattr(table, "column_names", None)
    given = list(table) if isinstance(table, Mapping) else own if isinstance(own, list) else list(table.columns)
    by_text = {str(name): name for name in given}
    part = _Part({name: table[by_text[name]] for name in names})
    part.declared = {name: value for name, value in getattr(table, "declared", {}).items() if name in names}
    return part


def _usable(table: Any, names: Sequence[str]) -> list[str]:
    """The columns that covariates can be made of; the others are named in a warning."""
    if not names:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # said below, with what to do
        schema = Schema.infer(_part(table, names))
    left_out = [column.name for column in schema if column.kind == "ignored"]
    if left_out:
        what = f"column {listed(map(repr, left_out))}"
        told = f"left out: {what}: dates, or texts that nearly all differ; a formula says what to take"
        warnings.warn(told, DataWarning, stacklevel=4)
    return [column.name for column in schema.used]


def _check_whole(name: str, cells: Sequence[Any]) -> None:
    """Refuse a missing cell."""
    rows = [row for row, cell in enumerate(cells) if plain(cell) is None]
    if rows:
        more = f" (and in {len(rows) - 1} more)" if len(rows) > 1 else ""
        raise ValueError(
            f"column '{name}', row {nth(rows[0])}: missing{more}; a regression needs every cell that it reads: leave "
            "these rows out, or fill them in first (zoo fit naive_bayes_vae, then zoo impute)"
        )


def _variable(column: Column, cells: Sequence[Any], said: formulas.Levels | None, declared: bool) -> Column:
    """What a covariate is: categories where cells are texts or booleans, or where the frame or `C(…)` says so."""
    if column.kind == "ignored":
        if all_dates(cells):
            raise ValueError(
                f"column '{column.name}': dates are no covariate: add a column of numbers, such as the days since the "
                "first, the month or the hour, and name that one in the formula"
            )
        raise ValueError(f"column '{column.name}': texts that nearly all differ are no covariate: leave it out")
    seen = [plain(cell) for cell in cells]
    if said is None and not declared and not any(isinstance(cell, (str, bool)) for cell in seen):
        return Column(column.name, "real")
    found = _levels(column, seen, said or _UNSAID)
    if len(found) < 2:
        raise ValueError(
            f"column '{column.name}': holds {found[0]!r} in every row, which explains nothing: leave it out"
        )
    counts = Counter(seen)
    if rare := [level for level in found if counts[level] == 1]:
        what, more = ("level", "") if len(rare) == 1 else ("levels", ", …")
        told = (
            f"column '{column.name}': {what} {listed(map(repr, rare))} seen once (row {nth(seen.index(rare[0]))}{more}"
            "): its coefficient rests on that row alone; join it with another level, or leave the row out"
        )
        warnings.warn(told, DataWarning, stacklevel=4)
    return Column(column.name, "ordinal" if column.kind == "ordinal" and column.categories else "categorical", found)


def _levels(column: Column, seen: Sequence[Any], said: formulas.Levels = _UNSAID) -> tuple[Any, ...]:
    """The levels that occur, the formula's reference first, in its order, in the frame's own, or sorted."""
    there = set(seen)
    order = column.categories or sorted(there, key=lambda cell: (isinstance(cell, str), cell))
    return said.arranged(column.name, there, order)


def _response(
    column: Column, cells: Sequence[Any], read: formulas.Parsed, declared: bool, classes: bool | None
) -> Column:
    """What the response is: a number, or a class."""
    left, seen = str(read.left), [plain(cell) for cell in cells]
    words = declared or any(isinstance(cell, (str, bool)) for cell in seen)
    if classes is None:
        classes = words or column.name in read.levels
    if not classes:
        if words:
            raise ValueError(f"column '{column.name}': the response is to be a number, and holds {seen[0]!r}")
        return Column(left, "real")
    if left not in (column.name, f"C({column.name})"):
        raise ValueError(f"formula: the response is to be a class, and '{left}' makes numbers of it")
    found = _levels(column, seen)
    if len(found) < 2:
        raise ValueError(f"column '{column.name}': the response is {found[0]!r} in every row, nothing to explain")
    return Column(column.name, "categorical", found)
