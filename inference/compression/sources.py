"""What the user brings as fields, a row for each observation, and the same again from them.

    array, tensor    one field; its type, shape and every bit come back
    batch            a field for each of x, y and lengths, as a `zoo.Batch`
    mapping, frame   a field for each column; a frame of pandas keeps its types, names and index
    text             one character a row

Cells of columns that are no numbers of NumPy's are spelled as JSON: None, NaN, truth values, whole numbers, floats and
texts. Text files are in `files`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inference.compression.chunks import Piece
from inference.compression.errors import CompressionError
from inference.compression.layout import Field
from zoo.base import FIELDS, Batch, ModelGuide
from zoo.rows import nth

_WIDE = 256  # columns of a matrix that have a form each
_INDEX = "index"
_NA = "<NA>"  # pandas' own, which is no JSON
Arrays = list[NDArray[Any]]


class Source:
    """Data in memory.

    Args:
        kind: what they are, as the list above has it.
        fields, arrays: what is coded, (N, *shape) each.
        extra: what else it takes to give the same back, as JSON.
    """

    def __init__(self, kind: str, fields: list[Field], arrays: Arrays, extra: dict[str, Any] | None = None) -> None:
        self.kind, self.fields, self.arrays, self.extra = kind, tuple(fields), arrays, extra or {}
        self.raw = sum(_bytes(array) for array in arrays)  # bytes

    def pieces(self, rows: int) -> Iterator[Piece]:
        """The rows, so many at a time."""
        for start in range(0, len(self.arrays[0]), rows):
            yield Piece([array[start : start + rows] for array in self.arrays], [])

    @property
    def row_literal(self) -> Any:
        """How a category is spelled in these data."""
        return _spelled if self.kind in ("mapping", "frame") else str


def source_of(pair: ModelGuide, data: Any, series: bool) -> Source:
    """The data as fields.

    Raises:
        ValueError: they are of no kind that is listed above, have no rows, or hold a cell that is none.
    """
    if isinstance(data, Batch):
        named = data.fields()
        arrays = [named[name].detach().cpu().numpy() for name in FIELDS if name in named]
        fields = [_field(pair, n, a, series) for n, a in zip((n for n in FIELDS if n in named), arrays, strict=True)]
        return Source("batch", fields, arrays, {"total": data.total, "columns": data.columns})
    if isinstance(data, torch.Tensor):
        array = data.detach().cpu().numpy()
        return Source("tensor", [_field(pair, "x", array, series)], [_rows(array)])
    if isinstance(data, np.ndarray) and not isinstance(data, np.ma.MaskedArray):
        return Source("array", [_field(pair, "x", data, series)], [_rows(data)])
    if isinstance(data, str):
        _rows(np.array([*data] or []))
        return Source("text", [Field("character", "text")], [_objects([*data])])
    if type(data).__module__.startswith("pandas") and hasattr(data, "columns"):
        return _frame(data)
    if isinstance(data, Mapping):
        names = [_named(name) for name in data]
        columns = [list(data[name]) for name in data]
        if len({len(column) for column in columns}) != 1 or not columns[0]:
            raise ValueError(f"expected columns of one length, with rows, got {dict(zip(names, map(len, columns)))}")  # noqa: B905
        cells = [_cells(name, column) for name, column in zip(names, columns, strict=True)]
        return Source("mapping", [Field(name, "text") for name in names], cells)
    raise ValueError(
        "compress: expected a NumPy array, a tensor, a frame of pandas, a mapping of columns, a text or a zoo.Batch, "
        f"got {type(data).__name__}"
    )


def restored(kind: str, extra: Any, fields: tuple[Field, ...], pieces: list[Piece]) -> Any:
    """The user's data again.

    Raises:
        CompressionError: the header tells no such data.
    """
    types = [np.dtype(object if field.dtype == "text" else field.dtype) for field in fields]
    arrays = [
        np.concatenate([np.empty((0, *field.shape), dtype), *(piece.fields[f] for piece in pieces)], dtype=dtype)
        for f, (field, dtype) in enumerate(zip(fields, types, strict=True))
    ]
    try:
        if kind == "array":
            return arrays[0]
        if kind == "tensor":
            return torch.from_numpy(arrays[0])
        if kind == "batch":
            found: dict[str, Any] = {field.name: torch.from_numpy(a) for field, a in zip(fields, arrays, strict=True)}
            size = len(arrays[0])
            columns = None if extra["columns"] is None else tuple(extra["columns"])
            return Batch(size, max(size, extra["total"]), columns=columns, **found)
        if kind == "text":
            return "".join(arrays[0].tolist())
        if kind == "mapping":
            return {f.name: [_read(c) for c in a.tolist()] for f, a in zip(fields, arrays, strict=True)}
        if kind == "frame":
            return _frame_again(extra, arrays)
    except CompressionError:
        raise
    except Exception as error:  # the header comes from a file: whatever it provokes is the file's fault
        raise CompressionError(f"the header tells no {kind} ({error!r:.100})") from None
    raise CompressionError(f"the header tells data of kind {kind!r:.40}, which this version does not know")


def _field(pair: ModelGuide, name: str, array: NDArray[Any], series: bool) -> Field:
    if array.dtype.kind not in "biufMm" or array.dtype.itemsize > 8:
        raise ValueError(f"compress: field '{name}': expected numbers of up to 64 bits, got dtype {array.dtype}")
    shape = tuple(array.shape[1:])
    alike = (series and name == "x") or pair.image is not None or math.prod(shape) > _WIDE
    share = "each" if not alike else "last" if len(shape) > 1 and pair.image is None else "all"
    return Field(name, array.dtype.str, shape, share)


def _rows(array: NDArray[Any]) -> NDArray[Any]:
    if array.ndim == 0 or not len(array):
        raise ValueError(f"compress: expected at least one row, got shape {array.shape}")
    return array


def _bytes(array: NDArray[Any]) -> int:
    return (
        sum(len(cell.encode(errors="surrogatepass")) + 1 for cell in array) if array.dtype == object else array.nbytes
    )


def _named(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"compress: expected names of columns that are texts, got {name!r}")
    return name


def _objects(cells: list[Any]) -> NDArray[Any]:
    found = np.empty(len(cells), dtype=object)
    found[:] = cells
    return found


def _cells(name: str, cells: list[Any]) -> NDArray[Any]:
    """Cells as texts."""
    found = np.empty(len(cells), dtype=object)
    for row, cell in enumerate(cells):
        try:
            found[row] = _spelled(cell)
        except TypeError:
            raise ValueError(
                f"compress: column '{name}', row {nth(row)}: expected a number, a text, True, False, None or NaN, "
                f"got {cell!r:.60}"
            ) from None
    return found


def _spelled(cell: Any) -> str:
    """A cell as JSON, or `<NA>`."""
    if type(cell).__name__ == "NAType":
        return _NA
    cell = cell.item() if isinstance(cell, np.generic) else cell
    if not (cell is None or isinstance(cell, (str, bool, int, float))):
        raise TypeError
    return json.dumps(cell, ensure_ascii=False)


def _read(text: str) -> Any:
    if text == _NA:
        import pandas as pd

        return pd.NA
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CompressionError(f"a chunk holds {text!r:.40}, which is no cell") from None


def _frame(frame: Any) -> Source:
    import pandas as pd

    if isinstance(frame.columns, pd.MultiIndex) or isinstance(frame.index, pd.MultiIndex):
        raise ValueError(
            "compress: expected a frame whose rows and columns have one name each, got several (MultiIndex)"
        )
    if not len(frame) or not len(frame.columns):
        raise ValueError(f"compress: expected at least one row and one column, got a frame of shape {frame.shape}")
    counted = isinstance(frame.index, pd.RangeIndex) and frame.index.equals(pd.RangeIndex(len(frame)))
    fields, arrays = [], []
    dtypes: list[Any] = []
    columns = [(_named(name), frame.iloc[:, i]) for i, name in enumerate(frame.columns)]
    if not counted:
        columns.append((_INDEX, pd.Series(frame.index)))
    for name, column in columns:
        dtype = column.dtype
        if isinstance(dtype, np.dtype) and dtype.kind in "biufMm" and dtype.itemsize <= 8:
            fields.append(Field(name, dtype.str))
            arrays.append(column.to_numpy())
            dtypes.append(None)
        else:
            fields.append(Field(name, "text"))
            arrays.append(_cells(name, column.tolist()))
            dtypes.append(_dtype(name, dtype))
    extra = {"dtypes": dtypes, "counted": counted, "name": frame.index.name}
    return Source("frame", fields, arrays, extra | {"columns": [name for name, _ in columns]})


def _dtype(name: str, dtype: Any) -> Any:
    categories = getattr(dtype, "categories", None)
    if categories is not None and type(dtype).__name__ == "CategoricalDtype":
        texts = _cells(name, categories.tolist()).tolist()
        return {"categories": texts, "ordered": bool(dtype.ordered), "dtype": _dtype(name, categories.dtype)}
    return str(dtype)


def _frame_again(extra: Any, arrays: Arrays) -> Any:
    import pandas as pd

    columns = [_column(dtype, array) for dtype, array in zip(extra["dtypes"], arrays, strict=True)]
    index = None if extra["counted"] else pd.Index(columns.pop(), name=extra["name"])
    names = extra["columns"][: len(columns)]
    frame = pd.concat([pd.Series(column).reset_index(drop=True) for column in columns], axis=1)
    frame.columns = pd.Index(names)
    if index is not None:
        frame.index = index
    else:
        frame.index.name = extra["name"]
    return frame


def _column(dtype: Any, array: NDArray[Any]) -> Any:
    import pandas as pd

    if dtype is None:
        return pd.Series(array)
    cells = [_read(cell) for cell in array.tolist()]
    if isinstance(dtype, dict):
        given = _column(dtype["dtype"], _objects(dtype["categories"]))
        return pd.Series(pd.Categorical(cells, categories=pd.Index(given), ordered=bool(dtype["ordered"])))
    if not isinstance(dtype, str):
        raise CompressionError(f"the header tells no type of a column: {dtype!r:.40}")
    return pd.Series(cells, dtype=dtype)
