"""One run of a program on flat, unconstrained latents: its log density, and what its sites are worth there.

With each latent v = T(u) the image of free numbers u under the bijection of its support, and discrete latents summed
out,

    log p(u) = log p(observed, v) + sum over latents of log |det dT / du|

Supports may move with other latents: every bijection is made in the very run that uses it. Latents of a scale that
others decide may stand in other coordinates than u (`inference.sampling.centring`), in which case the Jacobian has
those too. Everything here is of one point, as the program itself is; `inference.running.mapped` runs it for many.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Mapping, Sequence
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta, Unit
from pyro.distributions.util import broadcast_shape, scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import biject_to

from inference.programs.contracting import contracted
from inference.programs.outline import Latent, Outline, base, enumerating
from inference.programs.runs import Kept, given, middle, sites_of
from inference.sampling.centring import placed, shifted
from inference.sampling.potential import Unseen
from zoo.threads.handlers import unvalidated


class Visit:
    """Functions of one point, P free numbers or the values of the latents, for a program with its arguments.

    Args:
        seen: the program.
        parameters: values that `pyro.param` gives; by default those of the first run.

    Attributes:
        shares: of the location in each free number of the latents in `centrable`, (P,); 1 is the program's own.
    """

    def __init__(self, seen: Outline, parameters: Mapping[str, Tensor] | None = None) -> None:
        self.seen = seen
        self.parameters = seen.parameters if parameters is None else parameters
        self.centrable: frozenset[str] = frozenset()
        self.shares = torch.ones(seen.size, dtype=seen.dtype, device=seen.device)

    def centre(self) -> None:
        """Let latents of a scale that others decide stand in other coordinates."""
        with torch.enable_grad():
            point = torch.zeros_like(self.shares, requires_grad=True)
            self.centrable = centrable(self._trace(self._set(point), enumerated=True), self.seen.latents)

    def places(self, point: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Location and log scale of the latents in `centrable`, by name."""
        found = self._set(point)
        self._trace(found, enumerated=True)
        return found.places

    def log_density(self, point: Tensor, seen: bool = True) -> Tensor:
        """(P,) -> (); with observed sites left out where not `seen`: that of the prior."""
        found = self._set(point)
        trace = self._trace(found, enumerated=True, seen=seen)
        total, factors = contracted(trace, self.seen.call.program.name)
        for value in factors.values():
            total = total + value.sum()
        log_p: Tensor = total + found.log_jacobian
        return log_p

    def value_and_gradient(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """The log density and its gradient: (P,) -> (), (P,)."""
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            value = self.log_density(point)
            (gradient,) = torch.autograd.grad(value, point, allow_unused=True)
        return value.detach().to(point.dtype), torch.zeros_like(point) if gradient is None else gradient

    def parts(self, at: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """log p(u), log p(x | u) and the gradient of log p(u) + b log p(x | u): (P,), () -> (), (), (P,)."""
        point, beta = at
        with torch.enable_grad():
            point = point.detach().requires_grad_()
            prior = self.log_density(point, seen=False)
            likelihood = self.log_density(point) - prior
            (gradient,) = torch.autograd.grad(prior + beta * likelihood, point, allow_unused=True)
        found = torch.zeros_like(point) if gradient is None else gradient
        return prior.detach().to(point.dtype), likelihood.detach().to(point.dtype), found

    def constrain(self, point: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Values of the latents and of deterministic sites, by name, and the log Jacobian, ().

        What depends on a latent that is summed out has no one value, and is left out.
        """
        found = self._set(point)
        trace = self._trace(found, enumerated=True)
        values = dict(found.values)
        for name, site in self.seen.deterministic.items():
            value = trace.nodes[name]["value"]
            if value.shape == site.shape:
                values[name] = value
        return values, point.new_zeros(()) + found.log_jacobian

    def free(self, values: Mapping[str, Tensor]) -> Tensor:
        """The inverse of `constrain` in the program's own coordinates: (P,)."""
        found = _Freed(values)
        self._trace(found, enumerated=True)
        return torch.cat([latent.flatten(found.free[latent.name]) for latent in self.seen.latents])

    def prior(self, point: Tensor) -> Tensor:
        """Free numbers of a draw from the prior, (P,) of any value -> (P,); 0 where none can be drawn."""
        found = _Drawn(self.seen.call.program.start, self.seen.dtype)
        self._trace(found)
        return torch.cat([latent.flatten(found.free[latent.name].to(point)) for latent in self.seen.latents])

    def pointwise(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """log p of each observed site along its plates, given the latents.

        Sites that share a latent which is summed out have one value together, `a+b`, along the plates of that latent.
        """
        trace = self._trace(_Given(values), enumerated=True)
        found = {name: trace.nodes[name] for name in self.seen.observed}
        _, factors = contracted(trace, self.seen.call.program.name)
        together = {name for names in factors for name in names.split("+")}
        alone = {
            name: scale_and_mask(node["unscaled_log_prob"], mask=node["mask"])
            for name, node in found.items()
            if name not in together
        }
        return alone | {names: value for names, value in factors.items() if found.keys() & set(names.split("+"))}

    def enumerated(self, values: Mapping[str, Tensor]) -> Any:
        """A run given the latents, with log densities, the discrete ones enumerated."""
        return self._trace(_Given(values), enumerated=True)

    def log_prior(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """log p of each latent given those above it, ()."""
        nodes = self._trace(_Given(values), enumerated=True).nodes
        return {name: nodes[name]["log_prob_sum"] for name in values if nodes[name]["log_prob"].shape.numel()}

    def predictive(self, values: Mapping[str, Tensor], kept: Collection[str] = ()) -> dict[str, Tensor]:
        """New values of whatever the program draws or observes, but for the latents given and what is `kept`."""
        trace = self._trace(_Given(values, True, kept))
        return {
            name: node["value"]
            for name, node in sites_of(trace).items()
            if (name not in values or node["is_observed"])
            and name not in kept
            and not isinstance(base(node["fn"]), Unit)
        }

    def culprits(self, point: Tensor) -> list[str]:
        """Sites whose value or log density is not finite at a point."""
        trace = self._trace(self._set(point), enumerated=True)
        return [name for name, node in sites_of(trace).items() if not bool(torch.isfinite(node["log_prob"]).all())]

    def _set(self, point: Tensor) -> _Set:
        return _Set(self.seen, point, self.centrable, self.shares)

    def _trace(self, handler: Messenger, enumerated: bool = False, seen: bool = True) -> Any:
        """A run under a handler, with log densities; those of observed sites are 0 where not `seen`."""
        call: Any = self.seen.call if seen else Unseen(self.seen.dtype)(self.seen.call)
        if enumerated and self.seen.enumerated:
            call = enumerating(call, self.seen.depth)
        with unvalidated(), Kept(self.parameters), handler:
            trace = poutine.trace(call).get_trace()
            trace.compute_log_prob()
        return trace


def centrable(trace: Any, latents: Sequence[Latent]) -> frozenset[str]:
    """Latents whose scale other latents decide, by a run under gradients."""
    found = set()
    for latent in latents:
        place = placed(trace.nodes[latent.name]["fn"], latent.free) if latent.missing is None else None
        if place is not None and place[1].requires_grad:
            found.add(latent.name)
    return frozenset(found)


class _Set(Messenger):
    """Gives latents the values that belong to free ones, and adds up the log Jacobians."""

    def __init__(self, seen: Outline, point: Tensor, centrable: Container[str], shares: Tensor) -> None:
        super().__init__()
        self.free = {latent.name: latent.unflatten(point) for latent in seen.latents}
        self.missing = {latent.name: latent.missing for latent in seen.latents}
        self.shares = {latent.name: latent.unflatten(shares) for latent in seen.latents if latent.name in centrable}
        self.places: dict[str, tuple[Tensor, Tensor]] = {}
        self.values: dict[str, Tensor] = {}
        self.log_jacobian: Any = 0.0

    def _pyro_sample(self, message: Any) -> None:
        name = message["name"]
        if name in self.free and not message["is_observed"]:
            free, transform = self.free[name], biject_to(message["fn"].support)
            if name in self.shares and (place := placed(message["fn"], free.shape)) is not None:
                share, self.places[name] = self.shares[name], place
                self.log_jacobian = self.log_jacobian + ((1 - share) * place[1]).sum()
                free = shifted(free, place, share, torch.ones_like(share))
            value = transform(free)
            jacobian = transform.log_abs_det_jacobian(free, value)
            if (missing := self.missing.get(name)) is not None:
                jacobian = torch.where(missing, jacobian, 0.0)
            self.log_jacobian = self.log_jacobian + jacobian.sum()
            self.values[name] = message["value"] = value


class _Given(Messenger):
    """Gives latents these values; observed sites may be drawn anew, but for those that are kept."""

    def __init__(self, values: Mapping[str, Tensor], redraw: bool = False, kept: Collection[str] = ()) -> None:
        super().__init__()
        self.values, self.redraw, self.kept = values, redraw, kept

    def _pyro_sample(self, message: Any) -> None:
        fn = message["fn"]
        if isinstance(fn, _Subsample):
            return
        if not message["is_observed"]:
            if message["name"] in self.values:
                message["value"] = self.values[message["name"]]
        elif self.redraw and message["name"] not in self.kept and not isinstance(base(fn), (Delta, Unit)):
            message["fn"] = _as_seen(fn, message["value"])
            message["is_observed"], message["value"] = False, None


def _as_seen(fn: Any, value: Any) -> Any:
    """A distribution in the shape of what was observed, which may have more dims, or larger ones."""
    seen = torch.Size(getattr(value, "shape", ()))
    batch = broadcast_shape(seen[: len(seen) - fn.event_dim], fn.batch_shape)
    return fn if batch == fn.batch_shape else fn.expand(batch)


class _Freed(Messenger):
    """Gives latents these values, and records the free numbers that belong to them."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values
        self.free: dict[str, Tensor] = {}

    def _pyro_sample(self, message: Any) -> None:
        name = message["name"]
        if name in self.values and not message["is_observed"]:
            message["value"] = self.values[name]
            self.free[name] = biject_to(message["fn"].support).inv(self.values[name])


class _Drawn(Messenger):
    """Draws latents from the prior and records the free numbers that belong to them; where none can be drawn, 0."""

    def __init__(self, start: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.start, self.dtype = start, dtype
        self.free: dict[str, Tensor] = {}

    def _pyro_sample(self, message: Any) -> None:
        name, fn = message["name"], message["fn"]
        if message["is_observed"] or isinstance(fn, _Subsample) or fn.support.is_discrete:
            return
        transform = biject_to(fn.support)
        try:
            value = given(name, self.start[name], fn, self.dtype) if name in self.start else fn()
            free = transform.inv(value)
        except NotImplementedError:
            value = middle(fn, self.dtype)
            free = transform.inv(value)
        self.free[name], message["value"] = free, value
