"""How a pair is made: in which floating-point type, and what is said where its first run fails.

A pair runs once while it is made, so that its guide has all its parameters. Some programs run in double precision only:
a covariance matrix that is nearly singular, say. `zoo.create(…, dtype=torch.float64)` makes them; so does a load.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import nn

from zoo.precision import COMPUTED
from zoo.threads.handlers import apart_from_callers

_dtype: ContextVar[torch.dtype | None] = ContextVar("dtype of the pairs that are made", default=None)
_BELOW = ("torch", "pyro")


@contextmanager
def making_in(dtype: torch.dtype | None) -> Iterator[None]:
    """Pairs made inside are of this type when they first run, if pairs can run in it; else of torch's default."""
    token = _dtype.set(dtype if dtype in COMPUTED else None)
    try:
        yield
    finally:
        _dtype.reset(token)


def check_type(dtype: Any) -> torch.dtype | None:
    """The type that a user asks for, or None.

    Raises:
        ValueError: no floating-point type that pairs compute in.
    """
    if dtype is not None and dtype not in COMPUTED:
        raise ValueError(f"dtype: expected torch.float32 or torch.float64, got {dtype!r:.50}")
    found: torch.dtype | None = dtype
    return found


@contextmanager
def first_run(pair: nn.Module, name: str) -> Iterator[Any]:
    """Move the pair to the type it is made in, then let it run; where torch or Pyro fail, say so by site.

    Yields:
        a recorder of the parameters that the run asked Pyro for.

    Raises:
        ValueError: the run failed there. What the pair itself raises is let through.
    """
    dtype = _dtype.get()
    if dtype is not None:
        pair.to(dtype)
    seen = _LastSite()
    try:
        with apart_from_callers(), seen, poutine.trace(param_only=True) as recorder:
            yield recorder
    except Exception as error:
        below = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
        said = str(error).strip().partition("\n")[0]
        absent = isinstance(error, (TypeError, AttributeError)) and "NoneType" in said
        absent = (
            absent and getattr(getattr(pair, "inputs", None), "__module__", "") == "zoo.pair"
        )  # it has no hook of its own
        own = below.partition(".")[0] not in _BELOW
        if own and not absent and not isinstance(error, RuntimeError):  # which torch's kernels raise
            raise
        kind = next((t.dtype for t in (*pair.parameters(), *pair.buffers()) if t.is_floating_point()), None)
        cure = ""
        if "LinAlgError" in type(error).__name__ or "PositiveDefinite" in said:
            cure = "; zoo.create(…, dtype=torch.float64) makes it in double precision"
        if absent:
            cure = (
                "; fields that a model reads and does not generate, such as covariates, are None there unless its "
                "method inputs(n) makes them: return Batch(n, n, x=…)"
            )
        where = f"{seen.where} " if seen.where else ""
        in_type = f" in {str(kind or torch.get_default_dtype())[6:]}" if dtype != torch.float64 else ""
        raise ValueError(
            f"{name}: its first run, on two simulated observations{in_type}, fails {where}with "
            f"{type(error).__name__}: {said[:200]}{cure}"
        ) from error


class _LastSite(Messenger):
    """Notes which site was reached last, and whether it was left again."""

    where = ""

    def _pyro_sample(self, msg: Any) -> None:
        self.where = f"at site '{msg['name']}'"

    def _pyro_post_sample(self, msg: Any) -> None:
        self.where = f"after site '{msg['name']}'"
