"""The Bayesian network Interchange Format: discrete networks as text, read and written (Cozman 1998, version 0.15).

    network unknown { }
    variable tub { type discrete [ 2 ] { yes, no }; }
    probability ( tub | asia ) { (yes) 0.05, 0.95; (no) 0.01, 0.99; }

A `table` lists P(child | parents) with the child first and the last parent fastest; a line in brackets names the
states of the parents; `default` fills what no line names. Properties and comments are passed over. Numbers are kept to
the last digit, whatever they sum to: whoever uses the tables checks them.
"""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo import datasets
from zoo.parts.networks.bif import grammar, tokens
from zoo.parts.networks.graph import Edge, Edges
from zoo.schema.schema import Schema
from zoo.settings import settings

EMBEDDED = Path(datasets.__file__).parent / "networks"
_PLAIN = re.compile(r"[^\s{}()\[\]|,;\"/]+")


class BIF(NamedTuple):
    """What a file says.

    Args:
        name: of the network.
        columns: its nodes, with their states in order.
        edges: its arrows; parents of a node in the order of its table.
        tables: P(node | parents) of each node, nested lists (*parents, C).
    """

    name: str
    columns: Schema
    edges: Edges
    tables: dict[str, Any]


def read(path: str | Path) -> BIF:
    """A network from a file of at most 32 MiB, which may be compressed by gzip, or an embedded one by its name.

    Embedded is `asia`, also as `asia.bif` where there is no such file.

    Raises:
        ValueError: no such file, an oversized one, or one that is no BIF; the line is named.
    """
    path = Path(path)
    if not path.is_file():
        if str(path).removesuffix(".bif") not in names():
            raise ValueError(f"no file '{path}'; embedded networks: {', '.join(names())}")
        path = EMBEDDED / path.with_suffix(".bif")
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as opened:
            content = opened.read(settings.bif_bytes + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read '{path}': {error}") from None
    if len(content) > settings.bif_bytes:
        raise ValueError(f"'{path}': holds more than {settings.bif_bytes} bytes")
    try:
        return parse(content.decode())
    except UnicodeDecodeError:
        raise ValueError(f"'{path}': no text in UTF-8") from None
    except ValueError as error:
        raise ValueError(f"'{path}': {error}") from None


def names() -> list[str]:
    """Names of the embedded networks."""
    return sorted(path.stem for path in EMBEDDED.glob("*.bif"))


def parse(text: str) -> BIF:
    """A network from the text of a file.

    Raises:
        ValueError: it is no BIF, a table has cells too many, too few or that are no probabilities, or it names what
            does not exist; the line is named.
    """
    found = grammar.Parser(tokens.split(text))
    found.network()
    kinds = {node: "binary" if len(states) == 2 else "categorical" for node, states in found.states.items()}
    return BIF(
        found.name,
        Schema.of([(node, kinds[node], states) for node, states in found.states.items()]),
        Edges([Edge(parent, node) for node in found.states for parent in found.parents[node]]),
        {node: found.tables[node].tolist() for node in found.states},
    )


def write(network: BIF) -> str:
    """The text of a network; numbers as Python writes them, so that reading gives the same to the last digit.

    Raises:
        ValueError: a name that the format cannot hold, or a node that is not discrete.
    """
    parents: dict[str, list[str]] = {column.name: [] for column in network.columns.used}
    for edge in network.edges:
        parents[edge.child].append(edge.parent)
    states = {column.name: [_name(str(state)) for state in column.categories] for column in network.columns.used}
    lines = [f"network {_name(network.name)} {{", "}"]
    for node, names in states.items():
        if not names:
            raise ValueError(f"node '{node}' is not discrete: the format has no place for it")
        lines += [f"variable {_name(node)} {{", f"  type discrete [ {len(names)} ] {{ {', '.join(names)} }};", "}"]
    for node, given in parents.items():
        bar = f" | {', '.join(map(_name, given))}" if given else ""
        lines.append(f"probability ( {_name(node)}{bar} ) {{")
        table = np.asarray(network.tables[node], dtype=np.float64)
        for row in np.ndindex(table.shape[:-1]):
            start = f"({', '.join(states[p][i] for p, i in zip(given, row, strict=True))})" if given else "table"
            lines.append(f"  {start} {', '.join(map(repr, table[row].tolist()))};")
        lines.append("}")
    return "\n".join(lines) + "\n"


def _name(name: str) -> str:
    """A name as the format takes it: in quotation marks where it is more than a plain word."""
    if _PLAIN.fullmatch(name):
        return name
    if '"' in name or "\n" in name:
        raise ValueError(f"the format cannot hold the name {name!r}")
    return f'"{name}"'
