"""Random numbers of one's own, whatever other threads draw.

torch has one generator for the process, and distributions draw from no other. In the main thread it is borrowed: seeded
for a while, then put back. In any other thread that would change what the main thread draws next; there each operation
that draws is given a generator of the thread's own, which draws the same numbers from the same seed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_DRAWS = torch.Tag.nondeterministic_seeded
_borrowed = threading.Lock()  # for operations that take no generator


@contextmanager
def apart(seed: int | None = None) -> Iterator[None]:
    """Random numbers that nobody outside misses: from this seed, or from where they stand now."""
    if _in_main_thread():
        with torch.random.fork_rng():
            if seed is not None:
                _seed(seed)
            yield
        return
    own = Own(seed)
    before, _current.own = _current.own, own
    try:
        with own:
            yield
    finally:
        _current.own = before


def reseed(seed: int) -> None:
    """`torch.manual_seed` for what this thread draws from now on."""
    if _current.own is None:
        _seed(seed)
    else:
        _current.own.seed(seed)


def state() -> dict[str, Tensor]:
    """Where the random numbers of this thread stand, by the kind of device: what it draws next depends on no more."""
    if _current.own is not None:
        return _current.own.state()
    found = {"cpu": torch.default_generator.get_state()}
    return found | ({"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else {})


def restore(kept: Mapping[str, Tensor]) -> None:
    """Go on from where `state` was, in whatever thread.

    Raises:
        RuntimeError, KeyError: it is no such state.
    """
    if _current.own is not None:
        _current.own.restore(kept)
        return
    torch.default_generator.set_state(kept["cpu"])
    if "cuda" in kept and torch.cuda.is_available():
        torch.cuda.set_rng_state(kept["cuda"])


def draw(func: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation that draws, in a graph: from the thread's own generator where it has one."""
    own = _current.own
    return func(*args, **kwargs) if own is None else own.draw(func, args, kwargs)


def plainly(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function whose operations that draw go by way of `draw`: the others need not be looked at."""
    if _current.own is None:
        return function(*arguments)
    with _disable_current_modes():
        return function(*arguments)


class Own(TorchDispatchMode):
    """Gives every operation that draws a generator of its own.

    Args:
        seed: to begin with; by default goes on from what the thread would draw next, and leaves that as it is.
    """

    def __init__(self, seed: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generators: dict[torch.device, torch.Generator] = {}
        self._outer = _current.own
        if seed is None:
            self._seed = int(self._before().initial_seed())
            self._generators[torch.device("cpu")] = self._before().clone_state()
        else:
            self.seed(seed)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # otherwise torch imports its compiler, which takes seconds

    def _before(self) -> torch.Generator:
        return torch.default_generator if self._outer is None else self._outer.of(torch.device("cpu"))

    def seed(self, seed: int) -> None:
        """Begin anew from this seed."""
        self._seed = int(seed)
        self._generators.clear()

    def state(self) -> dict[str, Tensor]:
        """Where its generators stand, by the kind of device."""
        self.of(torch.device("cpu"))
        return {device.type: generator.get_state() for device, generator in self._generators.items()}

    def restore(self, kept: Mapping[str, Tensor]) -> None:
        """Go on from there."""
        self._generators = {torch.device(kind): torch.Generator(kind) for kind in kept}
        for device, generator in self._generators.items():
            generator.set_state(kept[device.type])

    def of(self, device: torch.device) -> torch.Generator:
        """The generator of a device."""
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return self._generators[device]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.draw(func, args, kwargs or {}) if draws(func) else func(*args, **(kwargs or {}))

    def draw(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The operation, from this generator unless it was given one."""
        generator = self.of(_device(args, kwargs))
        taking, place = _taking(func)
        if taking is None:
            with _borrowed, torch.random.fork_rng():
                torch.default_generator.set_state(generator.get_state())
                result = func(*args, **kwargs)
                generator.set_state(torch.default_generator.get_state())
            return result
        if place is not None and len(args) > place:
            given = args[place] or generator
            return taking(*args[:place], given, *args[place + 1 :], **kwargs)
        return taking(*args, **(kwargs | {"generator": kwargs.get("generator") or generator}))


class _Current(threading.local):
    own: Own | None = None


_current = _Current()


def draws(func: Any) -> bool:
    """Whether an operation draws random numbers."""
    return _DRAWS in getattr(func, "tags", ())


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _seed(seed: int) -> None:
    """`torch.manual_seed`, which without an accelerator writes down a stack for each kind that might come."""
    if torch.accelerator.is_available():
        torch.manual_seed(int(seed))
    else:
        torch.default_generator.manual_seed(int(seed))


def _device(args: Any, kwargs: Any) -> torch.device:
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"])
    tensor = next((x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)), None)
    return torch.device("cpu") if tensor is None else tensor.device


@functools.cache
def _taking(func: Any) -> tuple[Any, int | None]:
    """The overload of an operation that takes a generator, and its place among the arguments that may be given so."""
    packet = func._overloadpacket
    same = [func]
    own = func._overloadname
    for name in ("generator" if own == "default" else f"{own}_generator", own.replace("low_", "low_generator_")):
        if name in packet.overloads():
            same += [getattr(packet, name)]
    for overload in same:
        for i, argument in enumerate(overload._schema.arguments):
            if argument.name == "generator":
                return overload, None if argument.kwarg_only else i
    return None, None
