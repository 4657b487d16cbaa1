"""Linear-Gaussian dynamics of latent states, and what observations say of them: the Kalman smoother as a guide.

    z_1 ~ Normal(m, diag(s)^2)         z_t ~ Normal(A z_{t-1}, diag(q)^2)         x_t ~ F(C z_t + d)

What is still to be seen, x_{t:T}, says exp(-z' J_t z / 2 + e_t' z) of z_t, up to a constant. If F is Normal with
variance R = diag(r)^2 then, missing features left out of x, C and R, with Q = diag(q)^2, J_{T+1} = 0 and e_{T+1} = 0,

    J_t = C' R^-1 C + A' (Q + J_{t+1}^-1)^-1 A             e_t = C' R^-1 (x_t - d) + A' (I + J_{t+1} Q)^-1 e_{t+1}

(the backward information filter: Mayne 1966; Kitagawa 2023). Times p(z_t | z_{t-1}) that is p(z_t | z_{t-1}, x_{t:T}),
normal and affine in z_{t-1}: the posterior is a Gauss-Markov chain. The first terms alone are what x_t says.
"""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from zoo.parts.nets import positive


class Memoryless(nn.Module):
    """In place of a recurrent network: h_t is the state before, z_{t-1}, and whether there is none."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features

    def forward(self, inputs: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """(R, T, 2 D + L + 1) -> (R, T, L + 1); there is no other state."""
        return inputs[..., 2 * self.features :], state


class Motion(nn.Module):
    """How a state moves: A, and q as a real number that `zoo.parts.nets.positive` maps to it."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.transition = nn.Parameter(0.8 * torch.eye(latent) + 0.1 * torch.randn(latent, latent))
        self.noise = nn.Parameter(torch.zeros(latent))


class AffinePrior(nn.Module):
    """Mean and deviation of z_t given h_t = (z_{t-1}, start)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.motion = Motion(latent)
        self.first = nn.Parameter(torch.zeros(latent))  # m
        self.first_noise = nn.Parameter(torch.zeros(latent))  # s, as a real number

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """(*, L + 1) -> (*, L) twice."""
        z, start = h[..., :-1], h[..., -1:]
        loc = z @ self.motion.transition.mT + start * self.first
        return loc, positive(torch.where(start > 0, self.first_noise, self.motion.noise))


class AffineDecoder(nn.Module):
    """C z_t + d and, as a real number, r."""

    def __init__(self, latent: int, features: int, noisy: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, latent) / math.sqrt(latent))  # C
        self.bias = nn.Parameter(torch.zeros(features))  # d
        if noisy:
            self.noise = nn.Parameter(torch.zeros(features))  # r

    def forward(self, h: Tensor, z: Tensor) -> tuple[Tensor, ...]:
        """z, (*, L) -> (*, D), or (*, D) and (D,)."""
        loc = z @ self.weight.mT + self.bias
        return (loc, self.noise) if hasattr(self, "noise") else (loc,)


class Information(nn.Module):
    """What observations say by matrices A, Q, C, R and d of its own, which may become those of the model."""

    def __init__(self, latent: int, features: int, ahead: bool) -> None:
        super().__init__()
        self.decoder = AffineDecoder(latent, features)
        self.motion = Motion(latent) if ahead else None

    def forward(self, prior: AffinePrior, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `chain`."""
        return chain(prior, self.decoder, self.motion, x)


def chain(prior: AffinePrior, decoder: AffineDecoder, motion: Motion | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """The posterior of states as a Gauss-Markov chain: z_t ~ Normal(c_t + P_t diag(b_t)^-2 A z_{t-1}, P_t).

    P_t = (diag(b_t)^-2 + J_t)^-1, where b_t is the deviation of the prior, s or q, and c_t = P_t e_t.

    Args:
        prior: whose product with the evidence is wanted.
        decoder: C, d and r of the evidence.
        motion: A and q of the evidence; None: what x_t alone says, and no later one.
        x: the observations, (*, T, D), NaN where missing.

    Returns:
        c, (*, T, L), and V with V V' = P, lower triangular and row by row, (*, T, L L).
    """
    missing, C = x.isnan(), decoder.weight
    precision = torch.where(missing, 0.0, positive(decoder.noise) ** -2)  # (*, T, D)
    e = (precision * torch.where(missing, 0.0, x - decoder.bias)) @ C
    J = C.mT @ (precision.unsqueeze(-1) * C)  # (*, T, L, L)
    if motion is not None:
        e, J = _ahead(motion, e, J)
    first = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1) == 0
    b = positive(torch.where(first, prior.first_noise, prior.motion.noise))  # (T, L)
    eye = torch.eye(b.shape[-1], dtype=b.dtype, device=b.device)
    # In units of the prior, z = b u, the precision is I + S, no matter how small b is.
    S = b.unsqueeze(-1) * J * b.unsqueeze(-2)
    flipped = torch.linalg.cholesky_ex((eye + S).flip(-2, -1))[
        0
    ]  # turned around: (I + S)^-1 = U U', U lower triangular
    U = torch.linalg.solve_triangular(flipped.flip(-2, -1).mT, eye.expand_as(S), upper=False)
    V = b.unsqueeze(-1) * U
    return (V @ (V.mT @ e.unsqueeze(-1))).squeeze(-1), V.flatten(-2)


def posterior(h: Tensor, loc: Tensor, scale: Tensor, c: Tensor, V: Tensor) -> Any:
    """z_t of the chain, given mean and deviation of its prior, (*, L)."""
    V = V.unflatten(-1, (c.shape[-1], c.shape[-1]))
    pull = (loc / scale.square()).unsqueeze(-1)
    return dist.MultivariateNormal(c + (V @ (V.mT @ pull)).squeeze(-1), scale_tril=V, validate_args=False)


def _ahead(motion: Motion, e: Tensor, J: Tensor) -> tuple[Tensor, Tensor]:
    """e_t and J_t of x_t and all later ones from those of x_t alone."""
    q = positive(motion.noise)
    carry = motion.transition.mT / q  # A' diag(q)^-1
    eye = torch.eye(len(q), dtype=q.dtype, device=q.device)
    both = torch.cat([J, e.unsqueeze(-1)], -1)  # (*, T, L, L + 1)
    # With S = diag(q) J diag(q), A' (Q + J^-1)^-1 A = carry (I + S)^-1 S carry': J is not inverted, as it may be zero.
    right = torch.block_diag(motion.transition, torch.ones_like(q[:1]))  # S carry' = diag(q) J A
    made = [both[..., -1, :, :]]
    for t in reversed(range(e.shape[-2] - 1)):
        scaled = q.unsqueeze(-1) * made[-1]  # diag(q) [J, e]
        solved = torch.linalg.solve_ex(eye + scaled[..., :-1] * q, scaled)[0]
        made.append(both[..., t, :, :] + carry @ solved @ right)
    found = torch.stack(made[::-1], -3)
    return found[..., -1], found[..., :-1]
