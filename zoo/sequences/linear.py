"""Linear regression with Gaussian noise: its Normal-inverse-gamma posterior, in closed form and with learned numbers.

q(v) q(theta | v) = InverseGamma(a, b) Normal(m, v R R^T)          v the variance of the noise, theta F coefficients
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from zoo.guides import WIDTH
from zoo.mixtures.conjugate import Factor, Landing


def conjugate(
    X: Tensor, y: Tensor, count: float, precision: Tensor, concentration: Tensor, rate: Tensor
) -> tuple[Tensor, Tensor, Factor]:
    """m, R and q(v), under v ~ InverseGamma(concentration, rate) and theta ~ Normal(0, v / precision); exact.

    The design X is (n, F) and the response y (n,), of weighted rows that count as `count` (Murphy 2007, section 8).
    """
    mean, root, squares = _ridge(X, y, precision)
    shape = concentration + count / 2
    rate = rate + (squares + (mean.square() * precision).sum()) / 2
    return mean, root, Factor("inverse_gamma", (rate / shape).log(), shape)


def independent(X: Tensor, y: Tensor, count: float, precision: Tensor) -> tuple[Tensor, Tensor, Factor]:
    """About m, R and q(v), under theta ~ Normal(0, 1 / precision) whatever v is, and a wide prior of v."""
    freedom = torch.as_tensor(max(count - X.shape[1], 1.0)).to(X)
    variance = torch.ones_like(freedom)
    for _ in range(50):
        mean, root, squares = _ridge(X, y, variance * precision)
        variance = squares / freedom + torch.finfo(X.dtype).tiny
    return mean, root, Factor("inverse_gamma", variance.log(), freedom / 2)


def _ridge(X: Tensor, y: Tensor, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior mean, lower root of its covariance, at unit variance, and the sum of squares that is left."""
    gram = X.mT @ X + precision.diag()
    unit = gram.diagonal().rsqrt()
    gram = gram * unit * unit.unsqueeze(-1)
    for jitter in (0.0, 1e-12, 1e-9, 1e-6):  # columns that tell the same story to rounding
        # of the matrix read backwards: its factor, read backwards, is upper, and the root of the inverse lower
        factor, failed = torch.linalg.cholesky_ex((gram + jitter * torch.eye(len(gram)).to(gram)).flip(0, 1))
        if not failed:
            break
    root = unit.unsqueeze(-1) * torch.linalg.inv(factor.flip(0, 1)).mT
    mean = root @ (root.mT @ (X.mT @ y))
    return mean, root, (y - X @ mean).square().sum()


class Coefficients(nn.Module):
    """q(theta | v) = Normal(m, v R R^T) over F numbers, block after block, learned in steps that suit its width."""

    origin: Tensor
    base: Tensor
    unit: Tensor

    def __init__(self, mean: Tensor, root: Tensor, variance: Tensor) -> None:
        super().__init__()
        for name, value in (("origin", mean), ("base", root), ("unit", variance)):
            self.register_buffer(name, torch.empty_like(value))
        self.step, self.turn = nn.Parameter(torch.empty_like(mean)), nn.Parameter(torch.empty_like(root))
        self.place(mean, root, variance)

    @torch.no_grad()
    def place(self, mean: Tensor, root: Tensor, variance: Tensor) -> None:
        """Take on m and R, lower triangular; `variance` is the usual v."""
        self.origin.copy_(mean)
        self.base.copy_(root)
        self.unit.copy_(variance.sqrt() / WIDTH)
        self.step.zero_()
        self.turn.zero_()

    def density(self, block: slice, before: Tensor, variance: Tensor, scalar: bool = False) -> Landing:
        """q(theta[block] | v, theta before the block, (..., block.start)); a scalar's event is ()."""
        return Landing(*(self._given(block, before, variance, scalar, live) for live in (True, False)))

    def _given(self, block: slice, before: Tensor, v: Tensor, scalar: bool, live: bool) -> TorchDistribution:
        step, turn = (self.step, self.turn) if live else (self.step.detach(), self.turn.detach())
        mean = self.origin + self.unit * (self.base @ step)
        root = self.base @ (turn.tril(-1) + turn.diagonal().exp().diag())
        k, scale = block.start, v.sqrt().unsqueeze(-1)
        loc = mean[block]
        if k:
            noise = torch.linalg.solve_triangular(root[:k, :k], (before - mean[:k]).unsqueeze(-1), upper=False)
            loc = loc + (root[block, :k] @ noise).squeeze(-1)
        if scalar:
            return first(dist.Normal(loc, scale * root[block, block].squeeze(-1)))
        return dist.MultivariateNormal(loc, scale_tril=scale.unsqueeze(-1) * root[block, block])


def first(fn: dist.Normal) -> TorchDistribution:
    """The distribution of the first entry of the last dimension."""
    return dist.Normal(fn.loc[..., 0], fn.scale[..., 0])


def deviation(centred: Tensor) -> Tensor:
    """Root mean square over rows; 1 where they are all zero."""
    spread = centred.square().mean(0).sqrt()
    return torch.where(spread > 0, spread, 1)
