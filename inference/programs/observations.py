"""Whether every value that a program observes can come from the distribution that it is observed under.

Densities are worked out without validation, so that a value outside of the support would have some number or other: an
exponential's -1 a gain. Values are looked at once instead, in the first run. A support may move with latents,
Uniform(-a, a), and a value that lies outside of it at some of them is no fault of the data: what looks wrong is refused
only if it is so in further runs, at other latents, under the same support.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from pyro import poutine
from pyro.distributions import Delta, Independent, MaskedDistribution, Unit
from pyro.distributions.hmm import HiddenMarkovModel
from pyro.distributions.torch_distribution import ExpandedDistribution
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint

from inference.programs.runs import Call, sites_of, storeless
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart

RUNS = 8  # at other latents, before anything is refused


def check_observations(call: Call, trace: Any) -> None:
    """Refuse observed values that are NaN, or that lie outside of a support which is the same whatever the latents.

    Cells that a mask hides are passed over, and so are sites whose distribution has `validate_args=False`.

    Args:
        call: the program.
        trace: a run of it.

    Raises:
        ValueError: with the site, the index, the value and the support.
    """
    for name, node in sites_of(trace).items():
        found = _wrong(node)
        if found is not None and bool(found.any()) and (lasting := _lasting(call, name, node, found)) is not None:
            index = tuple(lasting.nonzero()[0].tolist())
            raise ValueError(f"{call.program.name}: {_told(name, node, index, trace)}")


def _wrong(node: Any) -> Tensor | None:
    """Which cells of an observed value are NaN or outside of the support: along the value, or its batch where the
    support is one of whole events. None where that cannot be said."""
    fn, value = node["fn"], node["value"]
    if not node["is_observed"] or not isinstance(value, Tensor) or any(_lenient(part) for part in _wrapped(fn)):
        return None
    try:
        support = elements(fn.support)
        outside = ~support.check(value)
        missing, infinite = value.isnan(), value.isinf()
        if support.event_dim:
            missing, infinite = (cells.flatten(-support.event_dim).any(-1) for cells in (missing, infinite))
        if outside.shape != missing.shape:  # bounds along hidden states, say
            return None
        found = outside | missing
        if bool(infinite.any()):  # which supports of all numbers let pass
            never = ~(fn.log_prob(value) > -math.inf)  # or NaN, inf - inf
            found = found | (infinite & never.reshape(*never.shape, *[1] * (infinite.ndim - never.ndim)))
        if bool(found.any()):
            found = found & ~_hidden(node, found.ndim)
        return found if bool(found.any()) else None
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError):  # no support, or of another shape
        return None


def _lenient(fn: Any) -> bool:
    """Whether the values of a distribution are not to be checked, or say nothing."""
    if isinstance(fn, (Delta, Unit, _Subsample)):
        return True
    if isinstance(fn, HiddenMarkovModel) and any(bound.numel() > 1 for bound in bounds_of(fn.support)):
        return True  # each hidden state may have its own
    return fn.__dict__.get("_validate_args") is False  # said by the user: where it is off for all, that is a 0


def _wrapped(fn: Any) -> Iterator[Any]:
    """A distribution, and what it wraps."""
    yield fn
    while isinstance(fn, (Independent, MaskedDistribution, ExpandedDistribution)):
        fn = fn.base_dist
        yield fn


def elements(support: Constraint) -> Constraint:
    """A support of events that is one of their elements, as that; another as it is."""
    while isinstance(support, torch.distributions.constraints.independent):
        support = support.base_constraint
    return support


def bounds_of(support: Any) -> Iterator[Tensor]:
    """All tensors that a support holds."""
    for value in vars(support).values():
        for part in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(part, Tensor):
                yield part
            elif isinstance(part, Constraint):
                yield from bounds_of(part)


def _hidden(node: Any, dims: int) -> Tensor:
    """Which cells masks hide, to broadcast from the left against so many dims."""
    found = torch.zeros((), dtype=torch.bool)
    batch = node["value"].ndim - node["fn"].event_dim
    inner = [part for part in _wrapped(node["fn"]) if isinstance(part, MaskedDistribution)]
    masks = [(node["mask"], batch), *((part._mask, node["value"].ndim - part.event_dim) for part in inner)]
    for mask, depth in masks:
        if mask is not None:
            hidden = ~torch.as_tensor(mask, dtype=torch.bool)
            found = found | hidden.reshape(*hidden.shape, *[1] * max(0, dims - depth))
    return found


def _lasting(call: Call, name: str, node: Any, found: Tensor) -> Tensor | None:
    """What of it is wrong at other latents too; None where nothing is, where the support moves, or a run fails."""
    for seed in range(1, RUNS + 1):
        moved = _Moved()
        try:
            with storeless(), apart(seed), unvalidated(), torch.enable_grad(), moved:
                other: Any = poutine.trace(call).get_trace().nodes[name]
        except (KeyError, RuntimeError, ValueError, NotImplementedError):
            return None
        again = _wrong(other)
        if again is None or again.shape != found.shape:
            return None
        found = found & again
        depends = any(bound.requires_grad for bound in bounds_of(other["fn"].support))
        if not bool(found.any()) or depends or not _same(node["fn"].support, other["fn"].support):
            nan = node["value"].isnan() & other["value"].isnan()
            found = found & nan if nan.shape == found.shape else found & False
            if not bool(found.any()):
                return None
    return found


def _same(one: Any, other: Any) -> bool:
    """Whether two supports are the same."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and one.shape == other.shape and torch.equal(one.detach(), other.detach())
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Constraint) and isinstance(other, Constraint):
        parts, others = vars(one), vars(other)
        return (
            type(one) is type(other)
            and parts.keys() == others.keys()
            and all(_same(parts[k], others[k]) for k in parts)
        )
    return bool(one is other or one == other)


class _Moved(Messenger):
    """Sets each latent somewhere in its support, with a gradient to tell what depends on it."""

    def _pyro_sample(self, message: Any) -> None:
        fn = message["fn"]
        if message["is_observed"] or message["value"] is not None or isinstance(fn, _Subsample):
            return
        shape = torch.Size(fn.batch_shape) + torch.Size(fn.event_shape)
        if not fn.support.is_discrete:
            transform = biject_to(fn.support)
            message["value"] = transform(torch.randn(transform.inverse_shape(shape), requires_grad=True))
        elif fn.has_enumerate_support:
            values = fn.enumerate_support(expand=False).reshape(-1, *fn.event_shape)
            message["value"] = values[torch.randint(len(values), fn.batch_shape)]


def _told(name: str, node: Any, index: tuple[int, ...], trace: Any) -> str:
    """What is wrong with a cell, in words."""
    stem = name.removesuffix("_observed")
    site = stem if stem in trace.nodes else name
    value = node["value"][index] if index else node["value"]
    at = f"site '{site}'" + (f", index {list(index)}" if index else "")
    if bool(value.isnan().any()):
        return f"{at}: NaN is observed. obs_mask=… of pyro.sample can mark missing cells, or leave them out"
    if bool(value.isinf().any()) and bool(elements(node["fn"].support).check(value).all()):
        return f"{at}: {value.tolist()} is observed, of which the density is 0: an infinite value"
    support = elements(node["fn"].support)
    shape = node["value"].shape[: node["value"].ndim - support.event_dim]
    told = type(support).__name__.strip("_")
    limits = []
    for key in ("lower_bound", "upper_bound"):
        if key in vars(support):
            bound = torch.as_tensor(getattr(support, key)).broadcast_to(shape)
            limits.append(f"{key}={bound[index].item() if index else bound.item()}")
    *_, inner = _wrapped(node["fn"])
    return (
        f"{at}: {value.tolist()} is observed, which lies outside the support of {type(inner).__name__}, {told}"
        f"({', '.join(limits)})".replace("()", "")
    )
