"""Linear-Gaussian nodes that hang together: a joint normal given their discrete parents, missing cells integrated out.

In standardised units node g of G has, given the configuration k of the discrete parents of all of them,

    z_g = b_gk + sum_h w_kgh z_h + s_gk e_g,   e_g ~ Normal(0, 1)        so  A_k z - a_k = e,
    A_k = diag(1 / s_k) (I - w_k),   a_k = b_k / s_k                     with  |A_k| = prod_g 1 / s_gk

With z = z_o + t, where t holds the missing cells, r = A z_o - a, and M = A_t^T A_t of the columns of missing cells,

    log p(z_o | k) = -|r + A t'|^2 / 2 - n_o log(2 pi) / 2 - sum_g log s_g - log|M| / 2,      t' = -M^-1 A_t^T r

and t given z_o is Normal(t', M^-1). It is one formula for every pattern of holes: M is filled up with the identity.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Equation(NamedTuple):
    """Where the equation of a Gaussian node stands.

    Args:
        column: of the node.
        switches: its discrete parents, columns.
        slopes: its Gaussian parents, columns.
        first: its first row in the tensors of all equations with as many slopes.
        size: rows: configurations of its switches.
    """

    column: int
    switches: tuple[int, ...]
    slopes: tuple[int, ...]
    first: int
    size: int


class System(NamedTuple):
    """A, a and log s of S draws of a block's equations in K configurations: (S, K, G, G), (S, K, G), (S, K, G)."""

    matrix: Tensor
    constant: Tensor
    log_scale: Tensor


class Moments(NamedTuple):
    """What B rows say of the nodes of a block.

    Args:
        log_density: of the cells that are there, (S, B, K).
        mean: of every node given them, (S, B, K, G); where there is a cell, the cell.
        tril: Cholesky factor of M, filled up with the identity, (S, B, K, G, G).
        missing: 1 where there is no cell, else 0, (S or 1, B, 1, G).
    """

    log_density: Tensor
    mean: Tensor
    tril: Tensor
    missing: Tensor

    @property
    def covariance(self) -> Tensor:
        """Of the nodes given the cells, (S, B, K, G, G); zero where there is one."""
        holes = self.missing.unsqueeze(-1) * self.missing.unsqueeze(-2)
        return torch.cholesky_inverse(self.tril) * holes


class Block(nn.Module):
    """Gaussian nodes that hang together.

    Args:
        equations: of the nodes.
        sizes: number of states of each column.
    """

    layout: Tensor
    rows: Tensor
    members: Tensor

    def __init__(self, equations: Sequence[Equation], sizes: Sequence[int]) -> None:
        super().__init__()
        self.equations = tuple(equations)
        self.columns = tuple(equation.column for equation in equations)
        self.switches = tuple(sorted({column for equation in equations for column in equation.switches}))
        self.sizes = tuple(sizes[column] for column in self.switches)
        self.configurations = math.prod(self.sizes)
        place = {column: g for g, column in enumerate(self.columns)}
        # Slopes of all equations in a line, then 0 and 1: entry (g, h) of I - w is found at layout[g, h].
        total = sum(len(equation.slopes) for equation in equations)
        layout = torch.full((len(place), len(place)), total).fill_diagonal_(total + 1)
        slopes = [(g, place[parent]) for g, equation in enumerate(equations) for parent in equation.slopes]
        for at, (g, h) in enumerate(slopes):
            layout[g, h] = at
        self.register_buffer("layout", layout)
        # The row of each equation in each configuration, the last switch fastest, (G, K).
        codes: dict[int, Tensor] = {}
        left = torch.arange(self.configurations)
        for column in self.switches[::-1]:
            codes[column], left = left % sizes[column], left // sizes[column]
        rows = []
        for equation in equations:
            row = torch.zeros(self.configurations, dtype=torch.long)
            for column in equation.switches:
                row = row * sizes[column] + codes[column]
            rows.append(row + equation.first)
        self.register_buffer("rows", torch.stack(rows))
        self.register_buffer("members", torch.tensor(self.columns))

    def system(
        self,
        values: Mapping[str, Tensor],
        centre: Tensor,
        unit: Tensor,
        given: Mapping[int, int] | None = None,
        fixed: Collection[int] = (),
    ) -> System:
        """The equations in standardised units.

        Args:
            values: `variance_P`, (S, R), and `coefficients_P`, (S, R, P + 1), of equations with P slopes: the mean of
                the node where its Gaussian parents are at their centres, and the slopes, in the user's units.
            centre: of each column of the table.
            unit: of each column of the table.
            given: codes of some switches; the configurations are then those of the others.
            fixed: columns whose equations are taken away, by an intervention.
        """
        which = tuple((given or {}).get(column, slice(None)) for column in self.switches)
        rows = self.rows.reshape(-1, *self.sizes)[(slice(None), *which)].reshape(len(self.columns), -1)
        found = [values[f"coefficients_{len(e.slopes)}"][:, row] for e, row in zip(self.equations, rows, strict=True)]
        variances = [values[f"variance_{len(e.slopes)}"][:, row] for e, row in zip(self.equations, rows, strict=True)]
        centre, unit = centre[self.members], unit[self.members]
        scale = torch.stack(variances, -1).sqrt() / unit  # (S, K, G)
        constant = (torch.stack([value[..., 0] for value in found], -1) - centre) / unit
        ends = torch.zeros_like(scale[..., :1]), torch.ones_like(scale[..., :1])
        matrix = torch.cat([*(-value[..., 1:] for value in found), *ends], -1)[..., self.layout]  # (S, K, G, G)
        matrix = matrix * unit / unit.unsqueeze(-1)
        if fixed:
            cut = torch.tensor([column in fixed for column in self.columns], device=scale.device)
            scale, constant = torch.where(cut, 1.0, scale), torch.where(cut, 0.0, constant)
            matrix = torch.where(cut.unsqueeze(-1), 0.0, matrix)
        return System(matrix / scale.unsqueeze(-1), constant / scale, scale.log())


def moments(system: System, z: Tensor) -> Moments:
    """The density of rows of standardised cells, (S or 1, B, G), NaN where missing, and what they say of the rest."""
    seen = ~z.isnan().unsqueeze(2)  # (S or 1, B, 1, G)
    z = torch.where(seen, z.unsqueeze(2), 0.0)
    A = system.matrix.unsqueeze(1)  # (S, 1, K, G, G)
    r = (A @ z.unsqueeze(-1)).squeeze(-1) - system.constant.unsqueeze(1)  # (S, B, K, G)
    missing = (~seen).to(z)
    holes = missing.unsqueeze(-1) * missing.unsqueeze(-2)
    M = (A.mT @ A) * holes + seen.to(z).diag_embed()
    tril = torch.linalg.cholesky_ex(M)[0]
    pull = (A.mT @ r.unsqueeze(-1)) * missing.unsqueeze(-1)
    filled = -torch.cholesky_solve(pull, tril)  # (S, B, K, G, 1)
    # The residual anew, rather than |r|^2 - t'^T M t': with small s the difference would cancel.
    error = r + (A @ filled).squeeze(-1)
    log_det = tril.diagonal(dim1=-2, dim2=-1).log().sum(-1) + system.log_scale.sum(-1).unsqueeze(1)
    constant = 0.5 * math.log(2 * math.pi) * seen.to(z).sum(-1)
    log_density = -0.5 * error.square().sum(-1) - log_det - constant
    return Moments(log_density, z + filled.squeeze(-1), tril, missing)
