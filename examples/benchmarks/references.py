"""Posteriors whose answer is known, as plain Pyro programs: ten of posteriordb, with means and deviations of its draws.

`ZOO_REFERENCE` names the folder that has them; what belongs to each is in words and mathematics in its `model.md`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints

HOME = Path(os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "shared/reference")) / "posteriordb"


def flat(name, support=constraints.real, shape=()):
    """A latent of density 1 everywhere."""
    event = dist.ImproperUniform(support, (), event_shape=torch.Size(shape))
    return pyro.sample(name, event)


def autoregression(lags, y):
    """y_t ~ Normal(alpha + sum_k beta_k y_(t - k), sigma)."""
    alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
    beta = pyro.sample("beta", dist.Normal(torch.zeros(5), 10.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("time", len(y)):
        pyro.sample("y", dist.Normal(alpha + lags @ beta, sigma), obs=y)


def flat_regression(x, y):
    """y ~ Normal(x beta, sigma), all priors flat."""
    beta = flat("beta", shape=(x.shape[1],))
    sigma = flat("sigma", constraints.positive)
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def half_cauchy_regression(x, y):
    """y ~ Normal(x beta, sigma), beta flat, sigma ~ HalfCauchy(2.5)."""
    beta = flat("beta", shape=(x.shape[1],))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def wide_regression(x, y):
    """y ~ Normal(x beta, sigma), beta ~ Normal(0, 10), sigma ~ HalfNormal(10)."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(x.shape[1]), 10.0).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(10.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(x @ beta, sigma), obs=y)


def schools_centred(sigma, y):
    """theta_j ~ Normal(mu, tau)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def schools_not_centred(sigma, y):
    """theta_j = mu + tau z_j, z_j ~ Normal(0, 1)."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.deterministic("theta", mu + tau * pyro.sample("z", dist.Normal(0.0, 1.0)))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def hidden_markov(y):
    """Two states with means in order, Normal(m_z, 1); rows of the transition matrix are uniform on the simplex."""
    rows = pyro.sample("rows", dist.Dirichlet(torch.ones(2, 2)).to_event(1))
    mu = flat("mu", constraints.positive_ordered_vector, (2,))
    pyro.factor("prior", dist.Normal(torch.tensor([3.0, 10.0]), 1.0).log_prob(mu).sum())
    first = dist.Normal(mu, 1.0).log_prob(y[0])  # each state counts 1 there; Pyro's chain moves before it emits
    pyro.factor("first", first.logsumexp(-1))
    rest = dist.DiscreteHMM(first, rows.log(), dist.Normal(mu, 1.0), duration=len(y) - 1)
    pyro.sample("y", rest, obs=y[1:])


def mixture(y):
    """theta Normal(m_1, s_1) + (1 - theta) Normal(m_2, s_2), m_1 < m_2."""
    theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
    mu = flat("mu", constraints.ordered_vector, (2,))
    pyro.factor("prior", dist.Normal(0.0, 2.0).log_prob(mu).sum())
    sigma = pyro.sample("sigma", dist.HalfNormal(torch.full((2,), 2.0)).to_event(1))
    weights = dist.Categorical(torch.stack([theta, 1 - theta], -1))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(weights, dist.Normal(mu, sigma)), obs=y)


def radon(floor, county, y):
    """Counties partially pooled, not centred."""
    del floor
    mu = pyro.sample("mu_alpha", dist.Normal(0.0, 10.0))
    scale = pyro.sample("sigma_alpha", dist.HalfNormal(1.0))
    sigma = pyro.sample("sigma_y", dist.HalfNormal(1.0))
    with pyro.plate("county", 85):
        alpha = pyro.deterministic("alpha", mu + scale * pyro.sample("raw", dist.Normal(0.0, 1.0)))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(alpha[county], sigma), obs=y)


@dataclass(frozen=True)
class Reference:
    """One posterior.

    Args:
        model: the program.
        arguments: of the content of `data.json`, as arrays.
        sites: of the program, beside the reference's own name of each where it is another.
    """

    model: Callable[..., Any]
    arguments: Callable[[dict[str, Any]], tuple[Any, ...]]
    sites: dict[str, str]

    def given(self, name):
        """The arguments as tensors of the default type."""
        data = json.loads((HOME / name / "data.json").read_text())
        return tuple(_tensor(value) for value in self.arguments(data))

    def known(self, name):
        """Mean, deviation and its Monte Carlo error of each parameter, by the reference's name."""
        found = json.loads((HOME / name / "reference_summary.json").read_text())
        return found["parameters"] if "parameters" in found else found["exact"]["parameters"]

    def columns(self, draws):
        """Draws by the reference's names, each (S,), from draws by site, each (S, ...)."""
        found = {}
        for site, name in self.sites.items():
            value = np.asarray(draws[site])
            for index in np.ndindex(*value.shape[1:]):
                found[_name(name, index)] = value[(slice(None), *index)]
        return found


def _name(name, index):
    """`beta[1]`; rows of a matrix are parameters of their own, `theta1[2]`."""
    places = [i + 1 for i in index]
    if len(places) == 2:
        return f"{name}{places[0]}[{places[1]}]"
    return f"{name}[{places[0]}]" if places else name


def _tensor(value):
    found = torch.as_tensor(np.asarray(value))
    return found.to(torch.get_default_dtype()) if found.is_floating_point() else found


def _real(value):
    return np.asarray(value, dtype=float)


def _lagged(data):
    y = _real(data["y"])
    return np.stack([y[5 - k : len(y) - k] for k in range(1, 6)], 1), y[5:]


def _with_one(x, y):
    return lambda data: (np.stack([np.ones(len(data[x])), _real(data[x])], 1), _real(data[y]))


LINE = {"beta": "beta", "sigma": "sigma"}
SCHOOLS = {"theta": "theta", "mu": "mu", "tau": "tau"}
REFERENCES = {
    "arK-arK": Reference(autoregression, _lagged, {"alpha": "alpha", **LINE}),
    "earnings-earn_height": Reference(flat_regression, _with_one("height", "earn"), LINE),
    "eight_schools-eight_schools_centered": Reference(
        schools_centred, lambda d: (_real(d["sigma"]), _real(d["y"])), SCHOOLS
    ),
    "eight_schools-eight_schools_noncentered": Reference(
        schools_not_centred, lambda d: (_real(d["sigma"]), _real(d["y"])), SCHOOLS
    ),
    "hmm_example-hmm_example": Reference(hidden_markov, lambda d: (_real(d["y"]),), {"rows": "theta", "mu": "mu"}),
    "kidiq-kidscore_momiq": Reference(half_cauchy_regression, _with_one("mom_iq", "kid_score"), LINE),
    "low_dim_gauss_mix-low_dim_gauss_mix": Reference(
        mixture, lambda d: (_real(d["y"]),), {"mu": "mu", "sigma": "sigma", "theta": "theta"}
    ),
    "radon_mn-radon_partially_pooled_noncentered": Reference(
        radon,
        lambda d: (_real(d["floor_measure"]), np.asarray(d["county_idx"]) - 1, _real(d["log_radon"])),
        {"mu_alpha": "mu_alpha", "sigma_alpha": "sigma_alpha", "sigma_y": "sigma_y", "alpha": "alpha"},
    ),
    "sblrc-blr": Reference(wide_regression, lambda d: (_real(d["X"]), _real(d["y"])), LINE),
    "sblri-blr": Reference(wide_regression, lambda d: (_real(d["X"]), _real(d["y"])), LINE),
}
