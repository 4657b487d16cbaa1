"""Variational autoregressive pairs, linear ones among them, and their Kalman filters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.nn import functional

import zoo
from zoo.base import Batch

NAN = math.nan


KINDS: list[dict[str, Any]] = [
    {},
    {"guide": "filter"},
    {"cell": "lstm"},
    {"emission": "bernoulli"},
    {"transition": "linear"},
    {"transition": "linear", "guide": "filter"},
    {"transition": "linear", "exact": True},
]


NAMES = ["-".join(map(str, kind.values())) or "default" for kind in KINDS]


def create(**config: Any) -> Any:
    return zoo.create("variational_autoregressive", **config).double()


def linear(D: int, L: int, **config: Any) -> Any:
    """A linear pair with parameters of no symmetry."""
    pair = create(features=D, latent=L, transition="linear", **config)
    torch.manual_seed(D + 10 * L)
    with torch.no_grad():
        for parameter in pair.dynamics.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return pair


def holes(rows: int, steps: int, features: int, seed: int = 3) -> Tensor:
    """Observations with missing cells and missing steps."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, steps, features, generator=rng, dtype=torch.float64)
    x[torch.rand(x.shape, generator=rng) < 0.2] = NAN
    x[0, 1] = NAN
    x[-1, -2:] = NAN
    return x


def parts(pair: Any) -> dict[str, np.ndarray]:
    """The matrices of a linear pair, in the units of the data."""
    prior, decoder, units = pair.dynamics.prior, pair.dynamics.decoder, pair.dynamics.units
    raw = {"A": prior.motion.transition, "m": prior.first, "C": units.unit[:, None] * decoder.weight}
    raw["d"] = units.inverse(decoder.bias)
    scales = {"Q": prior.motion.noise, "S": prior.first_noise, "R": decoder.noise}
    found = raw | {name: functional.softplus(value).square().diag() for name, value in scales.items()}
    found["R"] = units.unit.square() * found["R"]
    return {name: value.detach().numpy() for name, value in found.items()}


def kalman(pair: Any, x: Tensor) -> Any:
    """One series (T, D) through the smoother of statsmodels."""
    module = pytest.importorskip("statsmodels.tsa.statespace.kalman_smoother")
    p = parts(pair)
    D, L = p["C"].shape
    found = module.KalmanSmoother(k_endog=D, k_states=L, design=p["C"], obs_cov=p["R"], transition=p["A"])
    found["obs_intercept"], found["selection"], found["state_cov"] = p["d"][:, None], np.eye(L), p["Q"]
    found.initialize_known(p["m"], p["S"])
    found.bind(x.numpy().copy())
    return found.smooth()


def log_weights(pair: Any, batch: Batch, z: Tensor) -> Tensor:
    """log p(x, z) - log q(z | x) of given paths, (B,)."""
    with torch.no_grad(), poutine.condition(data={"z": z}):
        model, guide = (poutine.trace(fn).get_trace(batch) for fn in (pair.model, pair.guide))
    found: Tensor = sum(model.nodes[name]["fn"].log_prob(model.nodes[name]["value"]) for name in ("x", "z"))
    return found - guide.nodes["z"]["fn"].log_prob(z)
