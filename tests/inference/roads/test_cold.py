"""What a fresh process loads on its way to a posterior: seconds that nobody asked for."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, warnings
import pyro, pyro.distributions as dist, torch
import inference, zoo

torch.set_num_threads(1)

def schools(y, sigma):
    mu, tau = pyro.sample("mu", dist.Normal(0.0, 5.0)), pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("school", len(y)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)

def written(y, sigma):  # into tensors: by torch's own distributions
    nu, scale = pyro.sample("nu", dist.Gamma(2.0, 0.1)), pyro.sample("scale", dist.InverseGamma(3.0, 30.0))
    with pyro.plate("school", len(y)):
        pyro.sample("y", dist.StudentT(nu, 8.0, scale), obs=y)
        pyro.sample("up", dist.Bernoulli(logits=scale.log() - 2), obs=(y > 8).float())

y, sigma = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12]), torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18])
found = inference.{what}
print(found)
slow = {{"torch._dynamo", "torch._inductor", "sympy", "arviz", "arviz_stats", "xarray", "pandas"}}
print("LOADED", *sorted(slow & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "what",
    [
        "infer(zoo.program(schools), y, sigma, progress=False)",
        "sample(zoo.program(schools), y, sigma, draws=30, max_warmup=30, ess=400, progress=False)",
        "infer(zoo.program(written), y, sigma, progress=False)",
        "sample(zoo.create('hmm', features=1), y[None, :, None], draws=3, max_warmup=3, progress=False)",
        "sample(zoo.create('gmm', features=1), y[:, None], draws=30, max_warmup=30, ess=400, progress=False)",
    ],
)
def test_no_compiler_and_no_tables_are_loaded(what):
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(what=what)]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines()[-1] == "LOADED", told.stdout
