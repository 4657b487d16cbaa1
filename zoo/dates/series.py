"""The rows of a frame with dates as series on a grid of equal steps: absent rows become missing steps, NaN."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.dates.calendar import Calendar, Rows, short
from zoo.dates.frequency import frequency


def on_grid(
    fields: Mapping[str, Tensor], joint: Mapping[str, bool], rows: Rows, names: tuple[str, ...]
) -> tuple[dict[str, Tensor], Tensor, Calendar]:
    """Series of one frequency, each from its first step that is known to its last.

    Args:
        fields: numbers of R rows each, (R,) or (R, K).
        joint: whether a row of a field is one step of K features; else its columns are K series.
        rows: when the rows are, and, in long form, which series each is of.
        names: of the columns of the first field that is not joint, (K,).

    Returns:
        the fields, (N, T) or (N, T, K), NaN past the end of each; lengths, (N,); the calendar.

    Raises:
        ValueError: a date that comes twice in a series, irregular dates, two
            frequencies, nothing but missing values; columns that are series each, in long form or beside others.
    """
    if rows.problem:
        raise ValueError(rows.problem)
    parts, labels, starts, offsets = [], [], [], []
    groups = {"": np.arange(len(rows.when))} if rows.who is None else _groups(rows.who)
    for who, members in groups.items():
        place, offset, start = _placed(rows, members, f"series '{who}': " if who else "")
        steps = int(place.max()) + 1
        laid = {name: _laid(value[torch.from_numpy(members)], place, steps) for name, value in fields.items()}
        for label, own in _apart(laid, joint, names, who):
            known = torch.stack([~value.reshape(steps, -1).isnan().all(1) for value in own.values()]).any(0).nonzero()
            if len(known) == 0:
                raise ValueError(f"series '{label}' has no value at all: leave it out")
            first, last = int(known[0]), int(known[-1])
            parts.append({name: value[first : last + 1] for name, value in own.items()})
            labels.append(label)
            starts.append(_later(start, first, offset))
        offsets.append((who, offset))
    for who, offset in offsets[1:]:
        if offset != offsets[0][1]:
            told = " and ".join(f"'{w}' {Calendar((), None, o).often}" for w, o in (offsets[0], (who, offset)))
            raise ValueError(f"two frequencies: series {told}; give those of one frequency alone, or resample them")
    lengths = torch.tensor([len(next(iter(part.values()))) for part in parts])
    whole = {name: _padded([part[name] for part in parts], int(lengths.max())) for name in fields}
    return whole, lengths, Calendar(tuple(labels), tuple(starts), offsets[0][1])


def _groups(who: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, list[int]] = {}
    for row, name in enumerate(who):
        found.setdefault(name, []).append(row)
    return {name: np.array(members) for name, members in found.items()}


def _placed(rows: Rows, members: Any, who: str) -> tuple[Any, Any, Any]:
    """The step of each of these rows, the offset between steps, and the first date."""
    order = members[np.argsort(rows.when[members].asi8, kind="stable")]
    when = rows.when[order]
    if not when.is_unique:
        again = int(when.duplicated().argmax())
        one, two = sorted((order[again - 1] + rows.first, order[again] + rows.first))
        raise ValueError(
            f"{who}two rows, {one} and {two}, are of one date, {short(when[again])}: keep one, or their mean; "
            "several series below one another need a column that says which is which, such as 'id'"
        )
    offset = frequency(when, order, rows.first, who)
    import pandas as pd

    every = pd.period_range if isinstance(when, pd.PeriodIndex) else pd.date_range
    step = every(when[0], when[-1], freq=offset).get_indexer(when)
    place = np.empty(len(members), dtype=np.int64)
    place[np.searchsorted(members, order)] = step
    return place, offset, when[0]


def _laid(value: Tensor, place: Any, steps: int) -> Tensor:
    """Rows at their steps, NaN at those that are absent."""
    index = torch.from_numpy(place)
    if len(value) == steps:
        return value[index.argsort()]
    value = value if value.is_floating_point() else value.double()
    return value.new_full((steps, *value.shape[1:]), torch.nan).index_copy(0, index, value)


def _apart(
    laid: Mapping[str, Tensor], joint: Mapping[str, bool], names: tuple[str, ...], who: str
) -> list[tuple[str, dict[str, Tensor]]]:
    """The series of a group by name: one, or one a column."""
    single = {
        name: value[:, 0] if value.ndim == 2 and value.shape[1] == 1 and not joint[name] else value
        for name, value in laid.items()
    }
    several = [name for name, value in single.items() if value.ndim == 2 and not joint[name]]
    if not several:
        label = who or (names[0] if len(names) == 1 else "series 1")
        return [(label, single)]
    if who or len(laid) > 1:
        shown = ", ".join(f"'{name}'" for name in names)
        raise ValueError(f"field '{several[0]}': one column of values is expected here, got {shown}")
    (value,) = single.values()
    return [
        (names[i] if i < len(names) else f"series {i + 1}", {several[0]: value[:, i]}) for i in range(value.shape[1])
    ]


def _later(start: Any, steps: int, offset: Any) -> Any:
    return start + steps * offset if steps else start


def _padded(series: list[Tensor], steps: int) -> Tensor:
    if all(len(value) == steps for value in series):
        return torch.stack(series)
    floating = [value if value.is_floating_point() else value.double() for value in series]
    whole = floating[0].new_full((len(series), steps, *series[0].shape[1:]), torch.nan)
    for n, value in enumerate(floating):
        whole[n, : len(value)] = value
    return whole
