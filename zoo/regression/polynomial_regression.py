"""Bayesian polynomial regression on a basis that is orthonormal over the training design.

For terms f = 1..F of total degree at most d in D covariates and rows n = 1..N,

    variance       v ~ InverseGamma(a, b)               squared scale of the noise
    coefficients   w given v ~ N(0, tau^2 v I)
    y              y_n given x_n, w, v ~ m + s N(phi(x_n) . w, v)                       gaussian
                                         m + s StudentT(nu, phi(x_n) . w, sqrt(v))      student_t

so w and v are in units of s. All latents are global. That is the `conjugate` prior. However wide, it speaks of F
coefficients in units of the noise, so that v is estimated with the degrees of freedom of N rows. The `independent` one,

    sqrt(v) ~ HalfCauchy(r)        w ~ N(0, tau^2)

leaves N - F of them, if it is wide, as least squares does; where F / N is above 0.1, `Fit.caution` says so. The guide
is, by default,

    q(v) q(w | v) = InverseGamma(a', b') Normal(m', v V')

With Gaussian noise and the conjugate prior the posterior has this very form, and `fit` starts there, with nothing left
to do; with the independent one it starts close by.

The terms phi are products of Legendre polynomials of each covariate, brought to [-1, 1], made orthonormal over the
design, lowest degree first (`parts/polynomials.py`): the mean of phi phi^T over the training rows is the identity. A
term that the design cannot tell from the terms before it, such as the square of a 0/1 covariate, is zero on every
training row and keeps its prior. `inference.coefficients` and `to_arviz` say the same function in monomials of the
covariates and in the units of y, under their names: `age`, `age^2`, `age:income`; terms that the design cannot tell
are left out there.

`fit` sets the design constants (box of x, basis, and location m and spread s of y) once, from the whole data, through
`measure`. Before that: covariates uniform on [-1, 1], m = 0, s = 1.

Held against, in `test_polynomial_regression.py`: NIST's Filip, degree 10 (more than 13 of the 15 certified digits of
the coefficients); the log evidence of diabetes (2 inputs, degree 2) in closed form, -2469.238 nats, where the ELBO is
-2469.263 and the ratios of sd lie within 0.8 and 1.2. By default, five folds of wine, diabetes and
Friedman #1 (13, 10 and 10 covariates): R^2 0.899, 0.502 and 0.877, where scikit-learn's BayesianRidge on polynomials
of its better degree, 1 or 2, has 0.891, 0.489 and 0.815. With the independent prior posteriordb's kidiq by MCMC: both
coefficients and sigma within 4 standard errors (`test_coefficients.py`; conjugate, sigma is 0.2 % less).

References: Forsythe (1957), "Generation and use of orthogonal polynomials for data-fitting with a digital computer";
Murphy (2012), "Machine learning", section 7.6.3; Lange, Little & Taylor (1989), "Robust statistical modeling using the
t distribution".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import PowerTransform

from zoo.abilities import InTheirUnits
from zoo.base import Batch, ModelGuide, register
from zoo.config import Positive
from zoo.parts.conjugate.factors import Factor, Learned
from zoo.parts.conjugate.inverse_gamma import InverseGamma
from zoo.parts.conjugate.linear import Coefficients, LearnedCoefficients, about, of_rows
from zoo.parts.constants import constants
from zoo.parts.covariates import covariates, response
from zoo.parts.designs import check_few, check_rank, constant, of_numbers
from zoo.parts.polynomials import legendre, monomials, named, orthonormalise, powers
from zoo.schema.design import Design

WIDE = 3  # covariates up to which the default has products of them
MANY = 0.1  # coefficients for each row, above which the conjugate prior's intervals are said to be narrow


@register("polynomial_regression")
class PolynomialRegression(ModelGuide):
    """Polynomials of total degree at most d in D covariates, with Gaussian or Student-t noise.

    Its joint density stands at the top of this file.

    Args:
        features: number of covariates D; read off the design where there is one.
        degree: d; by default 3, and 2 without interactions for more than 3 covariates, whose products are too many to
            learn from few hundred rows (13 have 560 terms of degree 3); 1 where the design has a formula of its own.
        interactions: with products of different covariates, F = (D + d choose d), as by default where d is given;
            without, F = 1 + D d.
        noise: distribution of the noise.
        df: degrees of freedom nu of Student-t noise.
        prior: `conjugate`, or `independent` of the noise.
        coefficient_scale: prior scale tau of a coefficient, in units of the noise's scale; of the deviation s of y with
            the independent prior.
        noise_concentration: a of the conjugate prior; 2a prior observations of the noise.
        noise_rate: b of the conjugate prior; together they have a sum of squares of 2b.
        noise_scale: r of the independent prior, in units of the deviation s of y.
        guide: `conjugate`, as above, or an automatic guide over coefficients and variance.
        design: how x and y come from a frame, as `zoo.datasets.Design.infer(frame, "y ~ age + town")` makes it.

    Raises:
        ValueError: more terms than `settings.polynomial_terms`, or a design whose response is a class.
    """

    dims: ClassVar[dict[str, tuple[str, ...]]] = {"x": ("feature",), "coefficients": ("term",)}

    def __init__(
        self,
        features: int = 1,
        degree: int | None = None,
        interactions: bool | None = None,
        noise: Literal["gaussian", "student_t"] = "gaussian",
        df: Positive = 4.0,
        coefficient_scale: Positive = 10.0,
        noise_concentration: Positive = 0.5,
        noise_rate: Positive = 0.01,
        guide: Literal[
            "conjugate", "normal", "multivariate", "lowrank", "flow", "laplace", "delta", "auto"
        ] = "conjugate",
        design: Design | None = None,
        prior: Literal["conjugate", "independent"] = "conjugate",
        noise_scale: Positive = 1.0,
    ) -> None:
        super().__init__("multivariate" if guide == "conjugate" else guide)
        self.design, features = design, features if design is None else of_numbers(self, design)
        narrow = features <= WIDE if interactions is None else interactions
        usual = 1 if design is not None and design.written else 3 if narrow else 2
        self.features, self.degree, self.noise = features, degree or usual, noise
        products = interactions if interactions is not None else narrow or degree is not None
        factors = () if design is None else design.factors
        self.register_buffer("powers", powers(features, self.degree, products, factors), persistent=False)  # (F, D)
        terms = len(self.powers)
        self.register_buffer("coefficient_scale", torch.full((terms,), coefficient_scale))  # tau
        constants(self, df=df, concentration=noise_concentration, rate=noise_rate)
        self.register_buffer("noise_scale", torch.tensor(noise_scale), persistent=False)  # r: older files have none
        self.independent = prior == "independent"
        if guide == "conjugate":
            variance = torch.tensor(noise_scale**2 if self.independent else noise_rate / noise_concentration)
            self.noise_factor = Learned(Factor("inverse_gamma", variance.log(), torch.tensor(10.0)))
            root = self.coefficient_scale / noise_scale if self.independent else self.coefficient_scale
            wide = Coefficients(torch.zeros(terms), root.diag())
            self.line = LearnedCoefficients(wide, variance)
        # the design constants, which `measure` sets
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("halfwidth", torch.ones(features))
        self.register_buffer("mixing", torch.eye(terms))  # Legendre products to orthonormal terms, triangular
        self.register_buffer("location", torch.tensor(0.0))
        self.register_buffer("spread", torch.tensor(1.0))

    def model(self, batch: Batch) -> Tensor:
        """Sample variance, coefficients and y; returns y, (B,)."""
        basis = self.basis(batch)  # (B, F)
        variance = pyro.sample("variance", self._noise_prior())  # ()
        scale = variance.sqrt()
        prior_scale = self.coefficient_scale if self.independent else scale[..., None] * self.coefficient_scale  # (F)
        prior = dist.Normal(torch.zeros_like(prior_scale), prior_scale)
        coefficients = pyro.sample("coefficients", prior.to_event(1))  # (F)
        loc = self.location + self.spread * (basis * coefficients).sum(-1)  # (B)
        scale = self.spread * scale
        with batch.plate():
            noise = dist.StudentT(self.df, loc, scale) if self.noise == "student_t" else dist.Normal(loc, scale)
            y: Tensor = pyro.sample("y", noise, obs=batch.y)  # (B)
        return y

    def _noise_prior(self) -> TorchDistribution:
        """The prior of the variance, ()."""
        if self.independent:
            square = PowerTransform(2 * torch.ones_like(self.noise_scale))
            wide: TorchDistribution = dist.TransformedDistribution(dist.HalfCauchy(self.noise_scale), [square])
            return wide
        return InverseGamma(self.concentration, self.rate)

    def guide(self, batch: Batch) -> dict[str, Tensor]:
        """Sample q(v) and q(w | v); returns the latents."""
        if "line" not in self._modules:
            return self.global_guide(batch)
        variance = pyro.sample("variance", self.noise_factor.density())
        return {"variance": variance, "coefficients": pyro.sample("coefficients", self.line.scaled(variance))}

    def basis(self, batch: Batch) -> Tensor:
        """The terms phi(x) of each row, (B, F).

        Raises:
            ValueError: there are no covariates, or not D columns of them.
        """
        t = (covariates(self, batch, self.features) - self.centre) / self.halfwidth  # (B, D)
        terms: Tensor = legendre(t, self.degree, self.powers) @ self.mixing
        return terms

    def inputs(self, n: int) -> Batch:
        """Covariates uniform over the box of the training design."""
        uniform = torch.rand(n, self.features, dtype=self.dtype, device=self.device)
        return Batch(n, n, x=self.centre + self.halfwidth * (2 * uniform - 1))

    def check(self, batch: Batch) -> None:
        """Refuse columns of a design that are sums of others."""
        if self.design is not None:
            check_rank(self, batch)

    def more_terms(self, columns: Sequence[str]) -> list[str]:
        """Names of the powers and products of the covariates of these names."""
        return [name for name in named(self.powers.cpu(), columns) if name not in (*columns, "Intercept")]

    def caution(self, batch: Batch) -> str:
        """What to know of intervals where rows are few for the coefficients."""
        told, rows, terms = self.mixing.diagonal() > 0, batch.total, len(self.powers)
        if terms > rows and int(told.sum()) >= rows:
            return f"{rows} rows for {terms} coefficients: they determine no more than {rows}, the prior all others"
        weight = rows * self.coefficient_scale[told].square()
        used = float((weight / (1 + weight)).sum())  # coefficients that the rows determine, not the prior
        if self.independent or used <= MANY * rows:
            return ""
        narrow = 1 - max(0.0, 1 - used / rows) ** 0.5
        return (
            f"{used:.0f} coefficients of {rows} rows: intervals are at least {narrow:.0%} narrower than those of least "
            "squares, whose noise has N - F degrees of freedom; prior='independent' has them too"
        )

    def measure(self, batch: Batch) -> None:
        """The design constants: the box of the covariates, what makes terms orthonormal, and the units of y.

        Raises:
            ValueError: no response, a covariate that is constant, or a formula of more coefficients than rows.
        """
        x, y = self._doubled(batch)
        if self.design is not None:
            check_few(self.design, len(self.powers), batch)
        low, high = x.amin(0), x.amax(0)
        halfwidth = ((high - low) / 2).to(self.dtype)
        for column in torch.nonzero(halfwidth == 0).flatten().tolist():
            raise ValueError(constant(column, low[column].item(), batch.columns))
        self.centre.copy_((low + high) / 2)
        self.halfwidth.copy_(halfwidth)
        self.mixing.copy_(orthonormalise(self._products(x), tolerance=torch.finfo(self.dtype).eps ** 0.75))

        robust = self.noise == "student_t"
        location = y.median() if robust else y.mean()
        spread = 1.5 * (y - location).abs().median() if robust else y.std(correction=0)
        self.location.copy_(location)
        self.spread.copy_(spread if spread > 0 else torch.ones_like(spread))

    def initial(self, batch: Batch) -> dict[str, Tensor]:
        """The posterior mean of w, and 1 / E[1 / v]; the conjugate guide goes there.

        Exact for Gaussian noise and the conjugate prior; for Student-t noise by expectation-maximisation (Lange, Little
        & Taylor 1989): each row has its own weight. Of a part of the data each row counts for as many as there are.

        Raises:
            ValueError: no response.
        """
        x, y = self._doubled(batch)
        basis, y = self._products(x) @ self.mixing.to(x), (y - self.location.to(y)) / self.spread.to(y)
        robust = self.noise == "student_t"
        df, tau, prior = self.df.to(y), self.coefficient_scale.to(y), (self.concentration.to(y), self.rate.to(y))
        weight = (df + 1) / (df + y.square()) if robust else torch.ones_like(y)
        for _ in range(30 if robust else 1):
            root = (weight * batch.total / batch.size).sqrt()
            rows = basis * root.unsqueeze(-1), y * root, batch.total, tau**-2
            variance, found = about(*rows) if self.independent else of_rows(*rows, *prior)
            weight = (df + 1) / (df + (y - basis @ found.point).square() / variance.point)
        if "line" in self._modules:
            with torch.no_grad():
                self.noise_factor.place(variance)
                self.line.place(found, variance.point)
        return {"coefficients": found.point.to(self.mixing), "variance": variance.point.to(self.mixing)}

    def in_units(self, values: Mapping[str, Tensor], columns: Sequence[str]) -> InTheirUnits:
        """Coefficients of monomials (term), the variance of the noise and its root sigma, in the units of y.

        With Student-t noise sigma is the scale of the noise.
        """
        w, v, spread = (
            value.to("cpu", torch.float64) for value in (values["coefficients"], values["variance"], self.spread)
        )
        mixing = self.mixing.to(w)
        told = (mixing.diagonal() > 0).to(w)  # the design tells these terms from those before them
        centre, halfwidth, known = self.centre.to(w), self.halfwidth.to(w), self.powers.cpu()
        change = spread * monomials(known, centre, halfwidth).mT @ (mixing * told)  # (F, F)
        kept = (change != 0).any(-1)
        found = w @ change[kept].mT  # (S, F')
        found[..., 0] += self.location.to(w)
        names = [name for name, keep in zip(named(known, columns), kept.tolist(), strict=True) if keep]
        return {
            "coefficients": (found, {"term": names}),
            "variance": (v * spread.square(), {}),
            "sigma": (v.sqrt() * spread, {}),
        }

    def _doubled(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Covariates (N, D) and response (N,) in double precision, on the CPU."""
        x, y = covariates(self, batch, self.features), response(self, batch)
        return x.to("cpu", torch.float64), y.to("cpu", torch.float64)

    def _products(self, x: Tensor) -> Tensor:
        """Products of Legendre polynomials over the box of the design, not orthonormal yet, (N, F)."""
        return legendre((x - self.centre.to(x)) / self.halfwidth.to(x), self.degree, self.powers.cpu())
