"""What a program holds, told by a run of it: latents, observations, deterministic sites, plates and parameters.

The run is an ordinary one of Pyro, with validation as the user has it, from random numbers of its own. Two runs are
compared: what differs between them (a plate's size, a site that comes and goes) is refused by name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta, Unit, is_validation_enabled
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import biject_to

from inference.programs import masks
from inference.programs.observations import check_observations
from inference.programs.runs import Call, First, Generators, check_fixed, compare, sites_of, trace_of
from zoo.config import nearest
from zoo.programs import Program
from zoo.threads.handlers import unvalidated


@dataclass(frozen=True)
class Plate:
    """One plate: its name, size, and the dim it takes, counted from the right."""

    name: str
    size: int
    dim: int
    full: int  # of which it takes `size`


@dataclass(frozen=True)
class Latent:
    """A continuous latent, and where it stands in the flat vector of free numbers."""

    name: str
    shape: torch.Size  # of a value: dims of plates, then of the event
    free: torch.Size  # of a value without constraint
    begin: int
    event: int  # how many dims the event has
    missing: Tensor | None = None  # of a partly observed site, along its plates: which of its cells are latent

    @property
    def end(self) -> int:
        """One past its last number."""
        return self.begin + (math.prod(self.free) if self.kept is None else len(self.kept))

    @functools.cached_property
    def kept(self) -> Tensor | None:
        """Which of its free numbers stand in the flat vector; None: all."""
        if self.missing is None:
            return None
        width = len(self.free) - self.missing.ndim
        cells = self.missing.reshape(*self.missing.shape, *[1] * width).expand(self.free)
        return cells.reshape(-1).nonzero().squeeze(-1)

    def flatten(self, free: Tensor) -> Tensor:
        """What of its free numbers stands in the flat vector."""
        flat = free.reshape(-1)
        return flat if self.kept is None else flat[self.kept]

    def unflatten(self, point: Tensor) -> Tensor:
        """Its free numbers from the flat vector, (P,); 0 those of cells that were seen."""
        part = point[self.begin : self.end]
        if self.kept is not None:
            part = part.new_zeros(math.prod(self.free)).scatter(0, self.kept, part)
        return part.reshape(self.free)


@dataclass(frozen=True)
class Seen:
    """A site: the shape of its value, how many of its dims are the event's, and the plates it stands in."""

    name: str
    shape: torch.Size
    event: int
    plates: tuple[Plate, ...]  # from the left
    value: Any  # in one run
    cells: Tensor | None = None  # along its plates: which cells count, where a mask hides the others


@dataclass(frozen=True)
class Outline:
    """What `outline` finds."""

    call: Call
    latents: tuple[Latent, ...]
    sites: Mapping[str, Seen]  # all of them
    observed: Mapping[str, Seen]
    deterministic: Mapping[str, Seen]
    enumerated: Mapping[str, Seen]
    depth: int  # of nested plates: enumerated dims stand left of them
    dtype: torch.dtype
    device: torch.device
    parameters: Mapping[str, Tensor] = field(default_factory=dict)  # values of `pyro.param`, by name
    improper: tuple[str, ...] = ()  # latents that cannot be drawn from

    def dims_of(self, name: str) -> tuple[str, ...]:
        """Names of the dims of a site's values, from the left: plates, then what the program says of its events."""
        site = self.sites[name]
        batch = len(site.shape) - site.event
        places = {batch + plate.dim: plate.name for plate in site.plates}
        said = self.call.program.dims.get(name, ())
        if said and len(said) == len(site.shape):
            return said
        if said and len(said) != site.event:
            raise ValueError(f"dims of '{name}': expected {site.event} names for its events, got {said}")
        events = said or tuple(f"{name}_dim_{i}" for i in range(batch, len(site.shape)))
        return (*(places.get(i, f"{name}_dim_{i}") for i in range(batch)), *events)

    @property
    def partial(self) -> tuple[Plate, ...]:
        """Plates that take a part of their rows."""
        plates = dict.fromkeys(plate for site in self.sites.values() for plate in site.plates)
        return tuple(plate for plate in plates if plate.size < plate.full)

    @property
    def size(self) -> int:
        """Numbers in the flat vector, P."""
        return self.latents[-1].end if self.latents else 0


def outline(
    program: Program,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    sampled: bool = True,
    whole: bool = True,
    all_rows: bool = False,
) -> Outline:
    """Run a program twice, and tell what it holds.

    Args:
        program: the program.
        args, kwargs: what its model takes.
        sampled: its latents are to be sampled, and discrete ones summed out.
        whole: no plate may take a part of its rows.
        all_rows: plates that take a part take all; see `inference.programs.rows`.

    Raises:
        ValueError: no latents; a discrete latent that cannot be summed out; a plate that takes a part of its rows; a
            site drawn twice; what changes between the runs; a starting value that does not fit; an observed value that
            is NaN or outside of its distribution's support.
    """
    call = Call(program, args, kwargs, all_rows)
    # The first where nothing is extreme, so that what Pyro's validation finds is a fault; the second as it may come.
    generators = Generators()
    with nullcontext() if is_validation_enabled() else unvalidated():  # whose "off" is told from a user's own
        trace, made = trace_of(call, {}, First(program.start, drawn=False), check=check_observations)
    generators.after_a_run()
    other = First(program.start, drawn=True)
    with unvalidated():
        again, _ = trace_of(call, made, other, seed=1)
        compare(program.name, trace, again)
        if sampled and whole:
            check_fixed(call, made, trace)
    generators.after_a_run()
    generators.check(program.name)
    free = [n for n, node in sites_of(trace).items() if not node["is_observed"]]
    for name in sorted(program.start.keys() - set(free)):
        known = "is observed there" if name in trace.nodes else f"has no site '{name}'{nearest(name, free)}"
        where = f"site '{name}' of {program.name}" if name in trace.nodes else program.name
        raise ValueError(f"start: {where} {known}")
    latents: list[Latent] = []
    sites: dict[str, Seen] = {}
    seen: dict[str, dict[str, Seen]] = {"observed": {}, "deterministic": {}, "enumerated": {}}
    for name, node in trace.nodes.items():
        if node["type"] != "sample":
            continue
        fn, value = node["fn"], node["value"]
        if isinstance(fn, _Subsample):
            if sampled and whole:
                _check_whole(program.name, name, fn)
            continue
        shape = value.shape if isinstance(value, Tensor) else torch.Size()
        cells = masks.cells(name, trace, again)
        found = sites[name] = Seen(name, shape, _events(node), _plates(node), value, cells)
        if node["is_observed"]:
            kind_of = base(fn)
            if not isinstance(kind_of, Unit):  # a `pyro.factor` is a term of the density, and nothing seen
                kind = "deterministic" if isinstance(kind_of, Delta) else "observed"  # what `reparam` leaves is one too
                seen[kind][name] = found
        elif fn.support.is_discrete:
            if sampled and not fn.has_enumerate_support:
                raise ValueError(
                    f"{program.name}: discrete site '{name}' ({type(base(fn)).__name__}) has no gradient, and its "
                    "values cannot be enumerated: sum it out by hand, or `fit` the program with a guide of your own"
                )
            seen["enumerated"][name] = found
        else:
            free = biject_to(fn.support).inverse_shape(shape)
            missing = masks.missing(name, shape[: len(shape) - fn.event_dim], trace, again)
            latents.append(Latent(name, shape, free, latents[-1].end if latents else 0, fn.event_dim, missing))
    if sampled and not latents:
        why = "every latent is summed out" if seen["enumerated"] else "it draws nothing that is not observed"
        raise ValueError(f"{program.name} has no continuous latents, {why}: there is nothing to sample")
    depth = max((-plate.dim for site in sites.values() for plate in site.plates), default=0)
    numbers = [trace.nodes[latent.name]["value"] for latent in latents] or [torch.zeros(())]
    dtype = functools.reduce(torch.promote_types, [n.dtype for n in (*numbers, *_densities(trace))])
    return Outline(
        call, tuple(latents), sites, seen["observed"], seen["deterministic"], seen["enumerated"], depth, dtype,
        numbers[0].device, made, tuple(other.improper),
    )  # fmt: skip


def enumerating(model: Callable[..., Any], depth: int) -> Callable[..., Any]:
    """The model with its discrete latents enumerated in dims left of its plates', whether it says so or not."""
    marked = poutine.infer_config(model, config_fn=_marks)
    return EnumMessenger(first_available_dim=-1 - depth)(marked)


def _marks(message: Any) -> Any:
    known = message["type"] != "sample" or message["is_observed"] or not message["fn"].has_enumerate_support
    return {} if known else {"enumerate": message["infer"].get("enumerate") or "parallel"}


def _check_whole(name: str, plate: str, fn: Any) -> None:
    if fn.subsample_size is not None and fn.subsample_size < fn.size:
        raise ValueError(
            f"{name}: plate '{plate}' takes {fn.subsample_size} of {fn.size} rows, and gradient MCMC needs them all: "
            "leave `subsample_size` out"
        )


def _densities(trace: Any) -> list[Tensor]:
    """Of all sites: what the user's data are in is what their sum is in."""
    return [node["log_prob"] for node in trace.nodes.values() if "log_prob" in node]


def _plates(node: Any) -> tuple[Plate, ...]:
    frames = [frame for frame in node["cond_indep_stack"] if frame.vectorized]
    return tuple(Plate(f.name, f.size, f.dim, f.full_size or f.size) for f in sorted(frames, key=lambda f: f.dim))


def _events(node: Any) -> int:
    """How many dims of a value are the event's. A deterministic site says "all" unless it is told: its plates know."""
    events: int = node["fn"].event_dim
    value, deepest = node["value"], max((-plate.dim for plate in _plates(node)), default=0)
    if not node["infer"].get("_deterministic") or events < value.ndim or deepest > value.ndim:
        return events
    fits = all(value.shape[plate.dim] == plate.size for plate in _plates(node))
    return 0 if deepest and fits else events


def base(fn: Any) -> Any:
    """A distribution without what expands, masks or reshapes it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn
