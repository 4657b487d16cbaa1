"""A pair that fits the data: arguments that were left out are read off them, by the class itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

import zoo
from inference.data.accept import accept, is_table
from inference.data.series import without_dates
from zoo.abilities import Powers
from zoo.arrays import as_tensor
from zoo.base import Batch, ModelGuide, registered
from zoo.config import hints, nearest
from zoo.datasets import text
from zoo.registry import registry
from zoo.schema.column import listed, plain
from zoo.schema.design import Design
from zoo.schema.schema import Column, Schema, as_columns
from zoo.suiting import Suit, left_out, models_tables, without_auto
from zoo.threads.randomness import apart

USUAL = ("features", "latent", "columns", "target")  # arguments that any pair may leave to the data


def pair_for(
    name: str,
    data: Any,
    y: Any = None,
    *,
    target: Any = None,
    formula: str | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
    tell: Callable[[str], None] | None = print,
    **arguments: Any,
) -> ModelGuide:
    """A pair that suits the data, not fitted yet: what is left out of its arguments is read off them, and said.

    The family of a cell (`likelihood`, `emission`) follows from what cells are, 0 or 1, counts, bytes or real numbers;
    so do widths, numbers of categories and trials, and the kinds of columns of a table. What was chosen is in
    `pair.config`, and is saved with it.

        >>> pair = pair_for("gaussian_vae", numpy.random.rand(100, 10))
        gaussian_vae: features=10, likelihood='gaussian', since cells are real numbers
        >>> inference.fit(pair, X)

    Args:
        name: under which the pair is registered.
        data: see `inference.data`; series are laid out as `inference.data.series` says.
        y: the response or label, (N,), beside `data`.
        target: of a pair with a class y: the name of the column of a table that it is, or its categories; of a
            regression the name of the response's column in a frame, explained by all others.
        formula: of a regression on a frame, instead: `"y ~ age + poly(income, 2) + town"`, see `zoo.datasets.Design`.
        seed: seeds the parameters that the pair starts from; the caller's random state is left as it was.
        dtype: the type that the pair computes in, torch.float32 or torch.float64.
        tell: is called with a line that says what was chosen; None for silence.
        arguments: of the pair, which stay as they are given; "auto" stands for one that is left out, but
            for `guide`.

    Raises:
        ValueError: unknown name or argument (with the nearest that exists), data that hold no numbers, or a text for a
            pair without an alphabet.
    """
    cls = registered(name)
    known = hints(cls.__init__)
    for key in arguments:
        if key not in known:
            raise ValueError(f"{name}: no argument '{key}'{nearest(key, known)}; it takes: {', '.join(known)}")
    if target is not None and not known.keys() & {"target", "design"}:
        raise ValueError(f"{name} has no target: it models all columns together")
    if (found := _designed(cls, data, y, target, formula, arguments)) is not None:
        pair = created(name, {**arguments, **found}, seed, dtype)
        design = pair.design
        if tell is not None and design is not None and not design.written:
            tell(f"{name}: {design_in_words(pair, design)}")
        return pair
    given = without_auto(cls, arguments)
    given |= {} if target is None else {"target": target}
    suit = _of_text(cls, data, given) if isinstance(data, str) else _of_table(cls, data, given)
    if suit is None:
        suit = cls.suits(_numbers(cls, data, y), given)
    given.update(suit.arguments)
    pair = created(name, given, seed, dtype)
    if tell is not None and suit.words:
        tell(in_words(name, suit))
    return pair


def created(name: str, config: Mapping[str, Any], seed: int = 0, dtype: torch.dtype | None = None) -> ModelGuide:
    """`zoo.create`, the parameters drawn with this seed; the caller's random state is left as it was."""
    with apart(seed):
        return zoo.create(name, dtype=dtype, **config)


def design_in_words(pair: ModelGuide, design: Design) -> str:
    """The design, and what the pair adds to it of its own."""
    more = pair.more_terms(design.columns) if isinstance(pair, Powers) else ()
    own = f"; and of its own {listed(more)} (degree=1 leaves them out)" if more else ""
    return design.in_words() + own


def in_words(name: str, suit: Suit) -> str:
    """What was chosen, and why, in a line."""
    shown = {key: value for key, value in suit.arguments.items() if not isinstance(value, (Schema, Column))}
    if isinstance(schema := suit.arguments.get("columns"), Schema):
        kinds = [column.kind for column in schema]
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
        shown = {"columns": f"({counted})", **shown}
    chosen = ", ".join(f"{key}={value}" if key == "columns" else f"{key}={value!r}" for key, value in shown.items())
    return f"{name}: {chosen}" + (f", since {' and '.join(suit.words)}" if suit.words else "")


def adaptable(cls: type[ModelGuide]) -> tuple[str, ...]:
    """Arguments of a class that may be left to the data."""
    return tuple(name for name in hints(cls.__init__) if name in USUAL or name in cls.adapts)


@functools.cache
def example_of(cls: type[ModelGuide]) -> Batch | None:
    """Two observations of a pair with its defaults; None of a class that cannot be made without arguments."""
    with suppress(ValueError), apart():
        return cls().simulate(2)[0]
    return None


def _designed(
    cls: type[ModelGuide], data: Any, y: Any, target: Any, formula: str | None, given: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The design that a frame calls for, and what follows from it; None where numbers are to be taken as they are."""
    takes = hints(cls.__init__)
    if "design" not in takes or given.get("design") is not None:
        if formula is not None:
            raise ValueError(f"formula: {cls.registry_name} " + ("has a design" if "design" in takes else "takes none"))
        return None
    table, y = data if isinstance(data, tuple) and len(data) == 2 and y is None else (data, y)
    if not is_table(table):
        if formula is not None or target is not None:
            raise ValueError(f"a formula or target names columns of a frame; the data are {type(table).__name__}")
        return None
    if y is not None and target is None and formula is None:
        if not worded(table):
            return None
        target = str(getattr(y, "name", None) or "y")
        table = beside(table, target, y)
    if formula is None and target is None:
        if y is None and worded(table):
            raise ValueError(
                f"{cls.registry_name} explains a response: name it, as target='{next(iter(as_columns(table)[0]))}', or "
                f"give a formula, as formula='y ~ age + town'; columns: {listed(as_columns(table)[0])}"
            )
        return None
    classes = "classes" in takes if "task" not in takes else {"classification": True, "regression": False}.get(
        given.get("task", "")
    )  # fmt: skip
    numbers = "classes" not in takes and "task" not in takes
    classes = None if numbers else classes
    design = Design.infer(table, formula, y=None if formula is not None else str(target), classes=classes)
    if numbers and design.response.categories:
        raise ValueError(
            f"column '{design.response.name}': the response is to be a number, and holds "
            f"{design.response.categories[0]!r}; of classes there are {listed(_classifiers())}"
        )
    found: dict[str, Any] = {"design": design, "features": design.features}
    if design.response.categories:
        found |= {"task": "classification"} if "task" in takes else {}
        found |= {"classes": len(design.response.categories)} if "classes" in takes else {}
    return found


def _classifiers() -> list[str]:
    """Models of a class given covariates of any kind."""
    takes = {name: hints(cls.__init__).keys() for name, cls in registry().items()}
    return [name for name, known in takes.items() if "design" in known and known & {"classes", "task"}]


def worded(table: Any) -> bool:
    """Whether a table holds more than numbers."""
    return any(isinstance(plain(cell), (str, bool)) for cells in as_columns(table)[0].values() for cell in cells)


def beside(table: Any, name: str, y: Any) -> dict[str, Any]:
    """A table with one more column."""
    own = getattr(table, "column_names", None)
    names = list(table) if isinstance(table, Mapping) else own if isinstance(own, list) else list(table.columns)
    if name in {str(each) for each in names}:
        raise ValueError(f"y was given twice: X holds a column '{name}' too")
    return {**{str(each): table[each] for each in names}, name: y}


def _of_text(cls: type[ModelGuide], data: str, given: Mapping[str, Any]) -> Suit:
    if "alphabet" not in hints(cls.__init__):
        raise ValueError(f"{cls.registry_name} does not model text")
    return Suit({"alphabet": text.alphabet(data)} if left_out(given, "alphabet") else {})


def _of_table(cls: type[ModelGuide], data: Any, given: dict[str, Any]) -> Suit | None:
    """What a table of typed columns calls for; None of other data."""
    takes = hints(cls.__init__)
    if not models_tables(cls) or not is_table(data) or not left_out(given, "columns"):
        return None
    if takes.get("columns") is not Schema and not worded(data):  # numbers alone, of a pair that can do without a schema
        return None
    schema, words, found = Schema.infer(data), ("columns are of these kinds",), {}
    if isinstance(name := given.get("target"), str):
        names = [column.name for column in schema]
        if name not in names:
            raise ValueError(f"no column '{name}'{nearest(name, names)}; columns: {', '.join(names)}")
        del given["target"]
        found["target"] = Schema.infer({name: as_columns(data)[0][name]}, **{name: "categorical"})[0]
        schema = Schema.of([column for column in schema if column.name != name])
    usual = cls.suits(Batch.of(torch.zeros(1, len(schema.used))), {**given, "columns": schema})
    return usual | Suit({"columns": usual.arguments.get("columns", schema), **found}, words)


def _numbers(cls: type[ModelGuide], data: Any, y: Any) -> Batch:
    """The data as a batch of numbers, as they came."""
    if y is not None:
        data = (data, y)
    example = example_of(cls)
    probe: Any = _Plain(cls.registry_name)
    undated, rows = (data, None) if example is None else without_dates(data, example)
    try:
        batch = accept(probe, undated, "x")
    except ValueError as error:
        if not is_table(data) or not worded(data) or (example is not None and example.lengths is not None):
            raise
        mixed = [name for name, each in registry().items() if models_tables(each)]
        raise ValueError(
            f"{error}; {cls.registry_name} takes columns of numbers alone: leave the others out, or take "
            f"{listed(mixed)}, which model mixed tables"
        ) from error
    batch = batch if rows is None else batch.but(when=rows)
    return batch.but(**{name: as_tensor(name, value) for name, value in batch.fields().items()})


class _Plain:
    """In the place of a pair that is not there yet: without a schema or an alphabet."""

    schema = target = alphabet = design = None

    def __init__(self, name: str) -> None:
        self.name = name
