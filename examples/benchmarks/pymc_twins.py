"""Programs of `pyro_programs/` in PyMC: each makes its variables of the data, inside a model."""

import numpy as np
import pymc as pm


def ruggedness(x, y):
    sigma = pm.Uniform("sigma", 0, 10)
    weight, bias = pm.Normal("weight", 0, 1, shape=3), pm.Normal("bias", 0, 10)
    pm.Normal("obs", x @ weight + bias, sigma, observed=y)


def logistic_regression(x, y):
    coefs, intercept = pm.Normal("coefs", 0, 1, shape=x.shape[1]), pm.Normal("intercept", 0, 2)
    pm.Bernoulli("y", logit_p=x @ coefs + intercept, observed=y)


def robust_regression(x, y):
    line, scale = pm.Flat("line", shape=2, initval=np.zeros(2)), pm.HalfFlat("scale", initval=1.0)
    pm.Potential("scale_prior", -pm.math.log(scale))
    df = pm.Gamma("df", 2, 0.1)
    pm.StudentT("y", nu=df, mu=line[0] + line[1] * x, sigma=scale, observed=y)


def negative_binomial(x, exposure, counts):
    intercept, beta = pm.Normal("intercept", 0, 5), pm.Normal("beta", 0, 1, shape=x.shape[1])
    concentration = pm.Exponential("concentration", 0.5)
    rate = pm.math.exp(intercept + x @ beta) * exposure
    pm.NegativeBinomial("counts", mu=rate, alpha=concentration, observed=counts)


def gaussian_mixture(data):
    weights, scale = pm.Dirichlet("weights", np.full(2, 2.0)), pm.LogNormal("scale", 0, 1)
    low, gap = pm.Normal("low", 0, 5), pm.Normal("gap", 0, 1)
    locs = pm.math.stack([low, low + pm.math.exp(gap)])
    pm.NormalMixture("obs", w=weights, mu=locs, sigma=scale, observed=data)


def gp_regression(x, y):
    variance, length = pm.LogNormal("variance", 0, 1), pm.LogNormal("length", 0, 1)
    noise = pm.LogNormal("noise", -2, 1)
    squared = (x[:, None] - x) ** 2
    covariance = variance * pm.math.exp(-0.5 * squared / length**2) + (noise + 1e-6) * np.eye(len(x))
    pm.MvNormal("y", mu=np.zeros(len(x)), cov=covariance, observed=y)


def baseball(at_bats, hits):
    m, kappa = pm.Uniform("m", 0, 1), pm.Pareto("kappa", alpha=1.5, m=1)
    phi = pm.Beta("phi", m * kappa, (1 - m) * kappa, shape=len(at_bats))
    pm.Binomial("hits", n=at_bats.astype(int), p=phi, observed=hits)


def eight_schools_reparam(sigma, y):
    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    z = pm.Normal("z", 0, 1, shape=len(sigma))
    pm.Normal("obs", mu + tau * z, sigma, observed=y)


def radon(county, floor, uranium, log_radon, measured):
    county, floor, log_radon = county[measured], floor[measured], log_radon[measured]
    gamma, b = pm.Normal("gamma", 0, 2, shape=2), pm.Normal("b", -0.5, 1)
    scale, sigma = pm.HalfNormal("scale", 1, shape=2), pm.HalfNormal("sigma", 1)
    shift = pm.Normal("shift", 0, 1, shape=(len(uranium), 2))
    intercept = gamma[0] + gamma[1] * uranium + scale[0] * shift[:, 0]
    slope = b + scale[1] * shift[:, 1]
    pm.Normal("log_radon", intercept[county] + slope[county] * floor, sigma, observed=log_radon)


def item_response(answers):
    students, questions = answers.shape
    mean_difficulty = pm.Normal("mean_difficulty", 0, 1)
    ability = pm.Normal("ability", 0, 1, shape=(students, 1))
    difficulty = pm.Normal("difficulty", mean_difficulty, 1, shape=questions)
    discrimination = pm.LogNormal("discrimination", 0, 0.5, shape=questions)
    pm.Bernoulli("answers", logit_p=discrimination * (ability - difficulty), observed=answers)
