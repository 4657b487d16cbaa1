"""Loops over NumPy arrays compiled by numba, which is optional, and imported at the first call only."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from zoo.lean import shaped

Kernel = TypeVar("Kernel", bound=Callable[..., None])


def available() -> bool:
    """Whether numba is there and compiles, and is worth it: not where a thread runs for what nobody reads."""
    return not shaped() and _there()


@functools.cache
def _there() -> bool:
    try:
        numba = importlib.import_module("numba")
    except (ImportError, OSError):  # the latter: there, but without its libraries
        return False
    return not numba.config.DISABLE_JIT


def run(kernel: Callable[..., None], *arguments: Any) -> None:
    """Call a kernel, compiled the first time; other processes find it on disk where that is possible."""
    if kernel not in _compiled:
        numba = importlib.import_module("numba")
        # Infinities and NaN stay what they are, and a division by zero makes them.
        options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
        if kernel in _reordered:
            options["fastmath"] = {"contract", "nsz", "reassoc"}
        signature = tuple(numba.typeof(argument) for argument in arguments)
        with importlib.import_module("numba.core.compiler_lock").global_compiler_lock:
            vectorise, numba.config.SLP_VECTORIZE = numba.config.SLP_VECTORIZE, 1  # four sums become one of four
            try:
                _compiled[kernel] = _compile(numba, kernel, signature, options)
            finally:
                numba.config.SLP_VECTORIZE = vectorise
    _compiled[kernel](*arguments)


def _compile(numba: Any, kernel: Callable[..., None], signature: Any, options: Any) -> Callable[..., None]:
    try:
        dispatcher = numba.njit(kernel, cache=True, **options)
        dispatcher.compile(signature)
    except Exception:  # the cache cannot be made, read or written; a fault of the kernel's comes again
        dispatcher = numba.njit(kernel, **options)
        dispatcher.compile(signature)
    compiled: Callable[..., None] = dispatcher
    return compiled


def reordered(kernel: Kernel) -> Kernel:
    """Mark a kernel whose sums may be added up in any order."""
    _reordered.add(kernel)
    return kernel


def rows(*shapes: tuple[int, ...]) -> tuple[tuple[int, ...], Any]:
    """What batch shapes broadcast to, and which entries of each, counted through, go together, (B, inputs)."""
    lead = np.broadcast_shapes(*shapes)
    return lead, _rows(lead, *shapes)


@functools.lru_cache(maxsize=8)
def _rows(lead: tuple[int, ...], *shapes: tuple[int, ...]) -> Any:
    index = [np.broadcast_to(np.arange(math.prod(shape)).reshape(shape), lead).reshape(-1) for shape in shapes]
    return np.stack(index, -1)


_reordered: set[Callable[..., None]] = set()
_compiled: dict[Callable[..., None], Callable[..., None]] = {}
