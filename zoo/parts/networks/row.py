"""Rows of a Bayesian network as a distribution, missing cells summed and integrated out.

A row of which some cells x_o are there has the density

    p(x_o) = sum over discrete cells of  prod_d p(x_d | parents) [x_d is what its cell says, where there is one]
                                         prod over blocks of p(z_o | discrete parents of the block)

where d runs over discrete nodes and a block is Gaussian nodes that hang together (`zoo.parts.networks.gaussian`). The
sum is one einsum (`zoo.parts.networks.factors`), the same for every pattern of holes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.util import broadcast_shape
from pyro.ops.indexing import Vindex
from torch import Tensor
from torch.distributions import Categorical, constraints

from zoo.parts.missing import OrMissing
from zoo.parts.networks.factors import DRAW, ROW, Factor, contract, plan
from zoo.parts.networks.gaussian import Moments, moments
from zoo.parts.networks.network import Network
from zoo.parts.tables.rows import Cells
from zoo.settings import settings

EVENT = {"probs": 2, "variance": 1, "coefficients": 2}  # dimensions of a site, by the first part of its name


class Terms(NamedTuple):
    """Factors of the density of rows.

    Args:
        factors: of tables, of cells, and of blocks that have switches.
        blocks: the places of those of the blocks in `factors`; None for a block without switches.
        offset: what is added to the logarithm of their sum of products, (S or 1, B).
        moments: of each block.
    """

    factors: list[Factor]
    blocks: list[int | None]
    offset: Tensor
    moments: list[Moments]


def terms(network: Network, values: Mapping[str, Tensor], x: Tensor, exact: bool = False) -> Terms:
    """Factors of rows x, (1 or S, B, V), at S draws of the sites; `exact`: known tables in double precision."""
    lanes = (DRAW, ROW) if len(x) > 1 else (ROW,)
    most = network.columns.most
    marks = x.isnan().unsqueeze(-1) | (x.unsqueeze(-1) == torch.arange(most, device=x.device))  # (1 or S, B, V, C)
    factors = [network.factor(table, values, exact) for table in network.tables]
    for table in network.tables:
        mark = marks[..., table.column, : table.shape[-1]].to(x.dtype)
        factors.append(Factor(mark if len(x) > 1 else mark[0], (*lanes, table.column)))
    offset, found = x.new_zeros(x.shape[:2]), []
    blocks: list[int | None] = []
    for block in network.gaussian_blocks:
        said = moments(network.system(values, block), network.standardised(x, block))
        found.append(said)
        log_density = said.log_density - network.log_units(x, block)  # (S, B, K)
        if not block.switches:
            blocks.append(None)
            offset = offset + log_density.squeeze(-1)
            continue
        possible = torch.ones_like(marks[..., 0, :1])
        for column, size in zip(block.switches, block.sizes, strict=True):
            possible = (possible.unsqueeze(-1) & marks[..., column, None, :size]).flatten(-2)
        # Relative to the best configuration that the row allows; others might be better by hundreds of nats.
        log_density = torch.where(possible, log_density, -torch.inf)
        best = log_density.detach().amax(-1, keepdim=True)
        density = (log_density - best).exp()
        blocks.append(len(factors))
        factors.append(Factor(density.unflatten(-1, block.sizes), (DRAW, ROW, *block.switches)))
        offset = offset + best.squeeze(-1)
    return Terms(factors, blocks, offset, found)


def log_density(found: Terms) -> Tensor:
    """The logarithm of the sum of products, (S or 1, B)."""
    if not found.factors:
        return found.offset
    value, scale = contract(found.factors)
    return value.log() + scale + found.offset


def log_prob(network: Network, values: Mapping[str, Tensor], x: Tensor, exact: bool = False) -> Tensor:
    """Log density of rows x, (1 or S, B, V), at S draws of the sites, (1 or S, B), some rows at a time."""
    draws = max([len(x), *(len(site) for site in values.values())])
    parts = pieces(network, x.shape[1], draws)
    return torch.cat([log_density(terms(network, values, x[:, rows], exact)) for rows in parts], -1)


def width(network: Network) -> int:
    """Numbers that one row at one draw needs at a time.

    Raises:
        ValueError: more than `settings.network_row`; the nodes that cannot be summed out one by one are named.
    """
    blocks = [block.configurations * len(block.columns) ** 2 for block in network.gaussian_blocks]
    labels = [table.labels for table in network.tables] + [(table.column,) for table in network.tables]
    labels += [block.switches for block in network.gaussian_blocks if block.switches]
    if not labels:
        return max(blocks)
    sizes = {i: network.sizes[i] for names in labels for i in names}
    found = plan(tuple(labels), (), tuple(sizes.items()))
    if found.width > settings.network_row:
        nodes = ", ".join(network.graph.names[i] for i in found.largest)
        raise ValueError(
            f"summing out missing cells takes a factor over {nodes}: {found.width:,} configurations a row, "
            f"at most {settings.network_row:,}; take arrows out of the graph"
        )
    return max([found.width, *blocks])


def pieces(network: Network, rows: int, draws: int) -> Iterator[slice]:
    """Consecutive rows that together need about `settings.memory` numbers at a time."""
    step = max(1, settings.memory // (width(network) * draws))
    for begin in range(0, rows, step):
        yield slice(begin, min(begin + step, rows))


class NetworkRow(TorchDistribution):
    """One row, event shape (V,). NaN is a missing cell: it is summed or integrated out.

    Args:
        network: where everything stands.
        values: the sites of its tables and equations, each with the same leading dimensions: none, or (..., 1).
        dtype: of the rows.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name and type
    has_rsample = False

    def __init__(self, network: Network, values: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        self.network, self.values, self.dtype = network, dict(values), dtype
        lead = [value.shape[: value.ndim - EVENT[name.partition("_")[0]]] for name, value in values.items()]
        super().__init__(lead[0] if lead else torch.Size(), torch.Size([len(network.sizes)]), validate_args=False)

    @property
    def support(self) -> Any:
        """Each column's own range, NaN besides."""
        return constraints.independent(OrMissing(Cells(self.network.columns)), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> NetworkRow:
        """The same row over more batch dimensions; tensors stay as they are and broadcast."""
        new = NetworkRow(self.network, self.values, self.dtype)
        new._batch_shape = torch.Size(broadcast_shape(self.batch_shape, batch_shape))
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of each row, (*)."""
        shape = broadcast_shape(self.batch_shape, value.shape[:-1])
        if value.ndim < 3:
            x = value.reshape(1, -1, value.shape[-1])
        else:
            x = value.expand(*shape, value.shape[-1]).flatten(0, -3)
        values = {}
        for name, site in self.values.items():
            event = site.shape[site.ndim - EVENT[name.partition("_")[0]] :]
            values[name] = site.reshape(-1, *event)
        total = log_prob(self.network, values, x)
        return total.expand(math.prod(shape[:-1]), -1).reshape(shape)

    @torch.no_grad()
    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Complete rows, (*sample_shape, *batch, V), parents before children."""
        shape = self._extended_shape(torch.Size(sample_shape))[:-1]
        network = self.network
        x: dict[int, Tensor] = {}
        device = network.columns.centre.device
        tables = {table.column: table for table in network.tables}
        equations = {equation.column: equation for equation in network.equations}
        for column in network.graph.order:
            table = tables.get(column)
            switches = table.parents if table is not None else equations[column].switches
            row = torch.zeros(shape, dtype=torch.long, device=device)
            for parent in switches:
                row = row * network.sizes[parent] + x[parent].long()
            if table is not None:
                rows = (
                    self.values[f"probs_{table.shape[-1]}"] if table.first is not None else network.certain_rows(table)
                )
                probs = Vindex(rows)[..., row + (table.first or 0), :]
                x[column] = Categorical(probs, validate_args=False).sample().to(self.dtype)
                continue
            first, slopes = equations[column].first, equations[column].slopes
            terms_ = Vindex(self.values[f"coefficients_{len(slopes)}"])[..., row + first, :]
            variance = Vindex(self.values[f"variance_{len(slopes)}"])[..., row + first]
            mean = terms_[..., 0]
            for i, parent in enumerate(slopes, 1):
                mean = mean + terms_[..., i] * (x[parent] - network.columns.centre[parent])
            x[column] = torch.normal(mean.expand(shape), variance.sqrt().expand(shape))
        return torch.stack([x[column] for column in range(len(network.sizes))], -1)
