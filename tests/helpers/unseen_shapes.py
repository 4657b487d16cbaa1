"""Posteriors that bend, end or run out: ridges, funnels, cliffs, scales near nought and data in other units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor

from tests.helpers.unseen import Case, grid, normals, tensor, unseen


@unseen
def ridge() -> Case:
    """Two numbers of which data know the sum, to a ten-thousandth of what they know of the difference."""

    def program(y: Tensor) -> None:
        u = pyro.sample("u", dist.Normal(torch.zeros(2, dtype=torch.float64), 10.0).to_event(1))
        pyro.sample("y", dist.Normal(u.sum(), 1e-3), obs=y)

    precision = np.eye(2) / 100 + np.ones((2, 2)) / 1e-6
    covariance = np.linalg.inv(precision)
    mean = covariance @ (np.ones(2) * 3.0 / 1e-6)
    evidence = float(stats.norm.logpdf(3.0, 0, math.sqrt(200 + 1e-6)))
    return program, (tensor(3.0),), {"u": (mean, np.sqrt(np.diag(covariance)))}, evidence


@unseen
def banana() -> Case:
    """Rosenbrock's valley as a density: y about 2 x^2."""

    def program() -> None:
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("z", dist.Normal(2 * x**2, 0.1))

    return program, (), {"x": (0.0, 1.0), "z": (2.0, math.sqrt(8 + 0.01))}, 0.0


@unseen
def funnel() -> Case:
    """Neal's, of nine dimensions: of its neck there is no end."""

    def program() -> None:
        v = pyro.sample("v", dist.Normal(0.0, 3.0))
        pyro.sample("x", dist.Normal(torch.zeros(8, dtype=torch.float64), (v / 2).exp()).to_event(1))

    return program, (), {"v": (0.0, 3.0)}, 0.0


@unseen
def four_rows() -> Case:
    """Four rows of a normal: mu has the t distribution of 4 + 2 degrees of freedom."""
    y = np.array([2.0, 3.5, 1.0, 2.7])
    k0, a0, b0 = 0.01, 1.0, 1.0

    def program(y: Tensor) -> None:
        tau = pyro.sample("tau", dist.Gamma(a0, b0))
        mu = pyro.sample("mu", dist.Normal(0.0, (k0 * tau).rsqrt()))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, tau.rsqrt()), obs=y)

    n, k, a = len(y), k0 + len(y), a0 + len(y) / 2
    b = b0 + 0.5 * n * y.var() + 0.5 * k0 * n * y.mean() ** 2 / k
    mean, sd = n * y.mean() / k, math.sqrt(b / (a * k) * (2 * a) / (2 * a - 2))
    evidence = (
        math.lgamma(a) - math.lgamma(a0) + a0 * math.log(b0) - a * math.log(b) + 0.5 * math.log(k0 / k)
        - n / 2 * math.log(2 * math.pi)
    )  # fmt: skip
    return program, (tensor(y),), {"mu": (mean, sd), "tau": (a / b, math.sqrt(a) / b)}, evidence


@unseen
def near_none() -> Case:
    """No success of 20, under Jeffreys' prior: Beta(1/2, 20 1/2)."""

    def program(n: Tensor) -> None:
        p = pyro.sample("p", dist.Beta(0.5, 0.5))
        pyro.sample("n", dist.Binomial(20, p), obs=n)

    known = stats.beta(0.5, 20.5)
    evidence = float(stats.betabinom(20, 0.5, 0.5).logpmf(0))
    return program, (tensor(0.0),), {"p": (known.mean(), known.std())}, evidence


@unseen
def thin_simplex() -> Case:
    """Few counts of six kinds, under Dirichlet(1/5)."""
    counts = np.array([5, 1, 0, 0, 0, 2])

    def program(counts: Tensor) -> None:
        p = pyro.sample("p", dist.Dirichlet(torch.full((6,), 0.2, dtype=torch.float64)))
        pyro.sample("n", dist.Multinomial(8, p), obs=counts)

    known = [stats.beta(0.2 + n, 1.2 + 8 - 0.2 - n) for n in counts]
    return program, (tensor(counts),), {"p": ([k.mean() for k in known], [k.std() for k in known])}, None


@unseen
def cliff() -> Case:
    """The end of a uniform: a density that falls from its highest to none."""
    y = np.array([1.0, 3.2, 4.1, 0.4])

    def program(y: Tensor) -> None:
        end = pyro.sample("end", dist.Uniform(0.0, 20.0))
        inside = (y <= end).all()
        pyro.factor("seen", torch.where(inside, -len(y) * end.log(), torch.full_like(end, -math.inf)))

    axis = 4.1 + (20 - 4.1) * (np.arange(400_000) + 0.5) / 400_000
    moments, evidence = grid(lambda end: -4 * np.log(end) - math.log(20), axis)
    return program, (tensor(y),), {"end": moments[0]}, evidence


@unseen
def change_point() -> Case:
    """When counts changed: the density is made of steps, and its gradient of zeros."""
    y = np.array([3, 4, 2, 5, 3, 1, 0, 1, 1, 0, 2, 1])

    def program(t: Tensor, y: Tensor) -> None:
        when = pyro.sample("when", dist.Uniform(0.0, 12.0))
        early = pyro.sample("early", dist.Gamma(2.0, 1.0))
        late = pyro.sample("late", dist.Gamma(2.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Poisson(torch.where(t < when, early, late)), obs=y)

    def marginal(counts: np.ndarray) -> float:
        s, n = 2 + counts.sum(), 1 + len(counts)
        return float(math.lgamma(s) - s * math.log(n) - math.lgamma(2.0))

    logs = np.array([marginal(y[:k]) + marginal(y[k:]) for k in range(1, 13)])  # when in (k - 1, k]: rows 0 .. k - 1
    weight = np.exp(logs - logsumexp(logs))
    mean = float(weight @ (np.arange(12) + 0.5))
    sd = math.sqrt(float(weight @ ((np.arange(12) + 0.5) ** 2)) + 1 / 12 - mean**2)
    return program, (tensor(np.arange(12)), tensor(y)), {"when": (mean, sd)}, None


@unseen
def poissons() -> Case:
    """A mixture of two Poissons of equal weight and few rows: labels overlap."""
    y = np.array([0, 1, 2, 7, 9, 3, 8, 1])

    def program(y: Tensor) -> None:
        with pyro.plate("part", 2):
            rate = pyro.sample("rate", dist.Gamma(1.0, 0.2))
        with pyro.plate("row", len(y)):
            z = pyro.sample("z", dist.Categorical(torch.full((2,), 0.5, dtype=torch.float64)))
            pyro.sample("y", dist.Poisson(rate[z]), obs=y)

    def log_p(a: Any, b: Any) -> Any:
        both = [stats.poisson.logpmf(y, rate[..., None]) for rate in (a, b)]
        found = (np.logaddexp(*both) - math.log(2)).sum(-1)
        return found + stats.gamma.logpdf(a, 1, scale=5) + stats.gamma.logpdf(b, 1, scale=5)

    axis = np.linspace(0.005, 30, 1500)
    _, evidence = grid(log_p, axis, axis)
    return program, (tensor(y),), {}, evidence


@unseen
def few_and_close() -> Case:
    """Three rows that lie close together under a wide prior of their scale: a pole at zero, cut by the rows."""
    y = np.array([1.0, 1.001, 0.9995])

    def program(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        sigma = pyro.sample("sigma", dist.HalfCauchy(1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, sigma), obs=y)

    # mu given sigma is normal: the sum over log sigma alone.
    u = np.linspace(-12, 9, 200_001)
    sigma, n, total = np.exp(u), len(y), float(((y - y.mean()) ** 2).sum())
    marginal = stats.norm.logpdf(y.mean(), 0, np.sqrt(100 + sigma**2 / n)) + stats.halfcauchy.logpdf(sigma) + u
    marginal += -(n - 1) / 2 * np.log(2 * np.pi * sigma**2) - 0.5 * math.log(n) - total / 2 / sigma**2
    total = logsumexp(marginal)
    weight = np.exp(marginal - total)
    log_mean = float(weight @ u)
    return (
        program, (tensor(y),), {"log sigma": (log_mean, math.sqrt(float(weight @ (u - log_mean) ** 2)))},
        float(total + math.log(u[1] - u[0])),
    )  # fmt: skip


@unseen
def groups_alike() -> Case:
    """Ten groups that hardly differ: the scale between them is near zero."""
    y = np.array([0.2, -0.4, 0.6, 0.1, -0.2, 0.9, -0.7, 0.3, 0.0, -0.1])

    def program(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(1.0))
        with pyro.plate("group", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    def log_p(mu: Any, tau: Any) -> Any:
        return stats.norm.logpdf(mu, 0, 5) + stats.halfcauchy.logpdf(tau) + normals(y, mu, np.sqrt(1 + tau**2))

    moments, evidence = grid(log_p, np.linspace(-3, 3, 601), (np.arange(3000) + 0.5) * 0.002)
    return program, (tensor(y),), {"mu": moments[0], "tau": moments[1]}, evidence


@unseen
def hundred_groups() -> Case:
    """A hundred and fifty groups of one row each: 152 latents."""
    y = 1.5 * np.random.default_rng(5).standard_normal(150) + 2

    def program(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfNormal(2.0))
        with pyro.plate("group", len(y)):
            theta = pyro.sample("theta", dist.Normal(mu, tau))
            pyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    def log_p(mu: Any, tau: Any) -> Any:
        return stats.norm.logpdf(mu, 0, 5) + stats.halfnorm.logpdf(tau, 0, 2) + normals(y, mu, np.sqrt(1 + tau**2))

    moments, evidence = grid(log_p, np.linspace(0.5, 3.5, 301), (np.arange(400) + 0.5) * 0.01)
    return program, (tensor(y),), {"mu": moments[0], "tau": moments[1]}, evidence


@unseen
def three_hundred() -> Case:
    """Three hundred latents of scales from a thousandth to a thousand, each seen once."""
    scale = np.logspace(-3, 3, 300)
    y = 2 * scale * np.random.default_rng(6).standard_normal(300)

    def program(y: Tensor, scale: Tensor) -> None:
        with pyro.plate("row", len(y)):
            x = pyro.sample("x", dist.Normal(0.0, 2 * scale))
            pyro.sample("y", dist.Normal(x, scale), obs=y)

    evidence = float(stats.norm.logpdf(y, 0, math.sqrt(5) * scale).sum())
    return program, (tensor(y), tensor(scale)), {"x": (0.8 * y, math.sqrt(0.8) * scale)}, evidence


def _level(unit: float) -> Case:
    """Mean and scale of data in some unit, whose priors are wide in it."""
    y = unit * (5 + np.array([0.3, -0.5, 1.1, 0.2, -0.9, 0.4]))

    def program(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 100 * unit))
        sigma = pyro.sample("sigma", dist.HalfCauchy(10 * unit))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, sigma), obs=y)

    def log_p(mu: Any, u: Any) -> Any:
        sigma = np.exp(u)
        found = stats.norm.logpdf(mu, 0, 100 * unit) + stats.halfcauchy.logpdf(sigma, 0, 10 * unit) + u
        return found + normals(y, mu, sigma)

    moments, evidence = grid(log_p, unit * np.linspace(-5, 15, 1001), math.log(unit) + np.linspace(-2, 4, 601))
    return program, (tensor(y),), {"mu": moments[0], "log sigma": moments[1]}, evidence


@unseen
def in_millions() -> Case:
    return _level(1e6)


@unseen
def in_millionths() -> Case:
    return _level(1e-6)


@unseen
def wrong_units() -> Case:
    """Data in millions under a prior of scale one: far in its tail."""
    y = np.array([1e6, 1.1e6, 0.9e6])

    def program(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Cauchy(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, 1e5), obs=y)

    def log_p(mu: Any) -> Any:
        return stats.cauchy.logpdf(mu) + normals(y, mu, 1e5)

    moments, evidence = grid(log_p, np.linspace(0.4e6, 1.6e6, 200_001))
    return program, (tensor(y),), {"mu": moments[0]}, evidence


@unseen
def separated() -> Case:
    """Logistic regression of rows that a line separates: the prior alone bounds it."""
    x, y = np.array([-2.0, -1.0, -0.5, 0.4, 1.0, 2.5]), np.array([0, 0, 0, 1, 1, 1])

    def program(x: Tensor, y: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.0, 10.0))
        b = pyro.sample("b", dist.Normal(0.0, 10.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Bernoulli(logits=a + b * x), obs=y)

    def log_p(a: Any, b: Any) -> Any:
        signs = 2 * y - 1
        logits = a[..., None] + b[..., None] * x
        return stats.norm.logpdf(a, 0, 10) + stats.norm.logpdf(b, 0, 10) - np.logaddexp(0, -signs * logits).sum(-1)

    moments, evidence = grid(log_p, np.linspace(-40, 40, 601), np.linspace(-30, 60, 601))
    return program, (tensor(x), tensor(y)), {"a": moments[0], "b": moments[1]}, evidence


@unseen
def signal_or_noise() -> Case:
    """A Gaussian process of eight rows: a short length with little noise, or a long one with much."""
    t = np.linspace(0, 7, 8)
    y = np.array([0.2, 1.1, 0.5, -0.9, -0.6, 0.9, 1.0, -0.7])

    def program(t: Tensor, y: Tensor) -> None:
        length = pyro.sample("length", dist.LogNormal(0.5, 1.5))
        noise = pyro.sample("noise", dist.LogNormal(-1.5, 1.5))
        square = (t[:, None] - t).square()
        covariance = torch.exp(-square / 2 / length**2) + (noise**2 + 1e-6) * torch.eye(len(t), dtype=t.dtype)
        pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(t), dtype=t.dtype), covariance), obs=y)

    def log_p(u: Any, v: Any) -> Any:
        square = (t[:, None] - t) ** 2
        covariance = np.exp(-square / 2 / np.exp(2 * u)[..., None, None])
        covariance = covariance + (np.exp(2 * v) + 1e-6)[..., None, None] * np.eye(8)
        _, log_det = np.linalg.slogdet(covariance)
        fit = (y * np.linalg.solve(covariance, np.broadcast_to(y, (*u.shape, 8))[..., None])[..., 0]).sum(-1)
        value = -0.5 * (fit + log_det + 8 * math.log(2 * math.pi))
        return value + stats.norm.logpdf(u, 0.5, 1.5) + stats.norm.logpdf(v, -1.5, 1.5)

    moments, evidence = grid(log_p, np.linspace(-5, 7, 241), np.linspace(-8, 3, 221))
    return program, (tensor(t), tensor(y)), {"log length": moments[0], "log noise": moments[1]}, evidence


@unseen
def half_zeros() -> Case:
    """Counts of which some are zeros of another kind, these summed out."""
    y = np.array([0, 0, 0, 4, 6, 0, 3, 5, 0, 7])

    def program(y: Tensor) -> None:
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
        rate = pyro.sample("rate", dist.Gamma(1.0, 0.1))
        with pyro.plate("row", len(y)):
            on = pyro.sample("on", dist.Bernoulli(p))
            pyro.sample("y", dist.Poisson(rate * on + 1e-9), obs=y)

    def log_p(p: Any, rate: Any) -> Any:
        own = np.log(p)[..., None] + stats.poisson.logpmf(y, rate[..., None])
        other = np.where(y == 0, 0.0, -np.inf) + np.log1p(-p)[..., None]
        return np.logaddexp(own, other).sum(-1) + stats.gamma.logpdf(rate, 1, scale=10)

    moments, evidence = grid(log_p, (np.arange(500) + 0.5) / 500, (np.arange(1500) + 0.5) * 0.02)
    return program, (tensor(y),), {"p": moments[0], "rate": moments[1]}, evidence


@unseen
def correlation() -> Case:
    """A correlation by five rows: its free latent is skewed."""
    rng = np.random.default_rng(8)
    y = rng.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], 5)

    def program(y: Tensor) -> None:
        tril = pyro.sample("tril", dist.LKJCholesky(2, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.MultivariateNormal(torch.zeros(2, dtype=y.dtype), scale_tril=tril), obs=y)

    def log_p(rho: Any) -> Any:
        left = 1 - rho**2
        fit = (y[:, 0] ** 2 + y[:, 1] ** 2).sum() - 2 * rho * (y[:, 0] * y[:, 1]).sum()
        return -0.5 * fit / left - len(y) * (math.log(2 * math.pi) + 0.5 * np.log(left)) - math.log(2)

    moments, evidence = grid(log_p, -1 + 2 * (np.arange(400_000) + 0.5) / 400_000)
    return program, (tensor(y),), {"rho": moments[0]}, evidence
