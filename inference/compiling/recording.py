"""A function of tensors, written down as the tensor operations it does.

The function runs once, on copies of its inputs, under a `TorchDispatchMode`, which sees every operation below autograd:
gradients taken inside the function are part of what it writes. Random draws stay operations and are fresh on every run.
Whatever Python did in between is gone, so a function that looks at the value of a tensor is refused.

Then the graph is tidied (`inference.compiling.tidying`).
"""

from __future__ import annotations

import functools
import importlib
import operator
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import Tensor, fx
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from inference.compiling.leaving import Leaving
from inference.compiling.narrowing import narrow
from inference.compiling.tidying import CUT, constant, random, tidy
from zoo import threads
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart, draw

_SAME = ("detach", "alias", "expand", "view", "_unsafe_view", "_reshape_alias", "lift_fresh")  # may return the argument
_INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put")
_BATCH_NORMS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
_ALONE = hasattr(TorchDispatchMode, "_should_skip_dynamo")  # whether a mode can do without torch's own tracer
_NOT_THEIRS = (
    str(Path(__file__).parents[1]),
    *(str(Path(m.__file__).parent) for m in (torch, pyro, threads) if m.__file__),
)


class TraceError(RuntimeError):
    """The function cannot be recorded as one graph."""


def record(
    function: Callable[..., Any], inputs: Sequence[Tensor], held: Sequence[Tensor] = (), cuts: bool = False
) -> tuple[fx.GraphModule, Any]:
    """Write down what `function(*inputs)` does; the inputs and the random state are left as they are.

    Args:
        function: of tensors.
        inputs: tensors that it takes.
        held: tensors that it finds by itself, and that are to be inputs of the graph too, behind the others: parameters
            of a module, say.
        cuts: gradients will be taken through the graph: where they are to end, at a `detach` or after a block without
            gradients, they do.

    Returns:
        The graph, which takes as many tensors and returns a flat list, and the spec to unflatten that list with.

    Raises:
        TraceError: the function reads a value that depends on the inputs or on a random draw; or torch cannot load what
            recording needs.
    """
    if not _ALONE and unready():
        raise TraceError(f"nothing can be traced here: {unready()}")
    copies = [tensor.detach().clone() for tensor in inputs]
    recorder = _Recorder([*copies, *held], cuts)
    with _quiet(), recorder.blocks if cuts else nullcontext(), Leaving(recorder.varies, _refuse), recorder:
        outputs, spec = pytree.tree_flatten(function(*copies))
    return recorder.finish(outputs), spec


@functools.cache
def unready() -> str:
    """Why torch cannot load its tracer (it makes a cache folder), or nothing. A second try would not say why."""
    try:
        importlib.import_module("torch._dynamo")
    except Exception as error:
        return f"torch._dynamo cannot be loaded ({type(error).__name__}: {error}); see TORCHINDUCTOR_CACHE_DIR"
    return ""


def drawn_apart(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph, changed in place: its random draws are those of the thread that runs it, see `zoo.threads`."""
    for node in graph.graph.nodes:
        if node.op == "call_function" and random(node):
            node.args, node.target = (node.target, *node.args), draw
    graph.recompile()
    return graph


class _Recorder(TorchDispatchMode):
    """Tensors are known by identity, held weakly: a strong reference would make autograd wrap them anew."""

    def __init__(self, inputs: Sequence[Tensor], cuts: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.cuts, self.blocks = cuts, _Blocks()
        self.graph, self.root = fx.Graph(), torch.nn.Module()
        self.nodes = WeakIdKeyDictionary()
        self.constants: list[Tensor] = []
        self.written: dict[int, int] = {}  # storage -> number of the first operation that writes into it
        self.storages: dict[int, StorageWeakRef] = {}  # held weakly, so that no later one has the address of an earlier
        for i, tensor in enumerate(inputs):
            self._remember(tensor, self.graph.placeholder(f"input_{i}"))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch is to load its tracer, so as to keep it from this mode: 1.5 s, for what is never traced."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        if any(map(self.varies, _read(func, leaves))):
            _refuse(func)
        if any(isinstance(x, torch.UntypedStorage) for x in pytree.tree_leaves((args, kwargs))):
            _refuse("its memory")
        args = self._without_masks(func, args)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and func._overloadpacket.__name__ in _SAME and _same(result, args[0]):
            self.nodes[result] = self._node(args[0])
            if self.cuts and func is CUT and torch.is_grad_enabled():  # else inside an operation of somebody's own
                self._remember(result, self.graph.call_function(CUT, (self.nodes[result],)))
            return result
        nodes, named = pytree.tree_map_only(Tensor, self._node, (args, kwargs))
        node = self.graph.call_function(func, nodes, named)
        for tensor in _written(func, args):
            node.meta["writes"] = True
            self.written.setdefault(self._storage(tensor), len(self.graph.nodes) - 1)
        if isinstance(result, Tensor):
            self._remember(result, node)
            new = self.blocks.entered and result.is_floating_point() and not node.meta.get("writes")
            if new and self._varies(result):  # no gradient goes into what such a block works out
                self._remember(result, self.graph.call_function(CUT, (node,)))
        else:
            for i, value in enumerate(result if isinstance(result, (tuple, list)) else ()):
                if isinstance(value, Tensor):
                    self._remember(value, self.graph.call_function(operator.getitem, (node, i)))
        return result

    def _without_masks(self, func: Any, args: Any) -> Any:
        """Whole numbers in place of a constant mask as index: how many they are is known to a compiler too."""
        if func._overloadpacket.__name__ not in _INDEXED:
            return args
        indices: list[Tensor | None] = []
        for index in args[1]:
            mask = index is not None and index.dtype in (torch.bool, torch.uint8) and not self._varies(index)
            indices += index.nonzero().unbind(-1) if mask else [index]
        return (args[0], indices, *args[2:])

    def _remember(self, tensor: Tensor, node: fx.Node) -> None:
        node.meta["storage"], node.meta["size"] = self._storage(tensor), tensor.numel()
        node.meta["layout"] = tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset())
        node.meta["device"], node.meta["dtype"] = tensor.device, tensor.dtype
        self.nodes[tensor] = node

    def _storage(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        place = int(storage._cdata)
        if place not in self.storages:
            self.storages[place] = StorageWeakRef(storage)
        return place

    def _node(self, tensor: Tensor) -> fx.Node:
        if tensor not in self.nodes:  # a constant that the function holds
            self.constants.append(tensor)
            self._remember(tensor, constant(self.graph, self.root, tensor))
        node: fx.Node = self.nodes[tensor]
        return node

    def varies(self, tensor: Tensor) -> bool:
        """Whether its value is known here, and depends on an input or a random draw."""
        return tensor in self.nodes and self._varies(tensor)

    def _varies(self, tensor: Tensor) -> bool:
        """Whether its value depends on an input or a random draw."""
        open_, seen = [self._node(tensor)], set()
        while open_:
            node = open_.pop()
            if node.op == "placeholder" or random(node):
                return True
            seen.add(node)
            open_ += [argument for argument in node.all_input_nodes if argument not in seen]
        return False

    def finish(self, outputs: Sequence[Any]) -> fx.GraphModule:
        """Close the graph over these outputs."""
        self.graph.output([self._node(x) if isinstance(x, Tensor) else x for x in outputs])
        narrow(self.graph, self.written)
        tidy(self.graph, self.root, self.written)
        return fx.GraphModule(self.root, self.graph)


class _Blocks(TorchFunctionMode):
    """Whether somebody's `no_grad` block is running: operations written as `autograd.Function` leave no such trace."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch._C._set_grad_enabled:
            self.entered = not args[0]
        return func(*args, **(kwargs or {}))


def _read(func: Any, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """Those on whose values depends what Python gets, or the shape of the result."""
    if func is torch.ops.aten.index.Tensor:
        return [x for x in tensors[1:] if x.dtype in (torch.bool, torch.uint8)]
    tags = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
    return tensors if any(tag in func.tags for tag in tags) else ()


def _written(func: Any, args: Any) -> list[Tensor]:
    """The tensors that an operation writes into."""
    if func._overloadpacket.__name__ in _BATCH_NORMS and args[5]:  # their schemas do not say it
        return [tensor for tensor in args[3:5] if tensor is not None]
    marked = [a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments]
    values = [value for value, is_written in zip(args, marked, strict=False) if is_written]
    return [value for value in pytree.tree_leaves(values) if isinstance(value, Tensor)]


def _same(one: Tensor, other: Any) -> bool:
    return (
        isinstance(other, Tensor)
        and one.dtype == other.dtype
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one.data_ptr() == other.data_ptr()
    )


def somebodys(filename: str) -> bool:
    """Whether a file is somebody's model or script: neither below `inference` nor torch's or Pyro's."""
    return not filename.startswith(_NOT_THEIRS)


def _refuse(what: Any) -> None:
    raise TraceError(f"cannot be traced as one graph: it reads the value of a tensor ({what}){_where()}")


def _where() -> str:
    """The innermost line of somebody's model that is running."""
    for frame in reversed(traceback.extract_stack()[:-2]):
        if somebodys(frame.filename) and frame.line:
            return f", at {Path(frame.filename).name}:{frame.lineno}: {frame.line}"
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Validation off (it reads values) and the random state put back, for the time of recording."""
    with apart(), torch.enable_grad(), unvalidated():
        yield
