"""Covariates as a model sees them: standardised, ranked, or through random Fourier features.

Each piece keeps its constants in buffers. `place` sets them once, from the whole data; before that the covariates are
taken to be uniform on [-1, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo.base import Batch, ModelGuide

KNOTS = 100


class Ranks(nn.Module):
    """u = F_d(x_d) in [0, 1]: the share of training rows below, ties counted half (Linero & Yang 2018, section 5).

    F_d is kept at Q knots, values of the column that are evenly spaced in rank, and is linear between them. So u knows
    no units: an increasing transformation of a column leaves u as it is at the knots, and a linear one everywhere.

    Args:
        features: number of covariates D.
    """

    knots: Tensor
    level: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        level = (torch.arange(KNOTS) + 0.5) / KNOTS
        self.register_buffer("knots", (2 * level - 1).repeat(features, 1))  # (D, Q), ascending
        self.register_buffer("level", level.repeat(features, 1))  # (D, Q), F_d at the knots

    @torch.no_grad()
    def place(self, x: Tensor) -> None:
        """Take the knots from x, (N, D)."""
        x = x.mT.contiguous().sort(-1).values  # (D, N)
        knots = x[:, ((torch.arange(KNOTS, device=x.device) + 0.5) / KNOTS * x.shape[1]).long()]
        below = torch.searchsorted(x, knots), torch.searchsorted(x, knots, right=True)
        self.knots.copy_(knots)
        self.level.copy_((below[0] + below[1]) / (2 * x.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Ranks (B, D) of rows (B, D)."""
        return _interpolate(self.knots, self.level, x)

    def inverse(self, u: Tensor) -> Tensor:
        """Values (B, D) of ranks (B, D)."""
        return _interpolate(self.level, self.knots, u)


def _interpolate(knots: Tensor, values: Tensor, x: Tensor) -> Tensor:
    """Linear between the knots (D, Q) where the function has these values, constant beyond: (B, D) to (B, D)."""
    at = x.mT.contiguous()  # (D, B)
    right = torch.searchsorted(knots, at).clamp(1, knots.shape[-1] - 1)
    low, high = knots.gather(-1, right - 1), knots.gather(-1, right)
    wide = high > low
    part = torch.where(wide, (at - low) / torch.where(wide, high - low, 1), 0.5).clamp(0, 1)
    return torch.lerp(values.gather(-1, right - 1), values.gather(-1, right), part).mT


class Fourier(nn.Module):
    r"""Random features whose inner products estimate k(s, t) = exp(-gamma |s - t|^2) (Rahimi & Recht 2007).

    phi(t) = (cos(w_1 t), ..., cos(w_R t), sin(w_1 t), ..., sin(w_R t)) / sqrt(R),  w_r ~ N(0, 2 gamma I)

    Args:
        features: number of covariates D.
        frequencies: R; there are 2R features. They are drawn once, here, and kept in the state.
        gamma: inverse squared width of the kernel.
    """

    frequency: Tensor

    def __init__(self, features: int, frequencies: int, gamma: float) -> None:
        super().__init__()
        self.register_buffer("frequency", math.sqrt(2 * gamma) * torch.randn(features, frequencies))

    def forward(self, t: Tensor) -> Tensor:
        """Features (B, 2R) of rows (B, D)."""
        phase = t @ self.frequency
        return torch.cat([phase.cos(), phase.sin()], -1) / math.sqrt(self.frequency.shape[1])


def covariates(pair: ModelGuide, batch: Batch, features: int) -> Tensor:
    """The covariates x of a batch, (B, D).

    Raises:
        ValueError: there are none, or not D columns of them.
    """
    if batch.x is None:
        raise ValueError(f"{pair.name}: needs covariates x of shape (N, {features}), got none")
    if batch.x.shape[1:] != (features,):
        expected, got = f"(N, {features})", tuple(batch.x.shape)
        raise ValueError(f"{pair.name}: expected covariates x of shape {expected}, got {got}")
    return batch.x


def response(pair: ModelGuide, batch: Batch) -> Tensor:
    """The response y of a batch, (B,).

    Raises:
        ValueError: there is none.
    """
    if batch.y is None:
        raise ValueError(f"{pair.name}: fitting needs the response y beside the covariates x")
    return batch.y


def check_response(pair: ModelGuide, batch: Batch, classes: bool) -> None:
    """Refuse a response that holds nothing to learn.

    Raises:
        ValueError: no response, labels of one class only, or a constant target.
    """
    y = response(pair, batch)
    if bool((y == y[0]).all()):
        value = f"{y[0].item():g}"
        if classes:
            raise ValueError(f"{pair.name}: y holds only class {value}, in every row: it needs two classes")
        raise ValueError(f"{pair.name}: the target y is constant ({value} in every row): nothing to explain")


def by_row(u: Tensor, weight: Tensor) -> Tensor:
    """Rows times a global latent: (*, B, I) and (I, O), or (S, 1, I, O) of S draws, to (*, B, O).

    One matrix product a draw: with its dimension of rows, of size one, the latent would be copied for every row.
    """
    return u @ (weight.squeeze(-3) if weight.ndim > 2 else weight)
