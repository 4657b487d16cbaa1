"""A Gaussian brought nearer to a density: by its scores, then on the bound itself.

`match` is batch and match (Cai, Modi, Pillaud-Vivien, Margossian, Gower, Blei & Saul 2024, "Batch and match: black-box
variational inference with a score-based divergence"): draws of the present Gaussian and the scores at them, E[s], give
the next in closed form, the one that makes

    E || s - s_q ||^2_Cov(q)  +  (2 / rate) KL(before || q)

least. It comes from far in few steps; where the density is no Gaussian it ends beside the highest bound. `climb` ends
there: natural gradients of the bound for fixed draws, which in coordinates where q is standard normal are

    E[r],   -E[r e^T],   r = s + e, e the draws,

0 where q is exact, for whichever draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference.roads.evaluating import Evaluated
from inference.roads.paths import Gaussian

BATCH = 32
LOOK = 10  # iterations between which the scores have to come nearer
CLOSE = 0.02  # mean squared residual of a score, in which one of the standard normal has 1: near enough for the weights
FINISH = 20  # steps of the bound, at most


def match(density: Evaluated, start: Gaussian, iterations: int, generator: torch.Generator) -> Gaussian:
    """The Gaussian that batch and match comes to.

    Args:
        density: log density and gradient.
        start: where to begin.
        iterations: at most; it ends where scores no longer come nearer, or the time of the density is over.
        generator: of the draws.
    """
    P = density.size
    loc, tril = start.loc, start.tril
    eye = torch.eye(P, dtype=loc.dtype, device=loc.device)
    residuals: list[float] = []
    for t in range(iterations):
        if density.late:
            break
        e = _mirrored(BATCH // 2, P, generator).to(loc)
        value, gradient = density(loc + e @ tril.mT)
        good = value.isfinite()
        if int(good.sum()) < BATCH // 4:
            tril = tril / 2
            continue
        e, s = e[good], gradient[good] @ tril
        residuals.append(min(float((s + e).square().mean()), 1e12))
        if _settled(residuals):
            break
        rate = len(e) * P / (t + 1)
        middle, slope = e.mean(0), s.mean(0)
        spread, scores = (e - middle).mT @ (e - middle) / len(e), (s - slope).mT @ (s - slope) / len(s)
        U = rate * scores + rate / (1 + rate) * slope.outer(slope)
        V = eye + rate * spread + rate / (1 + rate) * middle.outer(middle)
        R = torch.linalg.cholesky(V)
        values, Q = torch.linalg.eigh(eye + 4 * R.mT @ U @ R)
        half = R @ (Q * (2 / (1 + values.clamp(min=1.0).sqrt())).sqrt())  # of the new covariance, whitened
        moved = loc + tril @ (rate / (1 + rate) * (half @ (half.mT @ slope) + middle))
        wide = triangular(tril @ half)
        if not _regular(moved, wide):  # of no density, so that nothing could be told of its draws
            break
        loc, tril = moved, wide
    return Gaussian(loc, tril)


def _regular(loc: Tensor, tril: Tensor) -> bool:
    """Whether a Gaussian has a density: along a ridge without an end all other widths become rounding errors."""
    rows, own = tril.norm(dim=-1), tril.diagonal().abs()
    digits = own > torch.finfo(tril.dtype).eps * rows  # none of a number that is 0, infinite or NaN
    return bool(loc.isfinite().all() & rows.isfinite().all() & digits.all())


def _settled(residuals: list[float]) -> bool:
    if len(residuals) >= 3 and max(residuals[-3:]) < CLOSE:
        return True
    if len(residuals) < 3 * LOOK:
        return False
    now, before = (sorted(part)[LOOK // 2] for part in (residuals[-LOOK:], residuals[-2 * LOOK : -LOOK]))
    return now > 0.9 * before


def climb(density: Evaluated, start: Gaussian, generator: torch.Generator) -> Gaussian:
    """The Gaussian of the highest bound, by so many draws that stay the same.

    Args:
        density: log density and gradient.
        start: where to begin, near it.
        generator: of the draws.
    """
    P = density.size
    e = _mirrored(max(64, 4 * P), P, generator).to(start.loc)
    loc, tril, rate = start.loc, start.tril, 1.0
    constant = float(e.square().sum(-1).mean()) / 2 + 0.5 * P * math.log(2 * math.pi)

    def look(gaussian: Gaussian) -> tuple[float, Tensor]:
        value, gradient = density(gaussian.at(e))
        return float(value.mean()) + gaussian.log_scale + constant, gradient

    best = Gaussian(loc, tril)
    bound, gradient = look(best)
    if not math.isfinite(bound):
        return start
    for _ in range(FINISH):
        if density.late:
            break
        r = gradient @ best.tril + e
        curved = -(r.mT @ e) / len(e)
        values, Q = torch.linalg.eigh(rate * (curved + curved.mT) / 2)
        root = Q * (1 + values).clamp(0.25, 4.0).rsqrt()  # of the whitened covariance
        loc = best.loc + best.tril @ (root @ (root.mT @ (rate * r.mean(0))))
        tried = Gaussian(loc, triangular(best.tril @ root))
        new, slope = look(tried)
        if new > bound:
            gain, best, bound, gradient = new - bound, tried, new, slope
            if gain < 1e-3:
                break
            rate = min(1.0, 1.5 * rate)
        else:
            rate /= 2
            if rate < 0.1:
                break
    return Gaussian(best.loc, best.tril, bound)


def _mirrored(count: int, size: int, generator: torch.Generator) -> Tensor:
    """So many standard normal points and their mirror images, (2 count, P)."""
    e = torch.randn(count, size, dtype=torch.float64, generator=generator)
    return torch.cat([e, -e])


def triangular(root: Tensor) -> Tensor:
    """A triangular factor of root root^T."""
    upper: Tensor = torch.linalg.qr(root.mT).R
    found: Tensor = upper.mT * upper.diagonal().sign()
    return found
