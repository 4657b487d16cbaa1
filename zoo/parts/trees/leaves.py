"""Leaves of soft trees, and their posterior given the gates.

Leaves depend on the gates far too much for a factorised posterior: a tree split elsewhere needs other leaves. But given
the gates a sum of trees is linear in its leaves, so the guide takes

    q(leaves | gates) = the conjugate posterior given J pseudo-observations (z_j, y_j, precision)

with z_j the ranks of training rows, and learned y_j and precision (Ober & Aitchison 2021, "Global inducing point
variational posteriors for Bayesian neural networks and deep Gaussian processes"). Given all rows as they are, that is
exact for Gaussian noise. So each draw of gates brings leaves that suit it, and gates may stay as unsure as they are.
With M leaves in all, K outputs, and phi_jm the probability that row j ends in leaf m,

    P = diag(1 / s^2) + phi^T diag(precision) phi,   q(leaves_k | gates) = N(P^-1 phi^T diag(precision) y_k, P^-1)

and for a tree of class probabilities, with c_jk pseudo-rows of class k at z_j,  Dirichlet(alpha + phi^T c).
"""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Independent, Normal, constraints, register_kl


class Pseudo(nn.Module):
    """J pseudo-observations of the leaves. Parameters: `target` (J, K), and `log_weight` (J,) or (J, K).

    Args:
        size: J.
        features: D.
        outputs: K.
        counts: weights are counts of each class, (J, K), instead of precisions of targets.
    """

    ranks: Tensor

    def __init__(self, size: int, features: int, outputs: int, counts: bool = False) -> None:
        super().__init__()
        self.register_buffer("ranks", torch.rand(size, features))
        self.log_weight = nn.Parameter(torch.zeros(size, outputs) if counts else torch.zeros(size))
        self.target = None if counts else nn.Parameter(0.1 * torch.randn(size, outputs))

    @torch.no_grad()
    def place(self, ranks: Tensor, target: Tensor, precision: float = 1.0) -> None:
        """Take rows of the data, some of them or each several times: ranks (N, D), and targets or one-hot y, (N, K).

        The precision is that of one row. Together the J rows weigh as much as the N.
        """
        size, total = len(self.ranks), len(ranks)
        rows = torch.randperm(total, device=ranks.device).repeat(-(-size // total))[:size]
        self.ranks.copy_(ranks[rows])
        if self.target is None:
            self.log_weight.copy_((total / size * (0.9 * target[rows] + 0.1 / target.shape[1])).log())
        else:
            self.target.copy_(target[rows])
            self.log_weight.fill_(math.log(precision * total / size))

    def gaussian(self, reach: Tensor, prior_scale: Tensor, event_shape: tuple[int, ...]) -> Leaves:
        """q(leaves | gates) of a sum of trees, given phi of the pseudo-rows, (J, M) or (S, J, M) of S draws."""
        phi = reach.unsqueeze(-3) if reach.ndim > 2 else reach  # (S, 1, J, M): a global site
        weighted = self.log_weight.exp().unsqueeze(-1) * phi
        eye = torch.eye(phi.shape[-1], dtype=phi.dtype, device=phi.device)
        tril = torch.linalg.cholesky(weighted.mT @ phi + eye / prior_scale.square())
        if self.target is None:
            raise ValueError("pseudo-observations that are counts have no targets: see `dirichlet`")
        return Leaves(torch.cholesky_solve(weighted.mT @ self.target, tril), tril, event_shape)

    def dirichlet(self, reach: Tensor, concentration: Tensor) -> TorchDistribution:
        """q(leaves | gates) of one tree of class probabilities: the classes of the pseudo-rows, counted softly."""
        phi = reach.unsqueeze(-3) if reach.ndim > 2 else reach
        density: TorchDistribution = dist.Dirichlet(concentration + phi.mT @ self.log_weight.exp()).to_event(1)
        return density


class Leaves(TorchDistribution):
    """M leaves of K outputs: each output Gaussian with its own mean, and all with one precision matrix.

    Args:
        loc: means, (*, M, K).
        tril: Cholesky factor of the precision, (*, M, M).
        event_shape: (L, K), or (T, L, K) with T L = M.
    """

    arg_constraints = {}  # noqa: RUF012 - torch's name and type
    has_rsample = True

    def __init__(self, loc: Tensor, tril: Tensor, event_shape: tuple[int, ...]) -> None:
        self.loc, self.tril = loc, tril
        super().__init__(loc.shape[:-2], torch.Size(event_shape), validate_args=False)

    @property
    def support(self) -> Any:
        """All reals."""
        return constraints.independent(constraints.real, len(self.event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Leaves:
        """The same, of more batch dimensions."""
        loc, tril = (part.expand(*batch_shape, *part.shape[-2:]) for part in (self.loc, self.tril))
        return Leaves(loc, tril, tuple(self.event_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """A draw, (*sample_shape, *batch, *event)."""
        shape = (*sample_shape, *self.loc.shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        draw: Tensor = self.loc + torch.linalg.solve_triangular(self.tril.mT, noise, upper=True)
        return draw.reshape(*sample_shape, *self.batch_shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, (*)."""
        M, K = self.loc.shape[-2:]
        lead = value.shape[: value.ndim - len(self.event_shape)]
        off = self.tril.mT @ (value.reshape(*lead, M, K) - self.loc)
        density: Tensor = self.half_log_det - 0.5 * off.square().sum((-2, -1)) - 0.5 * M * K * math.log(2 * math.pi)
        return density

    @property
    def half_log_det(self) -> Tensor:
        """Half the log determinant of the precision of all outputs, (*)."""
        half: Tensor = self.loc.shape[-1] * self.tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return half


@register_kl(Leaves, Independent)  # type: ignore[untyped-decorator]
def _kl_leaves(q: Leaves, p: Independent[Any]) -> Tensor:
    """KL(q || product of N(0, s^2)), with one s for all leaves."""
    if not isinstance(p.base_dist, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    M, K = q.loc.shape[-2:]
    scale = p.base_dist.scale.flatten(-len(q.event_shape))[..., 0]
    eye = torch.eye(M, dtype=q.loc.dtype, device=q.loc.device)
    factor = torch.linalg.solve_triangular(q.tril, eye, upper=False)  # of the covariance, factor^T factor
    squares = K * factor.square().sum((-2, -1)) + q.loc.square().sum((-2, -1))
    kl: Tensor = 0.5 * (squares / scale.square() - M * K) + q.half_log_det + M * K * scale.log()
    return kl
