"""What a loop reads of one tensor piece by piece has its gradient put together in one go.

`z[t]` in a loop over time: autograd makes of the slope of each piece a tensor of the size of the whole, zero elsewhere,
and adds them up, T tensors of T numbers. Here the pieces are laid side by side instead,

    sum over t of pad(g_t at t)  =  cat(g_0, g_1, ...)

which is the same, to the last bit but for the sign of a zero, wherever no two pieces overlap. Those that do, and terms
that are no pieces, are added as they were.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import fx

aten = torch.ops.aten
_PIECES = (aten.select_backward.default, aten.slice_backward.default)
_FEWEST = 3  # pieces that are worth it


def gather(graph: fx.GraphModule) -> None:
    """Lay pieces that are added up side by side, in place.

    Args:
        graph: of nodes that know (`meta`) the layout of their tensors, and that nothing writes in.
    """
    for node in reversed(list(graph.graph.nodes)):  # a sum before its parts
        if _adds(node) and not (len(node.users) == 1 and _adds(next(iter(node.users)))):
            terms = _terms(node)
            lots = [lot for lot in _lots(terms) if len(lot) >= _FEWEST]
            if lots:
                _side_by_side(graph.graph, node, terms, lots)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _adds(node: fx.Node) -> bool:
    """Whether it is a sum of two tensors of its own shape and type."""
    return (
        node.target is aten.add.Tensor
        and not node.kwargs
        and len(node.all_input_nodes) == len(node.args) == 2
        and all(
            "layout" in argument.meta
            and argument.meta["layout"][0] == node.meta["layout"][0]
            and argument.meta["dtype"] == node.meta["dtype"]
            for argument in node.all_input_nodes
        )
    )


def _terms(node: fx.Node) -> list[fx.Node]:
    """What a tree of sums adds up, in order."""
    found, left = list[fx.Node](), [node]
    while left:
        now: Any = left.pop()
        if now is node or (_adds(now) and len(now.users) == 1):
            left += reversed(now.args)
        else:
            found.append(now)
    return found


def _lots(terms: list[fx.Node]) -> list[list[tuple[int, int, fx.Node]]]:
    """Pieces along the same dim of which no two overlap, in order: beginning, end, and the node."""
    along = defaultdict[int, list[tuple[int, int, fx.Node]]](list)
    for term in terms:
        found = _piece(term)
        if found is not None:
            dim, begin, end = found
            along[dim].append((begin, end, term))
    lots = list[list[tuple[int, int, fx.Node]]]()
    for pieces in along.values():
        open_: list[list[tuple[int, int, fx.Node]]] = []
        for piece in sorted(pieces, key=lambda piece: piece[:2]):
            lot = next((lot for lot in open_ if lot[-1][1] <= piece[0]), None)
            if lot is None:
                open_.append([piece])
            else:
                lot.append(piece)
        lots += open_
    return lots


def _piece(node: fx.Node) -> tuple[int, int, int] | None:
    """The dim, beginning and end of what a node pads with zeros, where that stands side by side."""
    if node.target not in _PIECES:
        return None
    args: Any = node.args
    _, sizes, dim, begin, *rest = args
    dim = dim % len(sizes)
    size = sizes[dim]
    if node.target is aten.select_backward.default:
        begin = begin % size
        return dim, begin, begin + 1
    end, step = rest
    if step != 1:
        return None
    begin, end = (min(at + size if at < 0 else at, size) for at in (begin, end))
    return (dim, begin, end) if 0 <= begin < end else None


def _side_by_side(graph: fx.Graph, node: fx.Node, terms: list[fx.Node], lots: list[list[Any]]) -> None:
    """Put whole tensors in the place of lots, and add up what is left."""
    taken = {piece[2] for lot in lots for piece in lot}
    with graph.inserting_before(node):
        whole = [_whole(graph, lot) for lot in lots]
        left = [term for term in terms if term not in taken] + whole
        total = left[0]
        for term in left[1:]:
            total = graph.call_function(aten.add.Tensor, (total, term))
            total.meta = dict(node.meta)
    node.replace_all_uses_with(total)


def _whole(graph: fx.Graph, lot: list[Any]) -> fx.Node:
    """One tensor of the pieces of a lot, zeros between them."""
    first = lot[0][2]
    sizes = list(first.args[1])
    dim, parts, at = first.args[2] % len(sizes), list[fx.Node](), 0

    def zeros(count: int) -> fx.Node:
        shape = [*sizes[:dim], count, *sizes[dim + 1 :]]
        return graph.call_function(aten.new_zeros.default, (first.args[0], shape))

    for begin, end, node in lot:
        if begin > at:
            parts.append(zeros(begin - at))
        own = node.args[0]
        if node.target is aten.select_backward.default:
            own = graph.call_function(aten.unsqueeze.default, (own, dim))
        parts.append(own)
        at = end
    if at < sizes[dim]:
        parts.append(zeros(sizes[dim] - at))
    found = graph.call_function(aten.cat.default, (parts, dim))
    found.meta = dict(first.meta)
    return found


__all__ = ["gather"]
