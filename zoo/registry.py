"""Names of pairs: `register` stands beside each class, and nothing keeps a list by hand.

The zoo's own are imported when they are asked for, by what their source tells (`zoo.sources`): one name, one file.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from zoo.config import nearest
from zoo.sources import complete, modules, sources


class Registrable(Protocol):
    """All that the registry knows of a class: that it keeps the name it was given."""

    registry_name: ClassVar[str]


_registry: dict[str, type[Any]] = {}
Kind = TypeVar("Kind", bound="type[Registrable]")


def register(name: str) -> Callable[[Kind], Kind]:
    """Class decorator: make the pair known to `zoo.create` under `name`.

    Raises:
        ValueError: another class already has that name.
    """

    def add(cls: Kind) -> Kind:
        places = [(source.module, source.called) for source in (sources().get(name),) if source is not None]
        places += [(known.__module__, known.__qualname__) for known in (_registry.get(name),) if known is not None]
        for place in places:
            if place != (cls.__module__, cls.__qualname__):
                raise ValueError(f"two pairs called '{name}': {place[0]} and {cls.__module__}")
        cls.registry_name = name
        _registry[name] = cls
        return cls

    return add


def names() -> list[str]:
    """Names of all pairs, sorted; the zoo's own need not be imported for that."""
    if not complete():
        load_all()
    return sorted({*_registry, *sources()})


def registered(name: str) -> type[Any]:
    """The registered class called `name`; the nearest known name is in the error."""
    if not isinstance(name, str):
        raise ValueError(f"expected the name of a model, such as 'gmm', got {name!r}")
    if name not in _registry:
        _load(name)
    if name not in _registry:
        known = names()
        if name not in _registry:
            raise ValueError(f"unknown model '{name}'{nearest(name, known)}; known: {', '.join(known)}")
    return _registry[name]


def registry() -> dict[str, type[Any]]:
    """Every registered class, by name."""
    load_all()
    return dict(sorted(_registry.items()))


def load_all() -> None:
    """Import every model of the zoo; each registers itself."""
    for module in modules():
        importlib.import_module(module)
    for name in sources():
        _load(name)


def _load(name: str) -> None:
    """Import the file of one of the zoo's models, which registers itself; again, where it was taken out since."""
    source = sources().get(name)
    if source is not None:
        _registry.setdefault(name, getattr(importlib.import_module(source.module), source.called))
