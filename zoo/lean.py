"""What torch loads at some call and has no need of: sympy, and its compiler where nothing is compiled.

`torch.broadcast_shapes` loads sympy at its first call (torch 2.13), to reason about shapes that are symbols; shapes of
numbers want a loop. Operators of one's own, and the rules by which torch tells the shape of what is written in place,
load the compiler at their first call, to keep it from looking into them; where it is not loaded it cannot look. Each
takes about half of the CPU time of `import torch`, in every process that makes a transformed distribution, clamps, or
runs a hidden Markov chain. What is computed is the same, and so is everything else once the compiler is loaded.
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import _refs

if TYPE_CHECKING:
    from torch._library.custom_ops import CustomOpDef

_COMPILER = "torch._dynamo"
_torchs: Callable[..., torch.Size] = torch.broadcast_shapes
_torch: Any = torch  # whose stubs leave out what is used here


def spare() -> None:
    """Do so; once for the process, and again to no effect."""
    torch.broadcast_shapes = torch.functional.broadcast_shapes = broadcast_shapes
    unhidden(vars(_refs).values())


@functools.wraps(_torchs)
def broadcast_shapes(*shapes: Any) -> torch.Size:
    """What `torch.broadcast_shapes` returns, or raises."""
    if shapes and not _torch.jit.is_tracing() and not torch.compiler.is_compiling():
        found = of_numbers(shapes)
        if found is not None:
            return torch.Size(found)
    return _torchs(*shapes)


def of_numbers(shapes: Iterable[Any]) -> list[int] | None:
    """The shape that all broadcast to, if they are whole numbers and agree; else None, and torch may say why."""
    common: list[int] = []  # from the right
    for shape in shapes:
        sizes = (shape,) if type(shape) is int else shape  # a number stands for a shape of one dimension
        if not isinstance(sizes, (tuple, list)):
            return None
        common += [1] * (len(sizes) - len(common))
        for place, size in enumerate(reversed(sizes)):
            if type(size) is not int or size < 0 or (size != 1 and common[place] not in (1, size)):
                return None
            if size != 1:
                common[place] = size
    return common[::-1]


def unhidden(functions: Iterable[Any]) -> None:
    """Functions that torch hides from its compiler, and those inside them, do without loading it until it is there."""
    hiding = getattr(_torch._disable_dynamo(unhidden), "__code__", None)  # that all of them share
    todo, seen = [*functions], set[int]()
    while todo:
        function = todo.pop()
        if not isinstance(function, types.FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        inside = [cell.cell_contents for cell in function.__closure__ or ()]
        todo += inside
        if function.__code__ is hiding:
            for hidden in inside:
                if isinstance(hidden, types.FunctionType) and not hasattr(hidden, "__dynamo_disable"):
                    hidden.__dynamo_disable = _once_there(hidden)  # type: ignore[attr-defined]


def operator(name: str) -> Callable[[Callable[..., Any]], CustomOpDef]:
    """`torch.library.custom_op` for processors, of a function that changes none of its arguments."""

    def made(function: Callable[..., Any]) -> CustomOpDef:
        found = torch.library.custom_op(name, function, mutates_args=(), device_types="cpu")
        unhidden(getattr(found, "_backend_fns", {}).values())
        return found

    return made


class _Shaped(threading.local):
    depth = 0


_shaped = _Shaped()


@contextmanager
def for_its_shape() -> Iterator[None]:
    """Inside, a program runs in this thread for its sites and what depends on what, not for values: nothing is loaded
    that only makes it fast."""
    _shaped.depth += 1
    try:
        yield
    finally:
        _shaped.depth -= 1


def shaped() -> bool:
    """Whether this thread is in such a block."""
    return _shaped.depth > 0


def _once_there(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, hidden from the compiler from when that is loaded on."""
    hidden: list[Callable[..., Any]] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if not hidden and _COMPILER not in sys.modules:
            return function(*args, **kwargs)
        if not hidden:
            import torch._dynamo  # whole, where another thread is loading it

            hidden.append(torch._dynamo.disable(function, wrapping=False))
        return hidden[0](*args, **kwargs)

    return call
