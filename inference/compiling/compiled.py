"""A function of tensors as one graph, run as it is or compiled. Knows nothing of pairs.

`inference.compiling.recording` writes the function down once for each combination of shapes. The graph then runs
operation by operation (`graph`), which costs no wait, or as machine code that Inductor makes of it (`inductor`), which
takes some 5 to 100 s and pays from some ten thousand runs on.
"""

from __future__ import annotations

import copy
import logging
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from inference.compiling.recording import TraceError, drawn_apart, record
from inference.compiling.running import quick
from zoo.threads.randomness import plainly

__all__ = ["CompileError", "Mode", "TraceError", "Traced"]
Mode = Literal["off", "graph", "inductor"]


_one_at_a_time = threading.RLock()  # torch's writers of code share tables


class CompileError(RuntimeError):
    """Inductor, or the C++ compiler behind it, failed. The graph runs without it."""


class Traced:
    """`function` of (nested) tensors, recorded once for each combination of shapes, types and devices.

    Python values that the function closes over are baked in; whatever changes from call to call must be an argument.
    Inputs are detached: gradients are taken inside the function, of tensors it marks itself. It may write into its
    inputs, and so does every run; recording leaves them alone.

    Args:
        function: of nested tensors, to nested tensors.
        mode: `graph` runs the recorded operations one by one, `inductor` compiles them.
    """

    def __init__(self, function: Callable[..., Any], mode: Mode = "graph") -> None:
        self.function, self.mode = function, mode
        self.seconds = 0.0  # spent recording and compiling
        self._graphs: dict[Any, tuple[Callable[..., Any], Any]] = {}

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """Run the graph on these arguments.

        Raises:
            TraceError: the function branches on the value of a tensor.
            CompileError: the mode is `inductor`, and there is no compiler or it failed.
        """
        flat, spec = pytree.tree_flatten(arguments)
        graph, output_spec = self._graph(flat, spec)
        return pytree.tree_unflatten(graph(*flat), output_spec)

    def bind(self, *arguments: Any) -> Callable[..., Any]:
        """The function of what follows these arguments, whose tensors stay; saves going through them on every call."""
        bound = pytree.tree_leaves(arguments)
        graphs: dict[Any, tuple[Callable[..., Any], Callable[[Any], Any]]] = {}

        @torch.no_grad()
        def call(*rest: Any) -> Any:
            # Tensors side by side are flat as they are: to take them apart costs as much as ten operations.
            flat, spec = pytree.tree_flatten(rest) if not all(map(_is_tensor, rest)) else (rest, None)
            key = (spec, *[(tensor.shape, tensor.dtype) for tensor in flat])
            if key not in graphs:
                graph, output_spec = self._graph(*pytree.tree_flatten((*arguments, *rest)))
                graphs[key] = graph, _nesting(output_spec)
            graph, nested = graphs[key]
            return nested(graph(*bound, *flat))

        return call

    def _graph(self, flat: list[Tensor], spec: Any) -> tuple[Callable[..., Any], Any]:
        key = (spec, *[(tensor.shape, tensor.dtype, tensor.device) for tensor in flat])
        if key not in self._graphs:
            began = time.perf_counter()
            try:
                with _one_at_a_time:
                    graph, output_spec = record(
                        lambda *tensors: self.function(*pytree.tree_unflatten(tensors, spec)), flat
                    )
                    made = _compiled(graph, flat) if self.mode == "inductor" else _plain(graph)
                self._graphs[key] = made, output_spec
            finally:
                self.seconds += time.perf_counter() - began
        return self._graphs[key]


def _is_tensor(argument: Any) -> bool:
    return isinstance(argument, Tensor)


def _nesting(spec: Any) -> Callable[[Any], Any]:
    """What makes a nest of its leaves: `tuple` where it is one of leaves alone."""
    count = range(spec.num_leaves)
    flat = pytree.tree_unflatten(list(count), spec)
    if type(flat) is tuple and flat == tuple(count):
        return tuple
    return lambda leaves: pytree.tree_unflatten(leaves, spec)


def compiler() -> str | None:
    """The C++ compiler that Inductor would call, or None."""
    from torch._inductor import config

    names = config.cpp.cxx if isinstance(config.cpp.cxx, (tuple, list)) else (config.cpp.cxx,)
    return next((found for name in names if name and (found := shutil.which(name))), None)


def _plain(graph: fx.GraphModule) -> Callable[..., Any]:
    return partial(plainly, quick(drawn_apart(graph)))


def _compiled(graph: fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    if inputs and inputs[0].device.type == "cpu" and compiler() is None:
        raise CompileError("Inductor needs a C++ compiler (g++ or clang++), and none was found")
    options: dict[str, Any] = {"fallback_random": True}  # the same seed, the same draws as without it
    on_gpu = any(tensor.device.type == "cuda" for tensor in inputs)
    # What runs around the kernels in C++ too: a third less time where they are small (measured: 0.60 to 0.93).
    tries = [{"triton.cudagraphs": True}] if on_gpu else [{"cpp_wrapper": True}, {}]
    failed: Exception
    for further in tries:
        try:
            import torch._inductor

            with _no_remarks():
                run: Callable[..., Any] = torch._inductor.compile(
                    copy.deepcopy(graph), [tensor.detach().contiguous() for tensor in inputs], options=options | further
                )
        except Exception as error:  # whatever a compiler, its cache folder or its loader may do
            failed = error
        else:
            return partial(_side_by_side, run)
    told = next(iter(str(failed).strip().splitlines()), "")
    raise CompileError(f"Inductor failed: {type(failed).__name__}: {told}") from failed


def _side_by_side(run: Callable[..., Any], *tensors: Tensor) -> Any:
    """Inductor's code knows its inputs by their strides: others go in as copies, and what is written comes back."""
    given = [tensor.contiguous() for tensor in tensors]
    found = run(*given)
    for own, laid in zip(tensors, given, strict=True):
        if laid is not own and 0 not in own.stride():
            own.copy_(laid)
    return found


@contextmanager
def _no_remarks() -> Iterator[None]:
    """Inductor remarks on each operation that C++ has to call by way of Python, and warns of names of torch's own that
    it still uses; where warnings are errors, it would fail of them."""
    logger = logging.getLogger("torch._inductor.ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
