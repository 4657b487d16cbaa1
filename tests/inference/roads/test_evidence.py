"""Log evidence of pairs and programs by every means, against closed forms; models compared by it."""

from __future__ import annotations

import copy
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
import torch

import inference
import zoo
from tests.helpers.programs import conjugate
from tests.helpers.sampling import Normals, data_of

Y = torch.linspace(-1, 3, 25, dtype=torch.float64)


def beta_binomial(seen):
    p = pyro.sample("p", dist.Beta(torch.tensor(2.0).double(), 3.0))
    pyro.sample("seen", dist.Binomial(20, p), obs=seen)


def scaled(y, scale):
    """The closed form of `conjugate`, its prior of another scale."""
    mu = pyro.sample("mu", dist.Normal(torch.tensor(0.0).to(y), scale))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def of_normals(x, mean=0.0, prior=25.0, noise=1.0):
    return scipy.stats.multivariate_normal.logpdf(x, np.full(len(x), mean), noise * np.eye(len(x)) + prior)


@pytest.mark.parametrize("seed", range(3))
def test_programs_in_closed_form(seed):
    wanted = math.log(math.comb(20, 7)) + scipy.special.betaln(9, 16) - scipy.special.betaln(2, 3)
    found = inference.log_evidence(zoo.program(beta_binomial), torch.tensor(7.0).double(), seed=seed)
    assert found.value == pytest.approx(wanted, abs=max(0.005, 4 * found.error))
    assert found.error < 0.01
    found = inference.log_evidence(zoo.program(conjugate), Y, seed=seed)
    assert found.value == pytest.approx(of_normals(Y.numpy()), abs=max(0.005, 4 * found.error))
    assert found.error < 0.01


def test_a_pair_by_every_means_and_left_as_it_was():
    pair = Normals().double()
    data = data_of(pair, 6)
    wanted = of_normals(data.x.numpy(), 1.0, 9.0, 4.0)
    before, random = copy.deepcopy(pair.state_dict()), torch.get_rng_state()
    found = inference.log_evidence(pair, data)
    assert found.method == "bridge"
    assert found.value == pytest.approx(wanted, abs=0.01)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())
    assert inference.log_evidence(pair, data).value == found.value
    chains = inference.sample(pair, data, 50, 16, progress=False)
    by_bridge = inference.log_evidence(pair, data, chains)
    assert by_bridge.value == pytest.approx(wanted, abs=max(0.01, 4 * by_bridge.error))
    assert by_bridge.error < 0.02
    inference.fit(pair, data, steps=400, progress=False)
    by_weights = inference.log_evidence(pair, data, inference.draw(pair, data))
    assert by_weights.method == "importance"
    assert by_weights.value == pytest.approx(wanted, abs=max(0.01, 4 * by_weights.error))


def test_polynomial_regression_in_closed_form_by_particles_and_by_draws():
    torch.manual_seed(0)
    pair = zoo.create("polynomial_regression", features=1, degree=2).double()
    data, _ = pair.simulate(40)
    exact = inference.log_evidence(pair, data)
    assert (exact.method, exact.error) == ("exact", 0)
    assert "closed form" in str(exact)
    fitted = copy.deepcopy(pair)
    inference.fit(fitted, data, progress=False)
    assert inference.log_evidence(fitted, data).value == pytest.approx(exact.value, abs=1e-8)
    for seed in range(3):
        found = inference.log_evidence(pair, data, method="smc", seed=seed)
        assert found.value == pytest.approx(exact.value, abs=max(0.05, 4 * found.error))
        assert found.error < 0.05
    assert "± 0.0" in str(found)
    chains = inference.sample(pair, data, 50, 16, progress=False)
    found = inference.log_evidence(pair, data, chains)
    assert found.value == pytest.approx(exact.value, abs=max(0.02, 4 * found.error))


def shares(rows):
    p = pyro.sample("p", dist.Dirichlet(torch.tensor([1.0, 2.0, 3.0]).double()))
    with pyro.plate("row", len(rows)):
        pyro.sample("rows", dist.Categorical(p), obs=rows)


def test_exact_draws_of_a_program_go_back_to_free_latents():
    torch.manual_seed(0)
    counts, prior = torch.tensor([3, 7, 10]), torch.tensor([1.0, 2.0, 3.0]).double()
    draws = dist.Dirichlet(prior + counts).sample((4, 500))
    wanted = scipy.stats.dirichlet_multinomial.logpmf([3, 7, 10], [1, 2, 3], 20)
    wanted -= scipy.special.gammaln(21) - scipy.special.gammaln([4, 8, 11]).sum()  # in this order
    posterior = inference.Posterior({"p": draws}, method="mcmc", chains=4, size=500)
    found = inference.log_evidence(zoo.program(shares), torch.arange(3).repeat_interleave(counts), posterior=posterior)
    assert found.method == "bridge"
    assert found.value == pytest.approx(wanted, abs=max(0.005, 4 * found.error))
    assert found.error < 0.01


def test_models_are_compared_by_their_evidence():
    x = Y.numpy()
    models = {str(scale): (zoo.program(scaled), Y, scale) for scale in (1.0, 5.0, 50.0)}
    table = inference.compare_evidence(models)
    wanted = {name: of_normals(x, 0.0, float(name) ** 2) for name in models}
    best = max(wanted, key=wanted.get)
    assert table.index[0] == best
    total = scipy.special.logsumexp(list(wanted.values()))
    for name, row in table.iterrows():
        assert row["log_evidence"] == pytest.approx(wanted[name], abs=max(0.005, 4 * row["error"]))
        assert row["log_bayes_factor"] == pytest.approx(wanted[name] - wanted[best], abs=0.03)
        assert row["probability"] == pytest.approx(math.exp(wanted[name] - total), abs=0.02)
        assert 0 < row["probability_error"] < 0.02
    assert table["probability"].sum() == pytest.approx(1)
    known = {name: inference.Evidence(value, 0.1, "smc") for name, value in zip("ab", (0.0, 1.0), strict=True)}
    table = inference.compare_evidence(known, prior={"a": 2, "b": 1})
    odds = math.e / 2
    assert table.loc["b", "probability"] == pytest.approx(odds / (1 + odds))
    p = odds / (1 + odds)  # d log odds has error 0.1 sqrt(2)
    assert table.loc["b", "probability_error"] == pytest.approx(p * (1 - p) * 0.1 * math.sqrt(2))
    assert table.loc["a", "log_bayes_factor_error"] == pytest.approx(0.1 * math.sqrt(2))


def improper(y):
    mu = pyro.sample("mu", dist.ImproperUniform(dist.constraints.real, (), ()))
    pyro.sample("y", dist.Normal(mu, 1.0).expand(y.shape).to_event(1), obs=y)


def test_what_is_refused():
    pair = Normals().double()
    data = data_of(pair, 6)
    program = zoo.program(conjugate)
    with pytest.raises(ValueError, match="site 'mu' has an improper prior"):
        inference.log_evidence(zoo.program(improper), Y)
    with pytest.raises(ValueError, match="method: expected one of auto, exact"):
        inference.log_evidence(pair, data, method="guess")
    with pytest.raises(ValueError, match="'bridge' needs draws"):
        inference.log_evidence(pair, data, method="bridge")
    with pytest.raises(ValueError, match="not its posterior in closed form"):
        inference.log_evidence(pair, data, method="exact")
    with pytest.raises(ValueError, match="nothing is known of conjugate in closed form"):
        inference.log_evidence(program, Y, method="exact")
    with pytest.raises(ValueError, match=r"max_seconds.*stopped at inverse temperature 0"):
        inference.log_evidence(program, Y, max_seconds=1e-9)
    models = {"a": (zoo.program(scaled), Y, 1.0), "b": (zoo.program(scaled), Y + 1, 1.0)}
    with pytest.raises(ValueError, match=r"'a' and 'b' cannot be compared: their y differ.*evidences"):
        inference.compare_evidence(models)
    with pytest.raises(ValueError, match="at least two"):
        inference.compare_evidence({"a": models["a"]})
    with pytest.raises(ValueError, match="model 'c': expected an Evidence"):
        inference.compare_evidence({"c": 3, **models})
    with pytest.raises(ValueError, match="prior: expected the probability of each of"):
        inference.compare_evidence(models, prior={"a": 1})
