"""What stands beside numbers and says when: dates of the rows of a frame, and the calendar of series.

pandas does the dates; it is loaded where there are some.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_WORDS = {  # of pandas' offsets, by (name without anchor, multiple)
    ("YS", 1): "yearly", ("YE", 1): "yearly", ("Y", 1): "yearly", ("MS", 12): "yearly", ("ME", 12): "yearly",
    ("QS", 1): "quarterly", ("QE", 1): "quarterly", ("Q", 1): "quarterly", ("MS", 3): "quarterly",
    ("ME", 3): "quarterly", ("M", 3): "quarterly", ("M", 12): "yearly",
    ("MS", 1): "monthly", ("ME", 1): "monthly", ("M", 1): "monthly", ("BME", 1): "monthly", ("BMS", 1): "monthly",
    ("W", 1): "weekly", ("D", 7): "weekly", ("D", 1): "daily", ("B", 1): "on weekdays", ("h", 1): "hourly",
}  # fmt: skip
_SEASONS = {"quarterly": 4, "monthly": 12, "weekly": 52, "daily": 7, "on weekdays": 5, "hourly": 24}


@dataclass(frozen=True)
class Rows:
    """Dates of the rows of a frame that is not laid out as series yet.

    Args:
        when: pandas' index of dates or periods, (R,), NaT where one is missing.
        who: of a frame in long form, which series each row is of, (R,).
        words: what to say to a pair that takes no series; empty where the dates were no column.
        problem: what is wrong with the dates, which are None then.
        first: number of the first row, in messages.
    """

    when: Any
    who: tuple[str, ...] | None = None
    words: str = ""
    problem: str = ""
    first: int = 0

    def select(self, rows: Tensor | slice) -> Rows:
        """Those of some rows."""
        index = rows if isinstance(rows, slice) else rows.tolist()
        who = None if self.who is None else _picked(self.who, rows)
        return replace(self, when=None if self.when is None else self.when[index], who=who)


@dataclass(frozen=True)
class Calendar:
    """What N series are called, and when their steps are.

    Args:
        names: of the series, (N,).
        starts: the first step of each, (N,), pandas' timestamps or periods; None without dates.
        offset: how far apart steps are, one of pandas' offsets; of periods their own frequency.

    Example:
        >>> import pandas, zoo
        >>> sold = pandas.Series([3.0, 5.0, 4.0], pandas.date_range("2020-01-01", periods=3, freq="MS"), name="sold")
        >>> from inference.data.check import as_batch
        >>> as_batch(zoo.create("autoregressive", order=1), sold).when.words(0, 3)
        'monthly, 2020-01 to 2020-03'
    """

    names: tuple[str, ...]
    starts: tuple[Any, ...] | None = None
    offset: Any = None

    def select(self, rows: Tensor | slice) -> Calendar:
        """That of some series."""
        starts = None if self.starts is None else _picked(self.starts, rows)
        return replace(self, names=_picked(self.names, rows), starts=starts)

    def dates(self, row: int, steps: int) -> Any:
        """When the first steps of a series are, pandas' index, (steps,); None without dates."""
        return None if self.starts is None else grid(self.starts[row], steps, self.offset)

    def ahead(self, row: int, length: int, horizon: int) -> Any:
        """When the steps that follow `length` are, (horizon,)."""
        every = self.dates(row, length + horizon)
        return None if every is None else every[length:]

    def place(self, row: int, step: int) -> str:
        """A step in words, ` (flow, 1950-03)`; empty without dates."""
        every = self.dates(row, step + 1)
        return "" if every is None else f" ({self.names[row]}, {self.shown(every[step])})"

    @property
    def often(self) -> str:
        """How often steps are, in words: `monthly`, `every 2 hours`; empty without dates."""
        return "" if self.offset is None else often(self.offset)

    @property
    def season(self) -> int | None:
        """Steps in the usual season: a year of months or quarters, a week of days, a day of hours; None: unknown."""
        return _SEASONS.get(self.often)

    def words(self, row: int, steps: int) -> str:
        """How often, and from when to when: `monthly, 1949-01 to 1960-12`; empty without dates."""
        every = self.dates(row, steps)
        return "" if every is None else f"{self.often}, {self.shown(every[0])} to {self.shown(every[-1])}"

    def shown(self, date: Any) -> str:
        """A date as short as the frequency allows."""
        if hasattr(date, "ordinal"):  # of a period
            return str(date)
        if self.often in ("monthly", "quarterly", "yearly") and date.day == 1:
            return str(date.strftime("%Y-%m"))
        return short(date)


def grid(start: Any, steps: int, offset: Any) -> Any:
    """So many steps from the first on, pandas' index."""
    import pandas as pd

    if isinstance(start, pd.Period):
        return pd.period_range(start, periods=steps, freq=offset)
    return pd.date_range(start, periods=steps, freq=offset)


def short(date: Any) -> str:
    """A date without the time of day, where that is midnight."""
    return str(date if hasattr(date, "ordinal") or date != date.normalize() else date.date())


def often(offset: Any) -> str:
    """A frequency in words."""
    name = str(getattr(offset, "rule_code", "") or getattr(offset, "freqstr", "")).split("-")[0]
    count = int(getattr(offset, "n", 1))
    if (months := getattr(offset, "kwds", {}).get("months")) and not name.startswith(("M", "Q", "Y")):
        name, count = "MS", int(months)  # the same day of each month
    if (name, count) in _WORDS:
        return _WORDS[name, count]
    units = {"MS": "months", "ME": "months", "M": "months", "D": "days", "h": "hours", "min": "minutes", "s": "seconds"}
    units |= {
        "W": "weeks",
        "YS": "years",
        "YE": "years",
        "Y": "years",
        "QS": "quarters",
        "QE": "quarters",
        "B": "weekdays",
    }
    if name not in units:
        return f"every {getattr(offset, 'freqstr', offset)}"
    return f"every {count} {units[name]}" if count > 1 else f"every {units[name][:-1]}"


def _picked(values: tuple[Any, ...], rows: Tensor | slice) -> tuple[Any, ...]:
    return values[rows] if isinstance(rows, slice) else tuple(values[i] for i in rows.tolist())
