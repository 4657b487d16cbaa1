"""Several starts, each led uphill by Newton's method, and the best Gaussian met on each way.

The Laplace approximation at each point of a path gets a bound on the log evidence from a few draws, the same for all;
the best of them is kept, since that of most hierarchical models lies on the way and not at its end, the neck of the
funnel: Zhang, Carpenter, Gelman & Vehtari (2022), "Pathfinder: parallel quasi-Newton variational inference", choose so
from the path of L-BFGS. All paths walk in one batch; one that comes within a deviation of a better one ends there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.roads.evaluating import Evaluated

STEPS, WORSE, APPROACH = 50, 6, 12  # Newton steps; those in a row that are worse than the best; steps to another's end
WALKED = 3  # paths that do not join the first, at most
LENGTHS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5)  # of each step, all tried at once
DRAWS = 8  # and their mirror images, behind each bound
NEAR = 1e-3  # squared deviations from the mode at which a path has arrived
FLAT = 1e-10  # of the largest curvature: less is none
BENT = 0.01  # of the middle one, where some are negative: as much is taken for less
PART = 0.01  # of a width, for differences of gradients
SADDLE = 1e-6  # of the largest curvature: so much below 0, and a point that stands still is no mode


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of free latents.

    Args:
        loc: its mean, (P,).
        tril: a factor of its covariance, (P, P).
        bound: on the log evidence, in nats, as far as it is known.
    """

    loc: Tensor
    tril: Tensor
    bound: float = -math.inf

    def at(self, noise: Tensor) -> Tensor:
        """Standard normal numbers (S, P) as draws."""
        return self.loc + noise @ self.tril.mT

    def log_prob(self, noise: Tensor) -> Tensor:
        """Of the draws `at` noise, (S,)."""
        return -0.5 * noise.square().sum(-1) - self.log_scale - 0.5 * noise.shape[1] * math.log(2 * math.pi)

    @property
    def log_scale(self) -> float:
        """log |det tril|."""
        return float(torch.linalg.slogdet(self.tril).logabsdet)

    def away(self, points: Tensor) -> Tensor:
        """Squared deviations from the mean, (S, P) -> (S,); infinite where a width is none."""
        return self.noise(points).square().sum(-1)

    def noise(self, points: Tensor) -> Tensor:
        """The standard normal numbers of which points, (S, P), are the draws: (S, P)."""
        found, info = torch.linalg.solve_ex(self.tril, (points - self.loc).mT)
        return torch.full_like(points, math.inf) if bool(info) else found.mT


@dataclass
class Path:
    """Where a path stands.

    Args:
        at: its point, (P,).
        width: of each number with the others held, (P,).
        best: the best Gaussian met so far.
        worse: steps since then.
        arrived: whether it stands at a mode.
    """

    at: Tensor
    width: Tensor
    best: Gaussian | None = None
    worse: int = 0
    arrived: bool = False


def walk(density: Evaluated, starts: Tensor, generator: torch.Generator) -> list[Gaussian]:
    """The best Gaussian of each path, the best path first; those that joined another one are left out.

    The first path is walked to its end. The others then go uphill in its coordinates, which costs a gradient a step,
    and so most of them join it; a few of those that do not are walked too.

    Args:
        density: log density and gradient.
        starts: points of finite density, (K, P).
        generator: of the draws behind bounds.
    """
    noise = _noise(starts, generator)
    found = _walked(density, starts[:1], noise)
    rest = starts[1:]
    if found and len(rest) and not density.late:
        rest = _approaching(density, found[0], rest)
    if len(rest) and not (found and density.late):
        found = found + _walked(density, rest[:WALKED], noise)
    return sorted(found, key=lambda gaussian: -gaussian.bound)


def around(density: Evaluated, points: Tensor, generator: torch.Generator) -> list[Gaussian]:
    """The best Gaussian of each path from points, (K, P), that are nearly at an end, the best first.

    Args:
        density, generator: see `walk`.
        points: of finite density.
    """
    return sorted(_walked(density, points, _noise(points, generator)), key=lambda gaussian: -gaussian.bound)


def _noise(starts: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(DRAWS, starts.shape[1], dtype=torch.float64, generator=generator)
    return torch.cat([noise, -noise]).to(starts.device)


def newton(density: Evaluated, start: Gaussian, generator: torch.Generator) -> Gaussian:
    """The best Gaussian on the one path from near a mode.

    Args:
        density: log density and gradient.
        start: whose mean it begins at, with about the widths of the posterior.
        generator: of the draws behind bounds.
    """
    at = start.loc[None]
    found = _walked(density, at, _noise(at, generator), start.tril.square().sum(-1).sqrt())
    return found[0] if found else start


def _walked(density: Evaluated, starts: Tensor, noise: Tensor, width: Tensor | None = None) -> list[Gaussian]:
    """The best Gaussian of each path, by Newton's method."""
    paths = [Path(at, 0.01 * (1 + at.abs()) if width is None else width) for at in starts]  # PART of which: 1e-4
    walking = list(paths)
    for _ in range(STEPS):
        walking = _apart([path for path in walking if not path.arrived and path.worse < WORSE], paths)
        if not walking or (density.late and any(path.best is not None for path in paths)):
            break
        _step(density, walking, noise)
    return [path.best for path in paths if path.best is not None]


def _approaching(density: Evaluated, goal: Gaussian, at: Tensor) -> Tensor:
    """Points that went uphill in the coordinates of a Gaussian and did not come to it, (K, P).

    By no more than a step that would do for that Gaussian: longer ones leap over the mode at hand.
    """
    P, lengths = at.shape[1], torch.tensor([length for length in LENGTHS if length <= 1]).to(at)
    value, gradient = density(at)
    for _ in range(APPROACH):
        left = (goal.away(at) > 2 + P / 2) & value.isfinite()
        at, value, gradient = at[left], value[left], gradient[left]
        if not len(at):
            break
        step = gradient @ goal.tril @ goal.tril.mT
        tried = at[:, None] + lengths[:, None] * step[:, None]  # (K, lengths, P)
        values, gradients = density(tried.flatten(0, 1))
        best = values.reshape(len(at), -1).argmax(-1)
        index = torch.arange(len(at), device=at.device) * len(lengths) + best
        if not bool((values[index] > value).any()):
            break
        at, value, gradient = tried.flatten(0, 1)[index], values[index], gradients[index]
    return at


def _apart(walking: list[Path], paths: list[Path]) -> list[Path]:
    """Those that no better path passes by."""
    left = []
    for path in walking:
        own = -math.inf if path.best is None else path.best.bound
        others = [other.best for other in paths if other is not path and other.best is not None]
        if any(best.bound >= own and float(best.away(path.at[None])) < 1 for best in others):
            paths[:] = [other for other in paths if other is not path]
        else:
            left.append(path)
    return left


def _step(density: Evaluated, walking: list[Path], noise: Tensor) -> None:
    """One Newton step of each path."""
    K, P = len(walking), noise.shape[1]
    at = torch.stack([path.at for path in walking])  # (K, P)
    reach = PART * torch.stack([path.width for path in walking])
    moves = torch.cat([torch.zeros(K, 1, P).to(reach), reach.diag_embed(), -reach.diag_embed()], 1)
    value, gradient = density((at[:, None] + moves).flatten(0, 1))
    value, gradient = value.reshape(K, -1)[:, 0], gradient.reshape(K, 2 * P + 1, P)
    hessian = (gradient[:, P + 1 :] - gradient[:, 1 : P + 1]) / (2 * reach[:, :, None])  # of minus the log density
    hessian = (hessian + hessian.mT) / 2
    own = hessian.diagonal(dim1=1, dim2=2).abs().clamp(min=1e-20).rsqrt()  # (K, P)
    values, vectors = torch.linalg.eigh(own[:, :, None] * hessian * own[:, None])
    size = values.abs()
    convex = values[:, :1] > FLAT * values[:, -1:]
    none = FLAT * size.amax(-1, keepdim=True)  # the middle one of few may be none itself
    least = torch.where(convex, none, none.maximum(BENT * size.median(-1, keepdim=True).values))
    curved = size.clamp(min=1e-300).maximum(least)
    slope = gradient[:, 0]
    root = own[:, :, None] * vectors * curved.rsqrt()[:, None]  # (K, P, P): root root^T is the covariance
    step = (root @ (root.mT @ slope[:, :, None])).squeeze(-1)
    decrement = (slope * step).sum(-1)
    tried = at[:, None] + torch.tensor(LENGTHS).to(at)[:, None] * step[:, None]
    drawn = at[:, None] + noise @ root.mT
    ahead, _ = density(torch.cat([tried.flatten(0, 1), drawn.flatten(0, 1)]))
    ahead, bounds = ahead[: K * len(LENGTHS)].reshape(K, -1), ahead[K * len(LENGTHS) :].reshape(K, -1).mean(-1)
    bounds = bounds + torch.linalg.slogdet(root).logabsdet + 0.5 * P * (1 + math.log(2 * math.pi))
    for k, path in enumerate(walking):
        path.worse += 1
        if math.isfinite(bounds[k]) and (path.best is None or float(bounds[k]) > path.best.bound + 1e-3):
            path.best, path.worse = Gaussian(path.at, root[k], float(bounds[k])), 0
        path.width = own[k]
        best = int(ahead[k].argmax())
        path.arrived = float(decrement[k]) < NEAR or not float(ahead[k, best]) > float(value[k])
        if float(ahead[k, best]) > float(value[k]):
            path.at = tried[k, best]
        if path.arrived and float(values[k, 0]) < -SADDLE * float(size[k].max()):  # a ridge or a minimum: down a side
            path.at, path.arrived = path.at + root[k, :, 0], False
