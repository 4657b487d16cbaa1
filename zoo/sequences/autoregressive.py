"""Bayesian autoregression of one or several series, with seasonal lags, inputs and missing steps.

For series n = 1..N, their steps t = P+1..T_n, lags l_1..l_L = 1..p and s, 2s, ..., Qs, their sums too if these are
asked for (the longest is P), and inputs u,

    variance           v ~ InverseGamma(a, b S^2)
    intercept          c ~ Normal(0, g sqrt(v))
    coefficients, seasonal, products
                     w_k ~ Normal(0, h sqrt(v) / S),       k = 1..L; of lags up to p, of seasonal ones, of their sums
    slopes           b_e ~ Normal(0, h sqrt(v) / S_e),     e = 1..E
    series          x_nt ~ Normal(m + c + sum_k w_k (x_n,t-l_k - m) + b . (u_nt - m_u), sqrt(v))

All latents are global: the series share them. Their first P steps are given, not modelled: `simulate` draws those from
Normal(m, S), whatever the latents are. The mean m and deviation S of the series, and m_u and S_e of the inputs, are set
by `fit`: the prior knows no units. That is the `conjugate` prior. The `independent` one is

    sqrt(v) ~ HalfCauchy(r),    c ~ Normal(0, g),    w_k ~ Normal(0, h),    b_e ~ Normal(0, h S / S_e)

with r = g = S and h = 1/2 by default. Those of r, g and h that are given are in the units of the data: b_e is then of
scale h too, and with a g that is given m = m_u = 0. The `minnesota` one is conjugate, with weights that shrink with the
steps and seasons k(l) that they look back (`zoo.parts.lags`),

    w_k ~ Normal(0, h sqrt(v) / (s_e k(l_k))),    b_e ~ Normal(0, 5 sqrt(v) / S_e)

where s_e, which `fit` sets too, is the deviation of the residuals at w_k ~ Normal(0, h / k(l_k)): that is about the
scale of a weight, and h = 0.2 by default, Litterman's overall tightness.

With differences, x above is z = (1 - B)^d (1 - B^s)^D x, B the step back, and with `transform="log"` log x or its
differences. Densities, draws and forecasts are always of the series as given: what was differenced is summed up, and
logarithms bring their Jacobian, -sum_t log x_t. The first P + d + s D steps are given then; `simulate` draws them as
above, of the level and deviation of the (log) series.

Missing steps (NaN, not among the given ones) are integrated out, exactly; see `zoo.parts.series`. The guide is

    q(v) q(c, w, b | v) = InverseGamma(a', b') Normal(m', v V')

with parameters that are learned. With the conjugate prior and no missing step the posterior has this very form, and
`fit` starts there.

Held against, in `test_autoregressive.py`: the joint normal density with gaps, ragged lengths and inputs (equal to
1e-11); the recursion of forecasts (1e-8); the conjugate posterior (sd of log p - log q over draws 8e-14); posteriordb's
`arK` (means within 2.1 standard errors, 4 asked); R's log-likelihoods of lh AR(1) and AR(3), and of Lake Huron AR(2)
with trend, -29.38, -27.09 and -101.2 (here -29.379, -27.092 and -101.198); the last two years of AirPassengers from
13 origins, in `test_journeys.py`: CRPS 10.7 and coverage of 90 % intervals 93 %, where SARIMA (0,1,1)(0,1,1)12 of
statsmodels has 11.3 and 99 %. The same specification on seven other monthly series, which it was not chosen by, has
0.85 to 1.31 times SARIMA's CRPS: less on one, within 4 % on three, more where the level or the season shifts suddenly.

References: Box, Jenkins & Reinsel (2008), "Time series analysis"; Zellner (1971), "An introduction to Bayesian
inference in econometrics", chapter 7; Litterman (1986), "Forecasting with Bayesian vector autoregressions: five years
of experience".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal, cast

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import PowerTransform

from zoo.abilities import InTheirUnits
from zoo.base import Batch, ModelGuide, register
from zoo.config import AtLeast, Positive
from zoo.guides import WIDTH
from zoo.parts import layouts
from zoo.parts.alike import tell_unlike
from zoo.parts.conjugate import linear
from zoo.parts.conjugate.factors import Factor, Learned
from zoo.parts.conjugate.inverse_gamma import InverseGamma
from zoo.parts.constants import constants
from zoo.parts.differences import Differences
from zoo.parts.lags import seasonal_lags, steps_back, weights_in_units
from zoo.parts.logged import TransformedSeries
from zoo.parts.missing import check_gaps
from zoo.parts.sequence import steps_of, whole
from zoo.parts.series import AutoregressiveSeries, lagged, past_end
from zoo.parts.units import moments
from zoo.rows import nth
from zoo.suiting import Suit, left_out

WIDE = 5.0  # h of the conjugate prior


@register("autoregressive")
class Autoregressive(ModelGuide):
    """Bayesian linear autoregression AR(p), with seasonal lags and exogenous inputs (Box & Jenkins).

    Its joint density stands at the top of this file. Without inputs `x` is the series, (N, T); with them `x` is the
    inputs, (N, T, E), and `y` the series. `lengths`, (N,), says how many steps of each count. All series share the
    latents: bring series of different levels or units to a common one first. The process may be explosive.

    Args:
        order: p, the number of successive lags.
        seasonal: s, the period of the seasonal lags and differences; more than p if there are such lags.
        seasonal_order: Q, the number of seasonal lags; 1 if not given, and 0 for the differences alone.
        products: with the lags i + s j too, i up to p and j up to Q: those of (1 - a_1 B - ...)(1 - A_1 B^s - ...)
            multiplied out, each with a weight of its own. Without, seasonal lags are added to the others.
        difference: d, how often the series is differenced.
        seasonal_difference: D, how often it is differenced over the period s.
        transform: `log` models the logarithms of a positive series.
        inputs: E, the number of inputs u_t at each step, that are known at the time, ahead too; not differenced.
        missing: the most missing steps in a series; without it NaN is refused.
        steps: the number of steps T of simulated series, more than the longest lag.
        prior: `conjugate`, `independent` of the noise, or `minnesota`, which shrinks far lags.
        intercept_scale: g; by default 1, and S with the independent prior.
        coefficient_scale: h; by default 5, 1/2 with the independent prior, and 0.2 with the Minnesota one.
        noise_concentration: a of the conjugate prior; 2a prior observations of the noise.
        noise_rate: b of the conjugate prior; together they have a sum of squares of 2b S^2.
        noise_scale: r of the independent prior; by default S.

    Raises:
        ValueError: a period within the order, a seasonal order or difference without period, products without seasonal
            lags, or fewer steps than lags.
    """

    adapts: ClassVar = ("order", "missing")

    def __init__(
        self,
        order: int = 2,
        seasonal: int | None = None,
        seasonal_order: Annotated[int, AtLeast(0)] | None = None,
        inputs: int | None = None,
        missing: int | None = None,
        steps: int = 30,
        prior: Literal["conjugate", "independent", "minnesota"] = "conjugate",
        intercept_scale: Positive | None = None,
        coefficient_scale: Positive | None = None,
        noise_concentration: Positive = 1.0,
        noise_rate: Positive = 0.001,
        noise_scale: Positive | None = None,
        difference: Annotated[int, AtLeast(0)] = 0,
        seasonal_difference: Annotated[int, AtLeast(0)] = 0,
        transform: Literal["log"] | None = None,
        products: bool = False,
    ) -> None:
        super().__init__()
        if seasonal is None and seasonal_order is not None:
            raise ValueError(f"autoregressive: seasonal_order={seasonal_order} goes with a period, 'seasonal'")
        if seasonal is None and seasonal_difference:
            raise ValueError(
                f"autoregressive: seasonal_difference={seasonal_difference} goes with a period, 'seasonal'"
            )
        if seasonal is not None and seasonal <= order and seasonal_order != 0:
            raise ValueError(f"autoregressive: seasonal={seasonal} is among the lags up to order={order} already")
        Q = 0 if seasonal is None else 1 if seasonal_order is None else seasonal_order
        self.differences = Differences(difference, seasonal_difference, seasonal or 1)
        if products and not Q:
            raise ValueError("autoregressive: products=True goes with a period, 'seasonal', and lags of it")
        self.lags = seasonal_lags(order, seasonal or 0, Q, products)
        longest = max(self.lags) + self.differences.lost
        if steps <= longest:
            longer = "give more 'steps', of which simulated series have so many"
            raise ValueError(f"autoregressive: steps={steps}, but the longest lag is {longest}: {longer}")
        self.reach, expansion, offset = self.differences.expanded(self.lags)  # lags of the series itself
        self.register_buffer("expansion", expansion, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.logged = transform == "log"
        self.E, self.missing, self.steps, self.conjugate = inputs or 0, missing or 0, steps, prior != "independent"
        self.field: Literal["x", "y"] = "y" if inputs else "x"
        sizes = {"intercept": 1, "coefficients": order, "seasonal": Q, "products": order * Q * products}
        sizes["slopes"] = self.E
        ends = dict(zip(sizes, accumulate(sizes.values()), strict=True))
        self.blocks = {name: slice(ends[name] - size, ends[name]) for name, size in sizes.items() if size}
        self.shrinks = prior == "minnesota"
        self.weighed = slice(1, len(self.lags) + 1)  # the lags among the F
        h = coefficient_scale or {"conjugate": WIDE, "independent": 0.5, "minnesota": 0.2}[prior]
        scales = [h / steps_back(lag, seasonal) if self.shrinks else h for lag in self.lags]
        widths = torch.tensor([intercept_scale or 1.0, *scales, *[WIDE if self.shrinks else h] * self.E])
        self.register_buffer("widths", widths)  # (F), F = 1 + L + E
        self.register_buffer("unit", torch.ones_like(widths))  # 1, S of each lag, S_e of each input
        self.register_buffer("center", torch.tensor(0.0))  # m
        self.register_buffer("spread", torch.tensor(1.0))  # S
        self.register_buffer("input_center", torch.zeros(self.E))  # m_u
        if self.differences.lost:  # of the series that is differenced, for its first steps
            self.register_buffer("level", torch.tensor(0.0))
            self.register_buffer("level_spread", torch.tensor(1.0))
        constants(self, a=noise_concentration, b=noise_rate, r=noise_scale or 1.0)
        given = {"intercept": intercept_scale, "coefficients": coefficient_scale, "noise": noise_scale}
        self.from_data = {name for name, value in given.items() if value is None or self.conjugate}
        usual = torch.tensor(noise_rate / noise_concentration) if self.conjugate else self.r.square()
        self.noise = Learned(Factor("inverse_gamma", usual.log(), torch.tensor(10.0)))
        root = WIDTH * (widths if self.conjugate else widths / usual.sqrt())
        line = linear.Coefficients(torch.zeros_like(widths), root.diag())
        self.line = linear.LearnedCoefficients(line, usual)
        self.dims = {  # type: ignore[misc]
            "coefficients": ("lag",), "seasonal": ("season",), "products": ("product",), "slopes": ("input",),
            self.field: ("step",),
        }  # fmt: skip

    @classmethod
    def suits(cls, data: Batch, given: Mapping[str, Any]) -> Suit:
        """Fewer lags than the usual two, where series have two steps; as many missing steps as there are."""
        field = "y" if given.get("inputs") else "x"
        short = left_out(given, "order") and layouts.length(data, field) == 2
        found = Suit({"order": 1}, ("series have 2 steps",)) if short else Suit()
        if not left_out(given, "missing") or not (count := layouts.absent(data, field)):
            return found
        return found | Suit({"missing": count}, (f"{count} step{'s are' if count > 1 else ' is'} missing",))

    def model(self, batch: Batch) -> Tensor:
        """Sample the joint density; returns the series, (B, T)."""
        if self.conjugate:
            noise = InverseGamma(self.a, self.b * self.spread.square())
        else:
            noise = dist.TransformedDistribution(dist.HalfCauchy(self.r), [PowerTransform(2 * torch.ones_like(self.r))])
        values = {"variance": pyro.sample("variance", noise)}  # ()
        scale = values["variance"].sqrt().unsqueeze(-1) / self.unit if self.conjugate else torch.ones_like(self.unit)
        for name, block in self.blocks.items():
            width = scale[..., block] * self.widths[block]
            prior = dist.Normal(torch.zeros_like(width), width)
            values[name] = pyro.sample(name, linear.first(prior) if name == "intercept" else prior.to_event(1))
        series = self.series(batch)
        with batch.plate():
            found: Tensor = pyro.sample(self.field, self.path(values, batch), obs=series)  # (B, T)
            return found

    def guide(self, batch: Batch) -> dict[str, Tensor]:
        """Sample q(v), then the other latents given v, block by block; returns the global latents."""
        variance = pyro.sample("variance", self.noise.density())
        values, before = {"variance": variance}, variance.unsqueeze(-1)[..., :0]
        for name, block in self.blocks.items():
            fn = self.line.following(block, before, variance, scalar=name == "intercept")
            values[name] = pyro.sample(name, fn)
            latest = values[name].unsqueeze(-1) if name == "intercept" else values[name]
            before = torch.cat([before.expand(*latest.shape[:-1], -1), latest], -1)
        return values

    def path(self, values: dict[str, Tensor], batch: Batch) -> AutoregressiveSeries | TransformedSeries:
        """The distribution of the series of a batch given the global latents."""
        series, intercept, slopes = self.series(batch), values["intercept"], values.get("slopes")
        steps = steps_of(batch, self.steps)
        weights = torch.cat([values[name] for name in ("coefficients", "seasonal", "products") if name in values], -1)
        if slopes is not None:
            intercept = intercept - (slopes * self.input_center).sum(-1)
        inputs, start = batch.x if self.E else None, None if series is None else self._plain(series[:, : self.given])
        centre, spread = self.center, self.spread
        if self.differences.lost:
            intercept = intercept + self.center * (1 - weights.sum(-1))
            weights = weights @ self.expansion + self.offset
            centre, spread = self.level, self.level_spread
        regression = self.reach, weights, intercept, values["variance"].sqrt(), steps, centre, spread
        found = AutoregressiveSeries(*regression, slopes, inputs, batch.lengths, self.missing, start)
        return TransformedSeries(found) if self.logged else found

    @property
    def given(self) -> int:
        """How many steps of a series come before the first that is modelled: P, and those lost to differences."""
        return max(self.reach)

    def _plain(self, series: Tensor) -> Tensor:
        """The series, or its logarithms."""
        return series.log() if self.logged else series

    def series(self, batch: Batch) -> Tensor | None:
        """The series of a batch, (B, T); None where they are to be generated.

        Raises:
            ValueError: no inputs, inputs of another number of steps, or series no longer than the longest lag.
        """
        series = batch.y if self.E else batch.x
        if self.E and batch.x is None:
            raise ValueError(f"autoregressive: needs inputs x of shape (N, T, {self.E}), got none")
        if batch.x is not None and series is not None and batch.x.shape[1] != series.shape[1]:
            raise ValueError(f"the inputs x have {batch.x.shape[1]} steps, the series y have {series.shape[1]}")
        if series is not None and series.shape[1] <= self.given:
            raise ValueError(self._short(0, series.shape[1]))
        return series

    def _short(self, row: int, length: int) -> str:
        P, lost = max(self.lags), self.differences.lost
        why = f"with lags up to {P}" + (f" and {lost} lost to differences" if lost else "")
        where = f"field '{self.field}', row {nth(row)}"
        return f"{where}: a series of {length} steps; {why} it takes at least {P + lost + 1}"

    def inputs(self, n: int) -> Batch:
        """Lengths: all steps of every series; normal inputs, as far apart as those of the training data."""
        batch = whole(self, n, self.steps)
        if not self.E:
            return batch
        x = torch.randn(n, self.steps, self.E, dtype=self.dtype, device=self.device)
        return batch.but(x=self.input_center + self.unit[-self.E :] * x)

    def check(self, batch: Batch) -> None:
        """Refuse a series with nothing after its first P steps, or a gap where none may be; and no noise at all.

        Series that differ in level or scale are warned of: see `zoo.parts.alike`.
        """
        series, P = self.series(batch), self.given
        if series is None:
            return
        over = past_end(series, batch.lengths)
        lengths, gaps = (~over).sum(1), series.isnan() & ~over
        for row in (lengths <= P).nonzero()[:1, 0].tolist():
            raise ValueError(self._short(row, int(lengths[row])))
        check_gaps(gaps, P, self.missing, self.field, batch.when)
        z, u, _ = self._doubled(batch)
        tell_unlike(z, *self._regressed(z, u), getattr(batch.when, "names", ()))
        known = z[~z.isnan()]
        if not self.conjugate and bool((known == known[:1]).all()):
            raise ValueError("the series are constant: without noise, prior='independent' has no proper posterior")

    def in_units(self, values: Mapping[str, Tensor], columns: Sequence[str]) -> InTheirUnits:
        """The weights by their lags, `lag 12`; the intercept of x itself, about no mean; sigma, that of the noise."""
        return weights_in_units(values, self.lags, self.center, self.input_center, columns)

    def measure(self, batch: Batch) -> None:
        """Centre and unit of the series and inputs, but where constants of the independent prior were given."""
        z, u, over = self._doubled(batch)
        if self.differences.lost:
            level, deviation = moments(self._levels(batch).reshape(-1, 1))
            self.level.copy_(level[0])
            self.level_spread.copy_(deviation[0])
        (centre, unit), (input_centre, input_unit) = moments(z.reshape(-1, 1)), moments(u[~over])
        centre, unit = centre[0], unit[0]
        if "intercept" in self.from_data:
            self.center.copy_(centre)
            self.input_center.copy_(input_centre)
            self.spread.copy_(unit)
        if self.conjugate:
            self.unit[1:] = unit
            self.unit[len(self.unit) - self.E :] = input_unit
            if self.shrinks:
                self.unit[self.weighed] = self._residual(z - self.center, u - self.input_center)
            return
        if "intercept" in self.from_data:
            self.widths[0] = unit
        if "coefficients" in self.from_data:
            self.widths[len(self.widths) - self.E :] = self.widths[1] * unit / input_unit
        if "noise" in self.from_data:
            self.r.copy_(unit)

    def _residual(self, z: Tensor, u: Tensor) -> Tensor:
        """s_e, of centred series (N, T) and inputs (N, T, E); a thousandth of S at least, and S without whole rows."""
        X, target = self._rows(z, u)
        spread: Tensor = self.spread
        if not len(target):
            return spread
        scale = spread / self.unit  # of widths in units of the data
        scale[self.weighed] = 1
        noise, _ = linear.about(X, target, len(target), (scale * self.widths).to(X).pow(-2))
        return torch.maximum(noise.point.sqrt().to(spread), 1e-3 * spread)

    def _doubled(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What is regressed, z (B, T') and u (B, T', E) in double precision, and which of T' steps are past the end.

        Those are NaN; T' = T - lost are the steps that have a difference.
        """
        z, lost = self.differences(self._levels(batch)), self.differences.lost
        over = past_end(z, None if batch.lengths is None else batch.lengths - lost)
        return z, cast(Tensor, batch.x).double()[:, lost:] if self.E else z.new_zeros(*z.shape, 0), over

    def _levels(self, batch: Batch) -> Tensor:
        """The series, or its logarithms, (B, T) in double precision, NaN past the end."""
        series = self.series(batch)
        if series is None:
            raise ValueError(f"autoregressive: starting values need the series, got a batch without '{self.field}'")
        return self._plain(series.double().masked_fill(past_end(series, batch.lengths), torch.nan))

    @torch.no_grad()
    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """The guide at the posterior given the steps with all lags: exact with the conjugate prior and no gap."""
        z, u, _ = self._doubled(batch)
        noise, line = self.posterior(z - self.center, u - self.input_center, batch.total / batch.size)
        self.noise.place(noise)
        self.line.place(line, noise.point)
        parts = {name: line.centre[block].to(self.dtype) for name, block in self.blocks.items()}
        return {"variance": noise.point.to(self.dtype), **parts, "intercept": parts["intercept"][0]}

    def posterior(self, z: Tensor, u: Tensor, weight: float = 1.0) -> tuple[Factor, linear.Coefficients]:
        """q(v) and q(c, w, b | v) given centred series (N, T), NaN where missing, and centred inputs (N, T, E).

        Each step counts `weight` times. Exact with the conjugate prior.
        """
        X, target = self._rows(z, u)
        X, target = weight**0.5 * X / self.unit, weight**0.5 * target
        rows = X, target, weight * len(target), self.widths.to(X).pow(-2)
        if self.conjugate:
            noise, line = linear.of_rows(*rows, self.a.to(X), self.b * self.spread.to(X).square())
        else:
            noise, line = linear.about(*rows)
        return noise, linear.Coefficients(line.centre / self.unit, line.tril / self.unit.unsqueeze(-1))

    def _rows(self, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Steps with all their lags: what each is regressed on, (n, F), and the steps themselves, (n,)."""
        design, latest = self._regressed(z, u)
        whole = ~latest.isnan() & ~design.isnan().any(-1)
        return design[whole], latest[whole]

    def _regressed(self, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """What each step is regressed on, (N, T - P, F), and the steps, (N, T - P); NaN where a number lacks."""
        past, latest = lagged(z, self.lags)
        return torch.cat([torch.ones_like(past[..., :1]), past, u[:, max(self.lags) :]], -1), latest
