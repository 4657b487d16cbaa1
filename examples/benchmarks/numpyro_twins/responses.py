"""Responses that are counts, grades or times, in NumPyro."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.nn import sigmoid
from numpyro.distributions.transforms import OrderedTransform


def negative_binomial(x, exposure, counts):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 5.0))
    beta = numpyro.sample("beta", dist.Normal(0, 1.0).expand([x.shape[1]]).to_event(1))
    concentration = numpyro.sample("concentration", dist.Exponential(0.5))
    rate = jnp.exp(intercept + x @ beta) * exposure
    with numpyro.plate("visits", len(counts)):
        numpyro.sample("counts", dist.GammaPoisson(concentration, concentration / rate), obs=counts)


def zero_inflated(x, caught):
    with numpyro.plate("covariates", x.shape[1]):
        beta = numpyro.sample("beta", dist.Normal(0.0, 1.0))
        gate_beta = numpyro.sample("gate_beta", dist.Normal(0.0, 1.0))
    with numpyro.plate("groups", len(x)):
        site = dist.ZeroInflatedPoisson(gate=sigmoid(x @ gate_beta), rate=jnp.exp(x @ beta))
        numpyro.sample("caught", site, obs=caught)


def ordinal_regression(x, grades):
    levels = 4
    coefs = numpyro.sample("coefs", dist.Normal(0, 1.0).expand([x.shape[1]]).to_event(1))
    base = dist.Normal(0, 1.0).expand([levels - 1]).to_event(1)
    cutpoints = numpyro.sample("cutpoints", dist.TransformedDistribution(base, OrderedTransform()))
    with numpyro.plate("people", len(x)):
        numpyro.sample("grades", dist.OrderedLogistic(x @ coefs, cutpoints), obs=grades)


def weibull_survival(x, time, event):
    shape = numpyro.sample("shape", dist.LogNormal(0.0, 0.5))
    coefs = numpyro.sample("coefs", dist.Normal(0, 1.0).expand([x.shape[1]]).to_event(1))
    base = numpyro.sample("base", dist.Normal(1.0, 2.0))
    scale = jnp.exp(base + x @ coefs)
    died = event.astype(bool)
    with numpyro.plate("deaths", int(died.sum())):
        numpyro.sample("time", dist.Weibull(scale[died], shape), obs=time[died])
    numpyro.factor("censored", -jnp.sum((time[~died] / scale[~died]) ** shape))
