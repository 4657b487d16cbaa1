"""Sums of products of factors: variable elimination as one einsum.

    value(output) = sum over all other labels of prod_i factor_i(labels_i)

`opt_einsum` chooses the order of elimination once for a set of shapes; it is kept. Two labels are lanes, DRAW and ROW:
everything runs side by side along them. A product of many factors is divided, lane by lane, by its largest entry, whose
logarithm is added up beside it, so that long products do not underflow. Small factors that take no gradient are summed
by NumPy (`quick`): a call of torch's costs more than their arithmetic.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import opt_einsum
import torch
from numpy.typing import NDArray
from torch import Tensor

DRAW, ROW = -2, -1


LOAD = (4, 16)  # factors that one may be the product of before it is rescaled, in single and in double precision
Labels = tuple[int, ...]  # of variables from 0, and the two lanes


class Factor(NamedTuple):
    """A tensor of numbers from zero up, and the label of each of its dimensions; lanes come first."""

    value: Tensor
    labels: Labels


class Step(NamedTuple):
    """Take these operands off the list, multiply them, sum out what is not kept, and put the result at the end."""

    operands: tuple[int, ...]
    equation: str
    labels: Labels  # of the result
    lanes: int  # how many of them are lanes
    load: int  # of how many factors it is the product, those of a rescaled one not counted


class Plan(NamedTuple):
    """An order of elimination.

    Args:
        steps: one after the other.
        largest: labels of the largest intermediate factor, lanes apart.
        width: how many numbers it holds in each lane.
    """

    steps: tuple[Step, ...]
    largest: Labels
    width: int


@lru_cache(maxsize=4096)
def plan(factors: tuple[Labels, ...], output: Labels, sizes: tuple[tuple[int, int], ...], most: int = 16) -> Plan:
    """The order of elimination for factors of these labels, when all but `output` and lanes is summed out.

    Args:
        factors: labels of each.
        output: labels to keep, in their order.
        sizes: (label, size) of every label but lanes.
        most: load from which a result is rescaled.
    """
    size = dict(sizes)
    # The order is that of one lane: with thousands of lanes the greedy search would make huge factors of many variables
    # rather than copy small ones into every lane.
    wanted = tuple(lane for lane in (DRAW, ROW) if any(lane in labels for labels in factors)) + output
    symbol = {label: opt_einsum.get_symbol(i) for i, label in enumerate(size)}
    named = ["".join(symbol[label] for label in labels if label >= 0) for labels in (*factors, output)]
    shapes = [tuple(size[label] for label in labels if label >= 0) for labels in factors]
    text = ",".join(named[:-1]) + "->" + named[-1]
    path, _ = opt_einsum.contract_path(text, *shapes, shapes=True, optimize="greedy")
    left, loads, steps, largest, width = list(factors), [1] * len(factors), [], output, 1
    for operands in path:
        order = tuple(sorted(operands, reverse=True))  # so that positions stay right while operands are taken off
        parts = [left.pop(i) for i in order]
        load = sum(loads.pop(i) for i in order)
        met = dict.fromkeys(label for part in parts for label in part)
        needed = set(wanted).union(*left)
        labels = tuple(sorted(label for label in met if label in needed)) if left else wanted
        letter = dict(zip(met, string.ascii_letters, strict=False))  # anew in each step: einsum has no more than these
        texts = ["".join(letter[label] for label in part) for part in (*parts, labels)]
        steps.append(
            Step(order, ",".join(texts[:-1]) + "->" + texts[-1], labels, sum(label < 0 for label in labels), load)
        )
        left.append(labels)
        loads.append(load if load < most else 1)
        variables = tuple(label for label in labels if label >= 0)
        numbers = math.prod(size[label] for label in variables)
        if numbers > width:
            largest, width = variables, numbers
    return Plan(tuple(steps), largest, width)


def plan_of(factors: Sequence[Factor], output: Labels = ()) -> Plan:
    """The plan for these factors."""
    pairs = (pair for value, labels in factors for pair in zip(labels, value.shape, strict=True))
    sizes = {label: n for label, n in pairs if label >= 0}
    most = LOAD[factors[0].value.dtype == torch.float64]
    return plan(tuple(labels for _, labels in factors), output, tuple(sizes.items()), most)


def contract(factors: Sequence[Factor], output: Labels = ()) -> tuple[Tensor, Tensor]:
    """The sum of the product: value (S, B, *output) times exp(scale), (S, B). A lane that no factor has has size 1."""
    values = [value for value, _ in factors]
    scale = values[0].new_zeros((1, 1))
    steps = plan_of(factors, output).steps
    most = LOAD[values[0].dtype == torch.float64]
    for step in steps:
        value = torch.einsum(step.equation, *[values.pop(operand) for operand in step.operands])
        if step.load >= most and step is not steps[-1]:
            still = value.detach()
            largest = still.flatten(step.lanes).amax(-1) if still.ndim > step.lanes else still  # of each lane
            largest = torch.where(largest > 0, largest, 1.0)
            value = value / largest[(...,) + (None,) * (value.ndim - step.lanes)]
            scale = scale + _both_lanes(largest, step.labels).log()
        values.append(value)
    return _both_lanes(values[0], steps[-1].labels), scale


def quick(factors: Sequence[Factor], steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """What is left when these steps are done divided by its total, (S, *output), and the log of that, (S,).

    It is for few numbers, on the CPU, in double precision, without ROW and without gradients.
    """
    values = [value.detach().numpy() for value, _ in factors]
    scale: NDArray[np.float64] = np.zeros(1)
    for step in steps:
        value = np.einsum(step.equation, *[values.pop(operand) for operand in step.operands])
        if step.load >= LOAD[True] and step is not steps[-1]:
            largest = value.max(tuple(range(step.lanes, value.ndim)))  # () or (S,)
            largest = np.where(largest > 0, largest, 1.0)
            value = value / largest[(...,) + (None,) * (value.ndim - step.lanes)]
            scale = scale + np.log(largest)
        values.append(value)
    value = values[0] if steps[-1].lanes else values[0][None]
    total = value.reshape(len(value), -1).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):  # evidence of probability zero
        probs = value / total.reshape(-1, *[1] * (value.ndim - 1))
        return torch.from_numpy(probs), torch.from_numpy(np.log(total) + scale)


def _both_lanes(value: Tensor, labels: Labels) -> Tensor:
    """A tensor with a dimension for each lane in front, of size 1 where its labels lack the lane."""
    if DRAW not in labels:
        value = value.unsqueeze(0)
    return value if ROW in labels else value.unsqueeze(1)
