"""Any Pyro program, as it stands, for the functions of `inference`: `zoo.program(model)`.

A pair is a program of one kind, whose arguments are one `Batch`. A `Program` takes whatever its model takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import torch
from pyro.infer.autoguide import AutoGuide
from pyro.poutine.messenger import Messenger
from torch import nn

from zoo.guides import Family
from zoo.threads import handlers, rows
from zoo.threads.turns import Turn

handlers.install()
rows.install()


class Program:
    """A model as people write it for Pyro, and what is to be said of it; see `program`."""

    def __init__(
        self,
        model: Callable[..., Any],
        guide: Family | Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
        coords: Mapping[str, Sequence[Any]] | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(model) or inspect.isclass(model):
            kind = f"the class {model.__name__}" if inspect.isclass(model) else f"{type(model).__name__} {model!r:.60}"
            raise ValueError(f"model: expected a function, a method or a module that runs a Pyro program, got {kind}")
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name: expected a text, got {name!r}")
        self.model = model
        self.name = name or _name_of(model)
        self.dims = {site: tuple(_texts(f"dims of '{site}'", names)) for site, names in _items("dims", dims)}
        self.coords = {dim: list(labels) for dim, labels in _items("coords", coords)}
        self.start = {site: _value(site, value) for site, value in _items("start", start)}
        self.guide = _guide_of(model, guide)
        self.fitted: Any = None  # what `inference.fit` leaves here
        self.turn = Turn()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model: a program is a Pyro program."""
        return self.model(*args, **kwargs)

    def __repr__(self) -> str:
        return f"program({self.name})"


def program(
    model: Callable[..., Any],
    guide: Family | Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    start: Mapping[str, Any] | None = None,
) -> Program:
    """Any Pyro program, untouched, for `inference.sample` and what follows it.

    Nothing is asked of how the model indexes, broadcasts or names things: plates may be nested and crossed,
    observations stand anywhere, discrete latents are summed out. The arguments of the model follow the program:

        program = zoo.program(my_model)
        posterior = inference.sample(program, x, y=y)
        idata = inference.to_arviz(program, posterior, x, y=y)

    Parameters are where plain Pyro has them and are saved as there, by `pyro.get_param_store().save` or a module's
    `state_dict`; draws by `inference.sample(store=…)`, or by the `to_netcdf` of what `to_arviz` makes.

    Args:
        model: a function, a method or a `PyroModule`.
        guide: for `inference.fit`: a family (`normal`, `multivariate`, `lowrank`, `flow`, `laplace`, `delta`; `auto`
            picks one), an automatic guide of Pyro's or its class, or a guide of your own that takes the model's
            arguments; by default `multivariate` for up to 100 numbers, else `normal`. `inference.sample` needs none.
        name: what to call it in messages; by default the function's own name.
        dims: site -> names of the dims of its events, from the left, for ArviZ. Those of plates are the plates' names.
        coords: dim -> labels, `{"school": ["A", "B"]}`.
        start: site -> a value to start chains around; the others start around their prior median.

    Raises:
        ValueError: no callable, or dims, labels or values that are none.
    """
    return Program(model, guide, name=name, dims=dims, coords=coords, start=start)


def _guide_of(model: Callable[..., Any], guide: Any) -> Any:
    if inspect.isclass(guide) and issubclass(guide, AutoGuide):
        return guide(model)
    if guide is None or callable(guide) or guide in get_args(Family):
        return guide
    raise ValueError(f"guide: expected one of {', '.join(get_args(Family))}, or a guide of Pyro's, got {guide!r:.60}")


def _name_of(model: Callable[..., Any]) -> str:
    function: Any = model
    while callable(inner := _within(function)):
        function = inner
    if isinstance(function, nn.Module):
        return type(function).__name__
    found = getattr(function, "__qualname__", type(function).__name__)
    return str(found).rsplit("<locals>.", maxsplit=1)[-1]


def _within(function: Any) -> Any:
    """What a partial or one of Pyro's handlers wraps, or None."""
    if isinstance(function, partial):
        handler = isinstance(next(iter(function.args), None), Messenger)  # `condition`, `scale`: (handler, program)
        return function.args[1] if handler and len(function.args) > 1 else function.func
    return getattr(function, "fn", None)  # `reparam`, `trace`


def _value(site: str, value: Any) -> torch.Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"start, site '{site}': expected a number or an array of them, got {value!r:.60}") from None


def _items(what: str, given: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    if given is not None and (not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given)):
        raise ValueError(f"{what}: expected a dict by name, got {type(given).__name__}")
    return list((given or {}).items())


def _texts(what: str, names: Any) -> Sequence[str]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what}: expected a tuple of names, got {names!r}")
    return list(names)
