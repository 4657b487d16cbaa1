"""Pyro's handlers, plates and parameters, each thread's own.

Pyro 1.9 keeps one stack of handlers, one table of plates and one of enumerated dims for the whole process, so that two
threads which run a program at the same time end in each other's traces ("duplicate plate 'data'"). Here each thread
gets its own. A program that knows of one thread sees no difference.

The parameters of a pair are its own too: while its model or guide runs in a thread, and only there, Pyro reads
parameters from modules instead of the global store (`module_local_params`); a user's own programs keep the store.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, SupportsIndex

import pyro
import pyro.nn.module
from pyro.nn.module import _Context
from pyro.poutine import runtime
from torch import nn

from zoo.lean import spare


class ThreadStack:
    """What Pyro does with its list of handlers, done with a list of the calling thread.

    Args:
        items: the list that goes on as that of the thread which makes this.
    """

    def __init__(self, items: list[Any]) -> None:
        self._own = threading.local()
        self._own.items = items

    def _items(self) -> list[Any]:
        try:
            items: list[Any] = self._own.items
        except AttributeError:
            items = self._own.items = []
        return items

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Any]:
        yield from self._items()

    def __reversed__(self) -> Iterator[Any]:
        yield from reversed(self._items())

    def __contains__(self, item: Any) -> bool:
        return item in self._items()

    def __getitem__(self, index: Any) -> Any:
        return self._items()[index]

    def __setitem__(self, index: Any, item: Any) -> None:
        self._items()[index] = item

    def __delitem__(self, index: Any) -> None:
        del self._items()[index]

    def __eq__(self, other: object) -> bool:
        return self._items() == (other._items() if isinstance(other, ThreadStack) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self._items())

    def append(self, item: Any) -> None:
        """Put a handler at the end."""
        self._items().append(item)

    def insert(self, index: SupportsIndex, item: Any) -> None:
        """Put a handler there."""
        self._items().insert(index, item)

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Take a handler away."""
        return self._items().pop(index)

    def index(self, item: Any) -> int:
        """Where a handler stands."""
        return self._items().index(item)

    def clear(self) -> None:
        """Take all away."""
        self._items().clear()


class _Plates(runtime._DimAllocator):
    """Which dims are taken by plates, in this thread."""

    _taken = threading.local()

    @property
    def _stack(self) -> list[str | None]:  # type: ignore[override]
        return self._taken.__dict__.setdefault("stack", [])  # type: ignore[no-any-return]


class _Enumerated(runtime._EnumAllocator):
    """Which dims are taken by enumerated sites, in this thread."""

    _taken = threading.local()

    def __getattribute__(self, name: str) -> Any:
        if name in ("next_available_dim", "next_available_id", "dim_to_id"):
            return getattr(type(self)._taken, name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(type(self)._taken, name, value)


class _Depth(threading.local):
    """How many pairs a thread is in."""

    value = 0


_inside = _Depth()


class PairContext(_Context):
    """Pyro's cache for one run of a module, each thread's own, in which parameters are read from the module.

    All modules below a pair share that of the pair.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self.used = False
        self.param_state = {"params": {}, "constraints": {}}

    @property
    def active(self) -> int:  # type: ignore[override]
        """How often this thread has entered it."""
        return getattr(self._own, "active", 0)

    @property
    def cache(self) -> dict[str, Any]:  # type: ignore[override]
        """What was read in this run."""
        return self._own.__dict__.setdefault("cache", {})  # type: ignore[no-any-return]

    def __enter__(self) -> None:
        self._own.active = self.active + 1
        _inside.value += 1
        self.used = True

    def __exit__(self, *error: Any) -> None:
        _inside.value -= 1
        self._own.active -= 1
        if not self._own.active:
            self.cache.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return PairContext, ()


def check_parameters(name: str, module: nn.Module, trace: Any) -> None:
    """Refuse parameters that a run of a pair took from elsewhere than its modules; the global store is left as it was.

    Raises:
        ValueError: a `pyro.param` statement, by its name.
    """
    own = {id(parameter) for parameter in module.parameters()}
    for site, node in trace.nodes.items():
        if node["type"] != "param":
            continue
        value = node["value"]
        raw = value.unconstrained() if hasattr(value, "unconstrained") else value
        if id(raw) not in own:
            if site in pyro.get_param_store():
                del pyro.get_param_store()[site]
            raise ValueError(
                f"{name}: pyro.param('{site}') keeps its value outside the pair and is not saved with it: make it "
                f"an attribute in __init__, self.{site} = pyro.nn.PyroParam(…) or torch.nn.Parameter(…)"
            )


class _Validation:
    """Validation by Pyro and torch is one switch for the process: who comes first puts it off, who leaves last puts it
    back."""

    def __init__(self) -> None:
        self.lock, self.users, self.before = threading.Lock(), 0, (True, True, True)

    def off(self) -> None:
        with self.lock:
            if not self.users:
                self.before = (
                    pyro.distributions.is_validation_enabled(),
                    pyro.infer.is_validation_enabled(),
                    pyro.settings.get("validate_poutine"),
                )
                _validate(0, False, False)  # a 0, told from the False of a distribution's own `validate_args`
            self.users += 1

    def back(self) -> None:
        with self.lock:
            self.users -= 1
            if not self.users:
                _validate(*self.before)


def _validate(distributions: int, infer: bool, poutine: bool) -> None:
    pyro.distributions.enable_validation(distributions)
    pyro.infer.enable_validation(infer)
    pyro.poutine.enable_validation(poutine)


_validation = _Validation()


@contextmanager
def unvalidated() -> Iterator[None]:
    """Without validation of values and sites, as `pyro.validation_enabled(False)`, from any number of threads."""
    _validation.off()
    try:
        yield
    finally:
        _validation.back()


class _Calls(threading.local):
    """How many public functions of pairs a thread is in."""

    depth = 0


_calls = _Calls()


@contextmanager
def apart_from_callers() -> Iterator[None]:
    """Without the handlers, plates and enumerated dims that a thread's caller is in: its program is another one.

    Inside another such call nothing is put aside: those handlers are the call's own.
    """
    stack = runtime._PYRO_STACK
    if _calls.depth or not isinstance(stack, ThreadStack):
        _calls.depth += 1
        try:
            yield
        finally:
            _calls.depth -= 1
        return
    items, plates, dims = stack._items(), runtime._DIM_ALLOCATOR._stack, dict(_Enumerated._taken.__dict__)
    _calls.depth, stack._own.items, _Plates._taken.stack = 1, [], []
    try:
        yield
    finally:
        _calls.depth, stack._own.items, _Plates._taken.stack = 0, items, plates
        _Enumerated._taken.__dict__.update(dims)


def install() -> None:
    """Give each thread its own; once for the process, and again to no effect. Before it, what `zoo.lean` spares."""
    spare()
    shared = runtime._PYRO_STACK
    if isinstance(shared, ThreadStack):
        return
    stack = ThreadStack(shared)
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("_PYRO_STACK") is shared:
            module._PYRO_STACK = stack  # type: ignore[attr-defined]
    plates, enumerated = runtime._DIM_ALLOCATOR, runtime._ENUM_ALLOCATOR
    _Plates._taken.stack = plates.__dict__.get("_stack", [])
    _Enumerated._taken.__dict__.update(enumerated.__dict__)
    plates.__class__, enumerated.__class__ = _Plates, _Enumerated
    asked = pyro.nn.module._is_module_local_param_enabled

    def enabled() -> bool:
        return _inside.value > 0 or asked()

    pyro.nn.module._is_module_local_param_enabled = enabled
