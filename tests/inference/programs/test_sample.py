"""Chains on programs: means and deviations in closed form or of long runs elsewhere, and what is refused."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy.integrate import quad

import inference
import zoo
from inference.compiling.recording import TraceError
from inference.programs.outline import outline
from inference.programs.potential import ProgramPotential
from tests.helpers.programs import SCHOOLS, conjugate, factored, noise, partly_seen, schools

pytestmark = [
    pytest.mark.usefixtures("double"),
    pytest.mark.filterwarnings("ignore:warm-up stopped", "ignore:chains disagree", "ignore:.*diverged"),
]


def error_of_mean(draws):
    """A Monte Carlo standard error from the means of the chains."""
    return float(draws.mean(1).std() / math.sqrt(len(draws)))


def test_a_conjugate_normal_has_its_posterior():
    y = noise(12) + 2
    found = inference.sample(zoo.program(conjugate), y, draws=300, chains=32, progress=False)
    precision = len(y) + 1 / 25
    mu = found["mu"]
    assert float(mu.mean()) == pytest.approx(float(y.sum()) / precision, abs=5 * error_of_mean(mu))
    assert float(mu.std()) == pytest.approx(precision**-0.5, rel=0.05)
    assert found.rhat["mu"] < 1.01
    assert found.compile == "graph"


def test_an_improper_prior_with_a_factor_has_the_moments_of_the_integral():
    found = inference.sample(zoo.program(factored, start={"x": 1.0}), draws=400, chains=32, progress=False)
    x = found["x"]

    def density(v):
        return math.exp(-0.5 * (v - 3) ** 2 - (2 - v) ** 2)

    total = quad(density, 0, 20)[0]
    mean = quad(lambda v: v * density(v), 0, 20)[0] / total
    assert float(x.mean()) == pytest.approx(mean, abs=5 * error_of_mean(x))


def test_a_cell_that_is_missing_is_drawn_from_its_posterior():
    y = torch.tensor([1.0, math.nan, 2.0, 3.0])
    found = inference.sample(zoo.program(partly_seen), y, draws=300, chains=32, progress=False)
    precision = 3 + 1 / 25
    missing = found["y"][..., 1]
    assert float(missing.mean()) == pytest.approx(6 / precision, abs=5 * error_of_mean(missing))
    assert float(missing.std()) == pytest.approx(math.sqrt(1 + 1 / precision), rel=0.05)
    assert torch.equal(found["y"][0, 0, [0, 2, 3]], torch.tensor([1.0, 2.0, 3.0]))


def test_a_mixture_at_given_weights_has_the_moments_of_the_grid():
    """Two parts, one known: the posterior of the other's mean by quadrature."""
    y = torch.tensor([-0.5, 0.3, 4.2, 3.8])

    def model(data):
        loc = pyro.sample("loc", dist.Normal(4.0, 2.0))
        with pyro.plate("row", len(data)):
            which = pyro.sample("which", dist.Categorical(torch.tensor([0.4, 0.6])))
            pyro.sample("x", dist.Normal(torch.stack([torch.zeros(()), loc])[which], 1.0), obs=data)

    found = inference.sample(zoo.program(model), y, draws=400, chains=32, progress=False)

    def density(m):
        parts = [0.4 * math.exp(-0.5 * v**2) + 0.6 * math.exp(-0.5 * (v - m) ** 2) for v in y.tolist()]
        return math.exp(-0.5 * ((m - 4) / 2) ** 2) * math.prod(parts)

    total = quad(density, -10, 15, limit=200)[0]
    mean = quad(lambda m: m * density(m), -10, 15, limit=200)[0] / total
    assert float(found["loc"].mean()) == pytest.approx(mean, abs=5 * error_of_mean(found["loc"]))


def test_a_branch_on_a_drawn_value_runs_plain_and_says_where():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        if x > 0:
            x = 2 * x
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    with pytest.warns(UserWarning, match=r"reads the value of a tensor .* at test_sample.py:\d+: if x > 0"):
        found = inference.sample(zoo.program(model), draws=3, chains=2, max_warmup=5, progress=False)
    assert found.compile == "off"
    with pytest.raises(TraceError, match=r"after site 'x'"):
        inference.sample(zoo.program(model), draws=3, chains=2, progress=False, compile="graph")


def test_a_recorded_run_is_the_plain_one():
    seen = outline(zoo.program(schools), (), {})
    points = torch.randn(6, seen.size)
    recorded, plain = ProgramPotential(seen, required=True), ProgramPotential(seen, recorded=False)
    for one, other in zip(recorded.value_and_gradient(points), plain.value_and_gradient(points), strict=True):
        assert torch.allclose(one, other, rtol=1e-12)
    for name, value in recorded.constrain(points)[0].items():
        assert torch.allclose(value, plain.constrain(points)[0][name], rtol=1e-12), name


def test_a_place_of_no_density_is_named():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("bad", x * math.nan)

    with pytest.raises(inference.SamplingError, match="not finite at site 'bad'"):
        inference.sample(zoo.program(model), draws=2, chains=2, progress=False)


def test_chains_start_around_what_the_program_says():
    seen = outline(zoo.program(schools, start={"tau": 4.0, "z": torch.zeros(())}), (), {})
    free = ProgramPotential(seen, required=True).prior(50)
    assert torch.allclose(free[:, 1], torch.tensor(4.0).log())
    assert bool((free[:, 2:] == 0).all())
    assert float(free[:, 0].std()) > 1  # mu is drawn from its prior


def test_draws_are_written_as_those_of_pairs_are(tmp_path):
    found = inference.sample(
        zoo.program(schools), SCHOOLS, draws=5, chains=4, progress=False, store=tmp_path / "run", max_warmup=20
    )
    again = inference.reopen(tmp_path / "run")
    assert torch.equal(again["theta"], found["theta"])
