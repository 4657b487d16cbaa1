"""Regressions, in NumPyro."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints


def ruggedness(x, y):
    sigma = numpyro.sample("sigma", dist.Uniform(0.0, 10.0))
    weight = numpyro.sample("linear.weight", dist.Normal(0, 1.0).expand([1, 3]).to_event(2))
    bias = numpyro.sample("linear.bias", dist.Normal(0, 10.0).expand([1]).to_event(1))
    with numpyro.plate("nation", len(x)):
        numpyro.sample("obs", dist.Normal((x @ weight.T + bias)[:, 0], sigma), obs=y)


def logistic_regression(x, y):
    coefs = numpyro.sample("coefs", dist.Normal(0, 1.0).expand([x.shape[1]]).to_event(1))
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 2.0))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=x @ coefs + intercept), obs=y)


def robust_regression(x, y):
    line = numpyro.sample("line", dist.ImproperUniform(constraints.real, (), event_shape=(2,)))
    scale = numpyro.sample("scale", dist.ImproperUniform(constraints.positive, (), ()))
    numpyro.factor("scale_prior", -jnp.log(scale))
    df = numpyro.sample("df", dist.Gamma(2.0, 0.1))
    with numpyro.plate("points", len(x)):
        numpyro.sample("y", dist.StudentT(df, line[0] + line[1] * x, scale), obs=y)


def horseshoe(x, y):
    rows, features = x.shape
    lambdas = numpyro.sample("lambdas", dist.HalfCauchy(1.0).expand([features]).to_event(1))
    tau = numpyro.sample("tau", dist.HalfCauchy(1.0))
    unscaled = numpyro.sample("unscaled_betas", dist.Normal(0, 1.0).expand([features]).to_event(1))
    precision = numpyro.sample("prec_obs", dist.Gamma(3.0, 1.0))
    with numpyro.plate("row", rows):
        numpyro.sample("y", dist.Normal(x @ (tau * lambdas * unscaled), precision**-0.5), obs=y)


def bayesian_network(x, y):
    hidden = 4
    sigma = numpyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
    first = numpyro.sample("first.weight", dist.Normal(0, 1.5).expand([hidden, 1]).to_event(2))
    first_bias = numpyro.sample("first.bias", dist.Normal(0, 1.0).expand([hidden]).to_event(1))
    second = numpyro.sample("second.weight", dist.Normal(0, 1.0).expand([1, hidden]).to_event(2))
    second_bias = numpyro.sample("second.bias", dist.Normal(0, 1.0).expand([1]).to_event(1))
    curve = jnp.tanh(x @ first.T + first_bias) @ second.T + second_bias
    curve = numpyro.deterministic("curve", curve[:, 0])
    with numpyro.plate("data", len(x)):
        numpyro.sample("obs", dist.Normal(curve, sigma), obs=y)


def factor_analysis(y):
    rows, d = y.shape
    theta = numpyro.sample("theta", dist.HalfCauchy(1.0).expand([d]).to_event(1))
    l_omega = numpyro.sample("L_omega", dist.LKJCholesky(d, 1.0))
    mu = numpyro.sample("mu", dist.Normal(0, 3.0).expand([d]).to_event(1))
    with numpyro.plate("observations", rows):
        root = jnp.sqrt(theta)[:, None] * l_omega
        numpyro.sample("obs", dist.MultivariateNormal(mu, scale_tril=root), obs=y)
