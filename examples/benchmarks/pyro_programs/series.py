"""Series in time: a trend by a Kalman filter, counts with a drifting rate, forecasts of several series, and others."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.contrib.forecast import ForecastingModel
from pyro.infer.reparam import LocScaleReparam
from pyro.ops.tensor_utils import periodic_repeat

from pyro_programs.example import Example, listed


def local_linear_trend(y):
    """A level and a slope that drift, integrated out by a Kalman filter."""
    level_scale = pyro.sample("level_scale", dist.HalfNormal(0.5))
    slope_scale = pyro.sample("slope_scale", dist.HalfNormal(0.2))
    noise_scale = pyro.sample("noise_scale", dist.HalfNormal(1.0))
    initial = dist.Normal(torch.zeros(2), torch.tensor([5.0, 1.0])).to_event(1)
    transition = dist.Normal(torch.zeros(2), torch.stack([level_scale, slope_scale])).to_event(1)
    noise = dist.Normal(torch.zeros(1), noise_scale.unsqueeze(-1)).to_event(1)
    move = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    look = torch.tensor([[1.0], [0.0]])
    pyro.sample("y", dist.GaussianHMM(initial, move, transition, look, noise, duration=len(y)), obs=y.unsqueeze(-1))


def local_linear_trend_data():
    """60 steps, simulated."""
    rng = np.random.default_rng(23)
    slope = 0.1 + np.cumsum(0.05 * rng.standard_normal(60))
    level = np.cumsum(slope + 0.2 * rng.standard_normal(60))
    return (level + 0.4 * rng.standard_normal(60),)


def poisson_state_space(counts):
    """Counts whose log rate walks at random, step by step."""
    drift = pyro.sample("drift", dist.LogNormal(-1.5, 0.5))
    log_rate = torch.tensor(1.0)
    for t in pyro.markov(range(len(counts))):
        log_rate = pyro.sample(f"log_rate_{t}", dist.Normal(log_rate, drift))
        pyro.sample(f"count_{t}", dist.Poisson(log_rate.exp()), obs=counts[t])


def poisson_state_space_data():
    """30 counts, simulated."""
    rng = np.random.default_rng(24)
    return (rng.poisson(np.exp(1 + np.cumsum(0.25 * rng.standard_normal(30)))).astype(float),)


class Forecast(ForecastingModel):
    """Seasons of each series and drifts that share a scale."""

    def model(self, zero_data, covariates):
        """Predict (duration, series)."""
        duration, series = zero_data.shape
        drift_scale = pyro.sample("drift_scale", dist.LogNormal(-2.0, 1.0))
        noise_scale = pyro.sample("noise_scale", dist.LogNormal(-1.0, 1.0))
        mean_trend = pyro.sample("mean_trend", dist.Normal(0.0, 1.0))
        with pyro.plate("series", series, dim=-2):
            trend = pyro.sample("trend", dist.Normal(mean_trend, 0.3))
            with pyro.plate("season_of_year", 4, dim=-1):
                seasonal = pyro.sample("seasonal", dist.Normal(0.0, 1.0))
            with self.time_plate, poutine.reparam(config={"drift": LocScaleReparam(centered=0.0)}):
                drift = pyro.sample("drift", dist.Normal(0.0, drift_scale))
        motion = drift.cumsum(-1) + periodic_repeat(seasonal, duration, dim=-1) + trend * covariates[:, 0]
        prediction = motion.unsqueeze(-1).transpose(-1, -3)  # (1, duration, series)
        self.predict(dist.Normal(0.0, noise_scale.unsqueeze(-1)), prediction)


def hierarchical_forecast(data, covariates):
    """Several series forecast at once."""
    return Forecast(), (data, covariates)


def hierarchical_forecast_data():
    """3 series of 24 quarters, simulated."""
    rng = np.random.default_rng(25)
    time = np.arange(24) / 24
    season = np.tile(rng.normal(0, 0.8, (4, 3)), (6, 1))
    drift = np.cumsum(0.1 * rng.standard_normal((24, 3)), 0)
    y = season + drift + time[:, None] * rng.normal(0.5, 0.3, 3) + 0.3 * rng.standard_normal((24, 3))
    return y, time[:, None]


def stochastic_volatility(returns):
    """Returns whose volatility comes back to its mean, in a loop."""
    mu = pyro.sample("mu", dist.Normal(-1.0, 1.0))
    phi = pyro.sample("phi", dist.Uniform(-1.0, 1.0))
    sigma = pyro.sample("sigma", dist.HalfNormal(0.5))
    with pyro.plate("time", len(returns)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
    h = [mu + sigma / (1 - phi**2).sqrt() * z[0]]
    for t in range(1, len(returns)):
        h.append(mu + phi * (h[-1] - mu) + sigma * z[t])
    with pyro.plate("day", len(returns)):
        pyro.sample("returns", dist.Normal(0.0, (torch.stack(h) / 2).exp()), obs=returns)


def stochastic_volatility_data():
    """80 returns, simulated."""
    rng = np.random.default_rng(26)
    h = [-1.0]
    for _ in range(79):
        h.append(-1.0 + 0.9 * (h[-1] + 1.0) + 0.35 * rng.standard_normal())
    return (np.exp(np.array(h) / 2) * rng.standard_normal(80),)


def autoregression(y):
    """AR(2): each value on the two before it, every one a site of its own."""
    alpha_1 = pyro.sample("alpha_1", dist.Normal(0, 1))
    alpha_2 = pyro.sample("alpha_2", dist.Normal(0, 1))
    const = pyro.sample("const", dist.Normal(0, 1))
    sigma = pyro.sample("sigma", dist.HalfNormal(1))
    for t in range(2, len(y)):
        pyro.sample(f"y_{t}", dist.Normal(const + alpha_1 * y[t - 1] + alpha_2 * y[t - 2], sigma), obs=y[t])


def autoregression_data():
    """50 values, simulated."""
    rng = np.random.default_rng(27)
    y = [0.0, 0.0]
    for _ in range(48):
        y.append(0.2 + 0.6 * y[-1] - 0.4 * y[-2] + 0.5 * rng.standard_normal())
    return (np.array(y),)


def epidemic(cases, population):
    """Susceptible, infected, recovered: an equation by Euler's steps of half a day, and the cases that are reported."""
    rate = pyro.sample("rate", dist.LogNormal(-0.7, 0.5))
    recovery = pyro.sample("recovery", dist.LogNormal(-1.5, 0.5))
    reported = pyro.sample("reported", dist.Beta(4.0, 4.0))
    infected = pyro.sample("infected_0", dist.Gamma(4.0, 0.5))
    susceptible = population - infected
    dt = 0.5
    for day in range(len(cases)):
        new = torch.zeros(())
        for _ in range(2):
            infections = rate * susceptible * infected / population * dt
            susceptible = susceptible - infections
            infected = infected + infections - recovery * infected * dt
            new = new + infections
        pyro.sample(f"cases_{day}", dist.Poisson(reported * new + 1e-3), obs=cases[day])


def epidemic_data():
    """Cases of 30 days among 1,000 people, simulated."""
    rng = np.random.default_rng(28)
    s, i, cases = 990.0, 10.0, []
    for _ in range(30):
        new = 0.0
        for _ in range(2):
            moved = 0.5 * s * i / 1000 * 0.5
            s, i, new = s - moved, i + moved - 0.2 * i * 0.5, new + moved
        cases.append(rng.poisson(0.5 * new))
    return np.array(cases, float), 1000.0


EXAMPLES = listed(
    Example(local_linear_trend, local_linear_trend_data, "pyro.distributions.GaussianHMM"),
    Example(poisson_state_space, poisson_state_space_data, "tutorial: forecasting, state space"),
    Example(hierarchical_forecast, hierarchical_forecast_data, "tutorial: forecasting III", made=True),
    Example(stochastic_volatility, stochastic_volatility_data, "tutorial: Levy stable models of volatility"),
    Example(autoregression, autoregression_data, "pyro.markov; autoregressive models"),
    Example(epidemic, epidemic_data, "examples/sir_hmc.py"),
)
