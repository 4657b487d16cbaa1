"""One question of many rows of evidence, answered side by side: P(variables | row n), n = 1..N.

Rows run along the lane ROW of `zoo.parts.networks.factors`, so that a product of tables is summed out for all of them
at once. A node that every row of a group has seen is cut out of the tables, in each row at its own state; one that only
some have seen gets a factor of its own, one where the cell is what it says or is missing, and zero elsewhere:

    P(q, e_n) = sum over all else of  prod_d p(x_d | parents at e_n) prod_j [x_j is what cell (n, j) says, or nothing]

Rows with the same holes form a group where they are many; what is left over is one group, unless that takes too large a
factor. It is the same number as one question at a time, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.parts.networks.factors import DRAW, ROW, Factor, contract, plan_of
from zoo.parts.networks.gaussian import Block, moments
from zoo.parts.networks.network import Network
from zoo.parts.networks.query import Belief, Given, checked, code_of, node_of, told
from zoo.rows import nth
from zoo.schema.column import plain
from zoo.settings import settings

FEW = 32  # rows of the same holes, from which they form a group of their own


class Lanes(NamedTuple):
    """What B rows make of a question.

    Args:
        factors: with the labels that are left.
        offset: log of the factors without a label left, (S or 1, B).
        free: of a real node that is asked for, the discrete parents of its block that are not given.
        mean: of it in each of their configurations, (S, B, *free).
        variance: the same.
    """

    factors: list[Factor]
    offset: Tensor
    free: tuple[int, ...]
    mean: Tensor
    variance: Tensor


def answers(
    network: Network,
    values: Mapping[str, Tensor],
    variables: Sequence[str],
    rows: Mapping[str, Sequence[Any]],
    do: Mapping[str, Any],
) -> Belief:
    """The distribution of the variables given each row of evidence, and interventions that are the same for all.

    Args:
        network: the graph and its known tables.
        values: S draws of the sites of its learned tables and equations, (S, ...).
        variables: names; all discrete, or all real.
        rows: N values of each node that was observed, in the user's words and units; missing ones (None, NaN) are not
            known in that row.
        do: values of nodes that were set.

    Returns:
        probabilities (S, N, *states), or means and variances (S, N, Q); and the log evidence, (S, N).

    Raises:
        ValueError: see `zoo.parts.networks.query.answer`; of a row, with its number from 0.
    """
    asked = checked(network, values, variables, list(rows), do)
    x, fixed = codes_of(network, rows, do)
    values = {name: values[name].double() for name in network.sites}
    if network.sizes[asked[0]]:
        probs, log_evidence = _swept(network, values, x, asked, fixed)
        belief = Belief(probs, None, None, log_evidence)
    else:
        single = [_swept(network, values, x, [column], fixed) for column in asked]
        mean, variance = (torch.stack([one[i] for one in single], -1) for i in (0, 1))
        belief = Belief(None, mean, variance, single[0][2])
    check_possible(belief.log_evidence, rows, do)
    return belief


def log_evidence(network: Network, values: Mapping[str, Tensor], x: Tensor, fixed: Given) -> Tensor:
    """Log probability (density) of rows as numbers, (N, V), NaN where nothing is known, at S draws, (S, N)."""
    return _swept(network, values, x, [], fixed)[-1]


def codes_of(
    network: Network, rows: Mapping[str, Sequence[Any]], do: Mapping[str, Any]
) -> tuple[Tensor, dict[int, float]]:
    """Rows of evidence as numbers, (N, V), NaN where nothing is known; and those of what is set."""
    fixed = {node_of(network, name): code_of(network, name, value) for name, value in do.items()}
    device = network.columns.centre.device
    count = len(next(iter(rows.values()))) if rows else 1
    x = torch.full((count, len(network.sizes)), torch.nan, dtype=torch.float64)
    for name, cells in rows.items():
        node = node_of(network, name)
        if count == 1 and plain(cells[0]) is not None:
            x[0, node] = code_of(network, name, cells[0])
        else:
            x[:, node] = torch.from_numpy(network.columns.columns[node].encode(cells))
    return x.to(device), fixed


def check_possible(log_evidence: Tensor, rows: Mapping[str, Sequence[Any]], do: Mapping[str, Any]) -> None:
    """Refuse a row of probability zero."""
    impossible = log_evidence.isneginf().any(0)
    if impossible.any():
        row = int(impossible.nonzero()[0])
        here = {name: cells[row] for name, cells in rows.items()}
        seen = {name: cell for name, cell in here.items() if cell is not None and cell == cell}  # noqa: PLR0124 - NaN
        where = f"row {nth(row)}: " if len(impossible) > 1 else ""
        raise ValueError(f"{where}the evidence {told(seen, do)} has probability zero")


def _swept(
    network: Network, values: Mapping[str, Tensor], x: Tensor, asked: Sequence[int], fixed: Given
) -> tuple[Tensor, ...]:
    """The parts of an answer, (S, N, ...), the log evidence last, in pieces of bounded memory; without a question the
    log evidence after a one.
    """
    draws = max([1, *(len(value) for value in values.values())])
    kept: list[Tensor] = []
    for group, cut in groups(network, values, x, asked, fixed):
        each = _width(network, values, x[group], cut, asked, fixed)
        rows = min(len(group), max(1, settings.memory // each))
        step = max(1, settings.memory // (each * rows))
        for begin in range(0, len(group), rows):
            here = group[begin : begin + rows]
            for first in range(0, draws, step):
                some = {name: value[first : first + step] for name, value in values.items()}
                found = _answered(network, some, x[here], cut, asked, fixed)
                kept = kept or [part.new_empty(draws, len(x), *part.shape[2:]) for part in found]
                for whole, part in zip(kept, found, strict=True):
                    whole[first : first + step, here] = part
    return tuple(kept)


def groups(
    network: Network, values: Mapping[str, Tensor], x: Tensor, asked: Sequence[int], fixed: Given, joint: bool = True
) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """Rows that are answered together, and the nodes that all of them have seen.

    What is asked for stays in the factors to the end where its joint distribution is wanted.
    """
    patterns, which = (~x.isnan()).unique(dim=0, return_inverse=True)
    counts = which.bincount(minlength=len(patterns))
    few = counts < min(FEW, len(x))
    most = settings.network_question
    rest = few[which].nonzero().squeeze(-1)
    if few.sum() > 1 and _width(network, values, x[rest], _cut(x[rest]), asked, fixed, joint) <= most:
        yield rest, _cut(x[rest])
    else:
        few[:] = False
    for pattern in (~few).nonzero().squeeze(-1).tolist():
        rows = (which == pattern).nonzero().squeeze(-1)
        yield rows, _cut(x[rows])


def _cut(x: Tensor) -> tuple[int, ...]:
    """The nodes that every row has seen."""
    seen: list[int] = (~x.isnan()).all(0).nonzero().squeeze(-1).tolist()
    return tuple(seen)


def _width(
    network: Network,
    values: Mapping[str, Tensor],
    x: Tensor,
    cut: Sequence[int],
    asked: Sequence[int],
    fixed: Given,
    joint: bool = True,
) -> int:
    """Numbers that one row takes at one draw."""
    one = {name: value[:1] for name, value in values.items()}
    lanes = lanes_of(network, one, one_of(x), cut, asked, fixed)
    blocks = [block.configurations * len(block.columns) ** 2 for block in network.gaussian_blocks]
    free = {*range(len(network.sizes))} - {*cut, *fixed}
    cells: int = sum(  # of tables that each row is given at states of its own
        math.prod(network.sizes[label] for label in free.intersection(table.labels))
        for table in network.tables
        if not free.issuperset(table.labels)
    )
    output = lanes.free or (tuple(column for column in asked if network.sizes[column]) if joint else ())
    return max([1, cells, *blocks, plan_of(lanes.factors, output).width if lanes.factors else 1])


def one_of(x: Tensor) -> Tensor:
    """A row, (1, V), that has seen whatever any of rows (B, V) has."""
    return torch.where((~x.isnan()).any(0), x[:1].nan_to_num(0.0), torch.nan)


def _answered(
    network: Network, values: Mapping[str, Tensor], x: Tensor, cut: Sequence[int], asked: Sequence[int], fixed: Given
) -> tuple[Tensor, ...]:
    """Probabilities (S, B, *states), or mean and variance (S, B), and the log evidence (S, B), of rows (B, V)."""
    lanes = lanes_of(network, values, x, cut, asked, fixed)
    discrete = not asked or bool(network.sizes[asked[0]])
    output = tuple(asked) if discrete else lanes.free
    draws = max([1, *(len(value) for value in values.values())])
    log_evidence = lanes.offset.expand(draws, len(x))
    probs = log_evidence.new_ones(1, 1)
    if lanes.factors:
        value, scale = contract(lanes.factors, output)
        total = value.flatten(2).sum(-1) if output else value  # (S or 1, B or 1)
        probs = value / total[(...,) + (None,) * len(output)]
        log_evidence = log_evidence + total.log() + scale
    probs = probs.expand(draws, len(x), *probs.shape[2:])
    if discrete:
        return probs, log_evidence
    weight, mean, variance = (
        part.reshape(*part.shape[:2], -1) for part in (probs, lanes.mean, lanes.variance)
    )  # (S, B, K), of the configurations of the discrete parents that are left
    middle = (weight * mean).sum(-1)
    spread = (weight * (variance + (mean - middle.unsqueeze(-1)).square())).sum(-1)
    return middle, spread, log_evidence


def lanes_of(
    network: Network, values: Mapping[str, Tensor], x: Tensor, cut: Sequence[int], asked: Sequence[int], fixed: Given
) -> Lanes:
    """What rows (B, V) make of the tables and blocks that matter to a question, those of `cut` seen by all of them."""
    codes = {column: x[:, column].long() for column in cut if network.sizes[column]}
    seen = (~x.isnan()).any(0).nonzero().squeeze(-1).tolist()
    marks = {column: _mark(network, x, column) for column in seen if network.sizes[column] and column not in codes}
    relevant = network.graph.ancestors([*asked, *seen], fixed)
    active = [b for b in network.gaussian_blocks if any(c in seen or c in asked for c in b.columns)]
    for block in active:
        relevant |= network.graph.ancestors(block.switches, fixed)
    factors = [Factor(mark, (ROW, column)) for column, mark in marks.items()]
    offset = network.columns.centre.new_zeros(1, len(x), dtype=torch.float64)
    for table in network.tables:
        if table.column not in relevant or table.column in fixed:
            continue
        value, labels = network.factor(table, values, exact=True)
        value = value if DRAW in labels else value.unsqueeze(0)
        states = tuple(label for label in labels if label >= 0)
        set_ = tuple(int(fixed[label]) if label in fixed else slice(None) for label in states)
        value = value[(slice(None), *set_)]
        states = tuple(label for label in states if label not in fixed)
        value, left = _at_rows(value.unsqueeze(1), states, codes)
        if not left:
            offset = offset + value.log()
            continue
        lanes = [lane for lane, size in ((DRAW, value.shape[0]), (ROW, value.shape[1])) if size > 1]
        narrow = value[tuple(slice(None) if size > 1 else 0 for size in value.shape[:2])]
        factors.append(Factor(narrow, (*lanes, *left)))
    free: tuple[int, ...] = ()
    mean = variance = offset
    for block in active:
        log_density, moved, left, (loc, spread) = of_block(network, values, block, x, codes, marks, fixed)
        offset = offset + moved
        if left:
            factors.append(Factor(log_density.exp(), (DRAW, ROW, *left)))
        for column in asked:
            if column in block.columns:
                g = block.columns.index(column)
                free, mean, variance = left, loc[..., g], spread[..., g]
    return Lanes(factors, offset, free, mean, variance)


def _mark(network: Network, x: Tensor, column: int) -> Tensor:
    """One where a state is what the cell says, or the cell is missing, else zero, (B, C)."""
    cell = x[:, column, None]
    return (cell.isnan() | (cell == torch.arange(network.sizes[column], device=x.device))).to(x.dtype)


def _at_rows(
    value: Tensor, labels: Sequence[int], codes: Mapping[int, Tensor], rest: int = 0
) -> tuple[Tensor, tuple[int, ...]]:
    """A factor (S, B or 1, *labels, *rest) with the labels of `codes` at each row's own state; the labels left."""
    cut = [label for label in labels if label in codes]
    left = tuple(label for label in labels if label not in codes)
    if not cut:
        return value, left
    dims = {label: 2 + i for i, label in enumerate(labels)}
    order = [*(dims[label] for label in cut), 0, 1, *(dims[label] for label in left)]
    value = value.permute(*order, *range(value.ndim - rest, value.ndim))  # (*cut, S, B or 1, *left, *rest)
    rows = len(codes[cut[0]])
    place = torch.zeros(rows, dtype=torch.long, device=value.device)
    for label, size in zip(cut, value.shape, strict=False):
        place = place * size + codes[label]
    value = value.flatten(0, len(cut) - 1)  # (K, S, B or 1, *left, *rest)
    if value.shape[2] == 1:
        return value.squeeze(2)[place].transpose(0, 1), left
    return value[place, :, torch.arange(rows, device=value.device)].transpose(0, 1), left


def of_block(
    network: Network,
    values: Mapping[str, Tensor],
    block: Block,
    x: Tensor,
    codes: Mapping[int, Tensor],
    marks: Mapping[int, Tensor],
    fixed: Given,
) -> tuple[Tensor, Tensor, tuple[int, ...], tuple[Tensor, Tensor]]:
    """The log density of the real cells of a block in each configuration that is left, (S, B, *left), less the largest;
    the largest, (S, B); the labels left; and means and variances of the nodes, (S, B, *left, G).
    """
    free = [column for column in block.switches if column not in fixed]
    switches = {column: int(fixed[column]) for column in block.switches if column in fixed}
    seen = [column for column in block.columns if not x[:, column].isnan().all()]
    x = x.clone()
    for column in block.columns:
        if column in fixed:
            x[:, column] = fixed[column]
    z = network.standardised(x, block)[None]  # (1, B, G)
    said = moments(network.system(values, block, given=switches, fixed=tuple(fixed)), z.double())
    # A value that was set has no density.
    extra = 0.5 * math.log(2 * math.pi) * sum(column in fixed for column in block.columns)
    units = [network.columns.unit[column].double().log() * ~x[:, column].isnan() for column in seen]  # (B,) each
    log_density = said.log_density + extra - sum(units, x.new_zeros(len(x))).unsqueeze(-1)  # (S, B, K)
    sizes = [network.sizes[column] for column in free]
    shaped = [part.reshape(*part.shape[:2], *sizes, *part.shape[3:]) for part in
              (log_density, said.mean, said.covariance.diagonal(dim1=-2, dim2=-1).expand_as(said.mean))]  # fmt: skip
    density, left = _at_rows(shaped[0], free, codes)
    loc, spread = (_at_rows(part, free, codes, 1)[0] for part in shaped[1:])
    for i, column in enumerate(left):
        if column in marks:
            mark = marks[column].log()  # (B, C)
            density = density + mark.reshape(len(x), *(mark.shape[1] if j == i else 1 for j in range(len(left))))
    best = density.flatten(2).amax(-1) if left else density
    best = torch.where(best.isneginf(), 0.0, best)  # no configuration is possible, which the sum will tell
    centre, unit = (part[block.members].double() for part in (network.columns.centre, network.columns.unit))
    return density - best.reshape(*best.shape, *[1] * len(left)), best, left, (centre + unit * loc, unit**2 * spread)
