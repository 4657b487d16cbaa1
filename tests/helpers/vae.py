"""A gaussian_vae in double precision, with weights large enough to matter, and its bound."""

from __future__ import annotations

import functools

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.special
import scipy.stats
import torch

import zoo
from inference.data.check import as_batch
from inference.fitting.objective import choose
from inference.running.densities import run

LIKELIHOODS = {"bernoulli": None, "gaussian": None, "binomial": 16, "beta_binomial": 255, "categorical": 7}


def create(likelihood, **config):
    trials = LIKELIHOODS[likelihood]
    return zoo.create("gaussian_vae", likelihood=likelihood, **({"trials": trials} if trials else {}), **config)


def elbo(pair, batch):
    return -choose(pair, batch).loss(pair, batch).item()


def softplus(x):
    return np.logaddexp(0, x)


def network(state, prefix, x):
    """The MLP of `prefix` by NumPy, from its weights."""
    layers = sorted({name.split(".")[1] for name in state if name.startswith(prefix)}, key=int)
    for layer in layers:
        x = x @ state[f"{prefix}.{layer}.weight"].T + state[f"{prefix}.{layer}.bias"]
        x = x if layer == layers[-1] else x * scipy.special.expit(x)
    return x


def gaussians(pair, rows):
    """(m, T) of the guide's Gaussian at each row of encoder inputs, by NumPy."""
    state = {name: value.numpy() for name, value in pair.state_dict().items()}
    latent = pair.latent
    for h in network(state, "encoder", rows):
        tril = np.diag(softplus(h[latent : 2 * latent]))
        if pair.family == "full":
            tril = np.zeros((latent, latent))
            tril[np.tril_indices(latent)] = h[latent:]
            tril[np.diag_indices(latent)] = softplus(np.diag(tril))
        yield h[:latent], tril


def bound(pair, x, particles=200, seed=0):
    """ELBO of each observation, (N,), with closed-form KL."""
    torch.manual_seed(seed)
    with torch.no_grad():
        return run(pair, as_batch(pair, x), particles, analytic=True).log_weight.mean(0)


@functools.cache
def bent():
    """Counts of six pixels under one code: log p(x) and the bound by quadrature."""
    torch.manual_seed(0)
    pair = create("binomial", features=6, latent=1, hidden=()).double()
    with torch.no_grad():
        pair.decoder[0].weight.copy_(torch.linspace(-1, 1, 6, dtype=torch.float64)[:, None])
    x = pair.simulate(12)[0].x
    z = np.linspace(-12, 12, 2001)
    weight, bias = (p.detach().numpy() for p in pair.decoder[0].parameters())
    logits = z[:, None] * weight[:, 0] + bias  # (Z, D)
    log_joint = scipy.stats.norm.logpdf(z)[:, None] + np.stack(
        [scipy.stats.binom.logpmf(row, pair.trials, scipy.special.expit(logits)).sum(-1) for row in x.numpy()], 1
    )
    with torch.no_grad():
        q = pair.encode(x).base_dist
    log_q = scipy.stats.norm.logpdf(z[:, None], q.loc[:, 0].numpy(), q.scale[:, 0].numpy())  # (Z, N)
    marginal = np.log(scipy.integrate.trapezoid(np.exp(log_joint), z, axis=0))
    bound = scipy.integrate.trapezoid(np.exp(log_q) * (log_joint - log_q), z, axis=0)
    return pair, x, marginal, bound
