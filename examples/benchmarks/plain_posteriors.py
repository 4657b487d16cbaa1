"""Posteriors of globals alone, as people bring them: the cases of the benchmark of the Gaussian road.

Data are simulated from a fixed seed, but for those of `zoo.datasets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch

import zoo


def normals(name, scale, size):
    """Independent normal latents about 0."""
    return pyro.sample(name, dist.Normal(torch.zeros(size), scale).to_event(1))


def trend(year, y):
    """A line in years that lie far from zero."""
    a, b = pyro.sample("a", dist.Normal(0.0, 1000.0)), pyro.sample("b", dist.Normal(0.0, 10.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(5.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(a + b * year, sigma), obs=y)


def trend_data(rng):
    """62 years, a rise of 0.02 a year."""
    year = np.arange(3950.0, 4012.0)
    return year, 1.0 + 0.02 * (year - 3980) + rng.standard_normal(62)


def logs(x, y):
    """A regression of logarithms: six slopes, an intercept, a scale."""
    beta, alpha = normals("beta", 1.0, 6), pyro.sample("alpha", dist.Normal(0.0, 5.0))
    sigma = pyro.sample("sigma", dist.LogNormal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.LogNormal(alpha + x @ beta, sigma), obs=y)


def logs_data(rng):
    """120 rows, covariates on scales of their own."""
    x = rng.standard_normal((120, 6)) * np.array([1, 3, 0.3, 1, 10, 1])
    return x, np.exp(2 + x @ np.array([0.5, -0.1, 1.0, 0.0, 0.03, -0.4]) + 0.5 * rng.standard_normal(120))


def dose(x, trials, y):
    """A binomial GLM of three coefficients."""
    beta = normals("beta", 5.0, 3)
    with pyro.plate("group", len(y)):
        pyro.sample("y", dist.Binomial(trials, logits=x @ beta), obs=y)


def dose_data(rng):
    """20 groups of 10 to 30."""
    x = np.stack([np.ones(20), np.linspace(-2, 2, 20), rng.standard_normal(20)], 1)
    trials = rng.integers(10, 30, 20).astype(float)
    return x, trials, rng.binomial(trials.astype(int), 1 / (1 + np.exp(-x @ np.array([-0.3, 1.2, 0.5])))).astype(float)


def process(x, y):
    """A Gaussian process: length, amplitude, noise."""
    length = pyro.sample("length", dist.InverseGamma(5.0, 5.0))
    amplitude, noise = pyro.sample("amplitude", dist.HalfNormal(2.0)), pyro.sample("noise", dist.HalfNormal(1.0))
    square = (x[:, None] - x) ** 2
    kernel = amplitude**2 * torch.exp(-0.5 * square / length**2) + (noise**2 + 1e-6) * torch.eye(len(x))
    pyro.sample("y", dist.MultivariateNormal(torch.zeros(len(x)), covariance_matrix=kernel), obs=y)


def process_data(rng):
    """11 points of a sine."""
    x = np.linspace(-3, 3, 11)
    return x, 1.5 * np.sin(x) + 0.3 * rng.standard_normal(11)


def two_normals(y):
    """A mixture with known scales: two means, a weight."""
    weight = pyro.sample("weight", dist.Beta(2.0, 2.0))
    low, apart = pyro.sample("low", dist.Normal(0.0, 5.0)), pyro.sample("apart", dist.HalfNormal(5.0))
    parts = dist.Normal(torch.stack([low, low + apart]), torch.ones(2))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(dist.Categorical(torch.stack([weight, 1 - weight])), parts), obs=y)


def two_normals_data(rng):
    """300 numbers, a third of them higher by 3."""
    return (rng.standard_normal(300) + 3.0 * (rng.random(300) < 1 / 3),)


def arma(y):
    """ARMA(1, 1), written as a loop over time."""
    mu, phi = pyro.sample("mu", dist.Normal(0.0, 10.0)), pyro.sample("phi", dist.Normal(0.0, 0.5))
    theta, sigma = pyro.sample("theta", dist.Normal(0.0, 0.5)), pyro.sample("sigma", dist.HalfCauchy(2.5))
    error = y[0] - mu - phi * mu
    errors = [error]
    for t in range(1, len(y)):
        error = y[t] - (mu + phi * y[t - 1] + theta * error)
        errors.append(error)
    pyro.factor("y", dist.Normal(0.0, sigma).log_prob(torch.stack(errors)).sum())


def arma_data(rng):
    """200 steps."""
    e, y = rng.standard_normal(201), np.zeros(201)
    for t in range(1, 201):
        y[t] = 0.3 + 0.7 * y[t - 1] + e[t] + 0.4 * e[t - 1]
    return (y[1:],)


def garch(y):
    """GARCH(1, 1), written as a loop over time."""
    mu, a0 = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("a0", dist.HalfNormal(2.0))
    a1, b1 = pyro.sample("a1", dist.Uniform(0.0, 1.0)), pyro.sample("b1", dist.Uniform(0.0, 1.0))
    b1 = b1 * (1 - a1)
    variance = torch.ones(()) * y.var()
    total = 0.0
    for t in range(len(y)):
        if t:
            variance = a0 + a1 * (y[t - 1] - mu) ** 2 + b1 * variance
        total = total + dist.Normal(mu, variance.sqrt()).log_prob(y[t])
    pyro.factor("y", total)


def garch_data(rng):
    """200 steps."""
    y, variance = np.zeros(200), 1.0
    for t in range(200):
        variance = 0.3 + 0.3 * (y[t - 1] - 0.2) ** 2 + 0.4 * variance if t else variance
        y[t] = 0.2 + variance**0.5 * rng.standard_normal()
    return (y,)


def wide(x, y):
    """A logistic regression of 26 coefficients."""
    beta = normals("beta", 1.0, x.shape[1])
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=(beta * x).sum(-1)), obs=y)


def wide_data(rng):
    """5,000 rows."""
    x = rng.standard_normal((5000, 26))
    return x, (rng.random(5000) < 1 / (1 + np.exp(-x @ rng.normal(0, 0.5, 26)))).astype(float)


def response(person, item, y):
    """Item response, 144 latents: abilities, difficulties, their scales."""
    a, b = pyro.sample("a", dist.HalfNormal(1.0)), pyro.sample("b", dist.HalfNormal(1.0))
    with pyro.plate("people", 100):
        ability = pyro.sample("ability", dist.Normal(0.0, a))
    with pyro.plate("items", 42):
        hard = pyro.sample("hard", dist.Normal(0.0, b))
    with pyro.plate("answers", len(y)):
        pyro.sample("y", dist.Bernoulli(logits=ability[person] - hard[item]), obs=y)


def response_data(rng):
    """Each of 100 people answers 10 of 42 items."""
    person, item = np.repeat(np.arange(100), 10), rng.integers(0, 42, 1000)
    logits = rng.normal(0, 1.0, 100)[person] - rng.normal(0, 0.7, 42)[item]
    return person, item, (rng.random(1000) < 1 / (1 + np.exp(-logits))).astype(float)


@dataclass(frozen=True)
class Case:
    """A posterior: what makes the pair or the program, and its data as arguments."""

    make: Callable[[], tuple[Any, tuple[Any, ...]]]
    gaussian: bool = True  # whether that road is expected to serve


def _program(model, data):
    def make():
        given = [torch.as_tensor(value) for value in data(np.random.default_rng(7))]
        kind = torch.get_default_dtype()
        return zoo.program(model), tuple(v.to(kind) if v.is_floating_point() else v for v in given)

    return make


def _gmm(name, features, components):
    def make():
        pair = zoo.create("gmm", features=features, components=components, guide="multivariate").double()
        return pair, (zoo.datasets.load(name),)

    return make


CASES = {
    "trend": Case(_program(trend, trend_data)),
    "logs": Case(_program(logs, logs_data)),
    "binomial": Case(_program(dose, dose_data)),
    "process": Case(_program(process, process_data)),
    "two_normals": Case(_program(two_normals, two_normals_data)),
    "arma": Case(_program(arma, arma_data)),
    "garch": Case(_program(garch, garch_data)),
    "wide": Case(_program(wide, wide_data)),
    "faithful": Case(_gmm("faithful", 2, 2)),
    "iris": Case(_gmm("iris", 4, 3), gaussian=False),
    "item_response": Case(_program(response, response_data), gaussian=False),
}
