"""Cells that say when: of what a library calls a date or a time, and texts that read as one."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from zoo.schema.column import plain

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?:\s*[ap]m)?"
_ISO = r"\d{4}[-/](?:0?[1-9]|1[0-2])(?:[-/](?:0?[1-9]|[12]\d|3[01]))?"
_DAY = rf"{_ISO}|\d{{1,2}}[-./]\d{{1,2}}[-./]\d{{2,4}}|(?:\d{{1,2}}[ -])?{_MONTH}[ -]\d{{4}}"
_DATE = re.compile(rf"(?:(?:{_DAY})(?:[ t]+{_CLOCK}\s*(?:z|[+-]\d{{2}}:?\d{{2}})?)?|{_CLOCK})", re.IGNORECASE)
_TYPES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)  # pandas' own are of these


def is_date(cell: str) -> bool:
    """Whether a cell says when: a day, a month of a year, a time of day."""
    return _DATE.fullmatch(cell.strip()) is not None


def all_dates(values: Iterable[Any]) -> bool:
    """Whether every value that is not missing says when."""
    return all(
        isinstance(value, _TYPES) or type(value).__name__ == "Period" or (isinstance(value, str) and is_date(value))
        for value in values
        if plain(value) is not None
    )
