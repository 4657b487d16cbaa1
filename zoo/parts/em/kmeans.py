"""Where expectation-maximisation starts: k-means and its seeds, R starts as one batch."""

from __future__ import annotations

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


def means(x: Tensor, components: int, starts: int) -> Tensor:
    """Means to start from, (R, K, D): half by k-means, a quarter its k-means++ seeds alone, a quarter random rows."""
    seeded, random = starts // 2 - starts // 4, starts // 4
    hard = kmeans(x, components, starts - seeded - random)
    lloyd = hard.mT @ x / hard.sum(1).clamp(min=1).unsqueeze(-1)
    rows = torch.ones(max(random, 1), len(x), device=x.device).multinomial(components, len(x) < components)
    return torch.cat([lloyd, seed(x, components, seeded), x[rows[:random]]])
