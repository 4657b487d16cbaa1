"""Bayesian network: any directed acyclic graph over discrete and linear-Gaussian nodes.

For nodes d = 1..V, configurations u of the discrete parents of a node, and rows n = 1..N,

    probs_C         p_du ~ Dirichlet(alpha, ..., alpha)            nodes of C categories, one site for all of them
    variance_P      v_du ~ InverseGamma(a, b u_d^2)                real nodes with P real parents, one site each
    coefficients_P  w_du ~ Normal((c_d, 0, ..., 0), sqrt(v_du / kappa) / (1, u_1, ..., u_P))
    x               x_nd given its parents ~ Categorical(p_du)                                          discrete
                                             Normal(w_du0 + sum_j w_duj (x_nj - c_j), sqrt(v_du))       real

A missing cell (NaN) of a row is summed or integrated out, exactly and for every pattern of holes; a node without any
cell is hidden. Real nodes may have parents of both kinds, discrete nodes discrete ones only (Lauritzen 1992). Only x is
local, and observed; all latents are global. c_d and u_d, centre and unit of a real column, are set by `fit`: the prior
knows no units. A table may be known instead.

The guide has one factor a site, of the family that is conjugate to it, with parameters that are learned,

    q(p) q(v) q(w | v) = Dirichlet InverseGamma Normal(m, v L L^T)

With complete rows the posterior has this very form, in closed form, and `fit` starts there.

Held against, in `test_bayesian_network.py`: pgmpy on asia, alarm and child, all marginals and 20 conditionals each
(largest difference 2e-16); the conjugate posterior of complete data (sd of log p - log q over draws 3e-13); rows of
mixed nodes with 64 patterns of holes by SciPy (1e-9); kidney stones by the back door, success 0.8325 given
do(treatment) and 0.780 as observed, both as published.

References: Lauritzen & Spiegelhalter (1988), "Local computations with probabilities on graphical structures and their
application to expert systems"; Spiegelhalter & Lauritzen (1990), "Sequential updating of conditional probabilities on
directed graphical structures"; Lauritzen (1992), "Propagation of probabilities, means and variances in mixed graphical
association models"; Pearl (2009), "Causality", for interventions.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from zoo.abilities import InTheirUnits
from zoo.base import Batch, ModelGuide, register
from zoo.config import Positive
from zoo.parts.conditionals import Conditional
from zoo.parts.conjugate.factors import Learned
from zoo.parts.conjugate.inverse_gamma import InverseGamma
from zoo.parts.conjugate.linear import Coefficients, LearnedCoefficients
from zoo.parts.constants import constants
from zoo.parts.networks import explain, learning, many, query, words
from zoo.parts.networks.bif import file
from zoo.parts.networks.graph import Edges
from zoo.parts.networks.known import Tables
from zoo.parts.networks.network import Network
from zoo.parts.networks.row import NetworkRow, log_prob, width
from zoo.rows import nth
from zoo.schema.column import listed
from zoo.schema.schema import Schema
from zoo.suiting import Suit, columns, left_out

GARDEN = Schema.of(
    [
        ("rain", "binary", ("no", "yes")),
        ("sprinkler", "binary", ("no", "yes")),
        ("grass", "categorical", ("dry", "damp", "wet")),
        ("warmth", "real"),
        ("growth", "real"),
    ]
)
ARROWS = Edges.of(
    {"sprinkler": ["rain"], "grass": ["rain", "sprinkler"], "warmth": ["rain"], "growth": ["grass", "warmth"]}
)


@register("bayesian_network")
class BayesianNetwork(ModelGuide):
    """Bayesian network (Lauritzen & Spiegelhalter 1988) whose tables have priors, or are known.

    Its joint density stands at the top of this file.

    Args:
        columns: the schema of x: its nodes, `real` or of categories; those that are `ignored` are left out. Without
            columns, edges and tables it is the network of a garden, an example.
        edges: the arrows, (parent, child) pairs or a mapping of children to parents; by default none.
        tables: those of discrete nodes that are known, by name: (*parents, C) nested lists, parents in the order of
            their arrows. The tables of all other nodes are learned.
        concentration: alpha, prior rows of each cell of a table.
        coefficient_count: kappa, prior rows that stand at the centre of their column.
        variance_concentration: a; 2a prior rows of a variance.
        variance_rate: b; together they have a sum of squares of 2b squared units.

    Raises:
        ValueError: arrows or tables without columns, a column of another kind, a real parent of a discrete node, an
            arrow at a node that does not exist, a cycle, a table of the wrong shape or that does not sum to one, too
            many configurations of the discrete parents of real nodes.
    """

    adapts: ClassVar = ("edges",)
    schema: Schema
    factors: nn.ModuleDict

    def __init__(
        self,
        columns: Schema | None = None,
        edges: Edges | None = None,
        tables: Tables | None = None,
        concentration: Positive = 1.0,
        coefficient_count: Positive = 0.1,
        variance_concentration: Positive = 1.0,
        variance_rate: Positive = 0.1,
    ) -> None:
        super().__init__()
        example = columns is None and edges is None and tables is None
        if columns is None and not example:
            named = dict.fromkeys([*itertools.chain(*(edges or ())), *(tables or ())])
            raise ValueError(
                f"bayesian_network: nothing says what the nodes {listed(named)} are: give their kinds and states too, "
                "columns=Schema.infer(table) or columns=[(name, kind, states), …]"
            )
        self.schema, self.edges = (GARDEN, ARROWS) if example else (cast(Schema, columns), edges or Edges())
        note = " (bayesian_network was made without columns, as this example)" if example else ""
        self.network = Network(self.schema.used, self.edges, tables or {}, note)
        constants(self, alpha=concentration, kappa=coefficient_count, a=variance_concentration, b=variance_rate)
        prior = self.prior()
        self.factors = nn.ModuleDict()
        for name, factor in prior.items():
            if isinstance(factor, Coefficients):
                self.factors[name] = LearnedCoefficients(factor, prior[name.replace("coefficients", "variance")].point)
            else:
                self.factors[name] = Learned(factor)
        self.dims = {  # type: ignore[misc]
            **{f"probs_{C}": (f"row_{C}", f"category_{C}") for C in self.network.groups},
            **{f"variance_{P}": (f"equation_{P}",) for P in self.network.terms},
            **{f"coefficients_{P}": (f"equation_{P}", f"term_{P}") for P in self.network.terms}, "x": ("column",),
        }  # fmt: skip

    formats: ClassVar = (".bif", ".bif.gz")

    @classmethod
    def read(cls, path: str | Path, *, learned: bool = False) -> dict[str, Any]:
        """The arguments that a BIF file stands for; without its tables where these are to be learned.

        Raises:
            ValueError: the file is no BIF (see `zoo.parts.networks.bif.file.read`).
        """
        found = file.read(path)
        known = {} if learned else {"tables": Tables.of(found.tables)}
        return {"columns": found.columns, "edges": found.edges, **known}

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Columns that are `binary` or `real`, and no arrows: nothing in a table says what depends on what.

        In a schema that is given, quantities are `real`: a node knows no others.
        """
        found = super().suits(data, given)
        if "columns" in found.arguments:
            found |= Suit({"columns": columns(data, counts=False)})
        if isinstance(schema := given.get("columns"), Schema):
            other = {column.name: "real" for column in schema if column.kind in ("count", "positive")}
            found |= Suit({"columns": schema.but(**other)} if other else {})
        none = left_out(given, "edges") and not given.get("tables")
        return found | Suit({"edges": []} if none else {}, ("no arrows are given",) if none else ())

    @classmethod
    def from_bif(cls, path: str | Path, **settings: Any) -> BayesianNetwork:
        """A network of known tables from a BIF file; `tables=None` leaves them to be learned.

        Raises:
            ValueError: the file is no BIF (see `zoo.parts.networks.bif.file.read`), or no network.
        """
        return cls(**{**cls.read(path), **settings})

    def model(self, batch: Batch) -> Tensor:
        """Sample the joint density; returns x, (B, V)."""
        values = {}
        for C, rows in self.network.groups.items():
            probs = dist.Dirichlet(self.alpha.expand(rows, C)).to_event(1)
            values[f"probs_{C}"] = pyro.sample(f"probs_{C}", probs)  # (R, C)
        for P in self.network.terms:
            centre, unit, terms = self.network.scales(P)  # (R), (R), (R, P + 1)
            v = pyro.sample(f"variance_{P}", InverseGamma(self.a.expand(len(unit)), self.b * unit.square()).to_event(1))
            loc = functional.pad(centre.unsqueeze(-1), (0, P))
            w = dist.Normal(loc, (v / self.kappa).sqrt().unsqueeze(-1) / terms).to_event(2)
            values |= {f"variance_{P}": v, f"coefficients_{P}": pyro.sample(f"coefficients_{P}", w)}  # (R), (R, P + 1)
        with batch.plate():
            x: Tensor = pyro.sample("x", NetworkRow(self.network, values, self.dtype), obs=batch.x)  # (B, V)
            return x

    def guide(self, batch: Batch) -> dict[str, Tensor]:
        """Sample each factor of q; returns the global latents."""
        values: dict[str, Tensor] = {}
        for name, learned in self.factors.items():
            variance = values.get(name.replace("coefficients", "variance"))
            values[name] = pyro.sample(name, cast(Any, learned).density(variance))
        return values

    def check(self, batch: Batch) -> None:
        """Refuse a network with nothing to learn, nodes that hang together without a cell, and rows that cannot be."""
        if batch.x is None:
            return
        network, names = self.network, self.network.graph.names
        if not network.sites:
            raise ValueError("every table is known: there is nothing to fit")
        width(network)
        seen = (~batch.x.isnan()).any(0).tolist()
        for nodes in network.graph.components():
            if not any(seen[node] for node in nodes):
                hidden = ", ".join(names[node] for node in nodes)
                raise ValueError(f"nodes without a cell in any row, and with no arrow to one that has any: {hidden}")
        if network.known:
            values = {name: factor.point.double()[None] for name, factor in self.prior().items()}
            possible = torch.isfinite(log_prob(network, values, batch.x.double()[None], exact=True)[0])
            if not bool(possible.all()):
                row = int((~possible).nonzero()[0])
                raise ValueError(f"field 'x', row {nth(row)}: has probability zero under the known tables")

    def measure(self, batch: Batch) -> None:
        """Centre and unit of each real column."""
        self.network.standardise(self._table(batch).double())

    @torch.no_grad()
    def initial(self, batch: Batch, starts: int = 10, iterations: int = 100) -> dict[str, Tensor]:
        """The guide at the posterior of what cells are there or expected.

        Exact when no cell is missing; else by expectation-maximisation, from several starts if a node is hidden.
        """
        x = self._table(batch).double()
        statistics = learning.complete(self.network, x, self.posterior, starts, iterations)
        found = self.posterior({name: value * (batch.total / batch.size) for name, value in statistics.items()})
        self.place(found)
        return {name: factor.point.to(self.dtype) for name, factor in found.items()}

    def _table(self, batch: Batch) -> Tensor:
        if batch.x is None:
            raise ValueError("bayesian_network: starting values need the observations, got a batch without 'x'")
        return batch.x

    def place(self, posterior: learning.Posterior) -> None:
        """Move the guide to these factors."""
        for name, factor in posterior.items():
            if isinstance(factor, Coefficients):
                variance = posterior[name.replace("coefficients", "variance")].point
                cast(LearnedCoefficients, self.factors[name]).place(factor, variance)
            else:
                cast(Learned, self.factors[name]).place(factor)

    def posterior(self, statistics: Mapping[str, Tensor]) -> learning.Posterior:
        """The posterior of each global site given (expected) statistics of rows; see `learning.expectations`."""
        return learning.posterior(self.network, statistics, self.alpha, self.kappa, self.a, self.b)

    def prior(self) -> learning.Posterior:
        """The prior of each global site."""
        return self.posterior(learning.nothing(self.network))

    def answer(
        self, values: Mapping[str, Tensor], variables: Sequence[str], evidence: Mapping[str, Any], do: Mapping[str, Any]
    ) -> query.Belief:
        """Exact answers at S draws of the global sites, each (S, ...); see `zoo.parts.networks.query.answer`."""
        return query.answer(self.network, values, variables, evidence, do)

    def answers(
        self,
        values: Mapping[str, Tensor],
        variables: Sequence[str],
        rows: Mapping[str, Sequence[Any]],
        do: Mapping[str, Any],
    ) -> query.Belief:
        """The same for N rows of evidence, each (S, N, ...); see `zoo.parts.networks.many.answers`."""
        return many.answers(self.network, values, variables, rows, do)

    def explain(
        self, values: Mapping[str, Tensor], rows: Mapping[str, Sequence[Any]], do: Mapping[str, Any]
    ) -> explain.Explained:
        """The most probable explanation of N rows of evidence; see `zoo.parts.networks.explain.explain`."""
        return explain.explain(self.network, values, rows, do)

    def tables(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The table of each discrete node by name, (*parents, C), at one value of each global site, known ones too."""
        one = {name: value.unsqueeze(0) for name, value in values.items()}
        found = {}
        for table in self.network.tables:
            known = table.first is None  # as they were given, whatever they sum to
            value = self.network.known[table.column] if known else self.network.factor(table, one).value[0]
            found[self.network.graph.names[table.column]] = torch.as_tensor(value, device=self.device)
        return found

    def probabilities(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Each cell of each table by its name, `P(dysp = yes | bronc = yes)`, at S draws of the sites, (S or 1,)."""
        found: dict[str, Tensor] = {}
        for table in self.network.tables:
            known = table.first is None
            cells = (
                torch.as_tensor(self.network.known[table.column]) if known else self.network.factor(table, values)[0]
            )
            cells = cells.reshape(1 if known else len(cells), -1)
            found |= dict(zip(words.probabilities(self.network, table), cells.unbind(-1), strict=True))
        return found

    def in_units(self, values: Mapping[str, Tensor], columns: Sequence[str]) -> InTheirUnits:
        """Each site as one list of numbers with names, `P(dysp = yes | bronc = yes)`, (S, entries)."""
        named = words.of_sites(self.network)
        return {
            name: (value.double().reshape(len(value), -1), {f"{name}_entry": named[name]})
            for name, value in values.items()
            if name in named
        }

    def conditionals(self, values: Mapping[str, Tensor]) -> tuple[Tensor, list[Conditional]]:
        """One class, (S, 1), and each node given its parents, parents first."""
        network, found = self.network, {}
        draws = len(next(iter(values.values()))) if values else 1
        for table in network.tables:
            rows = network.factor(table, values, exact=True).value.double().reshape(-1, 1, *table.shape)
            probs = rows.flatten(2, -2) if table.parents else rows.unsqueeze(2)  # (S or 1, 1, U, C)
            found[table.column] = Conditional(table.column, table.parents, probs=probs)
        for node in network.equations:
            rows_, P = slice(node.first, node.first + node.size), len(node.slopes)
            w, v = values[f"coefficients_{P}"][:, None, rows_], values[f"variance_{P}"][:, None, rows_]
            centres = network.columns.centre[list(node.slopes)].double().cpu()
            found[node.column] = Conditional(
                node.column, node.switches, node.slopes,
                loc=w[..., 0], scale=v.sqrt(), slopes=w[..., 1:], centres=centres,
            )  # fmt: skip
        return torch.ones(draws, 1), [found[node] for node in network.graph.order]

    def to_bif(self, values: Mapping[str, Tensor], name: str = "unknown") -> str:
        """The text of a BIF file of the network at one value of each global site.

        Raises:
            ValueError: a node is real, or has a name that the format cannot hold.
        """
        columns = Schema.of(self.schema.used)
        return file.write(file.BIF(name, columns, self.edges, {n: t.tolist() for n, t in self.tables(values).items()}))
