"""A function of tensors as one traced graph, with the Python that wrote it gone. Knows nothing of pairs.

`torch.fx.experimental.proxy_tensor.make_fx` runs the function once and records every tensor operation, gradients
included; random draws stay in the graph and are fresh on every call.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyro
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.fx import GraphModule


class Traced:
    """`function` of (nested) tensors, traced once for each combination of shapes, types and devices.

    Python values that the function closes over are baked in; whatever changes from call to call must be an argument.
    Inputs are detached: gradients are taken inside the function, of tensors it marks itself.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._graphs: dict[Any, tuple[GraphModule, Any]] = {}
        self.seconds = 0.0  # spent tracing

    @torch.no_grad()
    def __call__(self, *arguments: Any) -> Any:
        """Run the graph on these arguments.

        Raises:
            TraceError: the function branches on the value of a tensor.
        """
        flat, spec = pytree.tree_flatten(arguments)
        key = (spec, tuple((tensor.shape, tensor.dtype, tensor.device) for tensor in flat))
        if key not in self._graphs:
            self._graphs[key] = self._trace(flat, spec)
        graph, output_spec = self._graphs[key]
        return pytree.tree_unflatten(graph(*flat), output_spec)

    def _trace(self, flat: list[Tensor], spec: Any) -> tuple[GraphModule, Any]:
        output_spec = None

        def flattened(*tensors: Tensor) -> list[Any]:
            nonlocal output_spec
            result = self._function(*pytree.tree_unflatten(list(tensors), spec))
            leaves, output_spec = pytree.tree_flatten(result)
            return leaves

        began = time.perf_counter()
        with _quiet(flat):
            try:
                graph = make_fx(flattened)(*[tensor.detach() for tensor in flat])
            except RuntimeError as error:
                raise TraceError(f"cannot be traced as one graph: {str(error).splitlines()[0]}") from error
        self.seconds += time.perf_counter() - began
        return graph, output_spec


class TraceError(RuntimeError):
    """The function cannot be recorded as one graph."""


@contextmanager
def _quiet(tensors: list[Tensor]) -> Iterator[None]:
    """Validation off (it reads values) and the random state put back, for the time of tracing."""
    devices = sorted({tensor.device.index for tensor in tensors if tensor.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.enable_grad(), pyro.validation_enabled(False):
        yield
