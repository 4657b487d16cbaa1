"""A recorded graph without what is done in vain.

Autograd, distributions and bookkeeping leave operations behind that change nothing: zeros that are added, ones that are
multiplied by, sums over dims of size 1, copies that nobody writes into, the same thing twice. Where a step is hundreds
of operations on small tensors each of them costs as much as one that counts. In one pass over the graph, in order:

    what depends on no input and no random draw is worked out once, `zeros_like` of an input too;
    x + 0, x - 0, x * 1, x / 1, x ** 1, - - x, a copy, x to its own type, a sum over one element are x;
    a view that is laid out as another of the same memory is that one;
    equal operations on equal arguments are done once.

Values stay the same to the last bit, but for the sign of a zero (-0 + 0 is 0). What is written into, or read after
that, stays as it is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from zoo.threads.randomness import draws

aten = torch.ops.aten
CUT = aten.detach.default  # where gradients are to end; in a graph only where some will be taken through it
LARGEST_CONSTANT = 1 << 20  # elements
_LARGEST_FILLED = 1 << 16  # of zeros and ones, which are quick to make

# Operations whose result depends on the shape and type of their argument alone, and what it is filled with.
_FILLED: dict[Any, Callable[..., Any]] = {
    aten.zeros_like.default: lambda own, **_: 0,
    aten.ones_like.default: lambda own, **_: 1,
    aten.full_like.default: lambda own, value, **_: value,
    aten.new_zeros.default: lambda own, size, **_: 0,
    aten.new_ones.default: lambda own, size, **_: 1,
    aten.new_full.default: lambda own, size, value, **_: value,
}
_ADDED = (aten.add.Tensor, aten.add.Scalar)
_TAKEN = (aten.sub.Tensor, aten.sub.Scalar)
_TIMES = (aten.mul.Tensor, aten.mul.Scalar)
_DIVIDED = (aten.div.Tensor, aten.div.Scalar)
_COPIES = (aten.clone.default, aten._to_copy.default)
_MINUS, _POWER = aten.neg.default, aten.pow.Tensor_Scalar
_SUMS = (aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim)


def tidy(graph: fx.Graph, root: torch.nn.Module, written: dict[int, int]) -> None:
    """Leave out of a graph what changes nothing, in place.

    Args:
        graph: of nodes that know (`meta`) the storage, layout, type and device of their tensors.
        root: has the graph's constants.
        written: storage -> number of the first operation that writes into it.
    """
    _Tidying(graph, root, written).run()
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or impure(node))


def constant(graph: fx.Graph, root: torch.nn.Module, tensor: Tensor) -> fx.Node:
    """A node for a tensor that stays as it is."""
    name = f"constant_{len(root._buffers)}"
    root.register_buffer(name, tensor.detach(), persistent=False)
    return graph.get_attr(name)


def random(node: fx.Node) -> bool:
    """Whether an operation draws."""
    return draws(node.target)


def impure(node: fx.Node) -> bool:
    """Whether an operation is more than its result."""
    return random(node) or "writes" in node.meta


class _Tidying:
    """One pass over a graph."""

    def __init__(self, graph: fx.Graph, root: torch.nn.Module, written: dict[int, int]) -> None:
        self.graph, self.root, self.written = graph, root, written
        self.number = {node: i for i, node in enumerate(graph.nodes)}
        self.known: dict[fx.Node, Any] = {}  # nodes that depend on nothing
        self.first: dict[Any, fx.Node] = {}  # by what they do
        self.views: dict[Any, fx.Node] = {}  # by where they lie
        self.moved: dict[int, tuple[int, int]] = {}  # storages that are left out: which one they are now, and where
        self.read: dict[int, int] = {}  # number of the last operation that reads of a storage
        for node in graph.nodes:
            place = node.meta.get("storage", 0)
            self.read[place] = max(self.read.get(place, 0), self._last(node))
        output = next(node for node in graph.nodes if node.op == "output")
        self.told = {node.meta.get("storage") for node in output.all_input_nodes}
        self.given = {node.meta.get("storage") for node in graph.nodes if node.op in ("placeholder", "get_attr")}
        self.cut = any(node.target is CUT for node in graph.nodes)
        self.strided = any("as_strided" in str(node.target) for node in graph.nodes)

    def run(self) -> None:
        """All nodes, in order."""
        for node in list(self.graph.nodes):
            if node.op in ("placeholder", "get_attr"):
                if node.op == "get_attr" and node.meta["storage"] not in self.written:
                    self.known[node] = getattr(self.root, node.target)
                self._seen(node)
            elif node.op == "call_function" and not impure(node) and self._safe(node) and not self._folded(node):
                key = (node.target, _hashable(node.args), _hashable(node.kwargs))
                same = self._seen(node) or self._same(node) or self.first.setdefault(key, node)
                if same is not node:
                    self._replace(node, same)

    def _last(self, node: fx.Node) -> int:
        return max((self.number[user] for user in node.users), default=0)

    def _where(self, node: fx.Node) -> tuple[int, int]:
        """The storage that a node's tensor is in by now, and where it begins there."""
        storage, offset = node.meta.get("storage", 0), node.meta.get("layout", (0, 0, 0))[2]
        while storage in self.moved:
            storage, shift = self.moved[storage]
            offset += shift
        return storage, offset

    def _safe(self, node: fx.Node) -> bool:
        """Whether the same operation gives the same elsewhere: nobody writes into its arguments or, unless it is a view
        of one, into its result."""
        own, places = self._where(node)[0], [self._where(argument)[0] for argument in node.all_input_nodes]
        first = [self.written.get(place, math.inf) for place in places]
        before = all(map(operator.lt, map(self._last, node.all_input_nodes), first))
        return before and (own not in self.written or own in places)

    # ---------------------------------------------------------------- constants

    def _folded(self, node: fx.Node) -> bool:
        """Whether a node depends on nothing, and is worked out now."""
        size = node.meta.get("size", 0)
        if self._where(node)[0] in self.written or size > LARGEST_CONSTANT:
            return False
        if node.target in _FILLED and size <= _LARGEST_FILLED and 0 not in node.meta["layout"][1]:
            shape, strides, _ = node.meta["layout"]
            own = torch.empty_strided(shape, strides, dtype=node.meta["dtype"], device=node.meta["device"])
            value: Any = own.fill_(_FILLED[node.target](*node.args, **node.kwargs))
        elif all(argument in self.known for argument in node.all_input_nodes):
            arguments, named = fx.map_arg((node.args, node.kwargs), self.known.__getitem__)
            operation: Any = node.target
            value = operation(*arguments, **named)
        else:
            return False
        self.known[node] = value
        if isinstance(value, Tensor):
            with self.graph.inserting_before(node):
                made = constant(self.graph, self.root, value)
            self.number[made], self.known[made], made.meta = self.number[node], value, dict(node.meta)
            node.replace_all_uses_with(made)
            self.given.add(made.meta["storage"])
        return True

    # ---------------------------------------------------------------- the same tensor, or the same entries

    def _seen(self, node: fx.Node) -> fx.Node | None:
        """An earlier node that lies where this one does, in memory that nobody writes into."""
        storage, offset = self._where(node)
        if self.cut or "layout" not in node.meta or storage in self.written:
            return None  # two of the same memory are not the same to a gradient
        found = self.views.setdefault((storage, offset, _laid_out(node), node.meta["dtype"]), node)
        return None if found is node else found

    def _replace(self, node: fx.Node, same: fx.Node) -> None:
        """Take another node, which is the same tensor or has the same entries, in the place of this one."""
        (own, at), (other, there) = self._where(node), self._where(same)
        if own != other:
            self.moved[own] = other, there - at
            self.read[other] = max(self.read.get(other, 0), self.read.get(own, 0))
            if own in self.told:
                self.told.add(other)
        node.replace_all_uses_with(same)

    def _same(self, node: fx.Node) -> fx.Node | None:
        """An argument that has the same entries as the result, and may stand for it."""
        found = self._entries(node)
        if found is None or "layout" not in found.meta or not self._may_stand(node, found):
            return None
        if _laid_out(found) == _laid_out(node):
            return found
        if _long(found) != _long(node):
            return None  # the same entries in another order: of a transposed tensor, say
        return self.views.get((*self._where(found), _laid_out(node), node.meta["dtype"]))

    def _may_stand(self, node: fx.Node, found: fx.Node) -> bool:
        """Whether nobody can tell the two apart: by type, by what is written into one of them, by its memory."""
        (own, at), (other, there) = self._where(node), self._where(found)
        if any(node.meta[what] != found.meta[what] for what in ("dtype", "device")):
            return False
        if self.strided and at != there:
            return False  # `as_strided` counts from where memory begins
        if own in self.told and (other in self.told or other in self.given):
            return False  # what is handed out is nobody else's
        return own not in self.written and self.read.get(own, 0) < self.written.get(other, math.inf)

    def _entries(self, node: fx.Node) -> fx.Node | None:
        """An argument that has the same entries as the result, where type and size agree."""
        target, args = node.target, node.args
        own: Any = args[0] if args else None
        other: Any = args[1] if len(args) > 1 else None
        found: Any = None
        if target in (*_ADDED, *_TAKEN) and len(args) == 2 and node.kwargs.get("alpha", 1) == 1:
            found = own if self._is(other, 0) else other if target in _ADDED and self._is(own, 0) else None
        elif target in _TIMES:
            found = own if self._is(other, 1) else other if self._is(own, 1) else None
        elif target in _COPIES or (target in _DIVIDED and self._is(other, 1)) or (target is _POWER and other == 1):
            found = own
        elif target is _MINUS and own.target is _MINUS:
            found = own.args[0]
        elif target in _SUMS and own.meta.get("size") == node.meta.get("size"):
            found = own
        return found if isinstance(found, fx.Node) else None

    def _is(self, argument: Any, value: int) -> bool:
        """Whether all of an argument is this number."""
        if isinstance(argument, fx.Node):
            found = self.known.get(argument)
            return isinstance(found, Tensor) and 0 < found.numel() <= _LARGEST_FILLED and bool((found == value).all())
        return isinstance(argument, (int, float)) and argument == value


def _laid_out(node: fx.Node) -> Any:
    """Shape and strides; those of dims of size 1 say nothing."""
    shape, strides, _ = node.meta["layout"]
    return shape, tuple(stride for size, stride in zip(shape, strides, strict=True) if size != 1)


def _long(node: fx.Node) -> Any:
    """Shape and strides without dims of size 1."""
    shape, strides, _ = node.meta["layout"]
    return [pair for pair in zip(shape, strides, strict=True) if pair[0] != 1]


def _hashable(argument: Any) -> Any:
    if isinstance(argument, dict):
        return tuple((name, _hashable(value)) for name, value in sorted(argument.items()))
    if isinstance(argument, (tuple, list)):
        return tuple(map(_hashable, argument))
    return type(argument), argument  # 1, 1.0 and True are equal, and not the same
