"""Maximum likelihood of linear-Gaussian factor models, x ~ N(mu, W W' + diag(psi)^2), from centred rows (N, D).

`isotropic`, one psi: probabilistic PCA, in closed form (Tipping & Bishop 1999, equations 7 to 9). `per_feature`, factor
analysis: the best W at a given psi is known in closed form too, and psi then follows, in turns that raise the
likelihood (Lawley & Maxwell 1971, chapter 4).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

FLOOR = 1e-3  # of psi beside the deviation of its feature: where it would fall to zero the likelihood has no maximum
ITERATIONS, TOLERANCE = 500, 1e-9  # nats a row


def isotropic(x: Tensor, latent: int) -> tuple[Tensor, Tensor]:
    """W (D, L), columns orthogonal, and psi (1)."""
    values, vectors = spectrum(x)
    features = x.shape[1]
    total = values.sum()
    left = (total - values[:latent].sum()) / max(1, features - latent)
    noise = left.clamp(min=FLOOR**2 * total / features)
    weight = vectors[:, :latent] * (values[:latent] - noise).clamp(min=0).sqrt()
    return weight, noise.sqrt().unsqueeze(0)


def spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
    """Variances along the principal axes of centred rows (N, D), the largest first, and those axes (D, M), M <= D."""
    if len(x) < x.shape[1]:
        _, values, axes = torch.linalg.svd(x, full_matrices=False)
        short = max(0, x.shape[1] - len(values))
        values, axes = torch.cat([values.square() / len(x), values.new_zeros(short)]), axes.mT
        return values, torch.cat([axes, axes.new_zeros(len(axes), short)], -1)
    values, vectors = torch.linalg.eigh(x.mT @ x / len(x))
    return values.flip(0).clamp(min=0), vectors.flip(1)


def per_feature(x: Tensor, latent: int) -> tuple[Tensor, Tensor]:
    """W (D, L) and psi (D)."""
    sd = x.square().mean(0).sqrt()
    flat = sd <= 1e-9 * sd.max()  # what rounding leaves of a constant
    sd = torch.where(flat, FLOOR * sd[~flat].min(), sd)
    z = x / sd
    covariance = z.mT @ z / len(z)  # (D, D)
    total = covariance.diagonal()
    weight, _ = isotropic(z, latent)
    noise = (total - weight.square().sum(1)).clamp(min=0.005)  # (D), psi^2 in units of sd^2
    last = -math.inf
    for _ in range(ITERATIONS):
        # With R = psi^-1 W: the eigenvectors of psi^-1 S psi^-1 give the best W at this psi, at once (Lawley 1940).
        root = noise.sqrt()
        values, vectors = torch.linalg.eigh(covariance / root / root.unsqueeze(-1))
        top, axes = values[-latent:], vectors[:, -latent:]
        weight = root.unsqueeze(-1) * axes * (top - 1).clamp(min=0).sqrt()
        kept = top.clamp(min=1.0)
        score = -0.5 * float(noise.log().sum() + kept.log().sum() + (values.sum() - top.sum()) + (top / kept).sum())
        noise = (total - weight.square().sum(1)).clamp(min=FLOOR**2)
        if score - last < TOLERANCE:
            break
        last = score
    return weight * sd.unsqueeze(-1), noise.sqrt() * sd
