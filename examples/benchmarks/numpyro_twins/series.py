"""Series in time, in NumPyro: loops as scans and sums."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import lax
from numpyro.handlers import reparam
from numpyro.infer.reparam import LocScaleReparam


def local_linear_trend(y):
    level_scale = numpyro.sample("level_scale", dist.HalfNormal(0.5))
    slope_scale = numpyro.sample("slope_scale", dist.HalfNormal(0.2))
    noise_scale = numpyro.sample("noise_scale", dist.HalfNormal(1.0))
    move = jnp.array([[1.0, 1.0], [0.0, 1.0]])
    drift = jnp.diag(jnp.stack([level_scale, slope_scale]) ** 2)

    def ahead(state, seen):
        mean, covariance = state
        mean, covariance = move @ mean, move @ covariance @ move.T + drift
        variance = covariance[0, 0] + noise_scale**2
        gain = covariance[:, 0] / variance
        log_p = dist.Normal(mean[0], jnp.sqrt(variance)).log_prob(seen)
        mean = mean + gain * (seen - mean[0])
        return (mean, covariance - jnp.outer(gain, covariance[0])), log_p

    start = jnp.zeros(2), jnp.diag(jnp.array([25.0, 1.0]))
    _, log_p = lax.scan(ahead, start, jnp.asarray(y))
    numpyro.factor("y", log_p.sum())


def poisson_state_space(counts):
    drift = numpyro.sample("drift", dist.LogNormal(-1.5, 0.5))
    walk = numpyro.sample("log_rate", dist.ImproperUniform(dist.constraints.real, (), (len(counts),)))
    before = jnp.concatenate([jnp.ones(1), walk[:-1]])
    numpyro.factor("walk", dist.Normal(before, drift).log_prob(walk).sum())
    for t in range(len(counts)):
        numpyro.deterministic(f"log_rate_{t}", walk[t])
    with numpyro.plate("time", len(counts)):
        numpyro.sample("count", dist.Poisson(jnp.exp(walk)), obs=counts)


def hierarchical_forecast(data, covariates):
    duration, series = data.shape
    drift_scale = numpyro.sample("drift_scale", dist.LogNormal(-2.0, 1.0))
    noise_scale = numpyro.sample("noise_scale", dist.LogNormal(-1.0, 1.0))
    mean_trend = numpyro.sample("mean_trend", dist.Normal(0.0, 1.0))
    with numpyro.plate("series", series, dim=-2):
        trend = numpyro.sample("trend", dist.Normal(mean_trend, 0.3))
        with numpyro.plate("season_of_year", 4, dim=-1):
            seasonal = numpyro.sample("seasonal", dist.Normal(0.0, 1.0))
        with numpyro.plate("time", duration, dim=-1), reparam(config={"drift": LocScaleReparam(0.0)}):
            drift = numpyro.sample("drift", dist.Normal(0.0, drift_scale))
    seasons = jnp.tile(seasonal, (1, -(-duration // 4)))[:, :duration]
    prediction = (jnp.cumsum(drift, -1) + seasons + trend * covariates[:, 0]).T
    numpyro.sample("residual", dist.Normal(prediction, noise_scale).to_event(2), obs=data)


def stochastic_volatility(returns):
    mu = numpyro.sample("mu", dist.Normal(-1.0, 1.0))
    phi = numpyro.sample("phi", dist.Uniform(-1.0, 1.0))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    with numpyro.plate("time", len(returns)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))

    def ahead(h, z_t):
        h = mu + phi * (h - mu) + sigma * z_t
        return h, h

    first = mu + sigma / jnp.sqrt(1 - phi**2) * z[0]
    _, rest = lax.scan(ahead, first, z[1:])
    with numpyro.plate("day", len(returns)):
        volatility = jnp.exp(jnp.concatenate([first[None], rest]) / 2)
        numpyro.sample("returns", dist.Normal(0.0, volatility), obs=returns)


def autoregression(y):
    alpha_1 = numpyro.sample("alpha_1", dist.Normal(0, 1))
    alpha_2 = numpyro.sample("alpha_2", dist.Normal(0, 1))
    const = numpyro.sample("const", dist.Normal(0, 1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1))
    with numpyro.plate("time", len(y) - 2):
        numpyro.sample("y", dist.Normal(const + alpha_1 * y[1:-1] + alpha_2 * y[:-2], sigma), obs=y[2:])


def epidemic(cases, population):
    rate = numpyro.sample("rate", dist.LogNormal(-0.7, 0.5))
    recovery = numpyro.sample("recovery", dist.LogNormal(-1.5, 0.5))
    reported = numpyro.sample("reported", dist.Beta(4.0, 4.0))
    infected = numpyro.sample("infected_0", dist.Gamma(4.0, 0.5))
    dt = 0.5

    def day(state, _):
        susceptible, infected = state
        new = 0.0
        for _ in range(2):
            infections = rate * susceptible * infected / population * dt
            susceptible = susceptible - infections
            infected = infected + infections - recovery * infected * dt
            new = new + infections
        return (susceptible, infected), new

    _, new = lax.scan(day, (population - infected, infected), None, length=len(cases))
    with numpyro.plate("days", len(cases)):
        numpyro.sample("cases", dist.Poisson(reported * new + 1e-3), obs=cases)
