"""Networks of the user's own as arguments of a pair: `zoo.create("gaussian_vae", decoder=my_network)`.

A pair takes a copy. What is saved of a module is the name of its class, since a class is code and none is run that a
file asks for: `zoo.load(folder, decoder=my_network)` is given one of that class again, which takes the saved weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

_KEY = "module"  # of what stands in a saved config for a module


def class_of(module: nn.Module) -> str:
    """Where the class of a module is found: `torch.nn.modules.container.Sequential`."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def spelled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for a file: modules as the names of their classes."""
    return {name: {_KEY: class_of(v)} if isinstance(v, nn.Module) else v for name, v in config.items()}


def given_again(config: Mapping[str, Any], modules: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments out of a file, with modules in the places of their names.

    Args:
        config: as it was saved.
        modules: by the name of the argument.

    Raises:
        ValueError: a module is missing, of another class, or of an argument that was saved without one.
    """
    wanted = {name: v[_KEY] for name, v in config.items() if _stands_for_a_module(v)}
    for name in modules:
        if name not in wanted:
            took = ", ".join(wanted) or "none"
            raise ValueError(
                f"argument '{name}': the pair was saved without a module of its own there; modules: {took}"
            )
    for name, known in wanted.items():
        module = modules.get(name)
        if module is None:
            raise ValueError(
                f"it was saved with {name}={known}, a module of the user's own, of which a file keeps the weights "
                f"alone: give one like it, zoo.load(folder, {name}=…)"
            )
        if not isinstance(module, nn.Module) or class_of(module) != known:
            got = class_of(module) if isinstance(module, nn.Module) else repr(module)[:60]
            raise ValueError(f"argument '{name}': expected a module of class {known}, as it was saved, got {got}")
    return {**config, **modules}


def _stands_for_a_module(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {_KEY} and isinstance(value[_KEY], str)
