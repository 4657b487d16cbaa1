"""Groups that share what they know: baseball, eight schools, radon in houses, and an exam."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.reparam import LocScaleReparam

from pyro_programs.example import Example, listed


def baseball(at_bats, hits=None):
    """Batting averages of players, partially pooled by a beta whose weight has a heavy tail."""
    m = pyro.sample("m", dist.Uniform(0, 1))
    kappa = pyro.sample("kappa", dist.Pareto(1.0, 1.5))
    with pyro.plate("player", at_bats.shape[0]):
        phi = pyro.sample("phi", dist.Beta(m * kappa, (1 - m) * kappa))
        return pyro.sample("hits", dist.Binomial(at_bats, phi), obs=hits)


def baseball_data():
    """Hits of 18 players in their first 45 times at bat, 1970 (Efron & Morris 1975)."""
    hits = np.array([18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7], float)
    return np.full(18, 45.0), hits


def eight_schools(sigma, y=None):
    """Effects of coaching as the model is first written, centred."""
    mu = pyro.sample("mu", dist.Normal(0, 5))
    tau = pyro.sample("tau", dist.HalfCauchy(scale=5.0))
    with pyro.plate("schools", len(sigma)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)
    return theta


@poutine.reparam(config={"theta": LocScaleReparam(centered=0.0)})
def eight_schools_reparam(sigma, y=None):
    """The same, decentred by Pyro."""
    mu = pyro.sample("mu", dist.Normal(0, 5))
    tau = pyro.sample("tau", dist.HalfCauchy(scale=5.0))
    with pyro.plate("schools", len(sigma)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def eight_schools_data():
    """Effects and standard errors (Rubin 1981)."""
    return np.array([15.0, 10, 16, 11, 9, 11, 10, 18]), np.array([28.0, 8, -3, 7, -1, 1, 18, 12])


def radon(county, floor, uranium, log_radon, measured):
    """Intercepts and slopes of counties, intercepts explained by uranium; some measurements are missing."""
    gamma = pyro.sample("gamma", dist.Normal(torch.zeros(2), 2.0).to_event(1))
    b = pyro.sample("b", dist.Normal(-0.5, 1.0))
    scale = pyro.sample("scale", dist.HalfNormal(1.0).expand([2]).to_event(1))
    sigma = pyro.sample("sigma", dist.HalfNormal(1.0))
    with pyro.plate("counties", len(uranium)):
        shift = pyro.sample("shift", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    intercept = gamma[0] + gamma[1] * uranium + scale[0] * shift[:, 0]
    slope = b + scale[1] * shift[:, 1]
    mean = intercept[county] + slope[county] * floor
    with pyro.plate("houses", len(county)):
        pyro.sample("log_radon", dist.Normal(mean, sigma), obs=log_radon, obs_mask=measured)


def radon_data():
    """200 houses of 20 counties, simulated; 6 of them were not measured."""
    rng = np.random.default_rng(85)
    county = np.sort(rng.integers(0, 20, 200))
    uranium, floor = rng.normal(0, 0.4, 20), (rng.random(200) < 0.2).astype(float)
    intercept = 1.3 + 0.7 * uranium + 0.3 * rng.standard_normal(20)
    slope = -0.6 + 0.25 * rng.standard_normal(20)
    y = intercept[county] + slope[county] * floor + 0.7 * rng.standard_normal(200)
    measured = np.ones(200, bool)
    measured[rng.choice(200, 6, replace=False)] = False
    return county, floor, uranium, np.where(measured, y, 0.0), measured


def item_response(answers):
    """The two-parameter logistic model of an exam: students and questions cross."""
    students, questions = answers.shape
    student_plate = pyro.plate("student", students, dim=-2)
    question_plate = pyro.plate("question", questions, dim=-1)
    mean_difficulty = pyro.sample("mean_difficulty", dist.Normal(0, 1))
    with student_plate:
        ability = pyro.sample("ability", dist.Normal(0, 1))
    with question_plate:
        difficulty = pyro.sample("difficulty", dist.Normal(mean_difficulty, 1))
        discrimination = pyro.sample("discrimination", dist.LogNormal(0.0, 0.5))
    with student_plate, question_plate:
        logits = discrimination * (ability - difficulty)
        pyro.sample("answers", dist.Bernoulli(logits=logits), obs=answers)


def item_response_data():
    """40 students and 12 questions, simulated."""
    rng = np.random.default_rng(2)
    ability, difficulty = rng.standard_normal((40, 1)), rng.normal(-0.3, 1, 12)
    logits = rng.lognormal(0, 0.4, 12) * (ability - difficulty)
    return ((rng.random((40, 12)) < 1 / (1 + np.exp(-logits))).astype(float),)


EXAMPLES = listed(
    Example(baseball, baseball_data, "examples/baseball.py", heavy=("kappa",)),
    Example(eight_schools, eight_schools_data, "examples/eight_schools/mcmc.py"),
    Example(eight_schools_reparam, eight_schools_data, "pyro.infer.reparam"),
    Example(radon, radon_data, "pyro.sample, obs_mask", told=("gamma", "b", "scale", "sigma", "shift")),
    Example(item_response, item_response_data, "tutorial: tensor shapes, crossed plates"),
)
