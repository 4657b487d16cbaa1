"""One trace for many draws: latents fixed to S values at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyro
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from zoo.base import Batch


class Redraw(Messenger):
    """Draws observed sites anew. Their data may stay in the batch, for their shape; deterministic sites stay too."""

    def _pyro_sample(self, message: Any) -> None:
        if message["is_observed"] and not message["infer"].get("_deterministic"):
            message["is_observed"], message["value"], message["done"] = False, None, False


def vectorised(
    function: Callable[[Batch], Any], batch: Batch, draws: int, values: Mapping[str, Tensor], local: frozenset[str]
) -> Any:
    """Trace `function(batch)` once for many draws: latents fixed to `values`, a leading (S,) on every site.

    Args:
        function: a pair's `model` or `guide`.
        batch: the observations; a field that is None is generated.
        draws: number of draws S.
        values: site -> (S, *event) for globals, (S, B, *event) for locals.
        local: which of them are local.
    """
    fixed = {name: value if name in local else value.unsqueeze(1) for name, value in values.items()}
    with pyro.plate("draws", draws, dim=-2), poutine.condition(data=fixed):
        return poutine.trace(function).get_trace(batch)
