"""Columns given others, as a pair tells them in floats -> the nodes of a `Network`, in whole numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from inference.compression.forms import Form
from inference.compression.integers import Ints, log_table
from inference.compression.network import FAR, POINT, STEEP, Network, Node

_NONE = np.zeros(0, dtype=np.int32)
_STEEPEST = 1 << 26


def network(weights: Tensor, given: Sequence[Any], forms: Mapping[int, Form]) -> Network:
    """The frozen model.

    Args:
        weights: of the classes, at S draws, (S, K).
        given: `zoo.parts.conditionals.Conditional` of each column, parents before children.
        forms: of each column.
    """
    place = {node.column: d for d, node in enumerate(given)}
    scales = {node.column: _unit(node) for node in given}
    nodes = []
    for node in given:
        switches = np.array([place[p] for p in node.switches], dtype=np.int32)
        form = forms[node.column]
        if node.probs is not None:
            marks = codes(form, node.probs.shape[-1])
            probs = node.probs.mean(0).numpy()  # (K, U, C)
            table = np.where(marks >= 0, probs[..., np.where(marks >= 0, marks, 0)], 0.0)
            empty, count = np.zeros(0, dtype=np.int64), np.array([node.probs.shape[-1]], dtype=np.int64)
            nodes.append(Node(switches, _NONE, log_table(_closed(table)), empty, empty, empty, marks, count))
            continue
        centre, unit = scales[node.column]
        ways = [scales[p] for p in node.parents]
        loc, slopes = node.loc.mean(0).numpy(), node.slopes.mean(0).numpy()  # (K, U), (K, U, P)
        scale = np.sqrt((node.scale.square().mean(0) + node.loc.var(0, correction=0)).numpy())
        for j, (other, _) in enumerate(ways):  # parents count from their own centres
            loc = loc + slopes[..., j] * (other - float(node.centres[j]))
        last = np.sqrt(np.square(scale).mean(1) + loc.var(1))[:, None]
        loc = np.concatenate([loc, loc.mean(1, keepdims=True)], 1)
        scale = np.concatenate([scale, last], 1)
        slopes = np.concatenate([slopes, slopes.mean(1, keepdims=True)], 1)
        steps = slopes * (np.array([way[1] for way in ways]) / unit)
        nodes.append(
            Node(
                switches,
                np.array([place[p] for p in node.parents], dtype=np.int32),
                np.zeros(0, dtype=np.int16),
                _fixed((loc - centre) / unit, POINT),
                np.clip(np.rint(unit / scale * (1 << STEEP)), 1, 1 << STEEP).astype(np.int64),
                np.clip(_fixed(steps, POINT), -_STEEPEST, _STEEPEST),
                _fixed(_standard(form.cuts, centre, unit), POINT),
                np.zeros(0, dtype=np.int64),
            )
        )
    return Network(log_table(weights.mean(0).numpy()), nodes)


def codes(form: Form, count: int) -> Ints:
    """The code of a category that each symbol of a form stands for, or -1, (C,)."""
    if form.kind == "category":
        return np.arange(form.size, dtype=np.int64)
    numbers = np.rint(form.numbers)
    good = (form.numbers == numbers) & (numbers >= 0) & (numbers < count)
    return np.where(good, numbers, -1).astype(np.int64)


def _unit(node: Any) -> tuple[float, float]:
    """Centre and unit of a column: of its numbers the least scale, to a power of two."""
    if node.probs is not None:
        return 0.0, 1.0
    return float(node.loc.median()), 2.0 ** math.floor(math.log2(float(node.scale.mean(0).min())))


def _closed(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Tables with the row for a parent that is missing: the mean of the others."""
    return np.concatenate([table, table.mean(1, keepdims=True)], 1)


def _standard(numbers: NDArray[np.float64], centre: float, unit: float) -> NDArray[np.float64]:
    """Numbers in units of their column; what is too far is infinite."""
    with np.errstate(over="ignore"):
        return (numbers - centre) / unit


def _fixed(numbers: NDArray[np.float64], point: int) -> Ints:
    most = FAR / 2.0**point
    return np.rint(np.clip(numbers, -most, most) * 2.0**point).astype(np.int64)
