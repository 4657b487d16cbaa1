"""Small posteriors that no road was tuned to, with moments and evidence by quadrature or in closed form.

Each is called by name and gives a program, its arguments, and what is known: site -> (means, deviations), flat; and the
log evidence, or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from scipy import stats
from scipy.special import logsumexp
from torch import Tensor

Known = dict[str, tuple[Any, Any]]
Case = tuple[Callable[..., None], tuple[Any, ...], Known, float | None]
UNSEEN: dict[str, Callable[[], Case]] = {}


def unseen(make: Callable[[], Case]) -> Callable[[], Case]:
    UNSEEN[make.__name__] = make
    return make


def tensor(values: Any) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def grid(log_p: Callable[..., Any], *axes: np.ndarray) -> tuple[list[tuple[float, float]], float]:
    """Mean and deviation along each axis, and the log integral, of a density on a regular grid."""
    mesh = np.meshgrid(*axes, indexing="ij")
    values = np.asarray(log_p(*mesh), dtype=float)
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes)
    total = logsumexp(values)
    weight = np.exp(values - total)
    moments = []
    for points in mesh:
        mean = float((weight * points).sum())
        moments.append((mean, float(np.sqrt((weight * (points - mean) ** 2).sum()))))
    return moments, float(total + math.log(cell))


def normals(y: np.ndarray, loc: Any, scale: Any) -> Any:
    """The log density of all of y, at any shape of loc and scale."""
    loc, scale = np.asarray(loc)[..., None], np.asarray(scale)[..., None]
    return stats.norm.logpdf(y, loc, scale).sum(-1)


def mixed(weights: Any, locs: Any, scales: Any) -> Case:
    """A mixture of K spherical Gaussians in P dimensions under a wide prior: its evidence is 1."""
    weights, locs, scales = tensor(weights), tensor(locs), tensor(scales)

    def program() -> None:
        prior = dist.Normal(torch.zeros(locs.shape[1], dtype=torch.float64), 10.0).to_event(1)
        u = pyro.sample("u", prior)
        parts = dist.Normal(locs, scales[:, None]).to_event(1).log_prob(u)
        pyro.factor("seen", (parts + weights.log()).logsumexp(0) - prior.log_prob(u))

    mean = weights @ locs
    sd = (weights @ (locs.square() + scales[:, None].square()) - mean.square()).sqrt()
    return program, (), {"u": (mean.numpy(), sd.numpy())}, 0.0


def value(draws: dict[str, Tensor], name: str) -> np.ndarray:
    """Draws of a number that something is known of, (S, K)."""
    if name == "rho":
        found = draws["tril"][..., 1, 0]
    elif name.startswith("log "):
        found = draws[name[4:]].log()
    else:
        found = draws[name]
    return found.flatten(0, 1).reshape(found.shape[0] * found.shape[1], -1).numpy()
