"""Responses that are counts, grades or times: overdispersed, inflated, ordered, censored."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions.transforms import OrderedTransform

from pyro_programs.example import Example, listed


def negative_binomial(x, exposure, counts):
    """Counts that vary more than Poisson's, with an exposure."""
    intercept = pyro.sample("intercept", dist.Normal(0.0, 5.0))
    beta = pyro.sample("beta", dist.Normal(0.0, 1.0).expand([x.shape[1]]).to_event(1))
    concentration = pyro.sample("concentration", dist.Exponential(0.5))
    rate = torch.exp(intercept + x.matmul(beta)) * exposure
    with pyro.plate("visits", len(counts)):
        pyro.sample("counts", dist.GammaPoisson(concentration, concentration / rate), obs=counts)


def negative_binomial_data():
    """150 counts, simulated."""
    rng = np.random.default_rng(11)
    x, exposure = rng.standard_normal((150, 3)), rng.uniform(0.5, 2, 150)
    rate = np.exp(1 + x @ np.array([0.5, -0.3, 0.0])) * exposure
    return x, exposure, rng.poisson(rng.gamma(2.0, rate / 2.0)).astype(float)


def zero_inflated(x, caught):
    """Fish caught by visitors of a park, of whom some do not fish at all."""
    with pyro.plate("covariates", x.shape[1]):
        beta = pyro.sample("beta", dist.Normal(0.0, 1.0))
        gate_beta = pyro.sample("gate_beta", dist.Normal(0.0, 1.0))
    gate = torch.sigmoid(x @ gate_beta)
    with pyro.plate("groups", len(x)):
        pyro.sample("caught", dist.ZeroInflatedPoisson(rate=(x @ beta).exp(), gate=gate), obs=caught)


def zero_inflated_data():
    """200 groups, simulated."""
    rng = np.random.default_rng(12)
    x = np.concatenate([np.ones((200, 1)), rng.standard_normal((200, 2))], 1)
    away = rng.random(200) < 1 / (1 + np.exp(-x @ np.array([-0.5, 1.0, 0.0])))
    return x, np.where(away, 0, rng.poisson(np.exp(x @ np.array([0.8, 0.3, -0.4])))).astype(float)


def ordinal_regression(x, grades):
    """Grades by cutpoints in order."""
    levels = 4
    coefs = pyro.sample("coefs", dist.Normal(0.0, 1.0).expand([x.size(1)]).to_event(1))
    base = dist.Normal(0.0, 1.0).expand([levels - 1]).to_event(1)
    cutpoints = pyro.sample("cutpoints", dist.TransformedDistribution(base, OrderedTransform()))
    with pyro.plate("people", x.size(0)):
        pyro.sample("grades", dist.OrderedLogistic(x.mv(coefs), cutpoints), obs=grades)


def ordinal_regression_data():
    """200 grades of 4 levels, simulated."""
    rng = np.random.default_rng(13)
    x = rng.standard_normal((200, 3))
    latent = x @ np.array([1.0, -0.7, 0.0]) + rng.logistic(size=200)
    return x, np.searchsorted([-1.0, 0.3, 1.5], latent).astype(np.int64)


def weibull_survival(x, time, event):
    """Times until a failure, some only known to be longer."""
    shape = pyro.sample("shape", dist.LogNormal(0.0, 0.5))
    coefs = pyro.sample("coefs", dist.Normal(torch.zeros(x.shape[-1]), 1.0).to_event(1))
    base = pyro.sample("base", dist.Normal(1.0, 2.0))
    scale = torch.exp(base + x @ coefs)
    died = event.bool()
    with pyro.plate("deaths", int(died.sum())):
        pyro.sample("time", dist.Weibull(scale[died], shape), obs=time[died])
    pyro.factor("censored", -((time[~died] / scale[~died]) ** shape).sum())


def weibull_survival_data():
    """120 patients, censored at 6 years, simulated."""
    rng = np.random.default_rng(14)
    x = rng.standard_normal((120, 2))
    time = np.exp(1.2 + x @ np.array([0.4, -0.3])) * rng.weibull(1.4, 120)
    return x, np.minimum(time, 6.0), (time < 6.0).astype(float)


EXAMPLES = listed(
    Example(negative_binomial, negative_binomial_data, "pyro.distributions.GammaPoisson"),
    Example(zero_inflated, zero_inflated_data, "pyro.distributions.ZeroInflatedPoisson"),
    Example(ordinal_regression, ordinal_regression_data, "pyro.distributions.OrderedLogistic"),
    Example(weibull_survival, weibull_survival_data, "pyro.factor"),
)
