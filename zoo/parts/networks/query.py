"""Exact answers: P(variables | evidence, do(...)) by one einsum over what matters to the question.

An intervention do(a) takes away the arrows into a and sets its value (Pearl 2009, section 3.2); evidence keeps them.
Nodes without an asked or observed descendant are barren: their tables sum to one, and are left out (Shachter 1986).
Observed dimensions are cut out of tables before anything is multiplied. All is done at S draws of the tables at once,
in double precision.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.config import nearest
from zoo.parts.networks.factors import DRAW, Factor, contract, plan_of, quick
from zoo.parts.networks.gaussian import moments
from zoo.parts.networks.network import Network
from zoo.schema.column import listed
from zoo.settings import settings

SMALL = 1 << 12  # numbers, at all draws, up to which NumPy is quicker than torch
Given = Mapping[int, float]


class Belief(NamedTuple):
    """What a question is answered with, at each of S draws of the tables.

    Args:
        probs: of discrete variables together, (S, *states); None if the variables are real.
        mean: of each of Q real variables, (S, Q); None if they are discrete.
        variance: of each of them, (S, Q).
        log_evidence: log probability (density) of the evidence, under the intervention, (S,).
    """

    probs: Tensor | None
    mean: Tensor | None
    variance: Tensor | None
    log_evidence: Tensor


def answer(
    network: Network,
    values: Mapping[str, Tensor],
    variables: Sequence[str],
    evidence: Mapping[str, Any],
    do: Mapping[str, Any],
) -> Belief:
    """The distribution of the variables given evidence and interventions.

    Args:
        network: the graph and its known tables.
        values: S draws of the sites of its learned tables and equations, (S, ...).
        variables: names; all discrete, or all real.
        evidence: values of nodes that were observed, in the user's words and units.
        do: values of nodes that were set.

    Raises:
        ValueError: a node or state that does not exist (with the nearest that does), a node asked for and given, or
            observed and set, variables of both kinds, tables that are not known and have no draws, evidence of
            probability zero, or a factor too large; each is named.
    """
    asked = checked(network, values, variables, evidence, do)
    real = [column for column in asked if not network.sizes[column]]
    seen = {node_of(network, name): code_of(network, name, value) for name, value in evidence.items()}
    fixed = {node_of(network, name): code_of(network, name, value) for name, value in do.items()}
    values = {name: values[name].double() for name in network.sites}
    if real:
        single = [_moments(network, values, column, seen, fixed) for column in real]
        mean, variance = (torch.stack([one[i] for one in single], -1) for i in (0, 1))
        belief = Belief(None, mean, variance, single[0][2])
    else:
        belief = Belief(None, None, None, torch.empty(0))
        probs, log_evidence = _joint(network, values, asked, seen, fixed)
        belief = Belief(probs, None, None, log_evidence)
    if belief.log_evidence.isneginf().any():
        raise ValueError(f"the evidence {told(evidence, do)} has probability zero")
    return belief


def checked(
    network: Network,
    values: Mapping[str, Tensor],
    variables: Sequence[str],
    evidence: Collection[str],
    do: Mapping[str, Any],
) -> list[int]:
    """The columns that are asked for.

    Raises:
        ValueError: see `answer`.
    """
    asked = [node_of(network, name) for name in variables]
    if not asked:
        raise ValueError("ask for at least one variable")
    for name in variables:
        if list(variables).count(name) > 1:
            raise ValueError(f"'{name}' is asked for twice")
        if name in evidence or name in do:
            raise ValueError(f"'{name}' is asked for, and given: {told(evidence, do)}")
    real = [column for column in asked if not network.sizes[column]]
    if real and len(real) < len(asked):
        names = [", ".join(network.graph.names[c] for c in asked if bool(network.sizes[c]) == kind) for kind in (1, 0)]
        raise ValueError(f"{names[0]} are discrete and {names[1]} are real: ask for them one after the other")
    check_given(network, values, evidence, do)
    return asked


def check_given(
    network: Network, values: Mapping[str, Tensor], evidence: Collection[str], do: Mapping[str, Any]
) -> None:
    """Refuse nodes that do not exist or are observed and set, and tables that are neither known nor drawn."""
    for name in evidence:
        node_of(network, name)
        if name in do:
            raise ValueError(f"'{name}' is observed and set: take it out of the evidence or out of do")
    for name in network.sites:
        if name not in values:
            raise ValueError(f"the tables behind '{name}' are not known: give a posterior of them")


def node_of(network: Network, name: str) -> int:
    """The column of a node.

    Raises:
        ValueError: there is none of that name.
    """
    names = network.graph.names
    if name not in names:
        raise ValueError(f"no node '{name}'{nearest(str(name), names)}; nodes: {listed(names)}{network.note}")
    return names.index(name)


def code_of(network: Network, name: str, value: Any) -> float:
    """The number that stands for a value of a node.

    Raises:
        ValueError: the node has no such state, or the value is missing.
    """
    column = network.columns.columns[node_of(network, name)]
    if column.categories and value not in column.categories and str(value) not in map(str, column.categories):
        states = list(map(str, column.categories))
        raise ValueError(f"node '{name}' has no state {value!r}{nearest(str(value), states)}; states: {listed(states)}")
    code = float(column.encode([value])[0])
    if code != code:  # noqa: PLR0124 - NaN
        raise ValueError(f"node '{name}': expected a value, got {value!r}; leave out what is not known")
    return code


def told(evidence: Collection[str], do: Mapping[str, Any]) -> str:
    """What is given, in words: with its values where the evidence has them, of a single row."""
    seen = (f"{name}={evidence[name]}" if isinstance(evidence, Mapping) else name for name in evidence)
    return ", ".join([*seen, *(f"do({n}={v})" for n, v in do.items())])


def _joint(
    network: Network, values: Mapping[str, Tensor], asked: Sequence[int], seen: Given, fixed: Given
) -> tuple[Tensor, Tensor]:
    """P(asked | seen, do fixed), (S, *states), and the log probability of `seen`, (S,)."""
    factors, offset, _ = _factors(network, values, asked, seen, fixed)
    return _normalised(network, factors, offset, asked)


def _moments(
    network: Network, values: Mapping[str, Tensor], asked: int, seen: Given, fixed: Given
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of a real node given `seen` and do `fixed`, and the log density of `seen`, each (S,)."""
    factors, offset, (free, mean, variance) = _factors(network, values, [asked], seen, fixed)
    probs, log_evidence = _normalised(network, factors, offset, free)
    probs = probs.reshape(len(probs), -1)  # (S, K), of the configurations of the discrete parents
    middle = (probs * mean).sum(-1)
    spread = (probs * (variance + (mean - middle.unsqueeze(-1)).square())).sum(-1)
    return middle, spread, log_evidence


def _factors(
    network: Network, values: Mapping[str, Tensor], asked: Sequence[int], seen: Given, fixed: Given
) -> tuple[list[Factor], Tensor, tuple[tuple[int, ...], Tensor, Tensor]]:
    """The factors that matter, with what is given cut out, and the logarithm of those without a dimension left, (S,).

    Besides, of a real node that is asked for: the discrete parents of its block that are not given, and its mean and
    variance in each of their configurations, (S, K).
    """
    given = {**seen, **fixed}
    relevant = network.graph.ancestors([*asked, *seen], fixed)
    active = [b for b in network.gaussian_blocks if any(c in seen or c in asked for c in b.columns)]
    for block in active:
        relevant |= network.graph.ancestors(block.switches, fixed)
    factors: list[Factor] = []
    offset = network.columns.centre.new_zeros(1, dtype=torch.float64)
    for table in network.tables:
        if table.column not in relevant or table.column in fixed:
            continue
        value, labels = network.factor(table, values, exact=True)
        left = tuple(label for label in labels if label not in given)
        if len(left) < len(labels):
            value = value[tuple(int(given[label]) if label in given else slice(None) for label in labels)]
        if any(label >= 0 for label in left):
            factors.append(Factor(value, left))
        else:
            offset = offset + value.log()
    conditional: tuple[tuple[int, ...], Tensor, Tensor] = ((), offset, offset)
    for block in active:
        free = tuple(column for column in block.switches if column not in given)
        switches = {column: int(given[column]) for column in block.switches if column in given}
        cells = [given.get(column, torch.nan) for column in block.columns]
        centre, unit = (part[block.members].double() for part in (network.columns.centre, network.columns.unit))
        z = (torch.tensor([[cells]], dtype=torch.float64, device=unit.device) - centre) / unit
        system = network.system(values, block, given=switches, fixed=tuple(fixed))
        said = moments(system, z)
        # A value that was set has no density.
        observed = torch.tensor([column in seen for column in block.columns], device=unit.device)
        extra = 0.5 * math.log(2 * math.pi) * sum(column in fixed for column in block.columns)
        log_density = said.log_density[:, 0] + extra - (observed * unit.log()).sum()  # (S, K)
        if free:
            best = log_density.amax(-1, keepdim=True)
            density = (log_density - best).exp().unflatten(-1, [network.sizes[column] for column in free])
            factors.append(Factor(density, (DRAW, *free)))
            log_density = best
        offset = offset + log_density.squeeze(-1)
        for g, column in enumerate(block.columns):
            if column in asked:
                mean = centre[g] + unit[g] * said.mean[:, 0, :, g]
                conditional = (free, mean, unit[g].square() * said.covariance[:, 0, :, g, g])
    return factors, offset, conditional


def _normalised(
    network: Network, factors: list[Factor], offset: Tensor, output: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The sum of products over all but `output`, divided by its total, (S, *output), and the log of that, (S,)."""
    draws = max([len(offset), *(len(value) for value, labels in factors if DRAW in labels)])
    if not factors:
        return offset.new_ones(draws), offset.expand(draws)
    one = [Factor(value[:1], labels) if DRAW in labels else Factor(value, labels) for value, labels in factors]
    found = plan_of(one, tuple(output))
    most = settings.network_question
    if found.width > most:
        nodes = ", ".join(network.graph.names[i] for i in found.largest)
        raise ValueError(f"the question takes a factor over {nodes}: {found.width:,} numbers, at most {most:,}")
    if draws * found.width <= SMALL and offset.device.type == "cpu":
        probs, log_total = quick(factors, found.steps)
    else:
        step = max(1, settings.memory // found.width)
        parts = []
        for begin in range(0, draws, step):
            some = [
                Factor(v[begin : begin + step], names) if DRAW in names else Factor(v, names) for v, names in factors
            ]
            value, scale = contract(some, tuple(output))
            mass = value.flatten(1).sum(-1)  # (S or 1,)
            parts.append((value[:, 0] / mass.reshape(-1, *[1] * len(output)), mass.log() + scale[:, 0]))
        probs, log_total = torch.cat([part for part, _ in parts]), torch.cat([log for _, log in parts])
    return probs.expand(draws, *probs.shape[1:]), log_total + offset
