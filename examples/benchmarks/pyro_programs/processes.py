"""Gaussian processes by `pyro.contrib.gp`: of responses, and of the chances of a class."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.contrib import gp
from pyro.nn import PyroSample

from pyro_programs.example import Example, listed


def gp_regression(x, y):
    """Priors on the numbers of a kernel, and the model that the library has."""
    kernel = gp.kernels.RBF(input_dim=1)
    kernel.variance = PyroSample(dist.LogNormal(torch.tensor(0.0), torch.tensor(1.0)))
    kernel.lengthscale = PyroSample(dist.LogNormal(torch.tensor(0.0), torch.tensor(1.0)))
    gpr = gp.models.GPRegression(x, y, kernel)
    gpr.noise = PyroSample(dist.LogNormal(torch.tensor(-2.0), torch.tensor(1.0)))
    return gpr.model, ()


def gp_regression_data():
    """30 points of a curve, simulated."""
    rng = np.random.default_rng(21)
    x = np.sort(rng.uniform(0, 5, 30))
    return x, 0.5 * np.sin(3 * x) + 0.2 * rng.standard_normal(30)


class Classifier(gp.Parameterized):
    """A latent function with a kernel, squashed into the chances of a class."""

    def __init__(self, x):
        super().__init__()
        self.x = x
        self.kernel = gp.kernels.Matern52(input_dim=x.shape[1])
        self.kernel.variance = PyroSample(dist.LogNormal(torch.tensor(0.0), torch.tensor(0.5)))
        self.kernel.lengthscale = PyroSample(dist.LogNormal(torch.tensor(0.0), torch.tensor(0.5)))

    def forward(self, labels=None):
        """Draw or observe labels."""
        self.set_mode("model")
        rows = len(self.x)
        covariance = self.kernel(self.x) + 1e-6 * torch.eye(rows)
        root = torch.linalg.cholesky(covariance)
        white = pyro.sample("white", dist.Normal(torch.zeros(rows), 1.0).to_event(1))
        f = pyro.deterministic("f", root @ white)
        with pyro.plate("rows", rows):
            pyro.sample("labels", dist.Bernoulli(logits=f), obs=labels)


def gp_classification(x, labels):
    """Two classes in the plane."""
    return Classifier(x), (labels,)


def gp_classification_data():
    """50 points, one class within a ring of the other, simulated."""
    rng = np.random.default_rng(22)
    x = rng.uniform(-2, 2, (50, 2))
    far = (x**2).sum(1) + 0.6 * rng.standard_normal(50) > 2
    return x, far.astype(float)


EXAMPLES = listed(
    Example(gp_regression, gp_regression_data, "tutorial: Gaussian processes", made=True),
    Example(gp_classification, gp_classification_data, "pyro.contrib.gp", made=True),
)
