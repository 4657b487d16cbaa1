"""Bounded memory: work over draws and rows runs in pieces that hold at most about `BUDGET` numbers at a time.

What one draw of one row holds is measured, not guessed: `width` runs guide and model on two rows and on three, and
takes the growth of the largest tensor. Outputs of a decoder, mostly: 256 numbers for each pixel of a categorical one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.enum_messenger import EnumMessenger
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from zoo.base import FIELDS, Batch, ModelGuide, evaluating

BUDGET = 2**22  # numbers held by one piece of work
_AT_ONCE = 16  # draws for which a piece of rows leaves room


@contextmanager
def quietly(seed: int, pair: ModelGuide | None = None) -> Iterator[None]:
    """Own random state, no gradients, no validation, the pair in evaluation mode: all are put back."""
    mode = nullcontext() if pair is None else evaluating(pair)
    with torch.random.fork_rng(), torch.no_grad(), pyro.validation_enabled(False), mode:
        torch.manual_seed(seed)
        yield


def pieces(total: int, cost: int) -> Iterator[slice]:
    """Consecutive slices of `total` items that cost `cost` numbers each, within the budget."""
    count = max(1, min(total, BUDGET // max(1, cost)))
    for begin in range(0, total, count):
        yield slice(begin, min(begin + count, total))


def rows_at_once(batch: Batch, width: int) -> int:
    """How many observations to take at a time, when a draw of one holds `width` numbers."""
    return max(1, min(batch.size, BUDGET // _AT_ONCE // max(1, width)))


def held(values: Mapping[str, Tensor]) -> int:
    """Numbers in one draw of these global latents: each particle repeats them."""
    return sum(value[0].numel() for value in values.values())


def width(pair: ModelGuide, batch: Batch) -> int:
    """Numbers that one draw of one row holds: what the largest tensor of a run gains with a third row.

    The batch is looked at for its shapes; a field that is None is generated.
    """
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
        self.sizes.append(max([leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)], default=0))
        return result


def growth(two: list[int], three: list[int]) -> int:
    """The most that any tensor grew by from a run of two rows to one of three."""
    return max(1, *(more - less for less, more in zip(two, three, strict=False)))
