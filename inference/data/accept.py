"""What the user brings, as tensors: arrays, frames, mappings, texts, torch Datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoo.abilities import Text
from zoo.base import Batch, ModelGuide
from zoo.datasets import text
from zoo.schema.schema import as_columns

ACCEPTED = "a NumPy array, a torch tensor, a pandas or polars frame, a zoo.Batch, or a map-style torch Dataset"


def column_names(data: Any) -> list[str] | None:
    """Column names of a frame, else None."""
    columns = getattr(data, "columns", None)
    return None if columns is None or isinstance(data, (Batch, Tensor, np.ndarray)) else [str(c) for c in columns]


def is_table(data: Any) -> bool:
    """Whether data are named columns: a frame, or a mapping of sequences."""
    if isinstance(data, Mapping) and not hasattr(data, "shape"):  # SciPy has sparse matrices that are mappings
        return bool(data) and all(hasattr(v, "__len__") and not isinstance(v, str) for v in data.values())
    return column_names(data) is not None


def encoded(pair: ModelGuide, table: Any) -> Batch:
    """The matrix of a table, and the codes of its target where it has that column."""
    schema, target = pair.schema, pair.target
    if schema is None:
        raise ValueError("the pair has no schema")
    columns = as_columns(table)[0]
    fields = {}
    if target is not None and target.name in columns:
        fields["y"] = torch.from_numpy(target.encode(columns.pop(target.name)))
    fields["x"] = torch.from_numpy(schema.encode(columns))
    return Batch(len(fields["x"]), len(fields["x"]), **fields)


def windows(pair: ModelGuide, words: str) -> Batch:
    """Windows of a text, of a pair that knows an alphabet."""
    if not isinstance(pair, Text) or pair.alphabet is None:
        raise ValueError(f"{pair.name}, without an alphabet, takes no text; give {ACCEPTED}")
    return text.windows(words, pair.alphabet, pair.steps)


def fields_of(data: Any, first: str) -> tuple[Batch, list[str] | None]:
    """The fields of a batch that the data fill, and the columns' names of a frame; arrays fill the field `first`."""
    if isinstance(data, Batch):
        return data, None
    columns = column_names(data)
    fields: dict[str, Any]
    if isinstance(data, Tensor):
        fields = {first: data}
    elif isinstance(data, (np.ndarray, np.generic)):
        fields = {first: _tensor(first, np.asarray(data), None)}
    elif hasattr(data, "to_numpy") or (columns is not None and hasattr(data, "__array__")):
        array = data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data)
        fields = {first: _tensor(first, array, columns)}
    elif isinstance(data, Dataset):
        fields = _from_dataset(data)
    else:
        raise ValueError(f"data of type {type(data).__name__} is not accepted; give {ACCEPTED}")
    for name, value in fields.items():
        if value.ndim == 0:
            raise ValueError(f"field '{name}': expected rows, got the single number {value.item()}")
        if value.numel() == 0:
            needed = "row" if len(value) == 0 else "step or column"
            raise ValueError(f"field '{name}' is empty: shape {tuple(value.shape)}; at least one {needed} is needed")
    size = len(next(iter(fields.values())))
    return Batch(size, size, **fields), columns


def _from_dataset(data: Dataset[Any]) -> dict[str, Tensor]:
    count = len(data)  # type: ignore[arg-type]
    if count == 0:
        raise ValueError("the Dataset is empty; at least one row is needed")
    items = [data[i] for i in range(count)]
    paired = isinstance(items[0], (tuple, list))
    parts = list(zip(*items, strict=True))[:2] if paired else [tuple(items)]
    return {
        name: torch.stack([torch.as_tensor(v) for v in part]) for name, part in zip(("x", "y"), parts, strict=False)
    }


def _tensor(field: str, array: np.ndarray[Any, Any], columns: Sequence[str] | None) -> Tensor:
    """A private, contiguous tensor of the array's values; the array itself is never written to or shared."""
    if array.dtype.kind in "OUS":
        array = _numbers(field, array, columns)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"field '{field}': expected numbers, got dtype {array.dtype}")
    if array.dtype == np.float16 or (array.dtype.kind == "f" and array.dtype.itemsize > 8):
        array = array.astype(np.float64)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, order="C", copy=True, dtype=array.dtype.newbyteorder("=")))


def _numbers(field: str, array: np.ndarray[Any, Any], columns: Sequence[str] | None) -> np.ndarray[Any, Any]:
    values = np.empty(array.shape, dtype=np.float64)
    for index, value in np.ndenumerate(array):
        try:
            values[index] = np.nan if value is None else float(value)
        except (TypeError, ValueError):
            where = place(field, list(index), columns)
            raise ValueError(f"{where}: expected a number, got {value!r}") from None
    return values


def place(field: str, index: list[int], columns: Sequence[str] | None) -> str:
    """Where a cell stands, in words: field, row, step and column."""
    names = ["row", "column"] if len(index) < 3 else ["row", "step", "column"]
    shown = [f"{name} {i}" for name, i in zip(names, index, strict=False)]
    if columns is not None and len(index) == 2 and index[1] < len(columns):
        shown[1] = f"column '{columns[index[1]]}'"
    return ", ".join([f"field '{field}'", *shown])
