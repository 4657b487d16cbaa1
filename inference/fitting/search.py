"""Where a guide over global latents starts in a pair that suggests no values of its own: a search of bounded cost.

Newton's method on the log joint density in the unconstrained space, with central differences of a recorded gradient for
the second derivatives and their absolute values where they are negative, so that every step leads uphill whatever the
latents' units and correlations. At each point that is curved downwards the Laplace approximation, as far as the guide
can hold it, gets a bound on the log evidence from a few draws, the same for all; the start is the best of them. That of
most hierarchical models lies on the way and not at its end, which is the neck of the funnel: Zhang et al. (2022),
"Pathfinder: parallel quasi-Newton variational inference", choose so from the path of L-BFGS.

All of it in double precision: the curvature of correlated latents is lost in single.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from inference.compiling.fallback import FAILED
from inference.fitting import curvature
from inference.fitting.curvature import as_point, some_rows
from inference.fitting.fisher import prior_width
from inference.fitting.objective import Objective
from inference.fitting.step import SINGULAR
from inference.running.densities import UnsupportedGuide
from inference.running.mapped import Mapped, elsewhere, one_by_one
from inference.running.pieces import pieces
from zoo import guides
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart

_STEPS, _HALVINGS, _WORSE = 60, 20, 8  # Newton steps; halvings of one; points in a row that are worse than the best
_DRAWS = 16  # behind each bound
_PART = 0.01  # of a latent's conditional width: of third order nothing is left, of rounding neither
_FLAT = 1e-10  # of the largest curvature, in the latents' own units: less is none
_LONGEST = 3.0  # of a step, in deviations of the prior

Density = Callable[[Tensor], tuple[Tensor, Tensor]]  # of minus the log joint, with gradients: (S, P) -> (S,), (S, P)


@dataclass(frozen=True)
class Place:
    """A Gaussian to start from: centre (P,), conditional widths (P,), and covariance factor (P, P)."""

    loc: Tensor
    width: Tensor
    tril: Tensor


def move(pair: ModelGuide, batch: Batch, objective: Objective, mode: str) -> bool:
    """Put the automatic guide where the search ends, in place; False where it leads to nothing better.

    Args:
        pair: without continuous locals and without parameters but the guide's.
        batch: all observations; the density is that of some of them, scaled, where they are many.
        objective: of the plain ELBO.
        mode: `off` for no recorded gradient.
    """
    auto = pair.automatic
    if auto is None or not isinstance(auto, (guides.Standardised, guides.AutoLaplace)):
        return False
    before = _of(auto)
    if not 0 < len(before.loc) <= settings.hessian_latents:
        return False
    double = pair if pair.dtype == torch.float64 else copy.deepcopy(pair).double()
    some = some_rows(batch, pair.device).to(dtype=torch.float64)
    with apart(0), unvalidated(), as_point(double, some) as loc:
        gradients = _plain(double, some, objective)
        if mode != "off":
            try:
                gradients = _recorded(double, some, objective, loc)
            except (*FAILED, UnsupportedGuide):  # of which the steps will tell
                pass

        def density(at: Tensor) -> tuple[Tensor, Tensor]:
            try:
                with torch.enable_grad():
                    return gradients(at)
            except (ValueError, SINGULAR):  # outside of what a distribution takes
                return torch.full_like(at[:, 0], math.inf), torch.full_like(at, math.nan)

        try:
            spread = prior_width(double, some, loc)
        except (RuntimeError, ValueError):  # a model that takes one draw at a time
            spread = torch.ones_like(loc)
        longest = _LONGEST * torch.where(spread.isfinite() & (spread > 0), spread, 1.0)
        full, point = isinstance(auto, guides.Multivariate), isinstance(auto, guides.AutoLaplace)
        found = _search(density, before, longest, full, point)
        if found is not None:
            found = _polished(found, density, curvature.hessian_of(double, some, objective))
    if found is None:
        return False
    _put(auto, found, pair.dtype)
    return True


def _recorded(pair: ModelGuide, batch: Batch, objective: Objective, loc: Tensor) -> Density:
    """By a graph of one point, for many at once."""
    one = _value_and_gradient(pair, batch, objective)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of its length, of which the steps will tell
        mapped = Mapped(one, loc.clone(), pair.name, other=elsewhere(loc))

    def density(at: Tensor) -> tuple[Tensor, Tensor]:
        if len(at) == 1 or not mapped.together:
            return one_by_one(mapped.one, at)  # type: ignore[no-any-return]
        found = [mapped(at[piece]) for piece in pieces(len(at), mapped.width)]
        return torch.cat([value for value, _ in found]), torch.cat([gradient for _, gradient in found])

    return density


def _plain(pair: ModelGuide, batch: Batch, objective: Objective) -> Density:
    one = _value_and_gradient(pair, batch, objective)
    return lambda at: one_by_one(one, at)


def _value_and_gradient(pair: ModelGuide, batch: Batch, objective: Objective) -> Density:
    """Of one point: (P,) -> (), (P,)."""
    function = curvature.negative_log_joint(pair, batch, objective)

    def density(at: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = at.detach().requires_grad_()
            value = function(at)
            (gradient,) = torch.autograd.grad(value, at)
        return value.detach(), gradient

    return density


def _of(auto: Any) -> Place:
    """The Gaussian of a guide; one of no width where it is a point."""
    if isinstance(auto, guides.AutoLaplace):
        nothing = torch.zeros_like(auto.loc, dtype=torch.float64)
        return Place(auto.loc.detach().double(), nothing, nothing.diag_embed())
    posterior = auto.gaussian()
    width = posterior.stddev.detach().double()
    return Place(posterior.mean.detach().double(), width, width.diag_embed())


@torch.no_grad()
def _put(auto: Any, found: Place, dtype: torch.dtype) -> None:
    loc, width, tril = (value.to(dtype) for value in (found.loc, found.width, found.tril))
    if isinstance(auto, guides.AutoLaplace):
        auto.loc.copy_(loc)
        return
    auto.centre.copy_(loc)
    auto.loc.zero_()
    auto.standardise(width, tril)


def _search(density: Density, before: Place, longest: Tensor, full: bool, point: bool) -> Place | None:
    """The best Gaussian on the way to the mode, or the mode itself for a `point`; None if none is better than before.

    Args:
        density: minus the log joint density and its gradient at (P,).
        before: where the guide stands.
        longest: step of each latent, (P,).
        full: whether the guide can hold correlations.
    """
    P = len(before.loc)
    noise = torch.randn(_DRAWS, P, dtype=torch.float64).to(before.loc)
    noise = torch.cat([noise, -noise])

    def bound(place: Place) -> float:
        if point:
            return -float(density(place.loc[None])[0])
        tril = place.tril if full else place.width.diag_embed()
        values = density(place.loc + noise @ tril.mT)[0]
        found = float(tril.diagonal().log().sum() - values.mean())  # but for a constant of the entropy
        return found if math.isfinite(found) else -math.inf

    best, found = bound(before), None
    # The prior median may be no place at all, as of Gamma(0, 0), and that of a few draws may lie where exp(x w) is 1e9,
    # from where Newton's method comes back by 1 a step.
    origins = sorted((before.loc, torch.zeros_like(before.loc)), key=lambda at: _or_infinite(density(at[None])[0]))
    for origin in origins:
        since = 0
        for place in _path(density, origin, longest, point):
            since += 1
            if (mine := bound(place)) > best + 1e-3:
                best, found, since = mine, place, 0
            if since >= _WORSE:
                break
        if found is not None:
            return found
    return None


def _or_infinite(value: Tensor) -> float:
    return float(value) if math.isfinite(value) else math.inf


def _path(density: Density, at: Tensor, longest: Tensor, point: bool) -> Iterator[Place]:
    """The Laplace approximations on the way to the mode, or there alone for a `point`."""
    value, gradient = _at(density, at)
    scale = torch.ones_like(at)
    for _ in range(_STEPS):
        if not math.isfinite(value) or not bool(gradient.isfinite().all()):
            return
        hessian = _hessian(density, at, scale)
        if not bool(hessian.isfinite().all()):
            return
        own = hessian.diagonal().abs().clamp(min=1e-12).rsqrt()
        values, vectors = torch.linalg.eigh(own[:, None] * hessian * own)
        curved = values.abs().clamp(min=_FLAT * float(values.abs().max()))
        step = -own * (vectors @ ((vectors.mT @ (own * gradient)) / curved))
        decrement = -float(gradient @ step)
        if float(values[0]) > _FLAT * float(values[-1]) and (not point or decrement < 1e-6):
            yield _place(at.clone(), own, own[:, None] * vectors * curved.rsqrt())
        if decrement < 1e-8:
            return
        step = step / max(1.0, float((step.abs() / longest).max()))
        for _ in range(_HALVINGS):
            new, slope = _at(density, at + step)
            if math.isfinite(new) and new <= value + 1e-4 * float(gradient @ step):
                break
            step = step / 2
        else:
            return
        at, value, gradient, scale = at + step, new, slope, own


def _at(density: Density, at: Tensor) -> tuple[float, Tensor]:
    """At one point, (P,)."""
    value, gradient = density(at[None])
    return float(value), gradient[0]


def _place(at: Tensor, own: Tensor, root: Tensor) -> Place:
    """A Gaussian of covariance `root root^T`."""
    tril = torch.linalg.qr(root.mT).R.mT
    return Place(at, own, tril * tril.diagonal().sign())


def _polished(found: Place, density: Density, hessian: Callable[[Tensor], Tensor]) -> Place:
    """The same with second derivatives that are exact, and a step of Newton's method with them if it is a small one."""
    at = found.loc
    for _ in range(2):
        exact = hessian(at)
        own = exact.diagonal().clamp(min=1e-300).rsqrt()
        factor, info = torch.linalg.cholesky_ex(own[:, None] * exact * own)
        if info or not bool(factor.isfinite().all()):
            return found
        root = own[:, None] * torch.linalg.inv(factor).mT
        found = _place(at, own, root)
        slope = root.mT @ _at(density, at)[1]  # in widths of the Gaussian
        if not float(slope.norm()) < 0.1:
            return found
        at = at - root @ slope
    return replace(found, loc=at)


def _hessian(density: Density, at: Tensor, scale: Tensor) -> Tensor:
    """Central differences of the gradient, (P, P), each step a small part of the latent's own width."""
    for _ in range(3):
        steps = _PART * scale
        above, below = density(torch.cat([at + steps.diag_embed(), at - steps.diag_embed()]))[1].chunk(2)
        found = (above - below) / (2 * steps[:, None])
        wanted = found.diagonal().abs().clamp(min=1e-4).rsqrt()
        if not bool(((wanted / scale).log().abs() > math.log(10)).any()):
            break
        scale = wanted
    return (found + found.mT) / 2
