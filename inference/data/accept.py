"""What the user brings, as a Batch that is not checked yet: arrays, frames, mappings, texts, torch Datasets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from zoo.abilities import Text
from zoo.arrays import PAD, as_tensor, check_rows, column_names, holds_numbers
from zoo.base import Batch, ModelGuide
from zoo.datasets import text
from zoo.schema.column import Unknown
from zoo.schema.design import Design
from zoo.schema.schema import as_columns

ACCEPTED = (
    "a NumPy array, a torch tensor, a frame of pandas or polars, an Arrow table, a pair (X, y) of them, a zoo.Batch, "
    "or a map-style torch Dataset"
)


def accept(pair: ModelGuide, data: Any, first: str) -> Batch:
    """The batch that the data stand for, their numbers as they came; arrays fill the field `first`.

    Raises:
        ValueError: data of a kind that is not accepted, without rows, or with cells that are no numbers.
    """
    if isinstance(data, Batch):
        return data.but(**{name: as_tensor(name, value) for name, value in data.fields().items()})
    if isinstance(data, str):
        return _windows(pair, data)
    if isinstance(data, tuple):
        return _paired(pair, data)
    if is_table(data) and (pair.schema is not None or _to_code(pair.design, data)):
        return encoded(pair, data) if pair.schema is not None else designed(cast(Design, pair.design), data)
    if holds_numbers(data) or isinstance(data, list):
        return _batch({first: as_tensor(first, data)}, column_names(data))
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        # Its rows come with labels as often as not, for whatever model reads them.
        return _batch(_from_dataset(data)).but(spare=("y",))
    raise ValueError(f"data of type {type(data).__name__} is not accepted; give {ACCEPTED}")


def is_table(data: Any) -> bool:
    """Whether data are named columns: a frame, or a mapping of sequences."""
    if isinstance(data, Mapping) and not hasattr(data, "shape"):  # SciPy has sparse matrices that are mappings
        return bool(data) and all(hasattr(v, "__len__") and not isinstance(v, str) for v in data.values())
    return not isinstance(data, Batch) and column_names(data) is not None


def _batch(fields: Mapping[str, Tensor], columns: tuple[str, ...] | None = None) -> Batch:
    for name, value in fields.items():
        check_rows(name, value)
    size = len(next(iter(fields.values())))
    return Batch(size, size, columns=columns).but(**fields)


def _paired(pair: ModelGuide, data: tuple[Any, ...]) -> Batch:
    """(X, y): covariates or features, and the response or label, which may be None."""
    if len(data) != 2:
        raise ValueError(f"a tuple of {len(data)} is not accepted: expected a pair (X, y)")
    given, response = data
    if response is None:
        return accept(pair, given, "x")
    if isinstance(given, (Batch, str, tuple)):
        raise ValueError(f"y was given beside a {type(given).__name__}, which has its own; give an array or a frame")
    batch = accept(pair, given, "x")
    if batch.y is not None:
        raise ValueError(f"y was given twice: X holds the target '{pair.target.name if pair.target else 'y'}' too")
    # A tensor holds codes, as in a Batch; what has no length holds no words.
    target = pair.design.response if pair.design is not None and pair.design.response.categories else pair.target
    coded = target is not None and not isinstance(response, Tensor) and hasattr(response, "__len__")
    y = torch.from_numpy(target.encode(response)) if coded and target else as_tensor("y", response)
    if y.ndim == 0 or len(y) != batch.size:
        raise ValueError(f"field 'y': expected {batch.size} rows as in X, got shape {tuple(y.shape)}")
    return batch.but(y=y)


def _to_code(design: Design | None, table: Any) -> bool:
    """Whether a table is to go through a design: it does not have its columns yet."""
    return design is not None and column_names(table) != design.columns


def designed(design: Design, table: Any, response: bool = True) -> Batch:
    """The covariates of a frame as a design makes them, and the response where the frame has it and it is asked for.

    Raises:
        ValueError: the frame does not fit the design; see `Design.encode`.
    """
    x, y = design.encode(table, response)
    fields = {"x": torch.from_numpy(x), **({} if y is None else {"y": torch.from_numpy(y)})}
    return Batch(len(x), len(x), columns=design.columns).but(**fields)


def encoded(pair: ModelGuide, table: Any, unknown: Unknown = "error") -> Batch:
    """The matrix of a table, and the codes of its target where it has that column.

    Args:
        pair: with a schema.
        table: a frame, or a mapping of columns.
        unknown: what a category is that the schema does not know: an `error`, or a `missing` value.

    Raises:
        ValueError: the pair has no schema, or the table does not fit it.
    """
    schema, target = pair.schema, pair.target
    if schema is None:
        raise ValueError("the pair has no schema")
    columns = as_columns(table)[0]
    known = {column.name for column in (*schema, target) if column}
    unlike = [name for name in columns if name not in known]
    if unlike and (example := made_as_example(pair)):
        raise ValueError(f"the table has {', '.join(map(repr, unlike[:3]))}, and {example}")
    fields = {}
    if target is not None and target.name in columns:
        fields["y"] = torch.from_numpy(target.encode(columns.pop(target.name), unknown))
    fields["x"] = torch.from_numpy(schema.encode(columns, unknown))
    return Batch(len(fields["x"]), len(fields["x"])).but(**fields)


def made_as_example(pair: ModelGuide) -> str:
    """What to say of a pair that was made without columns, as an example, where the data have others; else nothing."""
    default = inspect.signature(type(pair)).parameters.get("columns")
    if pair.schema is None or default is None or pair.config.get("columns") != default.default:
        return ""
    return (
        f"{pair.name} was made without columns, as an example of its own ({', '.join(pair.schema.names)}): make it for "
        f"this table, zoo.create('{pair.name}', columns=Schema.infer(table), …)"
    )


def _windows(pair: ModelGuide, words: str) -> Batch:
    """Windows of a text, of a pair that knows an alphabet."""
    if not isinstance(pair, Text) or pair.alphabet is None:
        raise ValueError(f"{pair.name}, without an alphabet, takes no text; give {ACCEPTED}")
    text.check_blank(words)
    return text.windows(words, pair.alphabet, pair.steps)


def _from_dataset(data: Dataset[Any]) -> dict[str, Tensor]:
    count = len(data)  # type: ignore[arg-type]
    if count == 0:
        raise ValueError("the Dataset is empty; at least one row is needed")
    items = [data[i] for i in range(count)]
    _check_alike(items)
    if isinstance(items[0], Mapping):
        known = [name for name in ("x", "y", "lengths") if name in items[0]]
        if "x" not in known:
            raise ValueError(f"the Dataset's rows hold {', '.join(map(str, items[0]))}: expected x, and y or lengths")
        parts = {name: [item[name] for item in items] for name in known}
    else:
        paired = isinstance(items[0], (tuple, list))
        columns = list(zip(*items, strict=True))[:2] if paired else [tuple(items)]
        parts = dict(zip(("x", "y"), map(list, columns), strict=False))
    return {name: _stacked(name, [as_tensor(name, value) for value in part]) for name, part in parts.items()}


def _check_alike(items: Sequence[Any]) -> None:
    """Refuse rows of a Dataset that are not all of the kind of the first: a mapping of names, so many parts, or one."""

    def kind(item: Any) -> str:
        if isinstance(item, Mapping):
            return f"a mapping of {', '.join(sorted(map(str, item)))}"
        return f"{len(item)} parts" if isinstance(item, (tuple, list)) else "one value"

    for i, item in enumerate(items):
        if kind(item) != kind(items[0]):
            raise ValueError(f"row {i} of the Dataset: expected {kind(items[0])} as in row 0, got {kind(item)}")


def _stacked(field: str, rows: list[Tensor]) -> Tensor:
    for i, row in enumerate(rows):
        if row.shape != rows[0].shape:
            expected, found = tuple(rows[0].shape), tuple(row.shape)
            raise ValueError(
                f"field '{field}', row {i} of the Dataset: expected shape {expected} as in row 0, got {found}"
                + (f"; {PAD}" if len(expected) == len(found) and expected[1:] == found[1:] else "")
            )
    return torch.stack(rows)
