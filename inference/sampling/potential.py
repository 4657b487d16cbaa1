"""The log density of a pair as a function of flat, unconstrained latents: what gradient MCMC walks on.

With globals t, continuous locals z and discrete locals summed out, and each latent v = T(u) the image of a free vector
u under the bijection of its support,

    log p(u) = log p(x, z, t) + sum over latents of log |det dT / du|

The joint density and the sum over discrete locals are those of `inference.running.densities.run`, with nothing left
to a guide.
Supports may move with other latents: every bijection is made in the very run that uses it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.utils import _sum_rightmost

from inference.running.checked import Checked
from inference.running.densities import GIVEN, run
from inference.running.naming import naming_the_site
from inference.running.pieces import pieces
from inference.sampling.centring import better, placed, shifted
from zoo.base import Batch, ModelGuide, sample_sites
from zoo.threads.handlers import unvalidated


@dataclass(frozen=True)
class Block:
    """Where one latent stands in the flat vector."""

    name: str
    local: bool
    rows: int  # B of a local latent, 1 of a global one
    free: torch.Size  # event shape without constraint
    begin: int

    @property
    def end(self) -> int:
        """One past its last number."""
        return self.begin + self.rows * math.prod(self.free)


class Potential:
    """Flat log density of a pair given data, for S points at once. Parameters of the pair are held fixed.

    Args:
        given: the pair and all N observations.
        recentred: whether `recentre` may choose other coordinates for latents of a scale that others decide.

    Attributes:
        shares: of the location in each free number, (P,); 1 is the pair's own; see `inference.sampling.centring`.

    Raises:
        ValueError: no latents; a discrete latent that is not enumerated; a part of the data only.
    """

    def __init__(self, given: Checked, recentred: bool = False) -> None:
        pair, batch = given.pair, given.batch
        if batch.size != batch.total:
            raise ValueError(f"MCMC needs all observations at once, got {batch.size} of {batch.total}")
        self.given, self.pair, self.batch = given, pair, batch
        self.blocks = _blocks(given)
        self.size = self.blocks[-1].end
        self.centrable = frozenset[str]()
        self.uncentre()
        if recentred:
            self.centrable = self._centrable()

    @property
    def local(self) -> frozenset[str]:
        """Names of the local latents."""
        return frozenset(block.name for block in self.blocks if block.local)

    @property
    def name(self) -> str:
        """What the pair is called."""
        return self.pair.name

    @property
    def dims(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the dims of events, by site."""
        return self.pair.dims

    @property
    def dtype(self) -> torch.dtype:
        """Of the draws."""
        return self.pair.dtype

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.pair.device

    @property
    def has_globals(self) -> bool:
        """Whether any latent is global."""
        return any(not block.local for block in self.blocks)

    @property
    def held(self) -> tuple[Tensor, ...]:
        """The shares of locations, (P,), where coordinates can change; else nothing."""
        return (self.shares,) if self.centrable else ()

    def uncentre(self) -> None:
        """Go back to the pair's own coordinates."""
        self.shares = torch.ones(self.size, dtype=self.dtype, device=self.device)

    def centre_at(self, shares: Tensor) -> None:
        """Take the coordinates of these shares."""
        self.shares = shares

    @torch.no_grad()
    def recentre(self, draws: Tensor, dense: bool) -> Callable[[Tensor], Tensor] | None:
        """Choose coordinates by draws of the posterior, (S, P); see `Density`."""
        old, new = self.shares, self.shares.clone()
        for own, place in self._places(draws, old):
            new[own] = better(draws[:, own], place, old[own], dense)
        if torch.equal(new, old):
            return None

        self.shares = new
        return lambda points: self._moved(points, old, new)

    def _moved(self, points: Tensor, old: Tensor, new: Tensor) -> Tensor:
        """Points in the coordinates of old shares, (S, P), in those of new ones."""
        found = points.clone()
        for own, place in self._places(points, old):
            found[:, own] = shifted(points[:, own], place, old[own], new[own])
        return found

    def _centrable(self) -> frozenset[str]:
        """Latents whose scale other latents decide, by a run under gradients."""
        looked = Unconstrained({}, shares=self.unflatten(self.shares[None]))
        with torch.enable_grad(), unvalidated(), poutine.block(), pyro.plate("particles", 1, dim=-2):
            point = torch.zeros(1, self.size, dtype=self.dtype, device=self.device, requires_grad=True)
            looked.given = self.unflatten(point)
            with looked:
                self.pair.model(self.batch)
        return frozenset(name for name, (_, log_scale) in looked.places.items() if log_scale.requires_grad)

    def _places(self, points: Tensor, shares: Tensor) -> Iterator[tuple[slice, tuple[Tensor, Tensor]]]:
        """Of each latent in `centrable` its numbers, and their locations and log scales at points, each (S, n)."""
        parts = [
            self._visit(self.unflatten(points[piece]), inverse=False, shares=shares).places
            for piece in pieces(len(points), self.size)
        ]
        for block in self.blocks_of(parts[0]):
            loc, log_scale = (torch.cat([part[block.name][i].flatten(1) for part in parts]) for i in range(2))
            yield slice(block.begin, block.end), (loc, log_scale)

    def value_and_gradient(self, points: Tensor, *held: Tensor) -> tuple[Tensor, Tensor]:
        """The log density at S points, (S, P) -> (S,), and its gradient, (S, P)."""
        with torch.enable_grad(), naming_the_site():
            points = points.detach().requires_grad_()
            value = self._log_density(points, self.pair.model, *held)
            (gradient,) = torch.autograd.grad(value.sum(), points)
        return value.detach(), gradient

    def log_density(self, points: Tensor) -> Tensor:
        """The log density at S points, (S, P) -> (S,)."""
        return self._log_density(points, self.pair.model)

    def parts(self, points: Tensor, beta: Tensor, *held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The log density in two parts, that of `prior` and the log likelihood, and a gradient between the two.

        Args:
            points: free latents, (S, P).
            beta: of the likelihood in the gradient, b, (S,).
            held: the coordinates, where they can change.

        Returns:
            log p(u) with its Jacobian, (S,); log p(x | u), (S,); and the gradient of log p(u) + b log p(x | u), (S, P).
        """
        with torch.enable_grad(), naming_the_site():
            points = points.detach().requires_grad_()
            prior = self._log_density(points, Unseen(self.dtype)(self.pair.model), *held)
            likelihood = self._log_density(points, self.pair.model, *held) - prior
            (gradient,) = torch.autograd.grad((prior + beta * likelihood).sum(), points)
        return prior.detach(), likelihood.detach(), gradient

    def _log_density(self, points: Tensor, model: Callable[[Batch], Any], *held: Tensor) -> Tensor:
        return self._of(self.batch, points, model, 1.0, *held)

    def _of(
        self, batch: Batch, points: Tensor, model: Callable[[Batch], Any], share: float, *held: Tensor
    ) -> Tensor:  # fmt: skip
        """The log likelihood of some rows, and so much of the log prior, (S,)."""
        free = Unconstrained(self.unflatten(points), shares=self._shares(*held))
        alone = SimpleNamespace(model=free(model), guide=_nothing)  # every latent has its value already
        with unvalidated():
            terms = run(cast(ModelGuide, alone), batch, len(points))
        total: Tensor = terms.likelihood.sum(-1) + share * (terms.global_log_p + free.log_jacobian)
        return total

    @torch.no_grad()
    def constrain(self, points: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Latents at S points, (S, P): globals (S, *event), locals (S, N, *event); and log |det dT / du|, (S,)."""
        kept: dict[str, list[Tensor]] = {block.name: [] for block in self.blocks}
        jacobian = []
        for piece in pieces(len(points), self.size):
            found = self._visit(self.unflatten(points[piece]), inverse=False)
            jacobian.append(found.log_jacobian)
            for block in self.blocks:
                value = found.values[block.name]
                kept[block.name].append(value if block.local else value.squeeze(1))
        return {name: torch.cat(values) for name, values in kept.items()}, torch.cat(jacobian)

    @torch.no_grad()
    def free(self, values: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `constrain`: (S, P), in the coordinates of now.

        A latent that is not among the values is drawn from its prior.
        """
        given = {b.name: values[b.name] if b.local else values[b.name].unsqueeze(1) for b in self.blocks_of(values)}
        found = self._visit(given, inverse=True, draws=len(next(iter(values.values()))))
        own, ones = self.flatten(found.free), torch.ones_like(self.shares)
        return own if torch.equal(self.shares, ones) else self._moved(own, ones, self.shares)

    def blocks_of(self, values: Container[str]) -> Iterator[Block]:
        """The blocks of these latents."""
        return (block for block in self.blocks if block.name in values)

    @torch.no_grad()
    def prior(self, draws: int) -> Tensor:
        """Free latents drawn from the prior, (S, P)."""
        return self.flatten(self._visit({}, inverse=True, draws=draws).free)

    def flatten(self, free: Mapping[str, Tensor]) -> Tensor:
        """Free latents, each (S, rows, *shape), as (S, P)."""
        return torch.cat([free[block.name].flatten(1) for block in self.blocks], 1)

    def unflatten(self, points: Tensor) -> dict[str, Tensor]:
        """(S, P) to free latents, each (S, rows, *shape)."""
        return {
            block.name: points[:, block.begin : block.end].reshape(len(points), block.rows, *block.free)
            for block in self.blocks
        }

    @torch.no_grad()
    def culprits(self, point: Tensor) -> list[str]:
        """Sites whose value or log density is not finite at a point, (P,)."""
        free = Unconstrained(self.unflatten(point[None]), shares=self._shares())
        with pyro.plate("particles", 1, dim=-2), unvalidated():
            trace = poutine.trace(free(_enumerated(self.pair.model))).get_trace(self.batch)
            trace.compute_log_prob()
        sites = sample_sites(trace)
        return [name for name, site in sites.items() if not bool(torch.isfinite(site["log_prob"]).all())]

    def _shares(self, shares: Tensor | None = None) -> dict[str, Tensor]:
        """Those of the latents in `centrable`, each (1, rows, *shape)."""
        given = self.unflatten((self.shares if shares is None else shares)[None])
        return {name: given[name] for name in self.centrable}

    def _visit(
        self, values: Mapping[str, Tensor], inverse: bool, draws: int | None = None, shares: Tensor | None = None
    ) -> Unconstrained:
        """Run the model as far as its last latent."""
        last = frozenset(block.name for block in self.blocks)
        found = Unconstrained(values, inverse, last, {} if inverse else self._shares(shares))
        draws = len(next(iter(values.values()))) if draws is None else draws
        with unvalidated(), poutine.block():
            try:
                with pyro.plate("particles", draws, dim=-2), found:
                    self.pair.model(self.batch)
            except SeenAll:
                pass
        shapes = {block.name: (draws, block.rows, *block.free) for block in self.blocks}
        found.free = {name: value.expand(shapes[name]) for name, value in found.free.items()}
        return found


class Unconstrained(Messenger):
    """Sets latents from free values, each (S, rows, *shape), and adds up the log Jacobians; or the other way round.

    Args:
        values: site -> free values; with `inverse` constrained ones, and latents left out are drawn.
        inverse: record the free values that belong to the latents.
        last: stop the run once these have been seen.
        shares: of latents that stand in other coordinates, each (1, rows, *shape).
    """

    def __init__(
        self, values: Mapping[str, Tensor], inverse: bool = False, last: frozenset[str] = frozenset(),
        shares: Mapping[str, Tensor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.given, self.inverse, self.left, self.shares = values, inverse, set(last), shares or {}
        self.places: dict[str, tuple[Tensor, Tensor]] = {}
        self.stops = bool(last)
        self.log_jacobian: Any = 0.0  # (S,)
        self.values: dict[str, Tensor] = {}
        self.free: dict[str, Tensor] = {}

    def _pyro_sample(self, message: Any) -> None:
        name = message["name"]
        if name not in self.given or message["is_observed"]:
            return
        if self.inverse:
            message["value"] = self.given[name]
            return
        transform = biject_to(message["fn"].support)
        free = self.given[name]
        if name in self.shares and (place := placed(message["fn"], free.shape)) is not None:
            share, self.places[name] = self.shares[name], place
            self.log_jacobian = self.log_jacobian + ((1 - share) * place[1]).flatten(1).sum(1)
            free = shifted(free, place, share, torch.ones_like(share))
        value = transform(free)
        jacobian = transform.log_abs_det_jacobian(free, value)
        self.log_jacobian = self.log_jacobian + _sum_rightmost(jacobian, jacobian.ndim - 1)
        self.values[name] = message["value"] = value
        message["infer"] = {**message["infer"], GIVEN: True}

    def _pyro_post_sample(self, message: Any) -> None:
        name = message["name"]
        if name not in self.left:
            return
        if self.inverse:
            self.values[name] = message["value"]
            self.free[name] = biject_to(message["fn"].support).inv(message["value"])
        self.left.discard(name)
        if self.stops and not self.left:
            raise SeenAll


class Unseen(Messenger):
    """Leaves observed sites out of the log density: what is left is that of the latents, the prior.

    Args:
        dtype: of log densities.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def _pyro_sample(self, message: Any) -> None:
        if message["is_observed"]:  # not by the mask of the site, which says what is missing
            message["fn"] = _Uncounted(message["fn"], self.dtype)


class _Uncounted(MaskedDistribution):
    """A distribution whose density counts as 1, wherever, in a given type; nothing is worked out for it."""

    def __init__(self, fn: Any, dtype: torch.dtype) -> None:
        super().__init__(fn, False)  # type: ignore[no-untyped-call]
        self.dtype = dtype

    def expand(self, batch_shape: Any, _instance: Any = None) -> _Uncounted:
        return _Uncounted(self.base_dist.expand(batch_shape), self.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        found: Tensor = super().log_prob(value)  # type: ignore[no-untyped-call]
        return found.to(self.dtype)


class SeenAll(Exception):
    """Every latent has its value; what the model does with them is not needed."""


def _nothing(batch: Batch) -> None:
    """A guide without sites."""


def _blocks(given: Checked) -> list[Block]:
    latent = {name: site for name, site in given.sites.items() if not site.observed}
    model = given.pair.name
    if not latent:
        raise ValueError(f"{model} has no latents: there is nothing to sample")
    blocks: list[Block] = []
    for name, site in latent.items():
        if site.discrete:
            if site.enumerated:
                continue
            raise ValueError(
                f"discrete site '{name}' has no gradient: mark it infer={{'enumerate': 'parallel'}} in the model, so "
                "that it is summed out"
            )
        free = biject_to(site.fn.support).inv(site.value).shape
        begin = blocks[-1].end if blocks else 0
        rows, shape = (given.size, free[1:]) if site.local else (1, free)
        blocks.append(Block(name, site.local, rows, shape, begin))
    if not blocks:
        raise ValueError(f"{model}: every latent is summed out, there is nothing left to sample")
    return blocks


def _enumerated(model: Callable[[Batch], Any]) -> Callable[[Batch], Any]:
    return cast("Callable[[Batch], Any]", poutine.enum(model, first_available_dim=-3))
