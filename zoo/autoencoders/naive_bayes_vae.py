"""Variational autoencoder of mixed tables with holes, whose encoder is a product of experts.

For row n of N, column d of D, with decoder network f,

    z_n        ~ N(0, I)                      code, in R^L
    x_nd | z_n ~ p_d(x_nd | f(z_n)_d)         cells, independent given the code ("naive Bayes")

    p(x, z)  = prod_n N(z_n | 0, I) prod_{d in O_n} p_d(x_nd | f(z_n)_d),     O_n the cells observed in row n

p_d goes by the type of the column (`zoo.parts.tables.columns`): normal, log-normal, negative binomial, categorical, or
for ordinal columns a cumulative logit, P(x <= k) = sigmoid(c_dk - f_d) with cuts c_d1 < c_d2 < ...

Bayes' rule turns that independence around: p(z | x) is proportional to p(z) prod_d p_d(x_d | z), a product of the
prior and one factor a cell. The guide has the same form, with a Gaussian expert for each factor,

    q(z | x_n) ~ N(z | 0, I) prod_{d in O_n} N(z | m_d(x_nd), 1 / t_d(x_nd))^w,    w = 1, or 1 / |O_n| when tempered

which is Gaussian: precisions t add up, and so do precisions times means m. A missing cell has no expert and no factor;
a row without cells keeps the prior. In one dimension with linear-Gaussian cells it holds the exact posterior.

All sites are local: `z`, the code, and `x`, the row. Networks, scales and cuts are parameters.

Held against, in `test_naive_bayes_vae.py`: the log density of each cell by SciPy (equal to 1e-9); the exact posterior
of the linear-Gaussian case, for all patterns of holes (log weights constant to 1e-9).

Hinton 2002, "Training products of experts by minimizing contrastive divergence"; Wu & Goodman 2018, "Multimodal
generative models for scalable weakly-supervised learning"; Nazabal et al. 2020, "Handling incomplete heterogeneous
data using VAEs"; McCullagh 1980, "Regression models for ordinal data".
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroParam
from torch import Tensor, nn
from torch.nn import functional

from zoo.base import Batch, ModelGuide, register
from zoo.parts import nets
from zoo.parts.tables.columns import Columns
from zoo.parts.tables.rows import Row, row
from zoo.schema.schema import Schema

ONE_OF_EACH = Schema.of(
    ["real", "positive", "count", "binary", ("x5", "categorical", "abc"), ("x6", "ordinal", (1, 2, 3, 4))]
)
FAR = 1e3  # a cut that no location passes


@register("naive_bayes_vae")
class NaiveBayesVAE(ModelGuide):
    """Variational autoencoder of a mixed table with missing cells (Nazabal et al. 2020).

    Args:
        columns: the schema of the table, as `zoo.datasets.Schema.infer` gives it: D columns that are not ignored.
        latent: dimension of the code L.
        hidden: widths of the decoder's hidden layers; an empty tuple makes it linear.
        expert: width of the hidden layer of each number's expert; None makes its mean linear, its precision constant.
        tempered: raise each expert to 1 / (cells observed), which keeps the code wide in rows of many columns.

    Raises:
        ValueError: more latent dimensions than columns; on fitting, a column or a row without a single cell.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"z": ("latent",), "x": ("feature",)}
    scale: Tensor
    concentration: Tensor
    columns: Columns
    decoder: nn.Sequential
    ordinal: Tensor

    def __init__(
        self,
        columns: Schema = ONE_OF_EACH,
        latent: int = 2,
        hidden: tuple[int, ...] = (64,),
        expert: int | None = 16,
        tempered: bool = False,
    ) -> None:
        super().__init__()
        self.schema, self.latent, self.tempered = columns, latent, tempered
        features = len(columns.used)
        if latent > features:
            raise ValueError(f"naive_bayes_vae: latent={latent} is larger than the number of columns, {features}")
        self.columns = Columns(columns.used)
        gaussian = len(self.columns.real) + len(self.columns.positive)
        outputs = len(self.columns.number) + self.columns.allowed.numel()
        self.decoder = nets.mlp(latent, hidden, outputs)
        self.experts = Experts(self.columns, latent, expert)
        self.scale = PyroParam(torch.ones(gaussian), constraints.greater_than(1e-3))  # type: ignore[assignment]
        counts = torch.ones(len(self.columns.count))
        self.concentration = PyroParam(counts, constraints.positive)  # type: ignore[assignment]
        kinds = [column.kind for column in columns.used if column.categories]
        ordinal = [i for i, kind in enumerate(kinds) if kind == "ordinal"]
        self.register_buffer("ordinal", torch.tensor(ordinal, dtype=torch.long))
        self.gaps = nn.Parameter(torch.zeros(len(ordinal), max(1, self.columns.most - 1)))  # c_d1, then log differences
        self.register_buffer("prior_loc", torch.zeros(latent))
        self.register_buffer("prior_scale", torch.ones(latent))

    def check(self, batch: Batch) -> None:
        """Refuse a column or a row without a single cell."""
        if batch.x is not None:
            self.columns.check(batch.x)

    def measure(self, batch: Batch) -> None:
        """Centre and unit of the numbers, from the observed cells."""
        if batch.x is not None:
            self.columns.standardise(batch.x)

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """Start logits, cuts and dispersions at those of the observed cells; there are no globals."""
        if batch.x is not None:
            self.concentration = self.columns.dispersion(batch.x)
            share = self.columns.one_hot(batch.x).sum(0) + self.columns.allowed
            share = share / share.sum(-1, keepdim=True)  # (Dc, C)
            below = share[self.ordinal].cumsum(-1)[:, : self.gaps.shape[1]].clamp(1e-4, 1 - 1e-4).logit()
            self.gaps.copy_(torch.cat([below[:, :1], below.diff(dim=-1).clamp(min=1e-2).log()], -1))
            bias = share.clamp(min=1e-6).log().index_fill(0, self.ordinal, 0.0)
            *_, head = self.decoder.parameters()
            head[len(self.columns.number) :] = bias.flatten()
        return {}

    def model(self, batch: Batch) -> Tensor:
        """Sample p(x, z); returns x, (B, D)."""
        with batch.plate():
            z = pyro.sample("z", dist.Normal(self.prior_loc, self.prior_scale).to_event(1))  # (*, B, L)
            return pyro.sample("x", self.decode(z), obs=batch.x)

    def guide(self, batch: Batch) -> Tensor:
        """Sample q(z | x); returns z, (B, L)."""
        with batch.plate():
            return pyro.sample("z", self.encode(nets.seen(self, batch)))

    def decode(self, z: Tensor) -> Row:
        """p(x | z), of batch shape (*, B) and event shape (D,)."""
        columns = self.columns
        h = self.decoder(z)  # (*, B, Dn + Dc C)
        loc, logits = h[..., : len(columns.number)], h[..., len(columns.number) :]
        logits = logits.unflatten(-1, tuple(columns.allowed.shape))  # (*, B, Dc, C)
        if len(self.ordinal):  # the first output is the location of an ordinal column
            levels = self.cumulative(logits[..., self.ordinal, 0])
            logits = logits.index_copy(-2, self.ordinal, levels)
        return row(columns, loc, self.scale, self.concentration, logits)

    def cumulative(self, location: Tensor) -> Tensor:
        """log P(x = k) of ordinal columns with these locations, (*, Do) -> (*, Do, C)."""
        steps = torch.cat([self.gaps[:, :1], self.gaps[:, 1:].exp()], -1).cumsum(-1)  # (Do, C - 1)
        own = self.columns.allowed[self.ordinal][:, 1 : 1 + steps.shape[-1]]
        far = FAR + torch.arange(steps.shape[-1], dtype=steps.dtype, device=steps.device)
        cuts = functional.pad(torch.where(own, steps, far), (1, 0), value=-FAR)
        cuts = functional.pad(cuts, (0, 1), value=2 * FAR) - location[..., None]  # (*, Do, C + 1)
        below, above = cuts[..., :-1], cuts[..., 1:]
        # log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a))
        return functional.logsigmoid(above) + functional.logsigmoid(-below) + torch.log(-torch.expm1(below - above))

    def encode(self, x: Tensor) -> Any:
        """q(z | x), of batch shape (B,) and event shape (L,)."""
        precision, weighted = self.experts(x)  # (B, L)
        if self.tempered:
            power = 1 / (~x.isnan()).sum(-1, keepdim=True).clamp(min=1)
            precision, weighted = power * precision, power * weighted
        total = 1 + precision  # 1 is the prior's
        return dist.Normal(weighted / total, total.rsqrt()).to_event(1)


class Experts(nn.Module):
    """A Gaussian over the code for each cell: a small network of a number, a table of a category."""

    def __init__(self, columns: Columns, latent: int, hidden: int | None) -> None:
        super().__init__()
        self.columns, self.latent = columns, latent
        numbers, (categories, most) = len(columns.number), columns.allowed.shape
        start = math.log(math.expm1(1 / (numbers + categories)))  # all experts together weigh as much as the prior
        bias = torch.cat([torch.zeros(latent), torch.full((latent,), start)])
        self.bias = nn.Parameter(bias.repeat(numbers, 1))  # (Dn, 2L)
        self.slope = nn.Parameter(torch.randn(numbers, latent) / math.sqrt(numbers + categories))
        table = bias + torch.cat([torch.randn(categories, most, latent), torch.zeros(categories, most, latent)], -1)
        self.table = nn.Parameter(table)  # (Dc, C, 2L)
        self.hidden = hidden
        if hidden is not None:
            self.first = nn.Parameter(torch.randn(2, numbers, hidden))
            self.second = nn.Parameter(0.1 * torch.randn(numbers, hidden, 2 * latent) / math.sqrt(hidden))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over the observed cells of rows (B, D): of precisions t_d, and of t_d m_d, each (B, L)."""
        numbers = self.columns.numbers(x).mT.contiguous()[..., None]  # (Dn, B, 1): a column after the other
        v, seen = numbers.nan_to_num(), (~numbers.isnan()).to(x.dtype)
        out = self.bias[:, None]
        if self.hidden is not None:
            h = functional.silu(v * self.first[0, :, None] + self.first[1, :, None])  # (Dn, B, H)
            out = out + h @ self.second
        mean = out[..., : self.latent] + v * self.slope[:, None]
        precision = seen * nets.positive(out[..., self.latent :])  # (Dn, B, L)
        # Categories: a row of a table for each, so that what is done to all cells alike is done to the table.
        means, precisions = self.table[..., : self.latent], nets.positive(self.table[..., self.latent :])
        table = torch.cat([precisions, precisions * means], -1).flatten(0, 1)  # (Dc C, 2L)
        sums = self.columns.one_hot(x).flatten(-2) @ table  # (B, 2L)
        return precision.sum(-3) + sums[..., : self.latent], (precision * mean).sum(-3) + sums[..., self.latent :]
