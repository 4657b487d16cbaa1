"""Labels in one order: which component, or state, of one chain is which of another's.

Labels that the model does not tell apart may come out in another order in each chain. The order that is nearest to a
reference chain is an assignment problem (Stephens 2000, "Dealing with label switching in mixture models"), solved by
scipy without trying the K! orders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ROUNDS = 10  # of assignments, each with the other axes in the order found before


def stems(dims: Mapping[str, Sequence[str]]) -> list[str]:
    """Names of dims that labels may run along: `state`, not `next_state`."""
    named = {dim for names in dims.values() for dim in names}
    return sorted(dim for dim in named if not any(dim != other and _akin(dim, other) for other in named))


def _akin(dim: str, stem: str) -> bool:
    """Whether a dim counts what its stem does: `next_state` and `state`, `feature_given` and `feature`."""
    return dim == stem or dim.endswith(f"_{stem}") or dim.startswith(f"{stem}_")


def relabelled(
    draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], stem: str, reference: int = 0
) -> dict[str, Tensor] | None:
    """The draws with the labels of every chain in the order of one of them.

    Args:
        draws: site -> (C, n, *event).
        dims: names of the event dims; those of one stem (`state`, `next_state`) are put into one order together.
        stem: of the labels.
        reference: the chain whose order is taken.

    Returns:
        Draws of the same shapes; None where no site has such a dim, or they are of several sizes.
    """
    axes = _axes(draws, dims, stem)
    if not axes:
        return None
    means = {name: _standardised(draws[name], found) for name, found in axes.items()}
    order = _nearest(means, axes, {name: value[reference] for name, value in means.items()})
    found = {name: _permuted(draws[name], [2 + axis for axis in own], order) for name, own in axes.items()}
    return {**draws, **found}


def aligned(draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], stem: str) -> dict[str, Tensor] | None:
    """The draws with the labels of every single one in one order, that of their means.

    Means and deviations of what is in order so far, and the order nearest to these, in turn, until neither changes
    (Stephens 2000, with the squared distance of the parameters as the loss), from the first draw on.

    Args:
        draws: site -> (C, n, *event).
        dims, stem: see `relabelled`.

    Returns:
        Draws of the same shapes; None where no site has such a dim, or they are of several sizes.

    Example::

        aligned({"locs": locs}, {"locs": ("component", "feature")}, "component")  # locs: (C, n, 3, 2)
    """
    axes = _axes(draws, dims, stem)
    if not axes:
        return None
    flat = {name: draws[name].flatten(0, 1) for name in axes}
    before, found = None, flat
    for turn in range(_ROUNDS):
        # Spread along the labels too at first, when draws of all labels are mixed.
        spread = {name: _deviation(value, axes[name] if turn == 0 else ()) for name, value in found.items()}
        scaled = {name: value / spread[name] for name, value in flat.items()}
        goal = {name: (v[0] if turn == 0 else v.mean(0)) / spread[name][0] for name, v in found.items()}
        order = _nearest(scaled, axes, goal)
        found = {name: _permuted(value, [1 + axis for axis in axes[name]], order) for name, value in flat.items()}
        if before is not None and torch.equal(order, before):
            break
        before = order
    return {**draws, **{name: value.reshape(draws[name].shape) for name, value in found.items()}}


def permuted(
    draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], stem: str, generator: torch.Generator
) -> dict[str, Tensor] | None:
    """The draws, site -> (C, n, *event), labels of each in another order, drawn at random; None: see `relabelled`."""
    axes = _axes(draws, dims, stem)
    if not axes:
        return None
    name = next(iter(axes))
    lead, size = draws[name].shape[:2], draws[name].shape[2 + axes[name][0]]
    order = torch.rand(lead.numel(), size, generator=generator).argsort(-1)
    still = (order == torch.arange(size)).all(-1, keepdim=True)
    order = torch.where(still, order.roll(1, -1), order).to(draws[name].device)
    found = {
        name: _permuted(draws[name].flatten(0, 1), [1 + axis for axis in own], order) for name, own in axes.items()
    }
    return {**draws, **{name: value.reshape(draws[name].shape) for name, value in found.items()}}


def _axes(draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], stem: str) -> dict[str, list[int]]:
    """Which axes of events run along labels, by site; empty where there are none, or of several sizes."""
    axes = {name: [axis for axis, dim in enumerate(dims.get(name, ())) if _akin(dim, stem)] for name in draws}
    axes = {name: found for name, found in axes.items() if found and draws[name].ndim - 2 == len(dims[name])}
    sizes = {draws[name].shape[2 + axis] for name, found in axes.items() for axis in found}
    return {} if len(sizes) != 1 or 1 in sizes else axes


def _nearest(
    values: Mapping[str, Tensor], axes: Mapping[str, Sequence[int]], reference: Mapping[str, Tensor]
) -> Tensor:
    """The order of labels, (C, K), that brings each of values (C, *event) nearest to a reference (*event)."""
    own = {name: _own(value, axes[name]) for name, value in values.items()}
    goal = {name: _own(reference[name][None], axes[name])[0] for name in values}
    order = _assigned(torch.stack([_distance(value, 1, goal[name]) for name, value in own.items()]).sum(0))
    for _ in range(_ROUNDS):
        before, costs = order, []
        for name, value in values.items():
            for axis in axes[name]:  # the others in the order found before
                others = _permuted(value, [1 + other for other in axes[name] if other != axis], before)
                costs.append(_distance(others, 1 + axis, reference[name]))
        order = _assigned(torch.stack(costs).sum(0))
        if torch.equal(order, before) or all(len(found) == 1 for found in axes.values()):
            break
    return order


def _deviation(values: Tensor, axes: Sequence[int]) -> Tensor:
    """Over draws, (S, *event), and over some axes of the event: (1, *event)."""
    dims = [0, *(1 + axis for axis in axes)]
    return values.std(dims, keepdim=True) + 1e-12


def _standardised(draws: Tensor, axes: Sequence[int]) -> Tensor:
    """Means of each chain, (C, *event), in units of the median deviation over chains and labels."""
    spread = draws.std(1).movedim([1 + axis for axis in axes], list(range(1, 1 + len(axes))))
    spread = spread.flatten(0, len(axes)).median(0).values + 1e-12  # (*event but the labels)
    for axis in axes:
        spread = spread.unsqueeze(axis)
    return draws.mean(1) / spread


def _own(means: Tensor, axes: Sequence[int]) -> Tensor:
    """What a label has without looking at others, (C, K, ...): of several axes the diagonal, how likely it stays."""
    moved = means.movedim([1 + axis for axis in axes], list(range(1, 1 + len(axes))))
    same: list[Any] = [torch.arange(moved.shape[1], device=moved.device)] * len(axes)
    found: Tensor = moved[(slice(None), *same)]
    return found


def _distance(means: Tensor, axis: int, reference: Tensor) -> Tensor:
    """Squared distance between the labels of the reference and of each chain along an axis, (C, K, K)."""
    flat = means.movedim(axis, 1).reshape(len(means), means.shape[axis], -1)  # (C, K, R)
    own = reference.movedim(axis - 1, 0).reshape(1, means.shape[axis], -1)
    return torch.cdist(own.expand(len(flat), -1, -1), flat).square()


def _assigned(cost: Tensor) -> Tensor:
    """The cheapest order of each chain, (C, K), by the costs of a label of the reference and one of the chain."""
    from scipy.optimize import linear_sum_assignment

    tables = cost.nan_to_num(nan=1e30, posinf=1e30).cpu().numpy()
    return torch.from_numpy(np.stack([linear_sum_assignment(table)[1] for table in tables])).to(cost.device)


def _permuted(values: Tensor, axes: Sequence[int], order: Tensor) -> Tensor:
    """Each chain of (C, ...) with these axes in its own order, (C, K)."""
    for axis in axes:
        shape = [order.shape[i > 0] if i in (0, axis) else 1 for i in range(values.ndim)]
        values = values.take_along_dim(order.reshape(shape), axis)
    return values


@dataclass(frozen=True)
class Ordering:
    """Which order of K labels brings a draw nearest to a reference: of all K! orders of a draw the same one comes out.

    Args:
        axes: of events, that run along labels, by site.
        goal: of the reference, in units of `scale`, (K, ...), by site.
        scale: the same for all labels, (...), by site.
        spread: deviations of the reference in units of `scale`, (K, ...), by site.
    """

    axes: Mapping[str, Sequence[int]]
    goal: Mapping[str, Tensor]
    scale: Mapping[str, Tensor]
    spread: Mapping[str, Tensor]

    @property
    def count(self) -> int:
        """Of labels."""
        return len(next(iter(self.goal.values())))

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """The order of each of S draws, site -> (S, *event): (S, K)."""
        return self._nearest({name: _own(values[name], own) / self.scale[name] for name, own in self.axes.items()})

    def apart(self, draws: int = 500) -> float:
        """How many of draws that are normal around the reference come out in its order, from 0 to 1."""
        generator = torch.Generator().manual_seed(0)
        own = {}
        for name, goal in self.goal.items():
            noise = torch.randn(draws, *goal.shape, dtype=torch.float64, generator=generator).to(goal)
            own[name] = goal + self.spread[name] * noise
        order = self._nearest(own)
        return float((order == torch.arange(self.count, device=order.device)).all(-1).double().mean())

    def _nearest(self, own: Mapping[str, Tensor]) -> Tensor:
        return _assigned(torch.stack([_distance(own[name], 1, goal) for name, goal in self.goal.items()]).sum(0))

    def apply(self, values: Mapping[str, Tensor], order: Tensor) -> dict[str, Tensor]:
        """Draws, site -> (S, *event), each with its labels in its own order, (S, K)."""
        found = {name: _permuted(values[name], [1 + axis for axis in own], order) for name, own in self.axes.items()}
        return {**values, **found}


def ordering(draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], stem: str) -> Ordering | None:
    """The order that `aligned` puts draws in, for others.

    What a label has without looking at others decides: of a transition matrix the chance to stay.

    Args:
        draws, dims, stem: see `relabelled`.

    Returns:
        None where no site has such a dim, or they are of several sizes.
    """
    axes, found = _axes(draws, dims, stem), aligned(draws, dims, stem)
    if not axes or found is None:
        return None
    goal, scale, spread = {}, {}, {}
    for name, along in axes.items():
        own = _own(found[name].flatten(0, 1), along)  # (S, K, ...)
        wide = own.std(0).median(0).values
        scale[name] = torch.where(wide > 0, wide, 1.0)
        goal[name], spread[name] = own.mean(0) / scale[name], own.std(0) / scale[name]
    return Ordering(axes, goal, scale, spread)


def apart(draws: Mapping[str, Tensor], dims: Mapping[str, Sequence[str]], stem: str) -> float:
    """How many draws around one mode keep two labels in their places, of the two that lie farthest apart: 0.5 to 1.

    An empty component, as wide as its prior, overlaps with all others, and these may lie apart for all that. Draws are
    taken as they are: put in order, the first and the last of numbers alike would lie apart too.

    Args:
        draws, dims, stem: see `relabelled`.
    """
    cost: list[Tensor] = []
    for name, along in _axes(draws, dims, stem).items():
        own = _own(draws[name].flatten(0, 1), along)  # (S, K, ...)
        wide = own.std(0).median(0).values
        own = own / torch.where(wide > 0, wide, 1.0)
        cost.append(_distance(own, 1, own.mean(0)))
    if not cost:
        return 0.0
    whole = torch.stack(cost).sum(0)
    same = whole.diagonal(dim1=1, dim2=2)
    kept = (same[:, :, None] + same[:, None] < whole + whole.mT).double().mean(0)
    return float(kept.fill_diagonal_(0).max())
