"""Regressions: by `PyroModule`, with flat priors, heavy tails, few slopes that matter, and a small network."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.nn import PyroModule, PyroSample
from torch import nn

from pyro_programs.example import Example, listed


class BayesianRegression(PyroModule):
    """A linear layer with priors on its weight and bias."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.linear = PyroModule[nn.Linear](in_features, out_features)
        self.linear.weight = PyroSample(dist.Normal(0.0, 1.0).expand([out_features, in_features]).to_event(2))
        self.linear.bias = PyroSample(dist.Normal(0.0, 10.0).expand([out_features]).to_event(1))

    def forward(self, x, y=None):
        """Draw or observe the responses."""
        sigma = pyro.sample("sigma", dist.Uniform(0.0, 10.0))
        mean = self.linear(x).squeeze(-1)
        with pyro.plate("nation", x.shape[0]):
            pyro.sample("obs", dist.Normal(mean, sigma), obs=y)
        return mean


def ruggedness(x, y):
    """Wealth of nations on how rugged their terrain is."""
    return BayesianRegression(3, 1), (x, y)


def ruggedness_data():
    """170 nations, simulated: in Africa, ruggedness, both."""
    rng = np.random.default_rng(10)
    africa, rugged = (rng.random(170) < 0.3).astype(float), rng.gamma(1.2, 1.1, 170)
    x = np.stack([africa, rugged, africa * rugged], 1)
    return x, 9.2 + x @ np.array([-1.9, -0.2, 0.35]) + 0.95 * rng.standard_normal(170)


def logistic_regression(x, y):
    """Chances of an event, covariates with standard normal slopes."""
    coefs = pyro.sample("coefs", dist.Normal(torch.zeros(x.shape[1]), torch.ones(x.shape[1])).to_event(1))
    intercept = pyro.sample("intercept", dist.Normal(0.0, 2.0))
    with pyro.plate("data", x.shape[0]):
        pyro.sample("y", dist.Bernoulli(logits=(coefs * x).sum(-1) + intercept), obs=y)


def logistic_regression_data():
    """300 rows of 6 covariates, simulated."""
    rng = np.random.default_rng(6)
    x = rng.standard_normal((300, 6))
    logits = x @ np.array([1.0, -0.5, 0.0, 0.7, 0.2, -1.2]) + 0.4
    return x, (rng.random(300) < 1 / (1 + np.exp(-logits))).astype(float)


def robust_regression(x, y):
    """Flat priors on a line and a positive scale, and errors with heavy tails."""
    line = pyro.sample("line", dist.ImproperUniform(constraints.real, (), event_shape=(2,)))
    scale = pyro.sample("scale", dist.ImproperUniform(constraints.positive, (), ()))
    pyro.factor("scale_prior", -scale.log())
    df = pyro.sample("df", dist.Gamma(2.0, 0.1))
    with pyro.plate("points", len(x)):
        pyro.sample("y", dist.StudentT(df, line[0] + line[1] * x, scale), obs=y)


def robust_regression_data():
    """60 points on a line, some far off, simulated."""
    rng = np.random.default_rng(4)
    x = np.linspace(-2, 2, 60)
    return x, 0.5 + 1.5 * x + 0.4 * rng.standard_t(3, 60)


def horseshoe(x, y):
    """Few of many slopes matter."""
    rows, features = x.shape
    lambdas = pyro.sample("lambdas", dist.HalfCauchy(torch.ones(features)).to_event(1))
    tau = pyro.sample("tau", dist.HalfCauchy(1.0))
    unscaled = pyro.sample("unscaled_betas", dist.Normal(torch.zeros(features), 1.0).to_event(1))
    betas = pyro.deterministic("betas", tau * lambdas * unscaled)
    precision = pyro.sample("prec_obs", dist.Gamma(3.0, 1.0))
    with pyro.plate("row", rows):
        pyro.sample("y", dist.Normal(x @ betas, precision.rsqrt()), obs=y)


def horseshoe_data():
    """100 rows of 12 features, 3 of which matter, simulated."""
    rng = np.random.default_rng(3)
    x, slopes = rng.standard_normal((100, 12)), np.zeros(12)
    slopes[:3] = [1.5, -1.0, 0.7]
    return x, x @ slopes + 0.6 * rng.standard_normal(100)


class Network(PyroModule):
    """One hidden layer, every weight with a normal prior."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.first = PyroModule[nn.Linear](inputs, hidden)
        self.first.weight = PyroSample(dist.Normal(0.0, 1.5).expand([hidden, inputs]).to_event(2))
        self.first.bias = PyroSample(dist.Normal(0.0, 1.0).expand([hidden]).to_event(1))
        self.second = PyroModule[nn.Linear](hidden, 1)
        self.second.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, hidden]).to_event(2))
        self.second.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))

    def forward(self, x, y=None):
        """Draw or observe the responses."""
        sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.5))
        curve = pyro.deterministic("curve", self.second(torch.tanh(self.first(x))).squeeze(-1))
        with pyro.plate("data", len(x)):
            return pyro.sample("obs", dist.Normal(curve, sigma), obs=y)


def bayesian_network(x, y):
    """A curve through points by a small network."""
    return Network(1, 4), (x, y)


def bayesian_network_data():
    """40 points of a wave, simulated."""
    rng = np.random.default_rng(7)
    x = np.linspace(-2, 2, 40)
    return x[:, None], np.sin(1.5 * x) + 0.2 * rng.standard_normal(40)


def factor_analysis(y):
    """Standard deviations and correlations of what was measured, by an LKJ prior."""
    rows, d = y.shape
    theta = pyro.sample("theta", dist.HalfCauchy(torch.ones(d)).to_event(1))
    l_omega = pyro.sample("L_omega", dist.LKJCholesky(d, torch.ones(())))
    root = torch.mm(torch.diag(theta.sqrt()), l_omega)
    mu = pyro.sample("mu", dist.Normal(torch.zeros(d), 3.0).to_event(1))
    with pyro.plate("observations", rows):
        pyro.sample("obs", dist.MultivariateNormal(mu, scale_tril=root), obs=y)


def factor_analysis_data():
    """100 rows of 4 measurements that share a factor, simulated."""
    rng = np.random.default_rng(9)
    loadings = np.array([1.0, 0.8, -0.6, 0.3])
    return (rng.standard_normal((100, 1)) * loadings + 0.7 * rng.standard_normal((100, 4)),)


EXAMPLES = listed(
    Example(ruggedness, ruggedness_data, "tutorial: Bayesian regression", made=True),
    Example(logistic_regression, logistic_regression_data, "documentation of HMC and NUTS"),
    Example(
        robust_regression, robust_regression_data, "pyro.distributions.ImproperUniform, pyro.factor",
        start={"line": [0.0, 0.0], "scale": 1.0},
    ),
    Example(horseshoe, horseshoe_data, "examples/sparse_regression.py", heavy=("lambdas", "tau")),
    Example(
        bayesian_network, bayesian_network_data, "tutorial: modules", made=True, told=("sigma", "curve"),
    ),
    Example(factor_analysis, factor_analysis_data, "examples/lkj.py"),
)  # fmt: skip
