"""zoo: generative models for Pyro, as model/guide pairs that share one set of inference tools."""

from __future__ import annotations

import fnmatch
import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zoo.settings import settings
from zoo.version import __version__

if TYPE_CHECKING:
    from zoo.base import Batch, ModelGuide, register

__all__ = ["Batch", "ModelGuide", "__version__", "create", "datasets", "load", "names", "register", "settings"]

_FAMILIES = ("autoencoders", "mixtures", "sequences", "graphs", "regression")


def _discover() -> None:
    """Import every model file beside this one; each registers itself."""
    for family in _FAMILIES:
        folder = Path(__file__).parent / family
        for module in pkgutil.iter_modules([str(folder)]):
            importlib.import_module(f"zoo.{family}.{module.name}")


def names(pattern: str = "*") -> list[str]:
    """Names of the registered pairs that match a shell pattern, sorted."""
    from zoo.base import registry

    _discover()
    return [name for name in registry() if fnmatch.fnmatch(name, pattern)]


def create(name: str, **config: Any) -> ModelGuide:
    """Build the pair called `name`. `config` are the typed keyword arguments of its class.

    Raises:
        ValueError: unknown name or argument (with the nearest that exists), or a value out of range.
    """
    from zoo.base import registered

    _discover()
    return registered(name)(**config)


def load(folder: str | Path) -> ModelGuide:
    """Rebuild a pair saved with `pair.save(folder)`.

    Raises:
        zoo.state.DamagedFile: anything truncated, altered, oversized, of other shapes, or outside the folder.
    """
    from zoo import state

    _discover()
    return cast("ModelGuide", state.load(Path(folder)))


def __getattr__(name: str) -> Any:
    # torch and pyro load on first use, so that `zoo --help` stays quick
    if name in ("Batch", "ModelGuide", "register"):
        return getattr(importlib.import_module("zoo.base"), name)
    if name == "datasets":
        return importlib.import_module("zoo.datasets")
    raise AttributeError(f"module 'zoo' has no attribute '{name}'")
