"""Names that could be two things, or nothing, are told before any work."""

import functools

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.posterior.latents import Posterior
from tests.helpers.programs import SCHOOLS, SIGMA, schools

Y = torch.tensor([1.0, 2.0, 0.5])
QUICK = {"chains": 4, "progress": False}


def model(y, draws=3):
    mu = pyro.sample("mu", dist.Normal(0.0, float(draws)))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_an_option_that_the_model_takes_too_is_refused():
    told = r"draws: the model of model has an argument of this name, .*inference.sample: .*partial\(model, draws=…"
    with pytest.raises(ValueError, match=told):
        inference.sample(zoo.program(model), Y, draws=20, **QUICK)


@pytest.mark.filterwarnings("ignore:warm-up stopped", "ignore:chains disagree")
def test_what_goes_in_by_position_behind_a_posterior_is_the_models():
    found = inference.sample(zoo.program(model), Y, 3, draws=20, **QUICK)
    few = inference.predict(zoo.program(model), found, Y, 3, draws=5)
    assert few["y"].shape == (4, 5, 3)
    with pytest.raises(ValueError, match=r"draws: the model of model"):
        inference.predict(zoo.program(model), found, Y, draws=5)


@pytest.mark.filterwarnings("ignore:warm-up stopped", "ignore:chains disagree")
def test_it_goes_in_by_position_or_bound_before():
    """The prior's deviation is the model's own `draws`: at 1e-3 nothing is learned, whatever y is."""
    for program, args in (
        (zoo.program(functools.partial(model, draws=1e-3)), (Y,)),
        (zoo.program(model), (Y, 1e-3)),
    ):
        found = inference.sample(program, *args, draws=20, **QUICK)
        assert found.size == 20
        assert float(found["mu"].abs().max()) < 0.01


@pytest.mark.parametrize(
    "call", [inference.sample, inference.fit, inference.draw, inference.khat, inference.log_likelihood, inference.loo]
)
def test_a_bare_function_is_told_to_be_a_program_whatever_follows_it(call):
    with pytest.raises(ValueError, match=r"got <function schools .*; a Pyro program goes in as zoo.program\(model\)"):
        call(schools, SCHOOLS, SIGMA, 3)


@pytest.mark.parametrize("call", [inference.sample, inference.fit])
def test_dims_and_labels_of_nothing_are_refused_before_work(call):
    for named, told in (
        ({"dims": {"thetaa": ["school"]}}, "dims: schools has no site 'thetaa', did you mean 'theta'"),
        ({"coords": {"scool": "ABCDEFGH"}}, "coords: schools has no dim 'scool', did you mean 'school'"),
        ({"coords": {"school": "ABC"}}, "coords: dim 'school' of schools has size 8, got 3 labels"),
    ):
        with pytest.raises(ValueError, match=told):
            call(zoo.program(schools, **named), SCHOOLS, SIGMA, progress=False)


def test_help_says_what_programs_take():
    for name in ("sample", "fit", "draw", "predict", "log_likelihood", "loo", "to_arviz", "khat"):
        told = getattr(inference, name).__doc__
        assert f"`inference.{name}(program, x, y=y)`" in told
        assert "Args:" in told


def test_a_posterior_is_printed_in_a_line():
    draws = {f"site_{i}": torch.zeros(2, 5, 3) for i in range(14)} | {"mu": torch.zeros(2, 5)}
    told = repr(Posterior(draws, frozenset(), {}, "svi", 2, 5))
    assert told.startswith("Posterior(2 chains of 5 draws, svi: site_0[3], site_1[3]")
    assert told.endswith("and 3 more)")
    found = inference.sample(zoo.program(schools), SCHOOLS, SIGMA, draws=60, chains=16, progress=False)
    line = repr(found).splitlines()[0]
    assert line.startswith("Sampled(16 chains of 60 draws, mcmc: mu, tau, z[8], theta[8]; after ")
    assert f"R-hat at most {max(found.rhat.values()):.3f}" in line
    assert len(line) < 200
