"""Cells that say when: of what a library calls a date or a time, and texts that read as one."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[ap]m)?"
_ISO = r"\d{4}[-/](?:0?[1-9]|1[0-2])(?:[-/](?:0?[1-9]|[12]\d|3[01]))?"
_QUARTER = r"(?P<year>\d{4})[- ]?q(?P<quarter>[1-4])|q(?P<first>[1-4])[-/ ](?P<then>\d{4})"
_DAY = rf"{_ISO}|\d{{1,2}}[-./]\d{{1,2}}[-./]\d{{2,4}}|(?:\d{{1,2}}[ -])?{_MONTH}[ -]\d{{4}}"
_DATE = re.compile(rf"(?:(?:{_DAY})(?:[ t]+{_CLOCK}\s*(?:z|[+-]\d{{2}}:?\d{{2}})?)?|{_CLOCK})", re.IGNORECASE)
_QUARTERS = re.compile(_QUARTER, re.IGNORECASE)
_TYPES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)  # pandas' own are of these


def is_date(cell: str) -> bool:
    """Whether a cell says when: a day, a month or quarter of a year, a time of day."""
    return _DATE.fullmatch(cell.strip()) is not None or quarter(cell) is not None


def quarter(cell: str) -> str | None:
    """A quarter as pandas writes it, `2000Q1`, of `2000-Q1`, `2000 Q1`, `Q1 2000`, ...; None of anything else."""
    found = _QUARTERS.fullmatch(cell.strip())
    return None if found is None else f"{found['year'] or found['then']}Q{found['quarter'] or found['first']}"


def is_clock(cell: Any) -> bool:
    """Whether a cell says a time of day, or a while, and no day."""
    if isinstance(cell, str):
        return re.fullmatch(_CLOCK, cell.strip(), re.IGNORECASE) is not None
    return isinstance(cell, (datetime.time, datetime.timedelta, np.timedelta64))


def is_absent(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, pandas' NA and NaT, what is masked."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value  # noqa: PLR0124 - NaN


def all_dates(values: Iterable[Any]) -> bool:
    """Whether every value that is not missing says when."""
    return all(
        isinstance(value, _TYPES) or type(value).__name__ == "Period" or (isinstance(value, str) and is_date(value))
        for value in values
        if not is_absent(value)
    )
