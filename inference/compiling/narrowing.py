"""What is the same all along a dim is worked out once, and then expanded.

Distributions expand their parameters to one shape before anything else: the variance and the log of one scale are taken
for each of a thousand rows. Operations on single elements whose arguments are all expanded, constants of fewer
dims aside, are moved in front of that,

    f(expand(x), expand(y)) = expand(f(x, y))

where x and y together have fewer elements. The results are the same, but may lie in memory otherwise: views of them
become `reshape`, and graphs that count on memory (`as_strided`, writes into what is viewed) stay as they are.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pyro.distributions.util import broadcast_shape
from torch import fx

aten = torch.ops.aten
_NAMES = (
    "abs", "add", "cos", "digamma", "div", "erf", "exp", "expm1", "lgamma", "log", "log1p", "mul", "neg", "pow",
    "reciprocal", "rsqrt", "sigmoid", "sin", "softplus", "sqrt", "square", "sub", "tanh",
)  # fmt: skip
_VIEWS = ("view", "_unsafe_view")
_STRIDED = ("as_strided", "as_strided_", "as_strided_scatter", "new_empty_strided")


def narrow(graph: fx.Graph, written: dict[int, int]) -> None:
    """Move operations in front of `expand`, in place.

    Args:
        graph: of nodes that know (`meta`) the storage, layout, type and device of their tensors.
        written: storages that something writes into: what lies there stays as it is.
    """
    nodes = list(graph.nodes)
    if any(_name(n) in _STRIDED or (_name(n) in _VIEWS and n.meta["storage"] in written) for n in nodes):
        return
    small: dict[fx.Node, fx.Node] = {}  # what an expanded node was made of
    output = next(node for node in graph.nodes if node.op == "output")
    fixed = {*written, *(node.meta.get("storage") for node in output.all_input_nodes)}  # results have their own memory
    for node in nodes:
        if node.op != "call_function" or "layout" not in node.meta or node.meta["storage"] in fixed:
            continue
        if any(argument.meta.get("storage") in written for argument in node.all_input_nodes):
            continue
        if node.target is aten.expand.default:
            own = node.args[0]
            small[node] = small.get(own, own)
        elif getattr(node.target, "__name__", "").split(".")[0] in _NAMES and any(
            a in small for a in node.all_input_nodes
        ):
            _move(graph, node, small)
    moved = small.keys() - set(nodes)
    for node in graph.nodes if moved else ():
        if moved.intersection(node.all_input_nodes):
            moved.add(node)
            if _name(node) in _VIEWS:
                node.target = aten.reshape.default


def _move(graph: fx.Graph, node: fx.Node, small: dict[fx.Node, fx.Node]) -> None:
    """Work out a node before its arguments are expanded, if they all are."""
    given = [small.get(argument, argument) for argument in node.all_input_nodes]
    if any("layout" not in argument.meta for argument in given):
        return
    shape, kind = _shape(node), (node.meta["dtype"], node.meta["device"])
    less = broadcast_shape(*map(_shape, given))
    # Of another type, what has no dims would count for less than what has some.
    if math.prod(less) >= math.prod(shape) or any((a.meta["dtype"], a.meta["device"]) != kind for a in given):
        return
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda argument: small.get(argument, argument))
    operation: Any = node.target
    with graph.inserting_before(node):
        first = graph.call_function(operation, args, kwargs)
        then = graph.call_function(aten.expand.default, (first, list(shape)))
    examples = {
        argument: torch.empty_strided(*argument.meta["layout"][:2], dtype=kind[0]).zero_() for argument in given
    }
    known: Any = fx.map_arg((args, kwargs), examples.__getitem__)
    made = operation(*known[0], **known[1])
    storage = -1 - len(graph.nodes)  # of no tensor that was
    for new, tensor in ((first, made), (then, made.expand(shape))):
        layout = tuple(tensor.shape), tensor.stride(), 0
        new.meta = {"storage": storage, "size": tensor.numel(), "layout": layout, "dtype": kind[0], "device": kind[1]}
    node.replace_all_uses_with(then)
    small[then] = first
    graph.erase_node(node)


def _name(node: fx.Node) -> str:
    return getattr(node.target, "__name__", "").split(".")[0]


def _shape(node: fx.Node) -> torch.Size:
    return torch.Size(node.meta["layout"][0])
