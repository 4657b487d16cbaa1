"""Where the columns of a mixed table stand, by kind, and the centre and unit of their numbers.

Networks and priors work with standardised numbers; `zoo.parts.tables.rows.row` turns theirs into the distribution of
a row in the units of the table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.rows import nth
from zoo.schema.column import CATEGORIES, Column


class Columns(nn.Module):
    """Where the columns of each kind stand in a row, and the centre and unit of their numbers.

    Args:
        columns: those of the matrix, in order.
    """

    real: Tensor
    positive: Tensor
    count: Tensor
    category: Tensor
    number: Tensor
    place: Tensor
    allowed: Tensor
    levels: Tensor
    centre: Tensor
    unit: Tensor

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = tuple(columns)

        def where(*kinds: str) -> Tensor:
            return torch.tensor([i for i, c in enumerate(columns) if c.kind in kinds], dtype=torch.long)

        for kind in ("real", "positive", "count"):
            self.register_buffer(kind, where(kind))
        self.register_buffer("category", where(*CATEGORIES))
        self.register_buffer("number", torch.cat([self.real, self.positive, self.count]))
        # Pieces come kind by kind; `place` puts them back into the order of the table.
        self.register_buffer("place", torch.cat([self.number, self.category]).argsort())
        sizes = [len(columns[i].categories) for i in self.category.tolist()]
        self.most = max(sizes, default=1)  # categories of the widest column, C
        self.register_buffer("allowed", torch.arange(self.most) < torch.tensor(sizes).reshape(-1, 1))  # (Dc, C)
        levels = torch.tensor([len(c.categories) if c.kind in CATEGORIES else 0 for c in columns])
        self.register_buffer("levels", levels)
        # Before `standardise`: numbers as they are, and counts of mean 1 (see `log_mean`).
        counts = torch.tensor([column.kind == "count" for column in columns])
        self.register_buffer("centre", torch.where(counts, math.log(2.0), 0.0))
        self.register_buffer("unit", torch.where(counts, 0.5, 1.0))

    def numbers(self, x: Tensor) -> Tensor:
        """Real, log positive and log(1 + count) cells of rows (*, D), standardised; NaN where missing, (*, Dn)."""
        cells = torch.cat([x[..., self.real], x[..., self.positive].log(), x[..., self.count].log1p()], -1)
        return (cells - self.centre[self.number]) / self.unit[self.number]

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Take centre and unit of `numbers` from the observed cells of a table, (N, D)."""
        self.centre.zero_()
        self.unit.fill_(1.0)
        cells = self.numbers(x.double())
        seen = ~cells.isnan()
        count = seen.sum(0).clamp(min=1)
        mean = cells.nan_to_num().sum(0) / count
        sd = (torch.where(seen, cells - mean, 0).square().sum(0) / count).sqrt()
        # A constant column, whose deviation is rounding at most, has a unit in proportion to its size.
        constant = sd <= 1e-12 * mean.abs()
        unit = torch.where(constant, 1e-3 * torch.where(mean == 0, 1e-3, mean.abs()), sd)
        self.centre[self.number] = mean.to(self.centre)
        self.unit[self.number] = unit.to(self.unit)

    def check(self, x: Tensor) -> None:
        """Refuse rows (N, D) of which a column, or a row, has not a single cell.

        Raises:
            ValueError: naming it.
        """
        seen = ~x.isnan()
        for column, any_cell in zip(self.columns, seen.any(0).tolist(), strict=True):
            if not any_cell:
                raise ValueError(f"column '{column.name}': all {len(x)} cells are missing; ignore or drop it")
        if not bool(seen.any(1).all()):
            row = int((~seen.any(1)).nonzero()[0])
            raise ValueError(f"field 'x', row {nth(row)}: every cell is missing; drop the row (a fitted pair takes it)")

    def log_mean(self) -> tuple[Tensor, Tensor]:
        """Centre and unit of the logs of the counts' means, each (Dk,): those of log(1 + count), carried over.

        d log m = (1 + 1 / m) d log(1 + m); the unit of a rare count is held to 1, and of a constant one to 0.1.
        """
        typical = self.centre[self.count].clamp(min=1e-3).expm1()
        unit = self.unit[self.count]
        return typical.log(), torch.minimum(unit * (1 + 1 / typical), unit.clamp(min=1.0)).clamp(min=0.1)

    def dispersion(self, x: Tensor) -> Tensor:
        """r of the counts of a table (N, D) by moments, m^2 / (v - m), from 0.1 to 1e4, (Dk,)."""
        cells = x[:, self.count]
        mean = cells.nanmean(0)
        extra = (cells - mean).square().nanmean(0) - mean
        return (mean.square() / extra.clamp(min=1e-6)).clamp(0.1, 1e4)

    def one_hot(self, x: Tensor) -> Tensor:
        """Categorical cells of rows (*, D) as one-hot vectors, zeros where missing, (*, Dc, C)."""
        codes = x[..., self.category, None]
        return (codes == torch.arange(self.most, device=x.device)).to(x.dtype)
