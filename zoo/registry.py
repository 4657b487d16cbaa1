"""Names of pairs: `register` stands beside each class, and nothing keeps a list by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from zoo.config import nearest


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
        known = _registry.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"two pairs called '{name}': {known.__module__} and {cls.__module__}")
        cls.registry_name = name
        _registry[name] = cls
        return cls

    return add


def registered(name: str) -> type[Any]:
    """The registered class called `name`; the nearest known name is in the error."""
    if not isinstance(name, str):
        raise ValueError(f"expected the name of a model, such as 'gmm', got {name!r}")
    if name not in _registry:
        raise ValueError(f"unknown model '{name}'{nearest(name, _registry)}; known: {', '.join(sorted(_registry))}")
    return _registry[name]


def registry() -> dict[str, type[Any]]:
    """Every registered class, by name."""
    return dict(sorted(_registry.items()))
