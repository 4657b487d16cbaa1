"""What a pair is built of: the types of its modules and the shapes of its tensors, noted when it has been made.

A saved pair is built anew from its arguments, and so is a copy. A part that somebody put in the place of another
(`pair.decoder = …`) is in no argument: it would be lost, or its weights would meet another network.
"""

from __future__ import annotations

import weakref
from typing import Any

from torch import nn

from zoo.held import NAME

Structure = dict[str, Any]  # name -> type of a module, or shape of a tensor

_made: weakref.WeakKeyDictionary[nn.Module, Structure] = weakref.WeakKeyDictionary()


def note(pair: nn.Module, part: str = "") -> None:
    """Take the parts as they are, or one of them, for those that the class makes."""
    now, made = _of(pair), _made.get(pair, {})
    if not part:
        _made[pair] = now
        return
    _made[pair] = {n: v for n, v in made.items() if n.split(".")[0] != part} | {
        n: v for n, v in now.items() if n.split(".")[0] == part
    }


def replaced(pair: nn.Module) -> str | None:
    """What to say of the first part that is another than the class made; None where all are its own."""
    made, now = _made.get(pair), _of(pair)
    if made is None or made == now:
        return None
    name = next((name for name in (*now, *made) if now.get(name) != made.get(name)), "")
    whole = type(pair).__name__
    return (
        f"'{name}' is {_told(now.get(name))}, and {whole} makes {_told(made.get(name))}. A saved pair is built anew "
        f"from its arguments: write a subclass of {whole} that makes this part in its `__init__`, with @register"
    )


def _of(pair: nn.Module) -> Structure:
    found: Structure = {name: type(module) for name, module in pair.named_modules() if name}
    found |= {name: tuple(value.shape) for name, value in pair.named_parameters()}
    found |= {name: tuple(value.shape) for name, value in pair.named_buffers()}
    return {name: part for name, part in found.items() if name.split(".")[0] != NAME}  # of which files tell


def _told(part: Any) -> str:
    if part is None:
        return "nothing"
    return f"a {part.__name__}" if isinstance(part, type) else f"one of shape {part}"
