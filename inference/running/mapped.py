"""A function of one point, written down once as tensor operations, and run for S points at once.

The graph of one point (`inference.compiling.recording`) knows nothing of points side by side; `torch.func.vmap` maps it
over them, so that nothing is asked of how a program indexes or broadcasts. What writes into tensors is first turned
into operations that do not (`functionalize`), since a tensor of one point cannot hold those of many.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch._decomp import get_decompositions
from torch.utils import _pytree as pytree

from inference.compiling.recording import TraceError, record
from inference.running.agreeing import agrees
from inference.running.gathering import gather
from inference.running.naming import naming_the_site
from inference.running.strided import by_index
from inference.running.unread import Unread
from zoo.threads.randomness import draws

LARGE = 5_000  # operations of a graph that is worth a word: a loop over data, unrolled
aten = torch.ops.aten


class Mapped:
    """`function` of (nested) tensors, of one point, for many.

    Args:
        function: of a nest of tensors, to a nest of tensors.
        example: such a nest. What the function makes of another of the same shapes must be the same operations.
        name: whose it is, for what is said.
        shared: tensors that the function holds, parameters that change between calls; the same for all points.
        cuts: gradients will be taken through it, and end where the function says so.
        other: another such nest, at which graph and function are compared.

    Raises:
        TraceError: the function reads the value of a tensor, or the graph is another function at `other`.
    """

    def __init__(
        self,
        function: Callable[[Any], Any],
        example: Any,
        name: str,
        shared: Sequence[Tensor] = (),
        cuts: bool = False,
        other: Any = None,
    ) -> None:
        leaves, self._spec = pytree.tree_flatten(example)

        def flat(*tensors: Tensor) -> list[Tensor]:
            found, self._out = pytree.tree_flatten(function(pytree.tree_unflatten(list(tensors), self._spec)))
            return found

        with naming_the_site(), Unread():
            graph, _ = record(flat, leaves, shared, cuts)
        if len(graph.graph.nodes) > LARGE:
            warnings.warn(
                f"{name}: one run of it is {len(graph.graph.nodes):,} operations: a Python loop over the data, "
                "perhaps. A plate, or one operation for all rows, would be faster",
                stacklevel=2,
            )
        self._constants = dict(graph.named_buffers())
        held = list(self._constants.values())
        pure = torch.func.functionalize(lambda *given: _Lifted(graph, self._constants, given).run(), remove="mutations")
        self.graph, _ = record(pure, [*leaves, *shared, *held], cuts=cuts)
        by_index(self.graph)
        if not cuts:  # of one that gradients are taken through, they are taken later
            gather(self.graph)
        self.random = [node for node in self.graph.graph.nodes if draws(node.target)]
        alone = functools.partial(self._alone, shared)
        if other is not None and not agrees(function, alone, other, len(self.random)):
            raise TraceError(
                "cannot be traced as one graph: what was recorded at one point is another function at the next: some "
                "value leaves torch, or something changes from run to run"
            )

    @functools.cached_property
    def width(self) -> int:
        """Numbers in the largest tensor of one point."""
        return max((node.meta.get("size", 1) for node in self.graph.graph.nodes), default=1)

    @functools.cached_property
    def together(self) -> bool:
        """Whether points run side by side: operations of somebody's own have no rule for that, and run in turn."""
        targets = [node.target for node in self.graph.graph.nodes if node.op == "call_function"]
        return all(getattr(target, "namespace", "aten") in ("aten", "prims") for target in targets)

    def __call__(self, points: Any, shared: Sequence[Tensor] = ()) -> Any:
        """Of S points: every tensor of the nest has a leading (S,), and so has every result."""
        leaves, spec = pytree.tree_flatten(points)
        if spec != self._spec:
            raise ValueError("the nest is another than the one that was recorded")
        held = [*shared, *self._constants.values()]
        dims = [0] * len(leaves) + [None] * len(held)
        found = torch.func.vmap(_Rewritten(self.graph).run, tuple(dims), randomness="different")(*leaves, *held)
        return pytree.tree_unflatten(list(found), self._out)

    def one(self, point: Any, shared: Sequence[Tensor] = ()) -> Any:
        """Of one point, without what mapping adds to its operations."""
        return self._alone(shared, point)

    def _alone(self, shared: Sequence[Tensor], point: Any, drawn: Sequence[Any] | None = None) -> Any:
        held = [*pytree.tree_leaves(point), *shared, *self._constants.values()]
        return pytree.tree_unflatten(list(_Rewritten(self.graph, alone=True, drawn=drawn).run(*held)), self._out)


class _Lifted(fx.Interpreter):
    """The graph with its constants handed in: `functionalize` rewrites only what comes in or is made inside."""

    def __init__(self, graph: fx.GraphModule, constants: Iterable[str], given: Sequence[Tensor]) -> None:
        super().__init__(graph)
        names = list(constants)
        self.inputs = given[: len(given) - len(names)]
        self.held = dict(zip(names, given[len(self.inputs) :], strict=True))

    def run(self) -> Any:  # type: ignore[override]
        """Of what was given."""
        return super().run(*self.inputs)

    def run_node(self, n: fx.Node) -> Any:
        """A view that nothing is written into may be a copy: functions lay their results out in memory otherwise."""
        if n.target is aten.view.default and not _written(n):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            return aten.reshape.default(*args, **kwargs)
        return super().run_node(n)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """What is written into a tensor is made first: torch would tell its shape in Python, and load sympy for it."""
        if (made := _unwritten(target)) is not None:
            return args[0].copy_(made(*args, **kwargs))
        return (
            _IN_PARTS[target](*args, **kwargs) if target in _IN_PARTS else super().call_function(target, args, kwargs)
        )

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self.held[target]


def _written(node: fx.Node) -> bool:
    """Whether what a node makes, or a view of it, is written into."""
    for user in node.users:
        schema = getattr(user.target, "_schema", None)
        if schema is not None and (
            schema.is_mutable or (any(found.alias_info for found in schema.returns) and _written(user))
        ):
            return True
    return False


class _Rewritten(fx.Interpreter):
    """The graph, with operations that `vmap` has no rule for written otherwise: it would run them point by point.

    What is drawn at random is drawn for each point, even where all have the same parameters: those are made the
    point's own, since `vmap` draws once for what it does not map.
    """

    def __init__(self, graph: fx.GraphModule, alone: bool = False, drawn: Sequence[Any] | None = None) -> None:
        super().__init__(graph)
        self.alone = alone
        self.drawn = None if drawn is None else iter(drawn)  # what is given in the place of random draws

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Of one point, inside `vmap` unless it is alone."""
        self.own = None if self.alone else args[0].reshape(-1)[:1].sum() * 0
        return super().run(*args, **kwargs)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if self.drawn is not None and draws(target):
            return next(self.drawn)
        if self.own is not None and draws(target) and args and isinstance(args[0], Tensor):
            args = (args[0] + self.own.to(args[0].dtype), *args[1:])
        if target in _OTHERWISE:
            return _OTHERWISE[target](*args, **kwargs)
        return super().call_function(target, args, kwargs)


def _cauchy(own: Tensor, median: float = 0.0, sigma: float = 1.0, **_: Any) -> Tensor:
    return median + sigma * torch.tan(math.pi * (torch.rand_like(own) - 0.5))


def _scattered(own: Tensor, dim: int, index: Tensor, value: float) -> Tensor:
    return aten.scatter.src(own, dim, index, own.new_full(index.shape, value))  # type: ignore[no-any-return]


def _sliced(own: Tensor, part: Tensor, dim: int = 0, begin: Any = None, end: Any = None, step: int = 1) -> Tensor:
    size = own.shape[dim]  # the rule for it overflows at "to the end", and does not count from it
    begin, end = (None if at is None else min(at % size if at < 0 else at, size) for at in (begin, end))
    if step == 1:  # side by side: no index, and so many elements at a time
        begin, end = begin or 0, size if end is None else end
        return torch.cat([own.narrow(dim, 0, begin), part, own.narrow(dim, end, size - end)], dim)
    return aten.slice_scatter.default(own, part, dim, begin, end, step)  # type: ignore[no-any-return]


def _dirichlet(concentration: Tensor, *_: Any) -> Tensor:
    gamma = torch._standard_gamma(concentration).clamp(min=torch.finfo(concentration.dtype).tiny)
    return gamma / gamma.sum(-1, keepdim=True)


def _entered(own: Tensor, part: Tensor, dim: int, index: int) -> Tensor:
    index = index % own.shape[dim]
    return _sliced(own, part.unsqueeze(dim), dim, index, index + 1)


def _put(own: Tensor, indices: Sequence[Tensor | None], part: Tensor, accumulate: bool = False) -> Tensor:
    given = [index for index in indices if index is not None]
    rest = own.ndim - sum(1 if index is None or index.dtype != torch.bool else index.ndim for index in indices)
    if len(given) == 1 and given[0].dtype == torch.bool and (part.ndim <= rest or part.numel() == 1):
        # What is written is the same wherever the mask is: how many cells that is need not be known.
        mask, part = given[0].reshape(*given[0].shape, *[1] * rest), part if part.ndim <= rest else part.reshape(())
        return torch.where(mask, own + part if accumulate else part.to(own.dtype), own)
    return aten.index_put.default(own, indices, part, accumulate)  # type: ignore[no-any-return]


@functools.cache
def _unwritten(target: Any) -> Any:
    """The operation that makes what this one writes into its first argument, and into no other; None for all else."""
    schema = getattr(target, "_schema", None)
    if schema is None or not schema.name.endswith("_") or target is aten.copy_.default:
        return None
    written = [i for i, argument in enumerate(schema.arguments) if argument.alias_info and argument.alias_info.is_write]
    if written != [0] or torch.Tag.inplace_view in target.tags or len(schema.returns) != 1:
        return None
    if target in _MADE_BY:
        return _MADE_BY[target]
    made = getattr(getattr(aten, schema.name.removeprefix("aten::")[:-1], None), target._overloadname, None)
    return None if made is None or made._schema.is_mutable else made


_MADE_BY: dict[Any, Callable[..., Any]] = {
    aten.normal_.default: aten.normal_functional.default,
    aten.bernoulli_.float: lambda own, p=0.5, **_: aten.bernoulli.p(own, p),  # which has no probability by default
}

# Operations that write into what they made themselves, as others that do not.
_IN_PARTS = get_decompositions([aten.binary_cross_entropy_with_logits])

# Operations that `vmap` has no rule for, or one by way of indices, as others that are the same.
_OTHERWISE: dict[Any, Callable[..., Tensor]] = {
    aten._sample_dirichlet.default: _dirichlet,  # which has no derivative of its own
    aten.view.default: aten.reshape.default,
    aten.copy.default: lambda own, other, *_: other.to(own.dtype).expand(own.shape).clone(),
    aten.fill.Scalar: torch.full_like,
    aten.fill.Tensor: lambda own, value: value.to(own.dtype).expand(own.shape).clone(),
    aten.index_put.default: _put,
    aten.log_sigmoid_backward.default: lambda slope, own, _: slope * torch.sigmoid(-own),  # its buffer is one point's
    aten.scatter.value: _scattered,
    aten.select_scatter.default: _entered,
    aten.slice_scatter.default: _sliced,
    aten.normal_functional.default: lambda own, mean=0.0, std=1.0, **_: torch.randn_like(own) * std + mean,
    aten.uniform.default: lambda own, low=0.0, high=1.0, **_: torch.rand_like(own) * (high - low) + low,
    aten.exponential.default: lambda own, rate=1.0, **_: -torch.log1p(-torch.rand_like(own)) / rate,
    aten.cauchy.default: _cauchy,
}


def one_by_one(function: Callable[[Any], Any], points: Any) -> Any:
    """`function` of each of S points, with plain Pyro: for what cannot be written down."""
    leaves, spec = pytree.tree_flatten(points)
    found = [function(pytree.tree_unflatten([leaf[s] for leaf in leaves], spec)) for s in range(len(leaves[0]))]
    flat = [pytree.tree_flatten(result) for result in found]
    return pytree.tree_unflatten(
        [torch.stack(values) for values in zip(*(leaves for leaves, _ in flat), strict=True)], flat[0][1]
    )


def elsewhere(point: Tensor) -> Tensor:
    """A point a little apart from this one, (P,), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return point + torch.rand(point.shape, generator=generator, dtype=torch.float64).sub(0.5).to(point)


__all__ = ["Mapped", "TraceError", "elsewhere", "one_by_one"]
