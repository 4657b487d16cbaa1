"""`as_strided` by indices: the operation speaks of memory, and tensors mapped over points lie in memory otherwise.

Autograd makes it of writes into views (`k.view(-1)[:: n + 1] += noise`), whose gradients it takes out of a copy that is
laid out like the whole. Most are entries or ranges of one dim (`p[..., 0] = q`): those are named as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
            view = rest[0], rest[1], offset
            simple = _simple(own.meta["layout"], view)
            if simple is not None:
                look, write, which = simple
                with graph.graph.inserting_before(node):
                    given = (own, *which) if part is None else (own, part, *which)
                    _take(graph, node, graph.graph.call_function(look if part is None else write, given))
                continue
            index = places(own.meta["layout"], view)
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
            _take(graph, node, found)
    graph.recompile()


def _take(graph: fx.GraphModule, node: fx.Node, found: fx.Node) -> None:
    found.meta = dict(node.meta)  # laid out as it was
    node.replace_all_uses_with(found)
    graph.graph.erase_node(node)


def _simple(own: Layout, view: Layout) -> tuple[Any, Any, tuple[int, ...]] | None:
    """How to look at, and how to write, a view that is one entry or a range of one dim, and which; None of others."""
    sizes, strides, offset = list(own[0]), list(own[1]), own[2]
    seen, steps, at = list(view[0]), list(view[1]), view[2]
    for dim, stride in enumerate(strides):
        first, left = divmod(at - offset, stride) if stride > 0 else (0, 1)
        if left or first < 0:
            continue
        if (seen, steps) == (sizes[:dim] + sizes[dim + 1 :], strides[:dim] + strides[dim + 1 :]) and first < sizes[dim]:
            return aten.select.int, aten.select_scatter.default, (dim, first)
        if steps == strides and seen[:dim] + seen[dim + 1 :] == sizes[:dim] + sizes[dim + 1 :]:
            last = first + seen[dim]
            if last <= sizes[dim]:
                return aten.slice.Tensor, aten.slice_scatter.default, (dim, first, last)
    return None


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
