"""The most probable explanation of evidence: the states of all other discrete nodes that go best with it.

    x* = argmax_x  p(x, e),     max over all nodes at once by max-product elimination (Pearl 1988, chapter 5)

It is the sum of products of `zoo.parts.networks.factors` with max in the place of sum, in logarithms, for all rows side
by side: each node that is maximised out leaves its best state in every configuration of those still there, which are
read off backwards. Real nodes are integrated out where they are not known; they are then told as their means given x*.

Where tables are uncertain, x* is that under their mean. As tables are independent under the guide, so are they in a new
row, and p(x, e) of the mean tables is that row's posterior predictive probability; with real nodes it is near it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.parts.networks import many
from zoo.parts.networks.factors import ROW, Factor, Labels, plan_of
from zoo.parts.networks.network import Network
from zoo.parts.networks.query import Given, check_given
from zoo.settings import settings


class Explained(NamedTuple):
    """The most probable explanation of each of N rows of evidence.

    Args:
        values: of every node that is not set, N values each, in the user's words and units; what was seen among them.
        probs: of the states of the discrete nodes given the evidence, at each of S draws, (S, N).
        log_evidence: log probability (density) of the evidence, (S, N).
    """

    values: dict[str, list[Any]]
    probs: Tensor
    log_evidence: Tensor


class Best(NamedTuple):
    """A group of labels that was maximised out: their states, as one number, in each configuration of the others."""

    labels: Labels
    sizes: tuple[int, ...]
    given: Labels
    states: Tensor  # (B or 1, *given)


def explain(
    network: Network, values: Mapping[str, Tensor], rows: Mapping[str, Sequence[Any]], do: Mapping[str, Any]
) -> Explained:
    """The most probable explanation of each row; arguments and errors are those of `many.answers`."""
    check_given(network, values, list(rows), do)
    x, fixed = many.codes_of(network, rows, do)
    values = {name: values[name].double() for name in network.sites}
    evidence = many.log_evidence(network, values, x, fixed)
    many.check_possible(evidence, rows, do)
    mean = {name: value.mean(0, keepdim=True) for name, value in values.items()}
    whole = x.clone()
    for group, cut in many.groups(network, mean, x, _asked(network, x, fixed), fixed, joint=False):
        one = many.one_of(x[group])
        lanes = many.lanes_of(network, mean, one, cut, _asked(network, x[group], fixed), fixed)
        for here in group.split(max(1, settings.memory // _largest(network, lanes.factors))):
            whole[here] = _explained(network, mean, x[here], cut, fixed)
    discrete = torch.tensor([size > 0 for size in network.sizes], device=x.device)
    both = torch.where(discrete, whole, x)
    both[:, list(fixed)] = torch.nan
    probs = (many.log_evidence(network, values, both, fixed) - evidence).exp()
    told = {
        column.name: column.decode(whole[:, i].cpu().numpy())
        for i, column in enumerate(network.columns.columns)
        if i not in fixed
    }
    return Explained(told, probs, evidence)


def _asked(network: Network, x: Tensor, fixed: Given) -> list[int]:
    """The discrete nodes that some row has not seen."""
    free = x.isnan().any(0).tolist()
    return [column for column, size in enumerate(network.sizes) if size and free[column] and column not in fixed]


def _explained(network: Network, values: Mapping[str, Tensor], x: Tensor, cut: Sequence[int], fixed: Given) -> Tensor:
    """Rows (B, V) with their holes filled."""
    x = x.clone()
    lanes = many.lanes_of(network, values, x, cut, _asked(network, x, fixed), fixed)
    for column, states in _argmax(network, lanes.factors, len(x)).items():
        x[:, column] = states.to(x.dtype)
    for column, value in fixed.items():
        x[:, column] = value
    codes = {column: x[:, column].long() for column, size in enumerate(network.sizes) if size}
    for block in network.gaussian_blocks:
        mean = many.of_block(network, values, block, x, codes, {}, fixed)[3][0][0]  # (B, G)
        members = list(block.columns)
        x[:, members] = torch.where(x[:, members].isnan(), mean, x[:, members])
    return x


def _argmax(network: Network, factors: Sequence[Factor], rows: int) -> dict[int, Tensor]:
    """The states of all labels at which the product of the factors is largest, each (B,)."""
    if not factors:
        return {}
    left = [_aligned(factor, rows) for factor in factors]
    found: list[Best] = []
    for step in plan_of(factors).steps:
        parts = [left.pop(i) for i in step.operands]
        kept = tuple(label for label in step.labels if label >= 0)
        value, best = _maximised(network, parts, kept)
        left.append((value, kept))
        if best is not None:
            found.append(best)
    states: dict[int, Tensor] = {}
    lane = torch.arange(rows, device=left[0][0].device)
    for best in reversed(found):
        row = lane if len(best.states) == rows else torch.zeros_like(lane)
        code = best.states[(row, *(states[label] for label in best.given))]
        for label, size in zip(reversed(best.labels), reversed(best.sizes), strict=True):
            states[label], code = code % size, code // size
    return states


def _largest(network: Network, factors: Sequence[Factor]) -> int:
    """Numbers that a row takes at a time.

    Raises:
        ValueError: more than `settings.network_question`; the nodes that hang together are named.
    """
    if not factors:
        return 1
    left = [tuple(label for label in labels if label >= 0) for _, labels in factors]
    largest, most = 1, settings.network_question
    for step in plan_of(factors).steps:
        order = {label for i in step.operands for label in left.pop(i)}
        size = math.prod(network.sizes[label] for label in order)
        if size > most:
            nodes = ", ".join(network.graph.names[label] for label in sorted(order))
            raise ValueError(f"the explanation takes a factor over {nodes}: {size:,} numbers, at most {most:,}")
        largest = max(largest, size)
        left.append(tuple(label for label in step.labels if label >= 0))
    return largest


def _aligned(factor: Factor, rows: int) -> tuple[Tensor, Labels]:
    """The logarithm of a factor of one draw, (B or 1, *labels), and its labels."""
    value = factor.value.log()
    lanes = [label for label in factor.labels if label < 0]
    value = value.reshape(rows if ROW in lanes else 1, *value.shape[len(lanes) :])
    return value, tuple(label for label in factor.labels if label >= 0)


def _maximised(network: Network, parts: Sequence[tuple[Tensor, Labels]], kept: Labels) -> tuple[Tensor, Best | None]:
    """The largest sum of these logarithms over all labels but those kept, (B or 1, *kept), and where it is."""
    out = tuple(dict.fromkeys(label for _, labels in parts for label in labels if label not in kept))
    order = [*kept, *out]
    total = torch.zeros((), dtype=torch.float64, device=parts[0][0].device)
    for value, labels in parts:
        places = [1 + labels.index(label) for label in order if label in labels]
        shape = (network.sizes[label] if label in labels else 1 for label in order)
        total = total + value.permute(0, *places).reshape(len(value), *shape)
    if not out:
        return total, None
    best, states = total.flatten(1 + len(kept)).max(-1)
    return best, Best(out, tuple(network.sizes[label] for label in out), kept, states)
