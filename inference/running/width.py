"""What one draw of one row holds, measured on a run of two rows and one of three."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from inference.running.quiet import quietly
from zoo.base import FIELDS, Batch, ModelGuide

_known: WeakKeyDictionary[ModelGuide, dict[Any, int]] = WeakKeyDictionary()


def width(pair: ModelGuide, batch: Batch) -> int:
    """Numbers that one draw of one row holds: what the largest tensor of a run gains with a third row.

    The batch is looked at for its shapes; a field that is None is generated. Once measured, it is kept for batches of
    the same shapes, until the pair gains or loses parameters.
    """
    known = _known.setdefault(pair, {})
    shapes = tuple((name, value.shape[1:]) for name, value in batch.fields().items())
    key = sum(parameter.numel() for parameter in pair.parameters()), shapes
    if key not in known:
        known[key] = _measured(pair, batch)
    return known[key]


def _measured(pair: ModelGuide, batch: Batch) -> int:
    recorded = []
    for rows in (2, 3):
        with quietly(0, pair), Sizes() as recorder:
            few = _complete(pair, repeated(batch, rows))
            guide = poutine.trace(pair.guide).get_trace(few)
            with EnumMessenger(first_available_dim=-2):
                model = poutine.trace(poutine.replay(pair.model, trace=guide)).get_trace(few)
            for trace in (guide, model):
                trace.compute_log_prob()
        recorded.append(recorder.sizes)
    return growth(*recorded)


def _complete(pair: ModelGuide, batch: Batch) -> Batch:
    """The batch with every field that the model observes: those that are None are drawn."""
    trace = poutine.trace(pair.model).get_trace(batch)
    made = {n: trace.nodes[n]["value"] for n in FIELDS if n in trace.nodes and getattr(batch, n) is None}
    return batch.but(**made)


def repeated(batch: Batch, rows: int) -> Batch:
    """The first rows of a batch, over again where it has fewer."""
    index = torch.arange(rows) % batch.size
    device = next(iter(batch.fields().values())).device if batch.fields() else None
    return batch.but(total=max(rows, batch.total)).select(index.to(device)).but(total=rows)


class Sizes(TorchFunctionMode):
    """Records how many numbers every tensor operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.sizes.append(_numbers(result))
        return result


def _numbers(result: Any) -> int:
    """How many numbers the largest tensor of a result holds."""
    if isinstance(result, Tensor):
        return result.numel()
    if not isinstance(result, (tuple, list, dict)) or isinstance(result, torch.Size):
        return 0
    return max([leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)], default=0)


def growth(two: list[int], three: list[int]) -> int:
    """The most that any tensor grew by from a run of two rows to one of three."""
    return max(1, *(more - less for less, more in zip(two, three, strict=False)))
