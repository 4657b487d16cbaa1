"""`as_strided` by indices: the operation speaks of memory, and tensors mapped over points lie in memory otherwise.

Autograd makes it of writes into views (`k.view(-1)[:: n + 1] += noise`), whose gradients it takes out of a copy that is
laid out like the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

aten = torch.ops.aten
Layout = tuple[Sequence[int], Sequence[int], int]  # sizes, strides, offset in the storage


def by_index(graph: fx.GraphModule) -> None:
    """Write every `as_strided` of a recorded graph as a selection, and `as_strided_scatter` as a scatter, in place."""
    for node in list(graph.graph.nodes):
        if node.target in (aten.as_strided.default, aten.as_strided_scatter.default):
            own, *rest = node.args
            part, rest = (rest[0], rest[1:]) if node.target is aten.as_strided_scatter.default else (None, rest)
            offset = rest[2] if len(rest) > 2 and rest[2] is not None else own.meta["layout"][2]
            index = places(own.meta["layout"], (rest[0], rest[1], offset))
            name = f"places_{len(graph._buffers)}"
            graph.register_buffer(name, index.to(own.meta["device"]), persistent=False)
            with graph.graph.inserting_before(node):
                flat = graph.graph.call_function(aten.reshape.default, (own, [-1]))
                where = graph.graph.get_attr(name)
                if part is None:
                    found = graph.graph.call_function(aten.index_select.default, (flat, 0, where))
                else:
                    new = graph.graph.call_function(aten.reshape.default, (part, [-1]))
                    found = graph.graph.call_function(aten.scatter.src, (flat, 0, where, new))
                shape = list(rest[0] if part is None else own.meta["layout"][0])
                found = graph.graph.call_function(aten.reshape.default, (found, shape))
            found.meta = dict(node.meta)  # laid out as it was
            node.replace_all_uses_with(found)
            graph.graph.erase_node(node)
    graph.recompile()


def places(own: Layout, view: Layout) -> Tensor:
    """Which elements of a tensor, counted in the order of its dims, a view of its memory has: (numbers of the view,).

    Raises:
        ValueError: the view sees memory that is not the tensor's.
    """
    held, wanted = _memory(own), _memory(view)
    order = held.argsort()
    found = torch.searchsorted(held[order], wanted).clamp(max=len(held) - 1)
    if not torch.equal(held[order][found], wanted):
        raise ValueError(f"as_strided{view}: expected a view within the tensor's own memory, {own}")
    return order[found]


def _memory(layout: Layout) -> Tensor:
    """Where each element lies, in the order of the dims."""
    sizes, strides, offset = layout
    found = torch.full((), offset)
    for size, stride in zip(sizes, strides, strict=True):
        found = found.unsqueeze(-1) + stride * torch.arange(size)
    return found.reshape(-1)
