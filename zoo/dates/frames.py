"""Which columns of a frame say when and which series, and the frame without them.

When: an index of dates or periods, else the first column of such, or of texts that all read as dates. Which series: in
long form, where dates come again, the one column of texts or categories, or else a column of whole numbers that is
called `id`, `unique_id`, `series` or `item`; or the other level of the index. A column of whole numbers called `year`
says when too, if these rise by one. A column of texts of which nearly all read as dates says when, and the first that
does not is refused as no date. Frames of pandas, polars and Arrow.
"""

from __future__ import annotations

import warnings
from typing import Any

from zoo.arrays import column_names
from zoo.dates.calendar import Rows
from zoo.dates.cells import all_dates, is_absent, is_clock, is_date
from zoo.dates.texts import of_texts
from zoo.notes import DataWarning

_DATES = ("date", "timestamp", "period")  # how the types of columns begin that say when
_WORDS = ("object", "str", "utf8", "large_str", "large_utf8", "categor", "enum", "dictionary")  # may hold texts
_NEARLY, _LOOK = 0.8, 50  # such a share of the texts of a column, and of its first ones, that read as dates
_NAMES = ("id", "unique_id", "series", "item")


def split(data: Any, depth: int = 3, first: int = 0) -> tuple[Any, Rows] | None:
    """A frame without the columns that say when and which, and these; None for what has no dates.

    Args:
        data: anything; a frame or a pandas series may have dates.
        depth: how far up a warning points.
        first: number of the first row, in messages.

    Returns:
        the rest, and the dates. Of dates that are missing, of a text among dates that is none, or of texts that may be
        days of either order, the words that refuse them: a pair that takes no series has others.
    """
    frame = _of_pandas(data)
    if frame is None:
        return None
    import pandas as pd

    if isinstance(frame.index, pd.MultiIndex):
        frame = frame.reset_index()
    columns = [name for name in frame.columns if list(frame.columns).count(name) == 1 and _says_when(frame[name], name)]
    if _is_dates(frame.index):
        when, used, own = frame.index, [], ""
    elif columns:
        when, used, own = pd.Index(frame[columns[0]]), columns[:1], f"column '{columns[0]}'"
    elif (odd := next((name for name in frame.columns if _odd(frame[name]) is not None), None)) is not None:
        row, rest = _odd(frame[odd]), frame.drop(columns=odd)
        told = f"column '{odd}', row {(row or 0) + first}: {list(frame[odd])[row or 0]!r} is no date, where others are"
        problem = f"{told}; write it as 2020-01-31, or leave the row out"
        return (rest, Rows(None, None, f"column '{odd}'", problem, first)) if rest.shape[1] else None
    else:
        return None
    if len(columns) > len(used):
        left = ", ".join(f"'{name}'" for name in columns[len(used) :])
        warnings.warn(f"left out, since {own or 'the index'} says when: column {left}", DataWarning, stacklevel=depth)
    rest = frame.drop(columns=columns)
    words = own if columns and used else ""
    try:
        when = _dates(when, own or "the index", first)
    except ValueError as error:
        return (rest, Rows(None, None, words, str(error), first)) if rest.shape[1] else None
    who = _who(rest, when)
    if who is not None:
        used = [*used, who]
        named = tuple(str(name) for name in rest.pop(who))
    if rest.shape[1] == 0:
        return None
    told = words if who is None else own or f"column '{who}'"
    return rest, Rows(when, None if who is None else named, told, first=first)


def _of_pandas(data: Any) -> Any:
    """A frame or series of any library as a frame of pandas, where it may have dates; else None."""
    kind = type(data).__module__.split(".")[0]
    if kind == "pandas" and hasattr(data, "to_frame") and not hasattr(data, "columns"):
        dated = hasattr(data, "index") and _is_dates(data.index)
        return data.to_frame("series 1" if data.name is None else data.name) if dated else None
    names = column_names(data)
    if names is None or len(data) == 0 or not hasattr(data, "__getitem__"):
        return None
    if kind == "pandas":
        return data
    own = list(getattr(data, "column_names", None) or data.columns)
    if not any(_says_when(data[name], name) or _odd(data[name]) is not None for name in own):
        return None
    import pandas as pd

    return pd.DataFrame({name: _cells(data[name]) for name in own})


def _cells(column: Any) -> list[Any]:
    found: list[Any] = column.to_pylist() if hasattr(column, "to_pylist") else column.to_list()
    return found


def _is_dates(index: Any) -> bool:
    """Whether an index of pandas says when."""
    kind = str(getattr(index, "dtype", ""))
    return kind.startswith(("datetime", "period")) or (kind in ("object", "str") and _texts_say_when(list(index)))


def _says_when(column: Any, name: Any = "") -> bool:
    if str(name).lower() == "year" and _are_years(column):
        return True
    if _kind(column).startswith(_DATES):
        return True
    return _kind(column).startswith(_WORDS[:5]) and _texts_say_when(_cells(column))


def _kind(column: Any) -> str:
    return str(getattr(column, "dtype", getattr(column, "type", ""))).lower()


def _odd(column: Any) -> int | None:
    """The row of the first text that is no date in a column where nearly all are dates; None of any other column."""
    if not _kind(column).startswith(_WORDS[:5]):
        return None
    cells = [(row, cell) for row, cell in enumerate(_cells(column)) if not is_absent(cell)]
    for some in (cells[:_LOOK], cells):  # most columns of texts are left after a few
        odd = [row for row, cell in some if not (isinstance(cell, str) and is_date(cell) and not is_clock(cell))]
        if len(some) - len(odd) < _NEARLY * max(1, len(some)):
            return None
    return odd[0] if odd else None


def _are_years(column: Any) -> bool:
    """Whether these are years in a row, of one series or of several below one another."""
    try:
        years = [int(cell) for cell in (column.to_pylist() if hasattr(column, "to_pylist") else column)]
        exact = all(int(cell) == float(cell) for cell in years)
    except (TypeError, ValueError):
        return False
    later = set(range(min(years), max(years) + 1))
    return exact and len(years) > 1 and min(years) >= 1000 and max(years) < 3000 and set(years) == later


def _texts_say_when(cells: list[Any]) -> bool:
    known = [cell for cell in cells if not is_absent(cell)]
    return bool(known) and all_dates(known) and not any(is_clock(cell) for cell in known)


def _dates(when: Any, own: str, first: int) -> Any:
    """pandas' index of dates or periods."""
    import pandas as pd

    if str(when.dtype).lower().startswith(("int", "uint", "float")):  # years
        when = pd.PeriodIndex([f"{int(year)}" for year in when], freq="Y")
    elif not str(when.dtype).startswith(("datetime", "period")):
        cells = [None if is_absent(cell) else cell for cell in when]
        some = next(cell for cell in cells if cell is not None)
        if isinstance(some, pd.Period):
            when = pd.PeriodIndex(cells)
        else:
            when = of_texts(cells, own) if isinstance(some, str) else pd.DatetimeIndex(cells)
    if when.hasnans:
        row = int(when.isna().argmax())
        raise ValueError(f"{own}, row {row + first}: expected a date, got none; fill it in, or leave the row out")
    return when


def _who(rest: Any, when: Any) -> Any:
    """Name of the column that says which series a row is of; None where each column is one."""
    words = [
        name for name in rest.columns if str(rest[name].dtype).lower().startswith(_WORDS) and _holds_words(rest[name])
    ]
    if len(words) == 1 and rest.shape[1] > 1:
        return words[0]
    if words or when.is_unique:
        return None
    return next((name for name in rest.columns if str(name).lower() in _NAMES and rest.shape[1] > 1), None)


def _holds_words(column: Any) -> bool:
    """Whether some cell is a text that is no number."""
    for cell in column:
        if isinstance(cell, str):
            try:
                float(cell)
            except ValueError:
                return True
    return False
