"""Ordinary runs of a program by Pyro, before anything is recorded: what fails in them, and what differs among them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions import is_validation_enabled
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import biject_to

from inference.programs.filling import Filled
from inference.programs.reached import TellingError, naming_density, naming_where
from inference.programs.roots import Roots
from zoo.programs import Program
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart
from zoo.threads.rows import all_rows


@dataclass(frozen=True)
class Call:
    """A program and the arguments it is run with; plates may take all of their rows, `inference.programs.rows`."""

    program: Program
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    all_rows: bool = False

    def __call__(self) -> Any:
        """Run it."""
        with Roots(), Filled():
            return self.run(self.program.model)

    def run(self, function: Callable[..., Any]) -> Any:
        """Run another function, a guide, of the same arguments."""
        with all_rows() if self.all_rows else nullcontext():
            return function(*self.args, **self.kwargs)

    def naming(self) -> AbstractContextManager[None]:
        """What a run of it within raises says where."""
        return naming_where(self.program.name, self.program.model, self.args, self.kwargs)

    def but(self, **changes: Any) -> Call:
        """The same with other keyword arguments."""
        return replace(self, kwargs={**self.kwargs, **changes})


class Kept(Messenger):
    """Parameters have these values, and no run makes one: `pyro.param` of a model leaves no mark in the store."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, message: Any) -> None:
        if message["name"] in self.values:
            message["value"], message["done"] = self.values[message["name"]], True


class First(Messenger):
    """Sets each latent where its free value is 0, or draws it where it can be drawn from; `improper` has the others."""

    def __init__(self, start: Mapping[str, Tensor], drawn: bool) -> None:
        super().__init__()
        self.start, self.drawn = start, drawn
        self.improper: list[str] = []

    def _pyro_sample(self, message: Any) -> None:
        if message["is_observed"] or message["value"] is not None or isinstance(message["fn"], _Subsample):
            return
        name, fn = message["name"], message["fn"]
        message["value"] = given(name, self.start[name], fn) if name in self.start else None
        if self.drawn or (fn.support.is_discrete and message["value"] is None):
            try:
                drawn = fn(*message["args"], **message["kwargs"])
            except NotImplementedError:
                self.improper.append(name)
                drawn = None
            message["value"] = drawn if message["value"] is None else message["value"]
        if message["value"] is None:
            message["value"] = middle(fn)


def middle(fn: Any, dtype: torch.dtype | None = None) -> Tensor:
    """The value of a distribution's support whose free value is 0; by default of the type that it draws."""
    shape = torch.Size(fn.batch_shape) + torch.Size(fn.event_shape)
    transform = biject_to(fn.support)
    found: Tensor = transform(torch.zeros(transform.inverse_shape(shape), dtype=dtype or _dtype(fn)))
    return found


def _dtype(fn: Any, otherwise: torch.dtype | None = None) -> torch.dtype:
    """Of what a distribution draws; that of an improper one is not known."""
    otherwise = otherwise or torch.get_default_dtype()
    try:
        drawn: Tensor = fn.sample()
    except (NotImplementedError, RuntimeError, ValueError):
        return otherwise
    return drawn.dtype if drawn.is_floating_point() else otherwise


def first_run(call: Call) -> Any:
    """A trace of the program where nothing is extreme, improper priors included, which cannot be drawn from."""
    with apart(), First(call.program.start, drawn=False):
        return poutine.trace(call).get_trace()


class _Again(Messenger):
    """Gives latents, and the rows that plates take, the values of another run."""

    def __init__(self, trace: Any) -> None:
        super().__init__()
        self.nodes = trace.nodes

    def _pyro_sample(self, message: Any) -> None:
        known = self.nodes.get(message["name"])
        if known is not None and message["value"] is None and not message["is_observed"]:
            message["value"] = known["value"]


class StartError(TellingError):
    """A starting value that does not fit its site."""


def given(name: str, value: Tensor, fn: Any, dtype: torch.dtype | None = None) -> Tensor:
    """A user's starting value of a site, in its shape, and by default of the type that it draws.

    Raises:
        ValueError: it has another shape, or lies outside the support.
    """
    shape = torch.Size(fn.batch_shape) + torch.Size(fn.event_shape)
    try:
        found = value.to(dtype or _dtype(fn, value.dtype if value.is_floating_point() else None)).expand(shape)
    except RuntimeError:
        raise StartError(f"start, site '{name}': expected shape {tuple(shape)}, got {tuple(value.shape)}") from None
    inside = fn.support.check(found)
    if not bool(inside.all()):
        first = tuple((~inside).nonzero()[0].tolist()) if inside.ndim else ()
        at = found[first] if first else found
        raise StartError(f"start, site '{name}'{list(first) or ''}: {at.tolist()} lies outside {fn.support}")
    return found


@contextmanager
def storeless() -> Iterator[None]:
    """Runs within leave the store of parameters as it was."""
    store = pyro.get_param_store()
    before = set(store.keys())
    try:
        yield
    finally:
        for name in set(store.keys()) - before:
            del store[name]


def trace_of(
    call: Call,
    made: Mapping[str, Tensor],
    first: Messenger,
    seed: int | None = None,
    check: Callable[[Call, Any], None] | None = None,
) -> tuple[Any, dict[str, Tensor]]:
    """One run, and the values of its parameters; the store of parameters is left as it was.

    What it drew and observed may be checked before densities are worked out.
    """
    try:
        with call.naming(), storeless(), apart(seed), torch.no_grad(), Kept(made), first:
            trace = poutine.trace(call).get_trace()
        if check is not None:
            check(call, trace)
        try:
            with naming_density(call.program.name, trace), torch.no_grad():
                trace.compute_log_prob()
        except ValueError as error:
            if check is None or not is_validation_enabled():
                raise
            # Values were checked, and better: a support that moves may leave some of them outside at these latents.
            trace = _unvalidated(call, made, first, seed, error)
    except StartError as error:
        raise ValueError(str(error).partition("\n")[0]) from None  # Pyro adds the shapes of all sites
    except (AttributeError, TypeError) as error:
        _refuse_arrays(call, error)
        raise
    except RuntimeError as error:
        _refuse_arrays(call, error)
        told = next(iter(str(error).splitlines()), "")
        if "Multiple" in told and "sites named" in told:
            raise ValueError(f"{call.program.name}: {told.lower()}: give each a name of its own") from error
        raise
    values = {name: node["value"] for name, node in trace.nodes.items() if node["type"] == "param"}
    return trace, {name: value.detach() for name, value in values.items() if isinstance(value, Tensor)}


def _unvalidated(call: Call, made: Mapping[str, Tensor], first: Messenger, seed: int | None, told: Exception) -> Any:
    """The same run without validation; where that fails too, what validation told is raised."""
    try:
        with unvalidated(), storeless(), apart(seed), torch.no_grad(), Kept(made), first:
            trace = poutine.trace(call).get_trace()
            trace.compute_log_prob()
    except Exception:
        raise told from None
    return trace


def check_fixed(call: Call, made: Mapping[str, Tensor], trace: Any) -> None:
    """Refuse a program whose density is another in each run: what is recorded would hold one draw for ever.

    Whichever generator it draws from, torch's, NumPy's or Python's.
    """
    again, _ = trace_of(call, made, _Again(trace), seed=2)
    compare(call.program.name, trace, again)
    for name, node in sites_of(trace).items():
        one, other = node["log_prob_sum"], again.nodes[name]["log_prob_sum"]
        if not torch.equal(torch.as_tensor(one).nan_to_num(), torch.as_tensor(other).nan_to_num()):
            raise ValueError(
                f"{call.program.name}: the density of site '{name}' is another in each run, at the same latents: the "
                "program draws random numbers itself. Draw them before, and hand them in as an argument"
            )


class Generators:
    """Whether runs draw from the random state of NumPy or of Python, which no graph can write down."""

    def __init__(self) -> None:
        self.states = [self._now()]

    def after_a_run(self) -> None:
        """Look again."""
        self.states.append(self._now())

    def check(self, name: str) -> None:
        """Refuse a program each of whose runs has drawn.

        Raises:
            ValueError: with whose generator it is.
        """
        for whose, states in zip(("NumPy", "Python"), zip(*self.states, strict=True), strict=True):
            if all(one != other for one, other in itertools.pairwise(states)):
                raise ValueError(
                    f"{name} draws from the random state of {whose}, and what is recorded would hold one draw for "
                    "ever: draw before, and hand it in as an argument, or draw with torch"
                )

    @staticmethod
    def _now() -> tuple[Any, Any]:
        kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - it is looked at, and not drawn from
        return (kind, np.asarray(keys).tobytes(), *rest), random.getstate()


def _refuse_arrays(call: Call, error: Exception) -> None:
    """Say which arguments are arrays and no tensors, where a run fails."""
    for name, value in [*enumerate(call.args), *call.kwargs.items()]:
        if not isinstance(value, Tensor) and (hasattr(value, "__array__") or _numbers(value)):
            what = f"argument {name}" if isinstance(name, int) else f"argument '{name}'"
            kind = f"{type(value).__module__.split('.')[0]} {type(value).__name__}".removeprefix("builtins ")
            raise ValueError(
                f"{call.program.name}: {what} is a {kind}, and the program fails on it "
                f"({next(iter(str(error).splitlines()), '')}): pass torch.as_tensor(…) of it"
            ) from error


def _numbers(value: Any) -> bool:
    """Whether it is a list of numbers."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], (int, float))


def compare(name: str, first: Any, second: Any) -> None:
    """Refuse a program whose sites are not the same in every run."""
    sites, again = ({n: v for n, v in t.nodes.items() if v["type"] == "sample"} for t in (first, second))
    for site in [*sites, *again]:
        if (site in sites) != (site in again):
            raise ValueError(
                f"{name}: site '{site}' is in one run and not in the next: what a program draws must not decide which "
                "sites it has"
            )
        shapes = [getattr(found[site]["value"], "shape", ()) for found in (sites, again)]
        if shapes[0] != shapes[1]:
            kind = "plate" if isinstance(sites[site]["fn"], _Subsample) else "site"
            one, other = map(tuple, shapes)
            raise ValueError(f"{name}: {kind} '{site}' has shape {one} in one run and {other} in the next")


def sites_of(trace: Any) -> dict[str, Any]:
    """Sample sites of a trace, without the indices that plates draw."""
    nodes = trace.nodes.items()
    return {name: n for name, n in nodes if n["type"] == "sample" and not isinstance(n["fn"], _Subsample)}
