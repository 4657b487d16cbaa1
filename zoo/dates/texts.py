"""Texts as dates: quarters, ISO 8601, days before months or months before days, whichever reads them all.

With dots days come first: `01.02.2015` is the first of February wherever dots are written. Where slashes or hyphens
leave both orders open, the one is taken in which the dates are of a frequency (`zoo.dates.frequency`), and said; if
they are so in both or in neither, they are refused.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np

from zoo.dates.calendar import often
from zoo.dates.cells import quarter
from zoo.dates.frequency import frequency
from zoo.notes import DataWarning

_DOTTED = re.compile(r"\d{1,2}\.\d{1,2}\.\d{2,4}\b")
_ISO: dict[str, Any] = {"format": "ISO8601"}
_ORDERS: dict[str, dict[str, Any]] = {
    "months before days": {"dayfirst": False},
    "days before months": {"dayfirst": True},
}


def of_texts(cells: list[str | None], own: str) -> Any:
    """pandas' index of dates, or of quarters as periods.

    Args:
        cells: texts, None where one is missing.
        own: what the column is called, in messages.

    Raises:
        ValueError: texts of several forms, or days and months of either order.

    Example:
        >>> [str(date) for date in of_texts(["2000-Q4", "Q1 2001"], "column 'q'")]
        ['2000Q4', '2001Q1']
    """
    import pandas as pd

    known = [cell for cell in cells if cell is not None]
    quarters = [None if cell is None else quarter(cell) for cell in cells]
    if sum(each is not None for each in quarters) == len(known):
        return pd.PeriodIndex(quarters, freq="Q")
    if (found := _read(cells, _ISO)) is not None:
        return found
    orders = dict(reversed(_ORDERS.items())) if all(_DOTTED.match(cell.strip()) for cell in known) else _ORDERS
    readings = {name: found for name, options in orders.items() if (found := _read(cells, options)) is not None}
    if not readings:
        raise ValueError(f"{own}: its texts are not dates of one form; write them as 2020-01-31")
    one, *others = readings
    if orders is not _ORDERS or not others or readings[one].equals(readings[others[0]]):
        return readings[one]
    regular = {name: told for name, when in readings.items() if (told := _often(when))}
    if len(regular) != 1:
        raise ValueError(f"{own}: {known[0]!r} may be a day of either order; write dates as 2020-01-31")
    ((name, told),) = regular.items()
    words = f"{own}: {known[0]!r} and so on were read with {name}: they are {told} then, and irregular the other way"
    warnings.warn(words, DataWarning, stacklevel=2)
    return readings[name]


def _read(cells: list[str | None], options: dict[str, Any]) -> Any:
    """The dates, or None where some text is none in this form."""
    import pandas as pd

    read: Any = pd.to_datetime
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # where the first date has one order alone, pandas takes that
            return pd.DatetimeIndex(read(cells, **options))
    except ValueError:
        return None


def _often(when: Any) -> str:
    """How often dates are, in words; empty where they are irregular."""
    dates = when.dropna().unique().sort_values()
    try:
        return often(frequency(dates, np.arange(len(dates))))
    except ValueError:
        return ""
