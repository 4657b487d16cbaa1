"""Expectation-maximisation of Gaussian mixtures, with R starts run as one batch (Dempster, Laird & Rubin 1977).

Starts lie in the leading dimension, so one tensor operation moves all of them. The E-step is the caller's own density;
the M-step here maximises, up to the prior of the correlation, the log joint density of `zoo.mixtures.gmm.GMM`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def seed(x: Tensor, components: int, starts: int) -> Tensor:
    """Centres chosen by k-means++ (Arthur & Vassilvitskii 2007): each far from those before it. (R, K, D) of (N, D)."""
    centres = x[torch.randint(len(x), (starts, 1), device=x.device)]  # (R, 1, D)
    distance = torch.cdist(centres, x).squeeze(1).square()  # (R, N), to the nearest centre so far
    for _ in range(components - 1):
        # rows that all coincide with a centre are equally likely
        chosen = torch.multinomial(distance + torch.finfo(x.dtype).tiny, 1)  # (R, 1)
        centres = torch.cat([centres, x[chosen]], 1)
        distance = distance.minimum(torch.cdist(x[chosen], x).squeeze(1).square())
    return centres


def kmeans(x: Tensor, components: int, starts: int, iterations: int = 10) -> Tensor:
    """Hard responsibilities, (R, N, K), after Lloyd's iterations from k-means++ seeds; features in equal units."""
    centres = seed(x, components, starts)
    for i in range(iterations + 1):
        nearest = torch.cdist(centres, x).argmin(1)  # (R, N)
        hard = functional.one_hot(nearest, components).to(x.dtype)  # (R, N, K)
        if i < iterations:
            count = hard.sum(1).unsqueeze(-1)  # (R, K, 1)
            centres = torch.where(count > 0, hard.mT @ x / count.clamp(min=1), centres)
    return hard


def moments(x: Tensor, responsibility: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts (R, K), means (R, K, D) and scatter matrices about the means (R, K, D, D) of weighted rows."""
    count = responsibility.sum(1)
    loc = responsibility.mT @ x / count.clamp(min=torch.finfo(x.dtype).tiny).unsqueeze(-1)
    centred = x - loc.unsqueeze(-2)  # (R, K, N, D)
    return count, loc, (centred * responsibility.mT.unsqueeze(-1)).mT @ centred


def scale_mode(count: Tensor, squares: Tensor, rate: Tensor) -> Tensor:
    """The mode of log s for `count` centred normals with sum of squares `squares`, and s ~ InverseGamma(1, rate).

    Setting the derivative of -n log s - S / (2 s^2) ... to zero gives (n + 1) s^2 - rate s - S = 0.
    """
    n = count + 1
    return (rate + (rate.square() + 4 * n * squares).sqrt()) / (2 * n)


def correlation_tril(count: Tensor, scatter: Tensor, shrink: float) -> Tensor:
    """Cholesky factors of the correlations of `scatter`, (..., D, D), shrunk as by `shrink` uncorrelated rows."""
    sd = scatter.diagonal(dim1=-2, dim2=-1).sqrt()
    sd = torch.where(sd > 0, sd, 1)
    eye = torch.eye(scatter.shape[-1], dtype=scatter.dtype, device=scatter.device)
    n = count[..., None, None]
    correlation = n * scatter / sd.unsqueeze(-1) / sd.unsqueeze(-2) + shrink * eye
    tril = torch.linalg.cholesky(correlation + (1e-9 * n + 1e-9) * eye)
    return functional.normalize(tril, dim=-1)


def run(
    responsibility: Tensor,
    m_step: Callable[[Tensor], dict[str, Tensor]],
    log_density: Callable[[dict[str, Tensor]], Tensor],
    iterations: int = 100,
) -> dict[str, Tensor]:
    """Alternate M- and E-steps a fixed number of times from `responsibility`, (R, N, K).

    `log_density` gives log p(z = k, x_n) of every start, (R, N, K).
    """
    values = m_step(responsibility)
    for _ in range(iterations):
        values = m_step(log_density(values).softmax(-1))
    return values
