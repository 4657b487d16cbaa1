"""A gmm and values of its latents, conditioned and spelled out."""

from __future__ import annotations

import numpy as np
import scipy.stats
import torch

import zoo
from inference.posterior.draws import Posterior
from inference.running.densities import run
from zoo.mixtures.gmm import FLOOR, GMM

COVARIANCES = ["full", "tied", "diag", "spherical"]


def pair_and_values(covariance, weights="dirichlet", features=3, components=4, seed=0):
    """A pair in float64 and one draw of its global latents from the prior."""
    torch.manual_seed(seed)
    pair = GMM(features, components, covariance, weights, concentration=1.7, loc_scale=2.0, scale=0.6).double()
    return pair, {name: fn.sample() for name, fn in pair.prior().items()}


def observed(pair, values, batch):
    """log p(x_n | globals), components summed out: (N,) at one value of the globals, (S, N) at S values."""
    if values["weights"].ndim == 1:
        return observed(pair, {name: value[None] for name, value in values.items()}, batch)[0]
    with torch.no_grad():
        return run(pair, batch, len(values["weights"]), values).likelihood


def covariances(pair, values):
    """The K covariance matrices that the docstring defines, by NumPy."""
    K, D = pair.components, pair.features
    scales = values["scales"].numpy()
    scales = np.broadcast_to(scales[:, None] if pair.covariance == "spherical" else scales, (K, D))
    factors = np.broadcast_to(np.eye(D), (K, D, D))
    if pair.correlated:
        factors = np.broadcast_to(values["correlations"].numpy() + FLOOR * np.eye(D), (K, D, D))
    return np.stack([np.diag(s) @ c @ c.T @ np.diag(s) for s, c in zip(scales, factors, strict=True)])


def mixture(weights, locs, scales):
    """Two diagonal Gaussians in the plane, and a posterior of one draw of these globals, or of S."""
    pair = zoo.create("gmm", features=2, components=2, covariance="diag").double()
    given = {"weights": weights, "locs": locs, "scales": scales}
    shapes = {"weights": (-1, 2), "locs": (-1, 2, 2), "scales": (-1, 2, 2)}
    draws = {n: torch.as_tensor(np.array(v)).reshape(shapes[n])[None] for n, v in given.items()}
    return pair, Posterior(draws, size=len(draws["weights"][0]))


def mixture_density(x, weights, locs, scales):
    """Its density at rows (N, 2) under one draw, by SciPy, (N,)."""
    return scipy.stats.norm.pdf(x[:, None], locs, scales).prod(-1) @ weights
