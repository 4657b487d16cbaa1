"""Tables and equations of a network in words: `P(dysp = yes | bronc = yes, either = no)`, a name for each number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from zoo.parts.networks.gaussian import Equation
from zoo.parts.networks.network import Network, Table


def probabilities(network: Network, table: Table) -> list[str]:
    """What each cell of a table is, row by row, the last parent fastest."""
    node = network.graph.names[table.column]
    states = network.columns.columns[table.column].categories
    given = configurations(network, table.parents)
    return [f"P({node} = {state}{bar})" for bar in given for state in states]


def of_sites(network: Network) -> dict[str, list[str]]:
    """What each number of each site of learned tables and equations is, in the order of the site's entries."""
    found: dict[str, list[str]] = {f"probs_{C}": [] for C in network.groups}
    for table in network.tables:
        if table.first is not None:
            found[f"probs_{table.shape[-1]}"] += probabilities(network, table)
    for P in network.terms:
        members = [equation for equation in network.equations if len(equation.slopes) == P]
        found[f"variance_{P}"] = [f"variance of {name}" for e in members for name in _rows(network, e)]
        found[f"coefficients_{P}"] = [
            f"{term} of {name}" for e in members for name in _rows(network, e) for term in _terms(network, e)
        ]
    return found


def configurations(network: Network, parents: Sequence[int]) -> Iterator[str]:
    """` | parent = state, …` of each configuration of discrete parents, the last one fastest; one, empty, of none."""
    names = [network.graph.names[parent] for parent in parents]
    for states in itertools.product(*(network.columns.columns[parent].categories for parent in parents)):
        said = ", ".join(f"{name} = {state}" for name, state in zip(names, states, strict=True))
        yield f" | {said}" if said else ""


def _rows(network: Network, equation: Equation) -> list[str]:
    """What is explained by each row of an equation: `growth | grass = wet`."""
    name = network.graph.names[equation.column]
    return [f"{name}{bar}" for bar in configurations(network, equation.switches)]


def _terms(network: Network, equation: Equation) -> list[str]:
    """What each coefficient is: the mean where the real parents are at their centres, then their slopes."""
    return ["mean", *(f"slope in {network.graph.names[slope]}" for slope in equation.slopes)]
