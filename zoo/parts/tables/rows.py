"""Rows of a mixed table as a distribution: one likelihood per column type, missing cells left out.

    real         x ~ Normal(loc, scale)
    positive     log x ~ Normal(loc, scale)
    count        x ~ NegativeBinomial of mean m and variance m + m^2 / r
    binary, categorical, ordinal      x ~ Categorical(softmax(logits)), x a code 0, 1, ...

    log p(row) = sum over the cells that are not NaN of log p(x_d)

The cells of a row are independent given their parameters, so a cell that is missing at random drops out of the sum
(Little & Rubin 2002, section 6.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.distributions.util import broadcast_shape
from torch import Tensor
from torch.distributions import constraints
from torch.nn import functional

from zoo.parts.missing import OrMissing
from zoo.parts.tables.columns import Columns


class Row(TorchDistribution):
    """Independent cells of mixed types, event shape (D,). NaN is a missing cell: it has no density and no weight."""

    arg_constraints = {}  # noqa: RUF012 - torch's name and type
    has_rsample = False

    def __init__(
        self,
        columns: Columns,
        loc: Tensor,
        scale: Tensor,
        mean: Tensor,
        concentration: Tensor,
        logits: Tensor,
        possible: Tensor | None = None,
    ) -> None:
        """Parameters in the order of `columns`' pieces, in the units of the table.

        Args:
            columns: where each kind stands.
            loc, scale: of real columns and of the logs of positive ones, (*, Dr + Dp).
            mean, concentration: m and r of counts, (*, Dk).
            logits: of categories, (*, Dc, C); entries beyond a column's own categories are not looked at.
            possible: False where the density is zero for some other reason, (*); rows are drawn all the same.
        """
        self.columns, self.loc, self.scale = columns, loc, scale
        self.count_mean, self.concentration, self.possible = mean, concentration, possible
        self.logits = logits.masked_fill(~columns.allowed, -torch.inf).log_softmax(-1)
        parts = (loc, scale, mean, concentration, logits[..., 0])
        batch = broadcast_shape(*(part.shape[:-1] for part in parts), () if possible is None else possible.shape)
        super().__init__(torch.Size(batch), torch.Size([len(columns.columns)]), validate_args=False)

    @property
    def support(self) -> Any:
        """Each column's own range, NaN besides."""
        return constraints.independent(OrMissing(Cells(self.columns)), 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Row:
        """The same row, (*batch_shape, D)."""
        shape = torch.Size(batch_shape)
        new: Row = self._get_checked_instance(Row, _instance)  # type: ignore[no-untyped-call]
        new.columns = self.columns
        for name in ("loc", "scale", "count_mean", "concentration"):
            part = getattr(self, name)
            setattr(new, name, part.expand(*shape, part.shape[-1]))
        new.logits = self.logits.expand(*shape, *self.logits.shape[-2:])
        new.possible = None if self.possible is None else self.possible.expand(shape)
        TorchDistribution.__init__(new, shape, self.event_shape, validate_args=False)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        """Sum over the observed cells, (*)."""
        total = self.cell_log_prob(value).sum(-1)
        return total if self.possible is None else total.masked_fill(~self.possible, -torch.inf)

    def cell_log_prob(self, value: Tensor) -> Tensor:
        """Log density of each cell, 0 where it is missing, (*, D)."""
        columns, seen = self.columns, ~value.isnan()
        # Missing cells get a value that any kind takes, so that no gradient is NaN.
        x, parts = torch.where(seen, value, 1.0), []
        if self.loc.shape[-1]:
            gaussian = torch.cat([x[..., columns.real], x[..., columns.positive].log()], -1)
            jacobian = functional.pad(gaussian[..., len(columns.real) :], (len(columns.real), 0))  # d log x / dx
            parts.append(_normal(gaussian, self.loc, self.scale) - jacobian)
        if self.count_mean.shape[-1]:
            parts.append(_negative_binomial(x[..., columns.count], self.count_mean, self.concentration))
        if len(columns.category):
            codes = torch.where(seen, value, 0.0)[..., columns.category, None].long()
            shape = broadcast_shape(codes.shape[:-1], self.logits.shape[:-1])
            logits = self.logits.expand(*shape, self.logits.shape[-1])
            parts.append(logits.gather(-1, codes.expand(*shape, 1)).squeeze(-1))
        lead = broadcast_shape(*(part.shape[:-1] for part in parts))
        cells = torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], -1)[..., columns.place]
        return torch.where(seen, cells, 0.0)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Complete rows, (*sample_shape, *batch, D)."""
        shape = self._extended_shape(torch.Size(sample_shape))[:-1]
        with torch.no_grad():
            split = len(self.columns.real)
            numbers = (self.loc, self.scale, self.count_mean, self.concentration)
            loc, scale, mean, r = (part.expand(*shape, part.shape[-1]).contiguous() for part in numbers)
            gaussian = torch.normal(loc, scale)
            counts = torch.poisson(torch._standard_gamma(r) * mean / r)
            logits = self.logits.expand(*shape, *self.logits.shape[-2:])
            codes = torch.distributions.Categorical(logits=logits, validate_args=False).sample()
            parts = [gaussian[..., :split], gaussian[..., split:].exp(), counts, codes.to(loc.dtype)]
            return torch.cat(parts, -1)[..., self.columns.place]

    @property
    def mean(self) -> Tensor:
        """Means of the numbers; of categories the code's, which says something of binary and ordinal ones only."""
        codes = torch.arange(self.logits.shape[-1], dtype=self.logits.dtype, device=self.logits.device)
        return self._joined(self._means(), (self.logits.exp() * codes).sum(-1))

    def summary(self) -> Tensor:
        """Means of the numbers and probabilities of the categories, (*, Dn + Dc C): what may be averaged over rows."""
        parts = [part.expand(*self.batch_shape, part.shape[-1]) for part in self._means()]
        return torch.cat([*parts, self.logits.exp().flatten(-2).expand(*self.batch_shape, -1)], -1)

    def settle(self, summary: Tensor) -> Tensor:
        """One row for a summary: its means, and its most probable categories, (*, D)."""
        numbers, probs = summary.split([len(self.columns.number), self.logits.shape[-2:].numel()], -1)
        codes = probs.unflatten(-1, self.logits.shape[-2:]).argmax(-1).to(summary.dtype)
        return torch.cat([numbers, codes], -1)[..., self.columns.place]

    @property
    def point(self) -> Tensor:
        """Means of the numbers, the most probable category else, (*, D)."""
        return self.settle(self.summary())

    def _means(self) -> list[Tensor]:
        split = len(self.columns.real)
        loc, scale = torch.broadcast_tensors(self.loc, self.scale)
        positive = (loc[..., split:] + scale[..., split:].square() / 2).exp()
        return [loc[..., :split], positive, self.count_mean]

    def _joined(self, numbers: Sequence[Tensor], codes: Tensor) -> Tensor:
        parts = [part.expand(*self.batch_shape, part.shape[-1]) for part in (*numbers, codes)]
        return torch.cat(parts, -1)[..., self.columns.place]


def row(columns: Columns, loc: Tensor, scale: Tensor, concentration: Tensor, logits: Tensor) -> Row:
    """The distribution of a row, from parameters that are of order one whatever the units of the table.

    Args:
        columns: where each kind stands.
        loc: location of the standardised numbers (see `Columns.numbers`); of a count, of the log of its mean, (*, Dn)
            (see `Columns.log_mean`).
        scale: standard deviations of the standardised real and positive columns, (*, Dr + Dp).
        concentration: r of the counts, (*, Dk).
        logits: of the categories, (*, Dc, C).
    """
    width = scale.shape[-1]
    centre, unit = columns.centre[columns.number[:width]], columns.unit[columns.number[:width]]
    log_mean, spread = columns.log_mean()
    mean = (log_mean + spread * loc[..., width:]).clamp(max=30.0).exp()
    return Row(columns, centre + unit * loc[..., :width], unit * scale, mean, concentration, logits)


class Cells(constraints.Constraint):
    """What each column of a row may hold."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        """Cell by cell, (*, D)."""
        columns = self.columns
        good = ~value.isinf()
        whole = (value >= 0) & (value == value.floor())
        levels = columns.levels
        positive = torch.zeros_like(levels, dtype=torch.bool).index_fill(0, columns.positive, True)
        count = torch.zeros_like(levels, dtype=torch.bool).index_fill(0, columns.count, True)
        good &= ~positive | (value > 0)
        good &= ~count | whole
        good &= (levels == 0) | (whole & (value < levels))
        return good

    def in_words(self, column: int) -> str:
        """What a column takes."""
        return self.columns.columns[column].expected()


def _normal(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    return -0.5 * ((x - loc) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)


def _negative_binomial(x: Tensor, mean: Tensor, r: Tensor) -> Tensor:
    """Mean m and concentration r: Poisson's limit is r to infinity."""
    return _rising(x, r) - torch.lgamma(x + 1) + x * mean.log() - (x + r) * (mean / r).log1p()


def _rising(x: Tensor, r: Tensor) -> Tensor:
    """log Gamma(x + r) - log Gamma(r) - x log r, which goes to 0 as r grows.

    Differences of large log Gammas cancel, and their gradients more so: from r = 16 by Stirling's series, to 2e-12.
    """
    direct = torch.lgamma(x + r) - torch.lgamma(r) - x * r.log()
    z = r.clamp(min=16.0)
    series = (x + z - 0.5) * (x / z).log1p() - x + _tail(x + z) - _tail(z)
    return torch.where(r < 16.0, direct, series)


def _tail(z: Tensor) -> Tensor:
    """Stirling's series for log Gamma(z) beyond its leading terms."""
    w = z.square().reciprocal()
    return (1 / 12 - w * (1 / 360 - w / 1260)) / z
