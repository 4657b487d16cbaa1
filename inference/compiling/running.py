"""A recorded graph as a function with as little as possible between two operations.

An overload by name, `torch.ops.aten.mul.Tensor`, goes through its schema on every call; torch's own `torch.mul` knows
the place of its arguments and does the same operation. Where a step is hundreds of operations on small tensors, a fifth
of its time is there (measured: 2.7 to 2.2 ms for 470 of them), that of looking up constants in a module included.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, fx

# Of these every overload takes the same arguments as the function of that name, and gives the same.
_FUNCTIONS = (
    "abs", "add", "addmm", "bitwise_and", "bmm", "cat", "clamp", "cumsum", "digamma", "div", "eq", "exp", "expm1",
    "flip", "gather", "ge", "gt", "index_copy", "index_fill", "index_select", "le", "lgamma", "log", "log1p",
    "logical_not", "lt", "masked_fill", "maximum", "mean", "minimum", "mm", "mul", "ne", "neg", "permute", "pow",
    "reciprocal", "rsqrt", "rsub", "scatter_add", "select", "sigmoid", "sqrt", "squeeze", "stack", "sub", "sum", "t",
    "tanh", "transpose", "unsqueeze", "where",
)  # fmt: skip
_METHODS = ("expand", "new_zeros", "view")
_QUICK: dict[str, Callable[..., Any]] = {name: getattr(torch, name) for name in _FUNCTIONS} | {
    name: getattr(Tensor, name) for name in _METHODS
}


def quick(graph: fx.GraphModule) -> Callable[..., Any]:
    """What the graph does, of its inputs one after the other; the graph is changed in place."""
    for node in graph.graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target.namespace == "aten":
            node.target = _QUICK.get(node.target._overloadpacket.__name__, node.target)
    graph.recompile()
    return partial(type(graph).forward, SimpleNamespace(**dict(graph.named_buffers())))
