"""What a network is told: one row of values by the name of their node, or many rows of a frame.

`evidence` and `given` are the same argument under two names: the one of Bayes' rule, and the one of P(a given b).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inference.data.accept import is_table
from inference.data.check import check_pair
from inference.running.words import told
from zoo.abilities import Network
from zoo.base import ModelGuide
from zoo.config import nearest
from zoo.schema.column import listed, plain
from zoo.schema.schema import as_columns


class Rows(NamedTuple):
    """Many rows of evidence: N values by node, None where nothing is known, and what the rows are called."""

    columns: dict[str, list[Any]]
    index: Any  # of the frame; None: they are numbered

    @property
    def size(self) -> int:
        """Their number N."""
        return len(next(iter(self.columns.values())))


def check_network(pair: Any) -> Any:
    """A pair that can be asked.

    Raises:
        ValueError: it is none.
    """
    check_pair(pair)
    network: Any = pair
    if not isinstance(pair, Network) or network.schema is None:
        raise ValueError(f"{network.name} is no network that can be asked")
    return network


def accepted(pair: ModelGuide, evidence: Any, given: Any = None) -> dict[str, Any] | Rows:
    """The evidence as values by node, or as rows of them.

    Args:
        pair: a network.
        evidence: a mapping of nodes to values, a row of a frame; or many: a frame, a mapping of nodes to lists, a list
            of mappings. Of a row or frame missing cells say nothing, and so do columns that the schema ignores.
        given: the same under its other name.

    Raises:
        ValueError: both were given, none of these, or a column that is no node.
    """
    if evidence is not None and given is not None:
        raise ValueError("evidence and given are two names of one argument: give one of them")
    name = "evidence" if given is None else "given"
    found = evidence if given is None else given
    if found is None:
        return {}
    if isinstance(found, (list, tuple)) and found and all(isinstance(row, Mapping) for row in found):
        nodes = dict.fromkeys(node for row in found for node in row)
        found = {node: [row.get(node) for row in found] for node in nodes}
    if is_table(found):
        return _rows(pair, found, name)
    if not isinstance(found, Mapping) and hasattr(found, "to_dict") and getattr(found, "ndim", None) == 1:
        values = {node: value for node, value in found.to_dict().items() if plain(value) is not None}
        return {node: value for node, value in values.items() if node not in _ignored(pair)}
    if not isinstance(found, Mapping):
        wanted = "a dict of values by the name of a node, or a frame of rows"
        raise ValueError(f"{name}: expected {wanted}, got {told(found)}")
    return dict(found)


def _rows(pair: ModelGuide, table: Any, name: str) -> Rows:
    nodes: Sequence[str] = pair.schema.names if pair.schema is not None else ()
    columns = {node: list(map(plain, cells)) for node, cells in as_columns(table)[0].items()}
    columns = {node: cells for node, cells in columns.items() if node not in _ignored(pair)}
    for node in columns:
        if node not in nodes:
            raise ValueError(f"{name}: column '{node}' is no node{nearest(node, nodes)}; nodes: {listed(nodes)}")
    if not columns:
        raise ValueError(f"{name}: no column is a node; nodes: {listed(nodes)}")
    return Rows(columns, table.index if hasattr(table, "iloc") else None)


def _ignored(pair: ModelGuide) -> set[str]:
    return {column.name for column in pair.schema or () if column.kind == "ignored"}


def in_words(evidence: Mapping[str, Any], do: Mapping[str, Any]) -> str:
    """What is given, as in P(a | b = yes, do(c = no))."""
    return ", ".join([*(f"do({n} = {v})" for n, v in do.items()), *(f"{n} = {v}" for n, v in evidence.items())])
