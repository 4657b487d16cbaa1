"""Whether what a guide draws fits the sites of its model, looked at before anything is fitted.

A normal guide of a positive latent draws a negative scale sooner or later, and a vector that is too short fails
wherever the model takes it apart: neither names the latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions.constraints import Constraint

from inference.programs.observations import bounds_of, elements
from inference.programs.reached import TellingError

DRAWS = 20  # of a guide's site, to see whether they leave a support that is the same always


class Matching(Messenger):
    """Around a run of a model with a guide's draws: each is checked as its site comes.

    Args:
        name: of the program.
        guide: the sites of a run of the guide.

    Raises:
        TellingError: a draw of another shape than its site, or outside of its support.
    """

    def __init__(self, name: str, guide: Mapping[str, Any]) -> None:
        super().__init__()
        self.name, self.guide = name, guide

    def _pyro_post_sample(self, message: Any) -> None:
        drawn = self.guide.get(message["name"])
        if drawn is None or message["is_observed"] or drawn["is_observed"] or isinstance(message["fn"], _Subsample):
            return
        site, fn, value = message["name"], message["fn"], drawn["value"]
        shape = fn.batch_shape + fn.event_shape
        pairs = zip_longest(reversed(shape), reversed(value.shape), fillvalue=1)
        if any(one != other for one, other in pairs):
            raise TellingError(
                f"{self.name}: the guide draws '{site}' in shape {tuple(value.shape)}, the program in {tuple(shape)}"
            )
        support = elements(fn.support)
        moving = any(True for _ in bounds_of(support))
        for some in (value, *(() if moving else _more(drawn["fn"]))):
            outside = _outside(support, some)
            if bool(outside.any()):
                at = some[outside].flatten()[0].item()
                raise TellingError(
                    f"{self.name}: the guide draws '{site}' from {type(drawn['fn']).__name__} with values such as "
                    f"{at:.4g}, outside of the support that the program gives it, {_words(support)}: draw it from a "
                    "distribution of that support"
                )


def _more(fn: Any) -> list[Tensor]:
    """More draws of a guide's site."""
    try:
        with torch.no_grad():
            return [fn.sample((DRAWS,))]
    except (NotImplementedError, RuntimeError, ValueError, AttributeError):
        return []


def _outside(support: Constraint, value: Tensor) -> Tensor:
    """Which elements lie outside of a support of elements; on its very edge, as rounding has it, is inside."""
    none = torch.zeros(value.shape, dtype=torch.bool, device=value.device)
    if support.event_dim:
        return none
    try:
        found = ~support.check(value)
        for key in ("lower_bound", "upper_bound"):
            if key in vars(support):
                found = found & (value != getattr(support, key))
        return found & ~value.isnan() if found.shape == none.shape else none
    except (NotImplementedError, RuntimeError, ValueError, TypeError):
        return none


def _words(support: Constraint) -> str:
    told = repr(support)
    return told if len(told) < 80 else type(support).__name__.strip("_")
