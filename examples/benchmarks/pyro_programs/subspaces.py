"""A Gaussian process of many inputs, few of which matter: the SAAS prior of Bayesian optimisation.

Eriksson & Jankowiak (2021), "High-dimensional Bayesian optimization with sparse axis-aligned subspaces".
"""

import math
from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import torch

from pyro_programs.example import Example

DIMS = 20
NOISE = 0.1  # of what is observed, in deviations of the function


def saas(x, y):
    """Inverse squared length scales, each of a half-Cauchy scale, with one that all share; Matern 5/2."""
    outputscale = pyro.sample("outputscale", dist.Gamma(torch.tensor(2.0), torch.tensor(0.15)))
    mean = pyro.sample("mean", dist.Normal(torch.tensor(0.0), torch.tensor(1.0)))
    noise = 1e-6 + pyro.sample("noise", dist.Gamma(torch.tensor(0.9), torch.tensor(10.0)))
    tausq = pyro.sample("kernel_tausq", dist.HalfCauchy(torch.tensor(0.1)))
    inv_length_sq = pyro.sample("_kernel_inv_length_sq", dist.HalfCauchy(torch.ones(x.shape[-1])))
    inv_length_sq = pyro.deterministic("kernel_inv_length_sq", tausq * inv_length_sq)
    lengthscale = pyro.deterministic("lengthscale", inv_length_sq.rsqrt())
    covariance = outputscale * matern52_kernel(x, lengthscale) + noise * torch.eye(len(x))
    pyro.sample("Y", dist.MultivariateNormal(mean.expand(len(x)), covariance_matrix=covariance), obs=y)


def matern52_kernel(x, lengthscale):
    """Matern 5/2 of all pairs of rows."""
    scaled = (x - x.mean(-2)) / lengthscale
    squares = scaled.square().sum(-1, keepdim=True)
    distance = (squares + squares.mT - 2 * scaled @ scaled.mT).clamp(min=1e-30).sqrt()
    return (1 + math.sqrt(5) * distance + 5 / 3 * distance**2) * torch.exp(-math.sqrt(5) * distance)


def saas_data(rows):
    """Rows of the unit cube of 20 dims, and what Hartmann's function of six of them is there, with noise."""
    rng = np.random.default_rng(rows)
    x = rng.uniform(size=(rows, DIMS))
    found = hartmann(x[:, :6])
    return x, (found - found.mean()) / found.std() + NOISE * rng.standard_normal(rows)


def hartmann(x):
    """Hartmann's function of six numbers, (N, 6) -> (N,): Dixon & Szego (1978), -3.32 at its least."""
    height = np.array([1.0, 1.2, 3.0, 3.2])
    width = np.array([
        [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
    ])  # fmt: skip
    peak = 1e-4 * np.array([
        [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
    ])  # fmt: skip
    return -np.exp(-(width * (x[:, None] - peak) ** 2).sum(-1)) @ height


SOURCE = "the same in a library for Bayesian optimisation, until 2026"
EXAMPLES = {f"saas_{rows}": Example(saas, partial(saas_data, rows), SOURCE) for rows in (50, 100)}
