"""How far apart dates are, where some may be absent: the coarsest steps of a calendar on which all of them lie.

`pandas.infer_freq` knows complete series alone. Here the candidates are as many months as divide all distances between
dates of one day of the month (or of last days, or first or last weekdays), weekdays, and as much time as divides all
distances. The one that leaves the fewest steps without a date is taken; if these are more than the dates there are, or
if the dates go on at another pace from somewhere on, they are no series, and the row at which it shows is named.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, cast

import numpy as np

from zoo.dates.calendar import often, short

_RUN, _SHARE = 4, 0.05  # so many equal wider steps, and such a share of all, are another frequency


def frequency(when: Any, rows: Any, first: int = 0, who: str = "") -> Any:
    """The offset between steps, of pandas.

    Args:
        when: dates or periods in order, (R,), none twice, none missing.
        rows: where each stood, (R,).
        first: number of the first row, in messages.
        who: the series, in messages.

    Raises:
        ValueError: one date; dates that are irregular, or of two frequencies: which row, which dates, what to do.
    """
    import pandas as pd

    if len(when) < 2:
        raise ValueError(f"{who}one date, {short(when[0])}, tells no frequency: a series has two steps or more")
    if isinstance(when, pd.PeriodIndex):
        steps = np.diff(when.asi8)
        n, each = int(np.gcd.reduce(steps)), cast(Any, when.freq)
        _one_pace(steps // n, when, rows + first, n * each, who)
        return n * each
    wall = _wall(when)
    found = [(len(grid := pd.date_range(wall[0], wall[-1], freq=offset)), offset, grid) for offset in _candidates(wall)]
    size, offset, grid = min(found, key=lambda each: each[0])
    if size > 2 * len(when):
        at, typical = _irregular(wall)
        told = f"{short(when[at])} follows {short(when[at - 1])}, where most {typical}"
        raise ValueError(f"{who}dates are irregular: row {rows[at] + first}, {told}; {_cure(when)}")
    _one_pace(np.diff(grid.get_indexer(wall)), when, rows + first, offset, who)
    return offset


_PACES = {360: "YS", 85: "QS", 26: "MS", 6: "W", 0.9: "D", 0: "h"}  # days of a step -> what pandas resamples to


def _cure(when: Any) -> str:
    """What to do, by the pace of the slowest tenth."""
    import pandas as pd

    dates = when.to_timestamp() if isinstance(when, pd.PeriodIndex) else when
    days = np.quantile(np.diff(dates.as_unit("ns").asi8) / 86_400e9, 0.9)
    pace = next(name for least, name in _PACES.items() if days >= least)
    return f"bring them to one frequency (pandas: frame.resample('{pace}').mean(), say), or leave the dates out"


def _wall(when: Any) -> Any:
    """Dates without a zone: by the clock on the wall where they are all at one time of day, else by universal time."""
    if when.tz is None:
        return when
    local = when.tz_localize(None)
    return local if (local - local.normalize()).nunique() == 1 else when.tz_convert("UTC").tz_localize(None)


def _candidates(when: Any) -> list[Any]:
    """Offsets on whose grid, from the first date on, all dates lie."""
    import pandas as pd
    from pandas.tseries.frequencies import to_offset

    nanoseconds = np.diff(when.as_unit("ns").asi8)
    step = int(np.gcd.reduce(nanoseconds))
    days, rest = divmod(step, 86_400 * 10**9)
    found: list[Any] = [to_offset(pd.Timedelta(step, "ns") if rest else f"{days}D")]
    if (when - when.normalize()).nunique() > 1:
        return found
    months = np.diff(when.year * 12 + when.month)
    n = int(np.gcd.reduce(months))
    if (months > 0).all():
        if (when.day == 1).all():
            found.append(to_offset(f"{n}MS"))
        elif when.is_month_end.all():
            found.append(to_offset(f"{n}ME"))
        elif when.day.nunique() == 1 and when[0].day <= 28:
            found.append(pd.DateOffset(months=n))
        found += [o for name in ("BMS", "BME") if all((o := to_offset(f"{n}{name}")).is_on_offset(d) for d in when)]
    if (when.day_of_week < 5).all():
        found.append(to_offset("B"))
    return found


def _irregular(when: Any) -> tuple[int, str]:
    """The first date that is not where the pace of most would have it, and what that pace is."""
    gaps = np.diff(when.as_unit("ns").asi8)
    days = gaps / 86_400e9
    if np.median(days) < 27:
        values, counts = np.unique(gaps, return_counts=True)
        pace = values[counts.argmax()]
        return int(np.argmax(gaps != pace)) + 1, f"steps are {_spell(pace)}"
    day = np.bincount(when.day).argmax()
    off = np.asarray(when.day != day)
    if off[1:].any() and np.mean(off) < 0.5:
        return int(np.argmax(off[1:])) + 1, f"are of day {day} of a month"
    months = np.diff(when.year * 12 + when.month)
    pace = np.bincount(months).argmax()
    return int(np.argmax(months != pace)) + 1, f"steps are {pace} month{'s' if pace > 1 else ''}"


def _spell(nanoseconds: int) -> str:
    import pandas as pd

    told = str(pd.Timedelta(int(nanoseconds), "ns")).removesuffix(" 00:00:00")
    return "1 day" if told == "1 days" else told


def _one_pace(steps: Any, when: Any, rows: Any, offset: Any, who: str) -> None:
    """Refuse dates that follow each other `steps` at a time, where a stretch of them goes at another pace."""
    at = 0
    for step, group in groupby(steps.tolist()):
        length = len(list(group))
        if step > 1 and length >= max(_RUN, _SHARE * len(steps)):
            before, after = often(offset), often(int(step) * offset)
            where = f"from row {rows[at]}, {short(when[at])}, to row {rows[at + length]}, {short(when[at + length])}"
            raise ValueError(f"{who}two frequencies: dates are {before}, and {after} {where}; {_cure(when)}")
        at += length
