"""Where everything in a Bayesian network stands: tables of discrete nodes, equations of Gaussian ones, blocks of these.

Tables with C categories lie one below the other in one site `probs_C`, a row for each configuration of the parents, the
last parent fastest; equations with P Gaussian parents in `variance_P` and `coefficients_P`. Known tables are constants.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from zoo.parts.networks.factors import DRAW, Factor
from zoo.parts.networks.gaussian import Block, Equation, System
from zoo.parts.networks.graph import Edges, Graph
from zoo.parts.tables.columns import Columns
from zoo.schema.column import CATEGORIES, Column
from zoo.settings import settings

TOLERANCE = 1e-6  # published tables have seven digits


class Table(NamedTuple):
    """Where the table of a discrete node stands.

    Args:
        column: of the node.
        parents: columns, in the order of the table's dimensions.
        shape: (*parents, C).
        first: its first row in the site of all learned tables of C categories; None if it is known.
    """

    column: int
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    first: int | None

    @property
    def labels(self) -> tuple[int, ...]:
        """Columns, in the order of the table's dimensions."""
        return (*self.parents, self.column)


class Network(nn.Module):
    """Where everything stands: tables, equations, blocks, and the tables that are known.

    Args:
        columns: of the matrix, one a node: categories or real.
        edges: the arrows.
        known: tables that are not learned, by name, (*parents, C).
        note: what to add where a node is asked for that does not exist.

    Raises:
        ValueError: a column of another kind, a Gaussian parent of a discrete node, an arrow to nowhere, a cycle, too
            many configurations, or a known table of the wrong shape or that does not sum to one.
    """

    blocks: nn.ModuleList
    certain: Tensor

    def __init__(self, columns: Sequence[Column], edges: Edges, known: Mapping[str, Any], note: str = "") -> None:
        super().__init__()
        self.note = note
        self.columns = Columns(columns)
        self.graph = Graph([column.name for column in columns], edges)
        self.sizes = tuple(len(column.categories) for column in columns)
        self.tables: list[Table] = []
        self.equations: list[Equation] = []
        self.groups: dict[int, int] = {}  # categories C -> rows of learned tables
        self.terms: dict[int, int] = {}  # slopes P -> rows of equations
        for name in known:
            if name not in self.graph.names:
                raise ValueError(f"tables: no node '{name}'; nodes: {', '.join(self.graph.names)}")
        for node, column in enumerate(columns):
            parents = self.graph.parents[node]
            if column.kind in CATEGORIES:
                self._add_table(node, parents, column.name in known)
            elif column.kind == "real":
                self._add_equation(node, parents, column.name in known)
            else:
                raise ValueError(
                    f"column '{column.name}': a node is real or has categories, this one is {column.kind}; "
                    f"call it 'real' (or 'ignored'), or cut it into categories"
                )
        self.groups, self.terms = dict(sorted(self.groups.items())), dict(sorted(self.terms.items()))
        self.known = {t.column: self._known(t, known[columns[t.column].name]) for t in self.tables if t.first is None}
        self.proper = {column: found / found.sum(-1, keepdims=True) for column, found in self.known.items()}
        self.register_buffer("certain", torch.empty(sum(table.size for table in self.known.values())))
        self.places = dict(
            zip(self.known, itertools.accumulate([0, *(t.size for t in self.known.values())]), strict=False)
        )
        self._fill()
        for P in self.terms:  # of each row of the equations with P slopes: its column, those of its slopes
            members = [equation for equation in self.equations if len(equation.slopes) == P]
            counts = torch.tensor([equation.size for equation in members])
            slopes = torch.tensor([equation.slopes for equation in members], dtype=torch.long).reshape(len(members), P)
            columns_ = torch.tensor([equation.column for equation in members])
            self.register_buffer(f"column_{P}", columns_.repeat_interleave(counts))
            self.register_buffer(f"slopes_{P}", slopes.repeat_interleave(counts, 0))
        blocks = self.graph.components([equation.column for equation in self.equations])
        by_column = {equation.column: equation for equation in self.equations}
        self.blocks = nn.ModuleList(self._block([by_column[node] for node in nodes]) for nodes in blocks)

    def _add_table(self, node: int, parents: tuple[int, ...], known: bool) -> None:
        for parent in parents:
            if not self.sizes[parent]:
                names = self.graph.names[parent], self.graph.names[node]
                raise ValueError(f"arrow {names[0]} -> {names[1]}: a discrete node cannot have a real parent")
        size = self.sizes[node]
        shape = (*(self.sizes[parent] for parent in parents), size)
        if math.prod(shape) > settings.network_table:
            raise ValueError(
                f"table of '{self.graph.names[node]}': {math.prod(shape):,} cells, at most {settings.network_table:,}"
            )
        self.tables.append(Table(node, parents, shape, None if known else self.groups.get(size, 0)))
        if not known:
            self.groups[size] = self.groups.get(size, 0) + math.prod(shape[:-1])

    def _add_equation(self, node: int, parents: tuple[int, ...], known: bool) -> None:
        if known:
            raise ValueError(f"tables: '{self.graph.names[node]}' is real and has no table")
        switches = tuple(parent for parent in parents if self.sizes[parent])
        slopes = tuple(parent for parent in parents if not self.sizes[parent])
        count = math.prod(self.sizes[parent] for parent in switches)
        first = self.terms.get(len(slopes), 0)
        self.equations.append(Equation(node, switches, slopes, first, count))
        self.terms[len(slopes)] = first + count

    def _block(self, equations: list[Equation]) -> Block:
        switches = {column for equation in equations for column in equation.switches}
        count = math.prod(self.sizes[column] for column in switches)
        if count * len(equations) ** 2 > settings.network_row:
            nodes = ", ".join(self.graph.names[equation.column] for equation in equations)
            raise ValueError(
                f"the real nodes {nodes} hang together and their discrete parents have {count:,} configurations: "
                f"{count * len(equations) ** 2:,} numbers a row, at most {settings.network_row:,}"
            )
        return Block(equations, self.sizes)

    def _known(self, table: Table, given: Any) -> NDArray[np.float64]:
        name = self.graph.names[table.column]
        try:
            found = np.array(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"table of '{name}': expected numbers of shape {table.shape}") from None
        if found.shape != table.shape:
            raise ValueError(f"table of '{name}': expected shape {table.shape}, got {found.shape}")
        if not ((found >= 0) & (found <= 1)).all():
            raise ValueError(f"table of '{name}': holds what is no probability")
        total = found.sum(-1)
        if (wrong := np.abs(total - 1) > TOLERANCE).any():
            row = tuple(np.argwhere(wrong)[0].tolist())
            states = [f"{self.graph.names[p]}={self.columns.columns[p].categories[i]}"
                      for p, i in zip(table.parents, row, strict=True)]  # fmt: skip
            where = f" given {', '.join(states)}" if states else ""
            raise ValueError(f"table of '{name}': P({name}{where}) sums to {total[row]:.9g}, not to one")
        return found

    def _fill(self) -> None:
        if self.known:
            exact = np.concatenate([table.reshape(-1) for table in self.known.values()])
            self.certain.copy_(torch.from_numpy(exact))

    def _apply(self, fn: Any, recurse: bool = True) -> Network:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._fill()  # in double precision the known tables are what was given, not what single precision made of it
        return self

    @property
    def sites(self) -> list[str]:
        """Names of the sites of tables and equations that are learned."""
        names = [f"probs_{C}" for C in self.groups]
        return names + [f"{part}_{P}" for P in self.terms for part in ("variance", "coefficients")]

    def factor(self, table: Table, values: Mapping[str, Tensor], exact: bool = False) -> Factor:
        """The table of a discrete node at S draws.

        Args:
            table: of which node.
            values: `probs_C`, (S, R, C).
            exact: take a known table in double precision, its rows divided by their sums: published ones are off one
                by a few millionths, and a node that nothing is known below would count for that much.
        """
        if table.first is None:
            if exact:
                return Factor(torch.from_numpy(self.proper[table.column]).to(self.certain.device), table.labels)
            return Factor(self.certain_rows(table).reshape(table.shape), table.labels)
        rows = values[f"probs_{table.shape[-1]}"][:, table.first : table.first + math.prod(table.shape[:-1])]
        # Draws of a Dirichlet underflow to zero, which no cell of the data may meet.
        rows = rows.clamp(min=torch.finfo(rows.dtype).tiny)
        return Factor(rows.reshape(-1, *table.shape), (DRAW, *table.labels))

    def certain_rows(self, table: Table) -> Tensor:
        """A known table, (R, C)."""
        begin = self.places[table.column]
        return self.certain[begin : begin + math.prod(table.shape)].reshape(-1, table.shape[-1])

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Take centre and unit of real columns from the cells of a table, (N, V); a hidden column has 0 and 1."""
        self.columns.standardise(x)
        hidden = x.isnan().all(0)
        self.columns.centre[hidden] = 0.0
        self.columns.unit[hidden] = 1.0

    def scales(self, P: int) -> tuple[Tensor, Tensor, Tensor]:
        """Centre and unit of the nodes of all equations with P slopes, (R,), and units of their terms, (R, P + 1).

        The unit of the first term, the constant, is one.
        """
        column, slopes = self.get_buffer(f"column_{P}"), self.get_buffer(f"slopes_{P}")
        terms = torch.nn.functional.pad(self.columns.unit[slopes], (1, 0), value=1.0)
        return self.columns.centre[column], self.columns.unit[column], terms

    def system(self, values: Mapping[str, Tensor], block: Block, **how: Any) -> System:
        """The equations of a block at S draws, in standardised units."""
        return block.system(values, self.columns.centre, self.columns.unit, **how)

    def standardised(self, x: Tensor, block: Block) -> Tensor:
        """Cells of a block's nodes in standardised units, (*, G)."""
        members = block.members
        return (x[..., members] - self.columns.centre[members]) / self.columns.unit[members]

    def log_units(self, x: Tensor, block: Block) -> Tensor:
        """What standardising adds to the log density of rows, (*, 1)."""
        seen = ~x[..., block.members].isnan()
        return (seen * self.columns.unit[block.members].log()).sum(-1, keepdim=True)

    @property
    def gaussian_blocks(self) -> list[Block]:
        """The blocks."""
        return [cast(Block, block) for block in self.blocks]
