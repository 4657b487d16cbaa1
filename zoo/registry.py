"""Names of pairs: `register` stands beside each class, and nothing keeps a list by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from zoo.config import nearest

if TYPE_CHECKING:
    from zoo.base import ModelGuide

_registry: dict[str, type[ModelGuide]] = {}
Pair = TypeVar("Pair", bound="type[ModelGuide]")


def register(name: str) -> Callable[[Pair], Pair]:
    """Class decorator: make the pair known to `zoo.create` under `name`.

    Raises:
        ValueError: another class already has that name.
    """

    def add(cls: Pair) -> Pair:
        known = _registry.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"two pairs called '{name}': {known.__module__} and {cls.__module__}")
        cls.registry_name = name
        _registry[name] = cls
        return cls

    return add


def registered(name: str) -> type[ModelGuide]:
    """The registered class called `name`; the nearest known name is in the error."""
    if name not in _registry:
        raise ValueError(f"unknown model '{name}'{nearest(name, _registry)}; known: {', '.join(sorted(_registry))}")
    return _registry[name]


def registry() -> dict[str, type[ModelGuide]]:
    """Every registered class, by name."""
    return dict(sorted(_registry.items()))
