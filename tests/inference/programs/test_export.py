"""A program in ArviZ: dims by plates, pointwise log-likelihoods, prior and posterior predictive."""

import math

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import MCMC, NUTS, Predictive

import inference
import zoo
from tests.helpers.programs import PROGRAMS, SCHOOLS, SIGMA, Network, conjugate, mixture, noise, program, schools

RUN = {"draws": 50, "chains": 8, "progress": False, "max_warmup": 100}


pytestmark = pytest.mark.filterwarnings(
    "ignore:warm-up stopped", "ignore:chains disagree", "ignore:.*diverged", "ignore:Estimated shape"
)


@pytest.fixture(scope="module")
def fitted():
    return zoo.program(schools, coords={"school": list("ABCDEFGH")})


@pytest.fixture(scope="module")
def posterior(fitted):
    return inference.sample(fitted, SCHOOLS, SIGMA, **RUN)


@pytest.fixture(scope="module")
def exported(fitted, posterior):
    return inference.to_arviz(fitted, posterior, SCHOOLS, SIGMA, prior=20)


def test_dims_are_plates_and_labels_those_of_the_program(exported):
    assert exported["posterior"]["theta"].dims == ("chain", "draw", "school")
    assert exported["posterior"]["mu"].dims == ("chain", "draw")
    assert list(exported["posterior"]["school"].values) == list("ABCDEFGH")
    assert exported["observed_data"]["y"].dims == ("school",)
    assert exported["constant_data"]["sigma"].dims == ("school",)
    assert exported["prior"]["mu"].sizes == {"chain": 1, "draw": 20}
    assert len(np.unique(exported["prior"]["mu"])) == 20


def test_pointwise_log_likelihood_is_that_of_the_normal(exported, posterior):
    theta = posterior["theta"]
    expected = -0.5 * ((SCHOOLS - theta) / SIGMA) ** 2 - SIGMA.log() - 0.5 * math.log(2 * math.pi)
    assert np.allclose(exported["log_likelihood"]["y"], expected)
    assert exported["log_likelihood"]["y"].dims == ("chain", "draw", "school")


def test_log_prior_is_that_of_each_latent(exported, posterior):
    assert np.allclose(exported["log_prior"]["mu"], dist.Normal(0.0, 5.0).log_prob(posterior["mu"]))
    assert np.allclose(exported["log_prior"]["z"], dist.Normal(0.0, 1.0).log_prob(posterior["z"]).sum(-1))


def test_arviz_takes_it_unaided(exported):
    assert az.summary(exported, var_names=["theta"]).index[0] == "theta[A]"
    assert az.loo(exported).n_data_points == 8


def test_sites_that_share_a_latent_have_one_likelihood_along_its_plate():
    data = noise(15) * 2
    model = zoo.program(mixture)
    found = inference.sample(model, data, **RUN | {"draws": 5, "max_warmup": 20})
    value = inference.log_likelihood(model, found, data)
    assert value.keys() == {"x"}
    parts = dist.Normal(found["loc"][..., None, :], 1.0).log_prob(data[:, None]) + found["weights"].log()[..., None, :]
    assert torch.allclose(value["x"], parts.logsumexp(-1))


def test_crossed_plates_and_a_joint_observation_each_have_theirs():
    model, arguments = program("crossed")
    found = inference.sample(zoo.program(model), *arguments, **RUN | {"draws": 5, "max_warmup": 20})
    exported = inference.to_arviz(zoo.program(model), found, *arguments)
    assert exported["posterior"]["skill"].dims == ("chain", "draw", "person")
    assert exported["log_likelihood"]["rating"].dims == ("chain", "draw", "people", "items")
    assert exported["log_likelihood"]["total"].dims == ("chain", "draw")


def test_predictions_at_new_arguments_are_those_of_the_posterior():
    """The predictive of a conjugate normal: mean that of mu, variance 1 + var(mu)."""
    y = noise(30) + 2

    def model(y, size):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("row", size):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    found = inference.sample(zoo.program(model), y, 30, draws=200, chains=16, progress=False)
    made = inference.predict(zoo.program(model), found, None, 3)["y"]
    precision = 30 + 1 / 25
    assert made.shape == (16, 200, 3)
    assert float(made.mean()) == pytest.approx(float(y.sum()) / precision, abs=0.06)
    assert float(made.std()) == pytest.approx(math.sqrt(1 + 1 / precision), rel=0.03)


def test_draws_of_plain_mcmc_and_of_predictive_are_taken_too():
    y = noise(10) + 1
    chain = MCMC(NUTS(conjugate), num_samples=30, warmup_steps=20, disable_progbar=True)
    chain.run(y)
    exported = inference.to_arviz(zoo.program(conjugate), chain, y)
    assert np.array_equal(exported["posterior"]["mu"][0], chain.get_samples()["mu"])
    assert "diverging" in exported["sample_stats"]
    draws = Predictive(conjugate, num_samples=7)(y)
    exported = inference.to_arviz(zoo.program(conjugate), draws, y)
    assert exported["posterior"]["mu"].sizes == {"chain": 1, "draw": 7}


def test_only_cells_that_were_seen_are_scored_and_shown():
    y = torch.tensor([1.0, math.nan, 2.0, math.nan, 3.0]).double()
    model = zoo.program(program("partly_seen")[0], coords={"row": list("abcde")})
    found = inference.sample(model, y, **RUN)
    exported = inference.to_arviz(model, found, y)
    assert list(exported["log_likelihood"]["y_observed_cell"].values) == ["a", "c", "e"]
    assert np.array_equal(exported["observed_data"]["y_observed"], [1.0, 2.0, 3.0])
    assert list(exported["posterior"]["y_unobserved_cell"].values) == ["b", "d"]
    assert np.allclose(exported["posterior"]["y_unobserved"], exported["posterior"]["y"].sel(row=["b", "d"]))
    assert exported["posterior_predictive"]["y_observed"].shape[-1] == 3
    scores = az.loo(exported)
    assert scores.n_data_points == 3
    assert np.isfinite(scores["p_loo"])


def test_cells_in_two_plates_are_called_after_both():
    model, arguments = program("answers")
    arguments = arguments[0].float(), arguments[1]
    found = inference.sample(zoo.program(model), *arguments, **RUN | {"draws": 5, "max_warmup": 20})
    exported = inference.to_arviz(zoo.program(model), found, *arguments)
    places = ["{}, {}".format(*at) for at in arguments[1].nonzero().tolist()]
    assert list(exported["log_likelihood"]["right_observed_cell"].values) == places


def test_a_single_number_that_was_seen_has_no_dim():
    model = pyro.condition(schools, data={"tau": torch.tensor(3.0)})
    found = inference.sample(zoo.program(model), **RUN | {"draws": 5, "max_warmup": 20})
    exported = inference.to_arviz(zoo.program(model), found, predictive=False)
    assert exported["observed_data"]["tau"].dims == ()


def test_arguments_of_a_module_are_called_as_its_forward_does():
    model, arguments = Network(), [value.float() for value in PROGRAMS["network"][1]]
    draws = Predictive(model, num_samples=3)(*arguments)
    exported = inference.to_arviz(zoo.program(model), draws, *arguments)
    assert exported["constant_data"]["x"].dims == ("row", "x_dim_1")


def test_what_cannot_be_drawn_is_left_out_of_predictions_and_said():
    def model(y):
        loc = pyro.sample("loc", dist.Normal(torch.tensor([-1.0, 1.0]), 1.0).to_event(1))
        emission = dist.Normal(loc, 1.0)
        pyro.sample("y", dist.DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), emission), obs=y)
        pyro.sample("size", dist.Normal(loc.sum(), 1.0), obs=torch.tensor(1.0))

    y = torch.randn(6)
    found = inference.sample(zoo.program(model), y, **RUN | {"draws": 5, "max_warmup": 20})
    with pytest.raises(ValueError, match=r"site 'y' \(DiscreteHMM\) cannot be drawn from.* needs its `duration`"):
        inference.predict(zoo.program(model), found, y)
    with pytest.warns(UserWarning, match="'y' .* left out of what is predicted"):
        exported = inference.to_arviz(zoo.program(model), found, y)
    assert list(exported["posterior_predictive"].data_vars) == ["size"]


def test_what_is_not_this_program_s_is_refused(fitted, posterior):
    with pytest.raises(ValueError, match=r"site '\w+'"):
        inference.to_arviz(zoo.program(mixture), posterior, noise(4))
    with pytest.raises(ValueError, match=r"site 'z': expected draws of shape \(5,\) .* got \(8,\)"):
        inference.log_likelihood(fitted, posterior, SCHOOLS[:5], SIGMA[:5])
    with pytest.raises(ValueError, match="coords: no dim 'scool', did you mean 'school'"):
        inference.to_arviz(fitted, posterior, SCHOOLS, SIGMA, coords={"scool": list("ABCDEFGH")})
    with pytest.raises(ValueError, match="dims of 'mu': expected 0 names"):
        inference.to_arviz(zoo.program(schools, dims={"mu": ["a"]}), posterior, SCHOOLS, SIGMA)
    with pytest.raises(ValueError, match="improper prior"):
        inference.prior(program("factored")[0])


def test_data_with_more_dims_than_their_distribution_draws_are_predicted_in_theirs():
    """As `pyro.contrib.forecast` observes its residuals: (1, T) where the noise is (T,)."""

    def model(y):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        with pyro.plate("time", 5):
            pyro.sample("y", dist.Normal(loc, torch.ones(5)), obs=y)

    y = noise(1, 5)
    found = inference.sample(zoo.program(model), y, draws=30, chains=4, progress=False)
    assert inference.predict(zoo.program(model), found, y)["y"].shape == (4, 30, 1, 5)
    exported = inference.to_arviz(zoo.program(model), found, y)
    assert exported["posterior_predictive"]["y"].dims == ("chain", "draw", "time")
    assert exported["observed_data"]["y"].dims == ("time",)


def test_a_vector_under_a_scalar_distribution_is_predicted_cell_by_cell():
    """y_n ~ Normal(a, 1) with a ~ Normal(0, 1): the predictive of each cell has mean sum(y) / 13 and variance 14 / 13,
    any two the covariance 1 / 13."""

    def scalar(y):
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(a, 1.0), obs=y)

    y = torch.randn(12, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 1
    draws = y.sum() / 13 + torch.randn(1, 20_000, generator=torch.Generator().manual_seed(4), dtype=y.dtype) / 13**0.5
    model = zoo.program(scalar)
    posterior = inference.Posterior({"a": draws}, frozenset(), {}, "exact", 1, 20_000)
    found = inference.predict(model, posterior, y)["y"][0]
    assert found.shape == (20_000, 12)
    assert torch.allclose(found.mean(0), y.sum() / 13, atol=5 * (14 / 13 / 20_000) ** 0.5)
    covariance = (torch.ones(12, 12) / 13 + torch.eye(12)).double()
    assert torch.allclose(torch.cov(found.T), covariance, atol=5 * (2 / 20_000) ** 0.5 * 14 / 13)
    exported = inference.to_arviz(model, posterior, y, predictive=10, prior=10)
    for group in ("posterior_predictive", "log_likelihood", "prior_predictive"):
        assert exported[group]["y"].dims == ("chain", "draw", "y_dim_0")
