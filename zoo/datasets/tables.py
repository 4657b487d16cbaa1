"""Tables of mixed types from files, as pandas frames: .csv, .arff, .parquet, and .npy of a matrix.

A column of a text file holds numbers when every cell that is not missing reads as one, else texts. Missing are empty
cells, `?`, and what pandas takes for missing (`NA`, `nan`, `None`, ...). Nothing is unpickled.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.datasets.arff import read_arff
from zoo.datasets.cells import distinct, number, told
from zoo.datasets.readers import READERS, chosen, delimiter

if TYPE_CHECKING:
    import pandas as pd

MISSING = ("?", "na", "Na", "NAN")  # besides those that pandas knows


def table(path: str | Path, *, text: bool = False) -> pd.DataFrame:
    """Read a table of mixed types.

    Args:
        path: .csv (comma, semicolon or tab; a header is recognised), .arff, .parquet, or .npy of a matrix.
        text: leave the cells of a .csv as the texts that stand there.

    Raises:
        ValueError: missing or damaged file, another suffix, rows of different lengths; the path and row are named.
    """
    path = Path(path)
    reader = chosen(path, TABLES, " as a table")
    try:
        frame = reader(path, text)
    except (ValueError, OSError, EOFError, MemoryError, NotImplementedError) as error:
        raise ValueError(f"cannot read '{path}': {told(error)}") from error
    if not len(frame):
        raise ValueError(f"cannot read '{path}': the table has no rows")
    return frame


def _csv(path: Path, text: bool) -> pd.DataFrame:
    import pandas as pd

    with path.open(newline="", encoding="utf-8-sig") as file:
        mark = delimiter(file)
        lines = filter(None, csv.reader(file, delimiter=mark, skipinitialspace=True))
        try:
            head = next(lines, None)
            if head is None:
                raise ValueError("the file is empty")
            for row, cells in enumerate(lines, 1):  # pandas would fill up short rows
                if len(cells) != len(head):
                    raise ValueError(f"row {row}: expected {len(head)} cells, got {len(cells)}")
        except csv.Error as error:
            raise ValueError(f"not a text table ({error})") from error
    named = any(number(cell) is None for cell in head)
    names = [cell.strip() if named and cell.strip() else f"column_{j}" for j, cell in enumerate(head, 1)]
    distinct(tuple(names))
    kept: dict[str, Any] = {"dtype": str, "keep_default_na": False} if text else {"na_values": list(MISSING)}
    frame: pd.DataFrame = pd.read_csv(
        path, sep=mark, header=0 if named else None, names=names, encoding="utf-8-sig", skipinitialspace=True, **kept
    )
    return frame


def _arff(path: Path, _text: bool) -> pd.DataFrame:
    return read_arff(path)


def _parquet(path: Path, _text: bool) -> pd.DataFrame:
    import pandas as pd

    try:
        frame: pd.DataFrame = pd.read_parquet(path)
    except ImportError as error:
        raise ValueError("parquet needs pyarrow: pip install 'pyro-zoo[parquet]'") from error
    except Exception as error:  # pyarrow has errors of its own
        raise ValueError(f"damaged or not a parquet file ({error})") from error
    return frame


def _npy(path: Path, _text: bool) -> pd.DataFrame:
    import pandas as pd

    arrays, columns = READERS[".npy"](path)
    if not columns:
        raise ValueError(f"expected a matrix, got shape {arrays['x'].shape}")
    return pd.DataFrame(arrays["x"], columns=list(columns))


TABLES = {".csv": _csv, ".arff": _arff, ".parquet": _parquet, ".npy": _npy}
