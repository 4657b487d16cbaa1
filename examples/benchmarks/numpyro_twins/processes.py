"""Gaussian processes, in NumPyro."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist


def gp_regression(x, y):
    variance = numpyro.sample("kernel.variance", dist.LogNormal(0.0, 1.0))
    lengthscale = numpyro.sample("kernel.lengthscale", dist.LogNormal(0.0, 1.0))
    noise = numpyro.sample("noise", dist.LogNormal(-2.0, 1.0))
    covariance = variance * jnp.exp(-0.5 * ((x[:, None] - x) / lengthscale) ** 2)
    covariance = covariance + (noise + 1e-6) * jnp.eye(len(x))
    numpyro.sample("y", dist.MultivariateNormal(jnp.zeros(len(x)), covariance), obs=y)


def gp_classification(x, labels):
    variance = numpyro.sample("kernel.variance", dist.LogNormal(0.0, 0.5))
    lengthscale = numpyro.sample("kernel.lengthscale", dist.LogNormal(0.0, 0.5))
    squared = jnp.sum(((x[:, None] - x) / lengthscale) ** 2, -1)
    r = jnp.sqrt(5 * squared + 1e-12)
    covariance = variance * (1 + r + r**2 / 3) * jnp.exp(-r) + 1e-6 * jnp.eye(len(x))
    white = numpyro.sample("white", dist.Normal(0, 1.0).expand([len(x)]).to_event(1))
    f = jnp.linalg.cholesky(covariance) @ white
    with numpyro.plate("rows", len(x)):
        numpyro.sample("labels", dist.Bernoulli(logits=f), obs=labels)
