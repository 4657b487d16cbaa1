"""Tables of mixed types from files, as pandas frames: .csv and other texts, .arff, .parquet, and .npy of a matrix.

A column of a text file holds numbers when every cell that is not missing reads as one, else texts; a text among many
numbers is refused, and a dash there is missing, with a warning. Missing are empty cells, `?`, and what pandas takes for
missing (`NA`, `nan`, `None`, ...). Nothing is unpickled.
"""

from __future__ import annotations

import csv
import io
import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.datasets.arff import read_arff
from zoo.datasets.bounds import check_bytes
from zoo.datasets.cells import MARKS, MISSING, number, told
from zoo.datasets.layout import body, layout
from zoo.datasets.opening import TEXTS, kind_of, open_text
from zoo.datasets.preamble import BLANKS
from zoo.datasets.readers import READERS, chosen
from zoo.datasets.texts import cure, tell_marks
from zoo.notes import DataWarning
from zoo.schema.column import CATEGORIES
from zoo.schema.marks import check_marks
from zoo.schema.schema import LEVELS

if TYPE_CHECKING:
    import pandas as pd

_CODES = (*CATEGORIES, "ignored")  # kinds of texts
_MISSING = ("?", "na", "Na", "NAN", "none")  # besides those that pandas knows


def table(
    path: str | Path, *, text: bool = False, header: bool | None = None, kinds: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Read a table of mixed types.

    Args:
        path: .csv, .tsv, .txt, .dat or .data (comma, semicolon, tab, | or blanks; a decimal comma with all but the
            first), .arff, .parquet, or .npy of a matrix; gzipped or not, but for .parquet.
        text: leave the cells of a text table as the texts that stand there.
        header: whether the first row of a text table names the columns; by default it does if a cell is no number, or
            if all are years in a row.
        kinds: what some columns are (`zoo.datasets.Column`): in those of categories, and in ignored ones, texts may
            stand among numbers.

    Raises:
        ValueError: missing or damaged file, another suffix, rows of different lengths, a cell that is no number in a
            column of numbers; the path, row and column are named.
    """
    path = Path(path)
    reader = chosen(path, TABLES, " as a table")
    try:
        frame = reader(path, text, header)
        if kind_of(path) in TEXTS and not text:  # other files say themselves what their columns hold
            frame = _mended(frame, dict(kinds or {}))
    except (ValueError, OSError, EOFError, MemoryError, NotImplementedError) as error:
        raise ValueError(f"cannot read '{path}': {told(error)}") from error
    if not len(frame):
        raise ValueError(f"cannot read '{path}': the table has no rows")
    return frame


def _csv(path: Path, text: bool, header: bool | None) -> pd.DataFrame:
    import pandas as pd

    form = layout(path, header)
    kept: dict[str, Any] = {"dtype": str if text or form.decimal.mark == "," else dict.fromkeys(form.coded, str)}
    kept |= {"keep_default_na": False} if text else {"na_values": list(_MISSING)}
    with open_text(path, form.encoding) as file:
        loose = form.delimiter == BLANKS  # written anew, with what pandas knows to be cut
        frame: pd.DataFrame = pd.read_csv(
            _tabbed(body(file, form)) if loose else file,
            sep="\t" if loose else form.delimiter,
            header=0 if form.headed and not loose else None,
            names=list(form.columns),
            usecols=range(len(form.columns)),  # an empty last column may stand beside them
            skiprows=0 if loose else form.above,
            skipinitialspace=True,
            index_col=False,
            **kept,
        )
    frame.attrs |= {"decimal": form.decimal, "coded": form.coded}
    return frame


def _tabbed(rows: Iterable[list[str]]) -> io.StringIO:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter="\t").writerows(rows)
    text.seek(0)
    return text


def _stripped(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, blanks around its texts taken off; what is then missing, is."""
    for name in frame:
        if _texts(frame[name]):
            cells = [cell.strip() if isinstance(cell, str) else cell for cell in frame[name]]
            frame[name] = [None if isinstance(cell, str) and cell.lower() in MISSING else cell for cell in cells]
    return frame


def _texts(column: pd.Series[Any]) -> bool:
    return column.dtype.kind == "O" or str(column.dtype) == "str"


def _numbers(frame: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    """The frame, columns that were read as texts turned into numbers: all but those of codes such as 00054."""
    import pandas as pd

    form, coded = frame.attrs["decimal"], frame.attrs["coded"]
    for name in map(str, frame):
        if not (form.mark == "," or name in coded) or not _texts(frame[name]):
            continue  # pandas told the numbers already
        values = frame[name].tolist()
        texts = [cell for cell in values if isinstance(cell, str)]
        if name in coded and kinds.get(name, "categorical") in _CODES and all(cell.strip().isdigit() for cell in texts):
            if name not in kinds:
                told = f"column '{name}': whole numbers that begin with a zero, as {coded[name]}, are taken for codes"
                warnings.warn(f"{told}; --kind {shlex.quote(name + '=count')} reads numbers", DataWarning, stacklevel=4)
            continue
        cells = [number(cell, form) if isinstance(cell, str) else float("nan") for cell in values]
        if None not in cells:
            frame[name] = pd.Series(cells, dtype=float)
            if name in coded and (frame[name] % 1 == 0).all():
                frame[name] = frame[name].astype("int64")
    return frame


def _mended(frame: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    """The frame, dashes among numbers taken as missing; another text among numbers is refused.

    A text that comes back is a category among others, such as `3+` beside 0, 1 and 2, where the column has few.
    """
    import pandas as pd

    marks: list[tuple[int, str, str]] = []
    frame = _stripped(_numbers(frame, kinds))
    mark = frame.attrs["decimal"]
    for name in frame:
        column = frame[name]
        if not _texts(column) or kinds.get(str(name)) in _CODES:
            continue
        cells = [(row, cell) for row, cell in enumerate(column, 1) if not pd.isna(cell)]
        numbers = {row: number(cell, mark) if isinstance(cell, str) else cell for row, cell in cells}
        odd = [(row, str(cell).strip()) for row, cell in cells if numbers[row] is None]
        if 2 * len(odd) > len(cells):
            check_marks(str(name), [cell for _, cell in cells])
        if not odd and any(isinstance(cell, str) for _, cell in cells) and str(name) not in frame.attrs["coded"]:
            frame[name] = pd.Series([numbers.get(row) for row in range(1, len(column) + 1)], dtype=float)
        if not odd or 2 * len(odd) > len(cells) or any(isinstance(value, bool) for value in numbers.values()):
            continue
        counts = Counter(cell for _, cell in odd)
        other = [(row, cell) for row, cell in odd if cell not in MARKS]
        if other and len({cell for _, cell in cells}) <= LEVELS and all(counts[cell] > 1 for _, cell in other):
            continue
        if other:
            row, cell = other[0]
            choice = shlex.quote(f"{name}=categorical")
            known = "" if name in kinds else f"; or say what it is, as --kind {choice} (kinds= in Python)"
            raise ValueError(
                f"row {row}, column '{name}': expected a number, as in {len(cells) - len(odd)} of {len(cells)} cells, "
                f"got {cell!r}{cure(cell)}{known}"
            )
        marks += [(row, str(name), cell) for row, cell in odd]
        frame[name] = pd.Series([numbers.get(row) for row in range(1, len(column) + 1)], dtype=float)
    tell_marks(marks)
    return frame


def _arff(path: Path, _text: bool, _header: bool | None) -> pd.DataFrame:
    return read_arff(path)


def _parquet(path: Path, _text: bool, _header: bool | None) -> pd.DataFrame:
    import pandas as pd

    try:
        import pyarrow.parquet

        known = pyarrow.parquet.ParquetFile(path).metadata
    except Exception:  # without pyarrow, or damaged: pandas will say so
        pass
    else:
        check_bytes(path, 8 * known.num_rows * known.num_columns)
    try:
        frame: pd.DataFrame = pd.read_parquet(path)
    except ImportError as error:
        raise ValueError("parquet needs pyarrow: pip install 'pyro-zoo[parquet]'") from error
    except Exception as error:  # pyarrow has errors of its own
        raise ValueError(f"damaged or not a parquet file ({error})") from error
    return frame


def _npy(path: Path, _text: bool, _header: bool | None) -> pd.DataFrame:
    import pandas as pd

    arrays, columns = READERS[".npy"](path)
    if not columns:
        raise ValueError(f"expected a matrix, got shape {arrays['x'].shape}")
    return pd.DataFrame(arrays["x"], columns=list(columns))


TABLES = dict.fromkeys(TEXTS, _csv) | {".arff": _arff, ".parquet": _parquet, ".npy": _npy}
