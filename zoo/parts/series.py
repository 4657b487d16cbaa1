"""A linear autoregression as one distribution over whole series, missing steps integrated out.

With lags l_1..l_L, the longest of which is P, centred values z_t = x_t - m, and inputs u_t that may be left out,

    z_t = c + sum_k w_k z_{t - l_k} + b . u_t + s e_t,    e_t ~ Normal(0, 1),    t = P+1..T

Its density is that of x_{P+1..T} given x_{1..P}: one regression on lagged values. Missing steps after the first P are
integrated out exactly. The residuals are linear in them, e = (r + A v) / s, with r the residuals at zeros in their
place and A the columns that the K missing values v stand in; for a Gaussian that is linear algebra,

    log p = -1/2 (n - K) log(2 pi s^2) - 1/2 log |A^T A| - |r + A v*|^2 / (2 s^2),    v* = -(A^T A)^-1 A^T r

(Box, Jenkins & Reinsel 2008, "Time series analysis", section 13.3), and v given the rest is N(v*, s^2 (A^T A)^-1). The
future is one more stretch of missing steps, so forecasts come from the same formula.
"""

from __future__ import annotations

import copy
import math

import pyro.distributions as dist
import torch
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from zoo.parts.missing import Steps
from zoo.parts.sequence import Sequences

Size = torch.Size | list[int] | tuple[int, ...]


class AutoregressiveSeries(Sequences):
    """Series that follow a linear autoregression, event shape (T,); the maths stands at the top of this file.

    Steps from `lengths` on add no factor; fill them with NaN or any number. A series with more than `missing` NaN, or
    one among its first P steps, has density NaN.

    Args:
        lags: l_1..l_L, in any order.
        weights: w, (..., L).
        intercept: c, (...).
        scale: s, (...).
        steps: the number of steps T, more than P.
        center: m, ().
        spread: deviation about m of the first P steps that `sample` draws where `start` gives none, ().
        slopes: b, (..., E), and
        inputs: u, (..., T, E); None without.
        lengths: the number of valid steps of each series, P + 1 to T, of the batch shape; None: all T.
        missing: the most missing steps of a series.
        start: the first P steps of each series, that `sample` goes on from, (..., P).

    Raises:
        ValueError: no step after the first P.
    """

    def __init__(
        self,
        lags: tuple[int, ...],
        weights: Tensor,
        intercept: Tensor,
        scale: Tensor,
        steps: int,
        center: Tensor,
        spread: Tensor,
        slopes: Tensor | None = None,
        inputs: Tensor | None = None,
        lengths: Tensor | None = None,
        missing: int = 0,
        start: Tensor | None = None,
    ) -> None:
        self.lags, self.order = lags, max(lags)
        if steps <= self.order:
            raise ValueError(f"steps: expected more than the longest lag, {self.order}, got {steps}")
        self.weights, self.intercept, self.scale, self.steps = weights, intercept, scale, steps
        self.center, self.spread, self.slopes, self.inputs = center, spread, slopes, inputs
        self.lengths, self.missing, self.start = lengths, missing, start
        shapes = [intercept.shape, scale.shape, weights.shape[:-1], () if lengths is None else lengths.shape]
        shapes += [value.shape[:-drop] for value, drop in ((slopes, 1), (inputs, 2), (start, 1)) if value is not None]
        super().__init__(torch.Size(broadcast_shape(*shapes)), torch.Size([steps]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Numbers; NaN past the end, and anywhere if steps may be missing."""
        return constraints.independent(Steps(~self._inside(self.steps, self.lengths), self.missing > 0), 1)

    @property
    def inside(self) -> Tensor:
        """Whether each step is one of the series', (..., T) or (T,)."""
        return self._inside(self.steps, self.lengths)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of steps P+1..T of each series given its first P, (..., T) -> (...)."""
        z, inside = x - self.center, self._inside(self.steps, self.lengths)
        absent = self._absent(x, inside)
        r = self._residuals(torch.where(absent | ~inside, 0, z), self._drift(self.inputs), inside)  # (..., T - P)
        free = inside[..., self.order :].sum(-1)  # n, (...)
        log_det: Tensor | float = 0.0
        if self.missing:
            spots, real = self._spots(absent)
            v, tril, A = self._solve(r, inside, spots, real)
            r = r + (A @ v.unsqueeze(-1)).squeeze(-1)
            free = free - real.sum(-1)
            log_det = 2 * tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # log |A^T A|
        squares = (r / self.scale.unsqueeze(-1)).square().sum(-1)
        value = -0.5 * (free * (math.log(2 * math.pi) + 2 * self.scale.log()) + log_det + squares)
        if self.missing:
            value = torch.where(absent.sum(-1) > self.missing, torch.nan, value)
        return value.expand(broadcast_shape(self.batch_shape, x.shape[:-1]))

    @torch.no_grad()
    def sample(self, sample_shape: Size = ()) -> Tensor:
        """Draw series, all T steps of each, (*sample_shape, *batch_shape, T): step by step, this way only."""
        shape = torch.Size((*sample_shape, *self.batch_shape))
        noise = torch.randn(*shape, self.steps, dtype=self.scale.dtype, device=self.scale.device)
        z = [self.spread * e for e in noise[..., : self.order].unbind(-1)]
        if self.start is not None:
            z = [value.expand(shape) for value in (self.start - self.center).unbind(-1)]
        drift = self._drift(self.inputs).expand(*shape, self.steps)
        for t in range(self.order, self.steps):
            past = torch.stack([z[t - lag] for lag in self.lags], -1)  # (..., L)
            z.append(drift[..., t] + (self.weights * past).sum(-1) + self.scale * noise[..., t])
        return torch.stack(z, -1) + self.center

    @torch.no_grad()
    def forecast(self, x: Tensor, horizon: int, inputs: Tensor | None = None) -> dist.MultivariateNormal:
        """The distribution of the `horizon` steps that follow the last valid one of each series, given x; exact.

        Args:
            x: the series, (..., T).
            horizon: the number of steps H.
            inputs: u of those steps, (..., H, E).

        Raises:
            ValueError: the autoregression has inputs and these lack theirs, or it has none.
        """
        E = 0 if self.slopes is None else self.slopes.shape[-1]
        if (inputs is None) != (E == 0) or (inputs is not None and inputs.shape[-2:] != (horizon, E)):
            wanted = f"shape (N, {horizon}, {E})" if E else "none, as the model has none"
            got = "none" if inputs is None else f"shape {tuple(inputs.shape)}"
            raise ValueError(f"inputs of the steps ahead: expected {wanted}, got {got}")
        known, lengths, past = x, self.lengths, self.inputs
        if not self.missing:  # the last P steps say it all
            last = torch.full_like(x[..., 0], x.shape[-1], dtype=torch.long) if lengths is None else lengths
            index = last.unsqueeze(-1) - self.order + torch.arange(self.order, device=x.device)
            known = x.gather(-1, index.expand(*x.shape[:-1], self.order))
            lengths, past = None, None if past is None else past[..., : self.order, :]  # inputs of known steps: unused
        T = known.shape[-1]
        length = torch.full_like(known[..., 0], T, dtype=torch.long) if lengths is None else lengths  # (...)
        ahead = length.unsqueeze(-1) + torch.arange(horizon, device=x.device)  # (..., H)
        inside = self._inside(T, length)
        absent = self._absent(known, inside)
        z = torch.where(absent | ~inside, 0, known - self.center).double()
        z = torch.cat([z, z.new_zeros(*z.shape[:-1], horizon)], -1)  # (..., T + H)
        if past is not None and inputs is not None:
            past = torch.cat([past, torch.zeros_like(inputs).expand(*past.shape[:-2], horizon, E)], -2)
            index = ahead.unsqueeze(-1).expand(*past.shape[:-2], horizon, E)
            past = past.scatter(-2, index, inputs.expand(index.shape))
        inside = self._inside(T + horizon, length + horizon)
        r = self._residuals(z, self._drift(past).double(), inside)
        spots, real = self._spots(absent)
        spots = torch.cat([spots, ahead.expand(*spots.shape[:-1], horizon)], -1)
        real = functional.pad(real, (0, horizon), value=True)
        v, tril, _ = self._solve(r, inside, spots, real)
        # the trailing block of the factor of a precision is that of the last variables' own
        covariance = torch.cholesky_inverse(tril[..., -horizon:, -horizon:])
        root = self.scale.double()[..., None, None] * torch.linalg.cholesky(covariance)
        return dist.MultivariateNormal((self.center + v[..., -horizon:]).to(x), scale_tril=root.to(x))

    @torch.no_grad()
    def conditional_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each step given the steps before it, each (..., T); exact, whatever is missing there.

        The first P steps are given, and not modelled: they have the mean m and the deviation that they are drawn with.
        """
        shape = broadcast_shape(self.batch_shape, x.shape[:-1])
        if bool(self._absent(x, self._inside(self.steps, self.lengths)).any()):
            return self._one_by_one(x, shape)
        past, _ = lagged((x - self.center).nan_to_num(), self.lags)  # NaN past the end alone
        drift = self._drift(self.inputs).expand(*shape, self.steps)[..., self.order :]
        mean = drift + (past @ self.weights.unsqueeze(-1)).squeeze(-1)
        mean = functional.pad(mean, (self.order, 0)).expand(*shape, self.steps) + self.center
        return mean, self._noise(mean)

    def _one_by_one(self, x: Tensor, shape: Size) -> tuple[Tensor, Tensor]:
        """`conditional_moments` of series with missing steps: a forecast of one step from each."""
        mean = self.center.expand(*shape, self.steps).clone()
        variance = self._noise(mean).clone()
        past = copy.copy(self)
        for t in range(self.order, self.steps):
            past.lengths = torch.full(shape[-1:], t, device=x.device)
            inputs = None if self.inputs is None else self.inputs[..., t : t + 1, :]
            ahead = past.forecast(x, 1, inputs)
            mean[..., t], variance[..., t] = ahead.mean[..., 0], ahead.variance[..., 0]
        return mean, variance

    def _noise(self, like: Tensor) -> Tensor:
        """Variances of the first P steps and of the others, (..., T)."""
        first = torch.arange(like.shape[-1], device=like.device) < self.order
        return torch.where(first, self.spread.square(), self.scale.square().unsqueeze(-1)).expand_as(like)

    def _residuals(self, z: Tensor, drift: Tensor, inside: Tensor) -> Tensor:
        """z_t less its mean given the past, zero past the end, (..., T - P)."""
        past, latest = lagged(z, self.lags)
        mean = (past @ self.weights.to(z).unsqueeze(-1)).squeeze(-1)
        drift = drift[..., self.order :] if drift.shape[-1] > 1 else drift
        return (latest - drift - mean) * inside[..., self.order :]

    def _drift(self, inputs: Tensor | None) -> Tensor:
        """c + b . u_t, (..., T), or (..., 1) without inputs."""
        drift = self.intercept.unsqueeze(-1)
        if inputs is None or self.slopes is None:
            return drift
        return drift + (inputs @ self.slopes.unsqueeze(-1)).squeeze(-1)

    def _solve(self, r: Tensor, inside: Tensor, spots: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """v*, (..., K), the Cholesky factor of A^T A, (..., K, K), and A, (..., T - P, K); spots not `real` do nothing.

        Column k of A holds 1 at step `spots[k]` and minus a weight at each lag after it.
        """
        kernel = r.new_zeros(*self.weights.shape[:-1], self.order + 1)
        kernel[..., 0] = 1
        kernel[..., list(self.lags)] = -self.weights.to(r)
        steps = torch.arange(self.order, inside.shape[-1], device=r.device)
        offset = steps.unsqueeze(-1) - spots.unsqueeze(-2)  # (..., T - P, K)
        within = (offset >= 0) & (offset <= self.order) & real.unsqueeze(-2) & inside[..., self.order :, None]
        shape = broadcast_shape(kernel.shape[:-1], offset.shape[:-2])
        kernel = kernel.unsqueeze(-2).expand(*shape, len(steps), self.order + 1)
        A = kernel.gather(-1, offset.clamp(0, self.order).expand(*shape, *offset.shape[-2:])) * within
        precision = A.mT @ A + torch.diag_embed((~real).to(r))
        tril = torch.linalg.cholesky_ex(precision)[0]
        v = -torch.cholesky_solve(A.mT @ r.unsqueeze(-1), tril).squeeze(-1)
        return v, tril, A

    def _absent(self, x: Tensor, inside: Tensor) -> Tensor:
        """Which steps are to be integrated out, (..., T): none where none may be."""
        late = torch.arange(x.shape[-1], device=x.device) >= self.order
        return x.isnan() & inside & late & bool(self.missing)

    def _spots(self, absent: Tensor) -> tuple[Tensor, Tensor]:
        """Where the first K missing steps are, (..., K), and whether there are as many, (..., K)."""
        order = absent.to(torch.int8).argsort(stable=True, dim=-1, descending=True)[..., : self.missing]
        return order, absent.gather(-1, order)

    def _inside(self, steps: int, lengths: Tensor | None) -> Tensor:
        """Whether each step is one of the series', (*lengths.shape, steps)."""
        every = torch.arange(steps, device=self.scale.device)
        return every >= 0 if lengths is None else every < lengths.unsqueeze(-1)


def lagged(z: Tensor, lags: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The values at each lag before steps P+1..T, (..., T - P, L), and at these steps, (..., T - P)."""
    P = max(lags)
    windows = z.unfold(-1, P + 1, 1)  # (..., T - P, P + 1), oldest first
    return windows[..., [P - lag for lag in lags]], windows[..., -1]


def past_end(series: Tensor, lengths: Tensor | None) -> Tensor:
    """Whether each step lies past the end of its series, (N, T)."""
    every = torch.arange(series.shape[-1], device=series.device)
    return torch.zeros_like(series, dtype=torch.bool) if lengths is None else every >= lengths.unsqueeze(-1)
