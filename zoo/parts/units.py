"""Units of the data: where its columns stand and how far they spread, measured once, so that no model knows units.

A model whose numbers are all relative to a centre c and a unit u that go along with the data says the same of x and of
a x + b: densities differ by the Jacobian, -log |a| a feature, and nothing else. There are two ways to use them.

Networks see (x - c) / u and give c + u h: `Units`, with mean and standard deviation, or `moments` alone.
Constants of a prior are multiples of u around c where the user gives none: `usual` makes them, `measured` sets them
from `spread`, which is robust: of a cell that is wrong by a million the priors know nothing. One that is given is in
the units of the data, as it was given.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

QUARTILES = 1.3489795  # distance of the quartiles of a Gaussian, in standard deviations


def moments(x: Tensor, shared: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each column over what is not NaN, (..., D) -> (D,) twice, in double precision.

    A column that is constant but for rounding has the unit 1. With `shared` all columns have one unit, (), the root of
    their mean square about their own means.
    """
    x = _rows(x)
    count = (~x.isnan()).sum(0).clamp(min=1)
    centre = x.nansum(0) / count
    square = (x - centre).square().nansum(0)
    unit = (square.sum() / count.sum() if shared else square / count).sqrt()
    return centre, _known(x, unit)


def spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Median of each column, and the distance of its quartiles as deviations of a Gaussian, (..., D) -> (D,) twice.

    Where more than half of the cells are equal the standard deviation takes the place of the latter.
    """
    x = _rows(x)
    ordered, count = x.sort(0).values, (~x.isnan()).sum(0)  # NaN comes last
    low, centre, high = (_quantile(ordered, count, q) for q in (0.25, 0.5, 0.75))
    unit = (high - low) / QUARTILES
    size = x.nan_to_num().abs().amax(0)
    return centre, torch.where(unit > 1e-12 * size, unit, moments(x)[1])


def usual(module: nn.Module, shape: tuple[int, ...], **constants: tuple[float | None, float]) -> None:
    """Buffers by name, of a number that is given, (), or, for None, of the usual one until `measured` is called."""
    taken = [name for name, (given, _) in constants.items() if given is None]
    module.from_data = (*getattr(module, "from_data", ()), *taken)  # type: ignore[assignment]
    for name, (given, number) in constants.items():
        value = torch.full(shape, number) if given is None else torch.tensor(given)
        module.register_buffer(name, value)


@torch.no_grad()
def measured(module: nn.Module, **constants: Tensor) -> None:
    """Set those of the buffers of `usual` for which no number was given."""
    for name, value in constants.items():
        if name in module.from_data:  # type: ignore[operator]
            module.get_buffer(name).copy_(value)


class Units(nn.Module):
    """t = (x - c) / u, column by column: mean 0 and standard deviation 1 over the training rows.

    Args:
        shape: of one row, (D,) or ().
        shared: one unit for all columns, ().
    """

    optional: ClassVar = True  # files from before these were kept lack them: the units are the data's own, and stay
    raw = False
    centre: Tensor
    unit: Tensor

    def __init__(self, *shape: int, shared: bool = False) -> None:
        super().__init__()
        self.shared = shared
        self.register_buffer("centre", torch.zeros(shape))
        self.register_buffer("unit", torch.ones(() if shared else shape))

    @torch.no_grad()
    def place(self, x: Tensor) -> None:
        """Take centre and unit of x, (..., *shape); NaN counts as missing."""
        if self.raw:
            return
        centre, unit = moments(x if self.centre.ndim else x.reshape(-1, 1), self.shared)
        self.centre.copy_(centre.reshape(self.centre.shape))
        self.unit.copy_(unit.reshape(self.unit.shape))

    def forward(self, x: Tensor) -> Tensor:
        """From the units of the data, (*, *shape), to standard ones."""
        return (x - self.centre) / self.unit

    def inverse(self, t: Tensor) -> Tensor:
        """Back to the units of the data."""
        return self.centre + self.unit * t

    def _load_from_state_dict(self, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
        self.raw = prefix + "unit" not in state
        for name, value in self.named_buffers():
            state.setdefault(prefix + name, torch.zeros_like(value) if name == "centre" else torch.ones_like(value))
        super()._load_from_state_dict(state, prefix, *rest)


def _rows(x: Tensor) -> Tensor:
    """All rows of (..., D), one below the other, in double precision."""
    return x.detach().double().flatten(0, -2)


def _known(x: Tensor, unit: Tensor) -> Tensor:
    """1 in place of a unit that is only rounding."""
    size = x.nan_to_num().abs().amax(0)
    return torch.where(unit > 1e-12 * (size if unit.ndim else size.amax()), unit, torch.ones_like(unit))


def _quantile(ordered: Tensor, count: Tensor, q: float) -> Tensor:
    """Of the first `count` of sorted columns (N, D), linear between them."""
    at = q * (count - 1).clamp(min=0).double()
    low = at.floor().long()
    high = torch.minimum(low + 1, (count - 1).clamp(min=0))
    below, above = (ordered.gather(0, i.unsqueeze(0)).squeeze(0) for i in (low, high))
    return torch.lerp(below, above, at - low)
