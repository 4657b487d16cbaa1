"""Readers of the user's own files: text tables, .arff, .npy, .npz, .parquet and IDX, told by the suffix.

A file may be gzipped, but for .npz and .parquet, which are packed already. Nothing is unpickled. Whole numbers become
float64 in `x` and int64 in `y` and `lengths`; floats keep their type. A cell that is empty, `NA`, `nan`, `n/a`,
`null`, `none` or `?` is NaN, a missing value; so is a dash among numbers, with a warning. Columns of dates are left
out, with a warning. Anything else that is not a number is refused with its row and column, rows counted from 1 below
the header. What a file would hold in memory is looked at before it is read (`zoo.settings.file_bytes`).
"""

from __future__ import annotations

import importlib
import inspect
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from zoo.config import nearest
from zoo.datasets.arff import read_arff
from zoo.datasets.bounds import check_archive, check_bytes
from zoo.datasets.cells import distinct, number, told
from zoo.datasets.idx import read_idx
from zoo.datasets.opening import TEXTS, content_of, is_gzipped, kind_of
from zoo.datasets.texts import read_csv, tell_dates
from zoo.dates.cells import all_dates
from zoo.notes import DataWarning
from zoo.schema.column import plain

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.batch import Batch

R = TypeVar("R")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_ARRAYS = (".npy", ".npz", ".idx")  # files that name no columns
_LABELS = ("y", "label", "labels", "target", "targets", "classes")  # names of an array beside x
_TRAIN = re.compile(r"(?:^|_)train(?:ing)?(?:_|$)", re.IGNORECASE)  # in the name of an array: x_train, train_images
_HELD_OUT = re.compile(r"(?:^|_)(?:test|val|valid|validation)(?:_|$)", re.IGNORECASE)
_Read = tuple[dict[str, NDArray[Any]], tuple[str, ...]]


class Table(NamedTuple):
    """A batch and the names of the columns of its `x` (empty when `x` is no table)."""

    batch: Batch
    columns: tuple[str, ...]


def read(path: str | Path, *, target: str | None = None, header: bool | None = None) -> Table:
    """Read a file as a batch.

    Args:
        path: .csv, .tsv, .txt, .dat or .data (comma, semicolon, tab, | or blanks; a decimal comma with all but the
            first), .arff (of numbers), .npy, .npz (arrays `x`, `y`, `lengths`; or one array alone, or with `labels`),
            .parquet (through pyarrow, polars or pandas, whichever is installed) or IDX (`.idx`, or a name such as
            `train-images-idx3-ubyte`). The batch of a file that names its columns keeps the names, and is read as a
            frame is: time runs down its rows.
        target: the column that becomes `y`.
        header: whether the first row of a text table names the columns; by default it does if a cell is no number, or
            if all are years in a row.

    Raises:
        ValueError: missing or damaged file, unknown suffix or column, or a cell that is no number; the path is named.
    """
    path = Path(path)
    reader = chosen(path, READERS)
    try:
        arrays, columns = reader(path) if header is None else _headed(reader, path, header)
        table = assemble(arrays, columns, target)
        framed = kind_of(path) not in _ARRAYS and "x" in table.batch.fields()
        return table._replace(batch=table.batch.but(columns=table.columns)) if framed else table
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise ValueError(f"cannot read '{path}': {told(error)}") from error


def chosen(path: Path, readers: Mapping[str, R], what: str = "") -> R:
    """The reader of files with this suffix.

    Args:
        path: of a file.
        readers: by suffix.
        what: it is to be read as, for the message.

    Raises:
        ValueError: another suffix, or no such file.
    """
    suffix = kind_of(path)
    reader = readers.get(suffix)
    if reader is None:
        raise ValueError(f"cannot read '{path}'{what}: expected a file ending in {', '.join(readers)}")
    if not path.is_file():
        raise ValueError(f"cannot read '{path}': {'it is not a file' if path.exists() else 'no such file'}")
    if suffix in (".npz", ".parquet") and path.suffix.lower() == ".gz":
        raise ValueError(f"cannot read '{path}': a {suffix} is packed already; gunzip it")
    return reader


def _headed(reader: Any, path: Path, header: bool) -> _Read:
    if "header" not in inspect.signature(reader).parameters:
        raise ValueError("header: a text table alone, such as a .csv, may have one or not")
    found: _Read = reader(path, header)
    return found


def assemble(arrays: dict[str, NDArray[Any]], columns: tuple[str, ...], target: str | None) -> Table:
    """A batch of these arrays; the column called `target` is taken from `x` to be `y`."""
    from zoo.batch import Batch

    if target is not None:
        if target not in columns:
            known = ", ".join(columns) or "none are named"
            raise ValueError(f"no column '{target}'{nearest(target, columns)}; columns: {known}")
        x, position = arrays["x"], columns.index(target)
        if x.shape[1:] != (len(columns),):
            raise ValueError(f"x of shape {x.shape} has no column to take as target: it is not a table")
        columns = columns[:position] + columns[position + 1 :]
        arrays = {**arrays, "x": np.delete(x, position, axis=1), "y": x[:, position]}
        if not columns:
            del arrays["x"]
    fields = {field: _tensor(field, value) for field, value in arrays.items()}
    size = len(next(iter(fields.values())))
    return Table(Batch(size, size).but(**fields), columns)


def _tensor(field: str, value: NDArray[Any]) -> Tensor:
    """A C-contiguous tensor with memory of its own."""
    import torch

    if value.dtype.kind not in "biuf":
        hint = " (objects would have to be unpickled)" if value.dtype.kind == "O" else ""
        raise ValueError(f"field '{field}': expected numbers, got an array of {value.dtype.name}{hint}")
    if value.ndim == 0 or value.size == 0:
        raise ValueError(f"field '{field}': expected at least one row and column, got shape {value.shape}")
    dtype = value.dtype.newbyteorder("=")
    if dtype.kind != "f":
        dtype = np.dtype(np.int64 if field != "x" and np.can_cast(dtype, np.int64) else np.float64)
    elif dtype.itemsize > 8:
        dtype = np.dtype(np.float64)
    return torch.from_numpy(np.array(value, dtype=dtype, order="C"))


def _csv(path: Path, header: bool | None = None) -> _Read:
    table, columns = read_csv(path, header)
    return {"x": table}, columns


def _arff(path: Path) -> _Read:
    frame = read_arff(path)
    if not len(frame):
        raise ValueError("the file holds a header and no rows")
    # Categories may be numbers in braces, as classes often are.
    return _matrix([(str(name), np.array([_digits(cell) for cell in frame[name]], object)) for name in frame])


def _matrix(columns: Sequence[tuple[str, NDArray[Any]]]) -> _Read:
    """The numbers of named columns; those of dates are left out, with a warning."""
    distinct(tuple(name for name, _ in columns))
    dates = [name for name, values in columns if values.dtype.kind in "Mm" or _is_dates(values)]
    if dates and len(dates) == len(columns):
        raise ValueError(f"column '{dates[0]}': expected numbers, got dates")
    if dates:
        tell_dates(dates)
    rest = [(name, values) for name, values in columns if name not in dates]
    return {"x": np.stack([_column(*column) for column in rest], axis=1)}, tuple(name for name, _ in rest)


def _is_dates(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "O" and any(plain(value) is not None for value in values) and all_dates(values)


def _digits(cell: Any) -> Any:
    """The number that a text stands for, else the cell itself."""
    value = number(cell) if isinstance(cell, str) else None
    return cell if value is None else value


def _npy(path: Path) -> _Read:
    # Mapped, a header that promises more than the file holds is an error, not an allocation.
    packed = is_gzipped(path)
    value = _numpy(path, io.BytesIO(content_of(path))) if packed else _numpy(path, mmap_mode="r")
    if not isinstance(value, np.ndarray):
        raise ValueError("expected one array, got an archive: rename it to .npz")
    columns = tuple(f"column_{i + 1}" for i in range(value.shape[1])) if value.ndim == 2 else ()
    return {"x": value}, columns


def _npz(path: Path) -> _Read:
    archive = _numpy(path)
    if isinstance(archive, np.ndarray):
        raise ValueError("expected an archive of arrays, got one array: rename it to .npy")
    with archive:
        fields = _fields(archive.files)
        try:
            arrays = {field: archive[key] for field, key in fields.items()}
        except Exception as error:  # a damaged archive fails in ways of its own: zipfile, zlib, numpy
            raise ValueError(_reason(error)) from error
    for key, value in arrays.items():
        if not isinstance(value, np.ndarray):  # bytes, of a member without NumPy's header
            raise ValueError(f"damaged or not a NumPy file (its member '{fields[key]}' is no array)")
    x = arrays.get("x")
    named = x is not None and x.ndim == 2
    return arrays, tuple(f"column_{i + 1}" for i in range(x.shape[1])) if named and x is not None else ()


def _fields(names: Sequence[str]) -> dict[str, str]:
    """Which member of an archive is which field: by its name; a single other one, or one beside labels, is x.

    Of an archive in parts, x_train and x_test or train_images and val_images, it is that for training.
    """
    from zoo.batch import FIELDS

    train = {_TRAIN.sub("_", name).strip("_"): name for name in names if _TRAIN.search(name)}
    others = [name for name in names if name not in train.values()]
    if train and all(_HELD_OUT.search(name) for name in others):
        if others:
            words = (
                f"read are {', '.join(train.values())}; left out, as other parts of the archive: {', '.join(others)}"
            )
            warnings.warn(words, DataWarning, stacklevel=2)
        return {field: train[key] for field, key in _fields(list(train)).items()}
    if not names:
        raise ValueError("the archive holds no array; expected x, y or lengths")
    fields = {name: name for name in names if name in FIELDS}
    labels = [name for name in names if name not in fields and name.lower() in _LABELS]
    if "y" not in fields and len(labels) == 1 and len(names) > 1:
        fields["y"] = labels[0]
    rest = [name for name in names if name not in fields.values()]
    if len(rest) == 1 and "x" not in fields and not nearest(rest[0], ("lengths",)):
        fields["x"] = rest.pop()
    if rest:
        raise ValueError(
            f"no batch field '{rest[0]}'{nearest(rest[0], FIELDS)}; an .npz holds x, y and lengths, or one array of "
            f"another name, with labels or alone; this one holds {', '.join(names)}"
        )
    return fields


def _idx(path: Path) -> _Read:
    return {"x": read_idx(path)}, ()


def _numpy(path: Path, source: io.BytesIO | None = None, **options: Any) -> Any:
    with path.open("rb") if source is None else io.BytesIO(source.getbuffer()[:8]) as file:
        head = file.read(8)
    # NumPy takes whatever it does not know for a pickle. A pickle starts with its protocol, 2 or more since Python 3.
    archive = head.startswith((b"PK\3\4", b"PK\5\6")) and source is None and zipfile.is_zipfile(path)
    if head and not (archive or head.startswith(b"\x93NUMPY") or _PICKLE.match(head)):
        raise ValueError("damaged or not a NumPy file (it does not begin as one)")
    if archive:
        check_archive(path)
    try:
        return np.load(source or path, allow_pickle=False, **options)
    except Exception as error:
        raise ValueError(_reason(error)) from error


def _reason(error: Exception) -> str:
    if "pickle" in str(error) or "Python objects" in str(error):
        return "it holds Python objects, which are never unpickled here; save an array of numbers"
    return f"damaged or not a NumPy file ({error or type(error).__name__})"


def _parquet(path: Path) -> _Read:
    for name, opener in _PARQUET.items():
        try:
            library = importlib.import_module(name)
        except ImportError:
            continue
        try:
            frame = opener(library, path)
        except Exception as error:  # each library has errors of its own
            raise ValueError(f"damaged or not a parquet file ({error})") from error
        if not frame:
            raise ValueError("the table has no columns")
        return _matrix([(str(name), np.asarray(values)) for name, values in frame])
    raise ValueError("parquet needs one of pyarrow, polars or pandas: pip install 'pyro-zoo[parquet]'")


def _column(name: str, values: NDArray[Any]) -> NDArray[np.float64]:
    if values.dtype.kind in "biuf":
        return values.astype(np.float64)
    out = np.empty(len(values))
    for i, value in enumerate(values):
        if isinstance(value, (bool, int, float, np.number)):
            out[i] = value
        elif value is None or type(value).__name__ == "NAType":  # pandas' own missing value
            out[i] = np.nan
        else:
            raise ValueError(f"row {i + 1}, column '{name}': expected a number, got {value!r}")
    return out


# How each library reads a file into (name, values) pairs.
_PARQUET: dict[str, Callable[[Any, Path], list[tuple[Any, Any]]]] = {
    "pyarrow.parquet": lambda pyarrow, path: _arrow(_bounded(pyarrow.ParquetFile(path), path).read()),
    "polars": lambda polars, path: [(series.name, series.to_numpy()) for series in polars.read_parquet(path)],
    "pandas": lambda pandas, path: [(name, series.to_numpy()) for name, series in pandas.read_parquet(path).items()],
}


def _bounded(file: Any, path: Path) -> Any:
    """The file itself, once its declared size is within the budget."""
    known = file.metadata
    check_bytes(path, 8 * known.num_rows * known.num_columns)
    return file


def _arrow(table: Any) -> list[tuple[Any, Any]]:
    return [(name, values.to_numpy()) for name, values in zip(table.column_names, table.columns, strict=True)]


READERS: dict[str, Callable[[Path], _Read]] = {
    **dict.fromkeys(TEXTS, _csv),
    ".arff": _arff,
    ".npy": _npy,
    ".npz": _npz,
    ".parquet": _parquet,
    ".idx": _idx,
}
