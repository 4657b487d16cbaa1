"""Groups that share what they know, in NumPyro."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.handlers import reparam
from numpyro.infer.reparam import LocScaleReparam


def baseball(at_bats, hits):
    m = numpyro.sample("m", dist.Uniform(0, 1))
    kappa = numpyro.sample("kappa", dist.Pareto(1.0, 1.5))
    with numpyro.plate("player", len(at_bats)):
        phi = numpyro.sample("phi", dist.Beta(m * kappa, (1 - m) * kappa))
        numpyro.sample("hits", dist.Binomial(at_bats.astype(int), probs=phi), obs=hits)


def eight_schools(sigma, y):
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(sigma)):
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
        numpyro.sample("obs", dist.Normal(theta, sigma), obs=y)


def eight_schools_reparam(sigma, y):
    with reparam(config={"theta": LocScaleReparam(0.0)}):
        eight_schools(sigma, y)


def radon(county, floor, uranium, log_radon, measured):
    """Houses that were not measured are left out: nothing else depends on what they would have had."""
    county, floor, log_radon = county[measured], floor[measured], log_radon[measured]
    gamma = numpyro.sample("gamma", dist.Normal(0, 2.0).expand([2]).to_event(1))
    b = numpyro.sample("b", dist.Normal(-0.5, 1.0))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0).expand([2]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.0))
    with numpyro.plate("counties", len(uranium)):
        shift = numpyro.sample("shift", dist.Normal(0, 1.0).expand([2]).to_event(1))
    intercept = gamma[0] + gamma[1] * uranium + scale[0] * shift[:, 0]
    slope = b + scale[1] * shift[:, 1]
    mean = intercept[county] + slope[county] * floor
    with numpyro.plate("houses", len(county)):
        numpyro.sample("log_radon", dist.Normal(mean, sigma), obs=log_radon)


def item_response(answers):
    students, questions = answers.shape
    student_plate = numpyro.plate("student", students, dim=-2)
    question_plate = numpyro.plate("question", questions, dim=-1)
    mean_difficulty = numpyro.sample("mean_difficulty", dist.Normal(0, 1))
    with student_plate:
        ability = numpyro.sample("ability", dist.Normal(0, 1))
    with question_plate:
        difficulty = numpyro.sample("difficulty", dist.Normal(mean_difficulty, 1))
        discrimination = numpyro.sample("discrimination", dist.LogNormal(0.0, 0.5))
    with student_plate, question_plate:
        logits = discrimination * (ability - difficulty)
        numpyro.sample("answers", dist.Bernoulli(logits=logits), obs=jnp.asarray(answers))
