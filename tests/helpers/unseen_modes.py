"""Posteriors of several modes, some of them far off, with what is known of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy import stats
from torch import Tensor

from tests.helpers.unseen import Case, grid, mixed, normals, tensor, unseen


@unseen
def far_cauchy() -> Case:
    """A location with Cauchy noise and two groups of data: a mode at each."""
    y = np.array([-12, -11, -11.5, 14, 14.6, 14.2, 15])

    def program(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 100.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Cauchy(mu, 1.0), obs=y)

    def log_p(mu: Any) -> Any:
        return stats.norm.logpdf(mu, 0, 100) + stats.cauchy.logpdf(y, mu[..., None]).sum(-1)

    moments, evidence = grid(log_p, np.linspace(-60, 60, 120_001))
    return program, (tensor(y),), {"mu": moments[0]}, evidence


@unseen
def far_student() -> Case:
    """Robust location and scale, the lesser group of data a third of the greater."""
    y = np.array([0.1, 0.4, -0.3, 0.2, 30.0, 30.3])

    def program(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 50.0))
        sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.StudentT(2.0, mu, sigma), obs=y)

    def log_p(mu: Any, u: Any) -> Any:
        sigma = np.exp(u)
        found = stats.norm.logpdf(mu, 0, 50) + stats.norm.logpdf(u, -1, 0.5)
        return found + stats.t.logpdf(y, 2, mu[..., None], sigma[..., None]).sum(-1)

    moments, evidence = grid(log_p, np.linspace(-10, 45, 5501), np.linspace(-4, 4, 161))
    return program, (tensor(y),), {"mu": moments[0]}, evidence


@unseen
def far_five() -> Case:
    """Five dimensions, a mode of a tenth 12 deviations off along the diagonal, and narrower."""
    return mixed([0.9, 0.1], [[-2.0] * 5, [4.0] * 5], [1.0, 0.7])


@unseen
def far_eight() -> Case:
    """Eight dimensions, three modes that differ in some of them."""
    locs = np.zeros((3, 8))
    locs[1, :3], locs[2, 5:] = 8.0, -8.0
    return mixed([0.5, 0.3, 0.2], locs, [1.0, 1.0, 0.8])


@unseen
def swapped() -> Case:
    """Two modes that differ in the order of two numbers, which are no labels: one weighs more."""
    return mixed([0.3, 0.7], [[-4.0, 4.0], [4.0, -4.0]], [1.0, 1.0])


@unseen
def swapped_alike() -> Case:
    """The same, of numbers that the density does not tell apart."""
    return mixed([0.25, 0.25, 0.5], [[-1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 6.0]], [1.0, 1.0, 1.0])


@unseen
def many_signs() -> Case:
    """y = x^2 + noise, five times: 32 modes."""
    y = np.array([1.0, 2.0, 3.0, 4.0, 5.0])

    def program(y: Tensor) -> None:
        with pyro.plate("row", len(y)):
            x = pyro.sample("x", dist.Normal(0.2, 2.0))
            pyro.sample("y", dist.Normal(x**2, 0.3), obs=y)

    axis = np.linspace(-4, 4, 8001)
    found = [
        grid(lambda x, one=one: stats.norm.logpdf(x, 0.2, 2) + stats.norm.logpdf(one, x**2, 0.3), axis) for one in y
    ]
    moments = np.array([moments[0] for moments, _ in found])
    return program, (tensor(y),), {"x": (moments[:, 0], moments[:, 1])}, float(sum(e for _, e in found))


@unseen
def frequency() -> Case:
    """The frequency of a sine in noise, twelve points: a comb of modes, of which a few weigh."""
    rng = np.random.default_rng(3)
    t = np.sort(rng.uniform(0, 10, 12))
    y = np.sin(1.7 * t) + 0.8 * rng.standard_normal(12)

    def program(t: Tensor, y: Tensor) -> None:
        f = pyro.sample("f", dist.Uniform(0.1, 4.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(torch.sin(f * t), 0.8), obs=y)

    def log_p(f: Any) -> Any:
        return stats.norm.logpdf(y, np.sin(f[..., None] * t), 0.8).sum(-1) - math.log(3.9)

    moments, evidence = grid(log_p, np.linspace(0.1, 4.0, 40_001))
    return program, (tensor(t), tensor(y)), {"f": moments[0]}, evidence


@unseen
def hyperbola() -> Case:
    """Data know a product: two bent ridges, one for each sign."""

    def program(y: Tensor) -> None:
        a = pyro.sample("a", dist.Normal(0.5, 1.0))
        b = pyro.sample("b", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(a * b, 0.3), obs=y)

    y = np.array([1.0, 1.2, 0.8])

    def log_p(a: Any, b: Any) -> Any:
        return stats.norm.logpdf(a, 0.5) + stats.norm.logpdf(b) + normals(y, a * b, 0.3)

    axis = np.linspace(-6, 6, 1501)
    moments, evidence = grid(log_p, axis, axis)
    return program, (tensor(y),), {"a": moments[0], "b": moments[1]}, evidence


@unseen
def far_fifty() -> Case:
    """Fifty latents, two modes that differ in a fifth of them: too many for particles."""
    locs = np.zeros((2, 50))
    locs[1, ::5] = 4.0
    return mixed([0.4, 0.6], locs, [1.0, 1.0])


@unseen
def saddle() -> Case:
    """y = (x_1 x_2) + noise about a start that stands still: nought is a saddle, and the modes lie on two sides."""

    def program(y: Tensor) -> None:
        x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=torch.float64), 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x[0] * x[1], 0.1), obs=y)

    def log_p(a: Any, b: Any) -> Any:
        return stats.norm.logpdf(a) + stats.norm.logpdf(b) + stats.norm.logpdf(2.0, a * b, 0.1)

    axis = np.linspace(-6, 6, 2001)
    moments, evidence = grid(log_p, axis, axis)
    mean, sd = np.array(moments).T
    return program, (tensor(2.0),), {"x": (mean, sd)}, evidence
