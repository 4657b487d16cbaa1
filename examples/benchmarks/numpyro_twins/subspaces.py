"""The SAAS prior, in NumPyro."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist


def saas(x, y):
    outputscale = numpyro.sample("outputscale", dist.Gamma(2.0, 0.15))
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    noise = 1e-6 + numpyro.sample("noise", dist.Gamma(0.9, 10.0))
    tausq = numpyro.sample("kernel_tausq", dist.HalfCauchy(0.1))
    inv_length_sq = numpyro.sample("_kernel_inv_length_sq", dist.HalfCauchy(jnp.ones(x.shape[-1])))
    inv_length_sq = numpyro.deterministic("kernel_inv_length_sq", tausq * inv_length_sq)
    squared = jnp.sum(jnp.square(x[:, None] - x) * inv_length_sq, -1)
    distance = jnp.sqrt(5 * jnp.clip(squared, 1e-30))
    covariance = outputscale * (1 + distance + 5 / 3 * squared) * jnp.exp(-distance) + noise * jnp.eye(len(x))
    numpyro.sample("Y", dist.MultivariateNormal(jnp.full(len(x), mean), covariance), obs=y)
