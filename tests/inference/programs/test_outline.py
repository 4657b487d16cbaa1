"""What a program holds, and what cannot be sampled: each refused by name before work."""

import functools
import re
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.programs.outline import outline
from tests.helpers.programs import factored, program, schools

ONE = torch.tensor(1.0)


def test_plates_become_dims_and_what_depends_on_them_stands_along_them():
    seen = outline(zoo.program(schools), (), {})
    assert [latent.name for latent in seen.latents] == ["mu", "tau", "z"]
    assert seen.size == 10
    assert {name: seen.dims_of(name) for name in ("mu", "z", "theta", "y")} == {
        "mu": (), "z": ("school",), "theta": ("school",), "y": ("school",),
    }  # fmt: skip
    assert list(seen.observed) == ["y"]
    assert list(seen.deterministic) == ["theta"]


def test_crossed_plates_are_named_from_the_right():
    model, arguments = program("crossed")
    seen = outline(zoo.program(model), arguments, {})
    assert seen.dims_of("rating") == ("people", "items")
    assert seen.dims_of("skill")[0] == "person"
    assert seen.depth == 2


def no_latents():
    pyro.sample("y", dist.Normal(0.0, 1.0), obs=ONE)


def all_summed_out():
    pyro.sample("c", dist.Bernoulli(0.5))


def a_count():
    rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
    pyro.sample("count", dist.Poisson(rate))


def twice():
    for _ in range(2):
        pyro.sample("x", dist.Normal(0.0, 1.0))


def a_part():
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 100, subsample_size=10) as rows:
        pyro.sample("y", dist.Normal(mu, 1.0), obs=torch.zeros(100)[rows])


def comes_and_goes():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    comes_and_goes.runs += 1
    if comes_and_goes.runs % 2:
        pyro.sample("z", dist.Normal(x, 1.0))


comes_and_goes.runs = 0


def grows():
    grows.size += 1
    with pyro.plate("row", grows.size):
        pyro.sample("x", dist.Normal(0.0, 1.0))


grows.size = 1


def draws_by_itself():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x + torch.randn(()), 1.0), obs=ONE)


def draws_by_numpy():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x + np.random.randn(), 1.0), obs=ONE)  # noqa: NPY002 - what users do


def a_random_plate():
    with pyro.plate("row", int(torch.randint(3, 50, ()))):
        pyro.sample("x", dist.Normal(0.0, 1.0))


def scaled_apart():
    p = pyro.sample("p", dist.Beta(1.0, 1.0))
    c = pyro.sample("c", dist.Bernoulli(p))
    with pyro.poutine.scale(scale=3.0):
        pyro.sample("y", dist.Normal(c, 1.0), obs=ONE)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (no_latents, "no_latents has no continuous latents, it draws nothing that is not observed"),
        (all_summed_out, "every latent is summed out"),
        (a_count, "a_count: discrete site 'count' (Poisson) has no gradient"),
        (twice, "'x'"),
        (a_part, "plate 'row' takes 10 of 100 rows"),
        (comes_and_goes, "site 'z' is in one run and not in the next"),
        (grows, "plate 'row' has shape (2,) in one run and (3,) in the next"),
        (draws_by_itself, "the density of site 'y' is another in each run"),
        (draws_by_numpy, "the density of site 'y' is another in each run"),
        (a_random_plate, "plate 'row' has shape"),
        (scaled_apart, "scaled differently"),
    ],
)
def test_what_cannot_be_sampled_is_refused_by_name(model, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        inference.sample(zoo.program(model), draws=2, chains=2, progress=False)


@pytest.mark.parametrize(
    ("start", "told"),
    [
        ({"tau": -1.0}, "start, site 'tau': -1.0 lies outside"),
        ({"z": torch.zeros(3)}, "start, site 'z': expected shape (8,), got (3,)"),
        ({"ta": 1.0}, "has no site 'ta', did you mean 'tau'?"),
        ({"y": 1.0}, "start: site 'y' of schools is observed there"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(start, told):
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        inference.sample(zoo.program(schools, start=start), draws=2, chains=2, progress=False)
    assert "\n" not in str(error.value)  # Pyro adds the shapes of all sites


def test_a_start_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="start, site 'tau': expected a number or an array of them, got 'wide'"):
        zoo.program(schools, start={"tau": "wide"})


def test_an_improper_prior_is_not_drawn_from():
    for start in ({}, {"x": 1.0}):
        with pytest.raises(ValueError, match="factored: site 'x' has an improper prior, from which nothing"):
            inference.prior(zoo.program(factored, start=start))


@pytest.mark.parametrize("call", [inference.sample, inference.fit])
@pytest.mark.parametrize("options", [{}, {"compile": "off"}])
def test_an_improper_prior_wants_a_start(call, options):
    told = r"factored: site 'x' has an improper prior, .* zoo.program\(model, start={'x': …}\)"
    with pytest.raises(ValueError, match=told):
        call(zoo.program(factored), progress=False, **options)
    for start in ("prior", "jitter"):
        with pytest.raises(ValueError, match=told):
            inference.sample(zoo.program(factored), start=start, draws=2, chains=2, progress=False)


def test_chains_start_around_what_is_given_for_an_improper_prior():
    begun = zoo.program(factored, start={"x": 3.0})
    found = inference.sample(begun, start="prior", draws=500, chains=16, progress=False)
    assert 1 < float(found["x"].mean()) < 4


def test_what_a_fit_would_hold_one_draw_of_is_refused():
    with pytest.raises(ValueError, match="draws_by_numpy draws from the random state of NumPy"):
        inference.fit(zoo.program(draws_by_numpy), progress=False)


@pytest.mark.parametrize("numbers", [[1.0, 2.0], np.ones(2), (1, 2)])
def test_numbers_that_are_no_tensor_are_told(numbers):
    def model(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("row", len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"argument 0 is a .*: pass torch.as_tensor"):
        inference.sample(zoo.program(model), numbers, progress=False)


@pytest.mark.parametrize("name", ["plot", "anomaly", "generate", "effects", "predictions", "forecast", "novelty"])
def test_what_is_of_pairs_says_what_programs_have(name):
    more = {"generate": (3,), "forecast": (None, ONE, 3)}.get(
        name, (ONE,) if name in ("plot", "anomaly") else (None, ONE)
    )
    with pytest.raises(ValueError, match=r"got program\(schools\): programs have fit, .* whose result ArviZ takes"):
        getattr(inference, name)(zoo.program(schools), *more)


def test_a_function_in_the_place_of_a_pair_is_told_to_be_a_program():
    with pytest.raises(ValueError, match=r"a Pyro program goes in as zoo\.program\(model\)"):
        inference.sample(schools, ONE)


@pytest.mark.parametrize("model", [3, "schools", dist.Normal, None])
def test_what_is_no_program_is_refused(model):
    with pytest.raises(ValueError, match="model: expected a function"):
        zoo.program(model)


def test_parameters_of_a_model_are_held_and_leave_no_mark_in_the_store():
    def model():
        loc = pyro.param("loc", lambda: torch.randn(3))
        x = pyro.sample("x", dist.Normal(loc, 1.0).to_event(1))
        pyro.sample("y", dist.Normal(x.sum(), 1.0), obs=ONE)

    pyro.clear_param_store()  # whatever Pyro itself left there in another test
    pyro.param("mine", torch.tensor(2.0))
    try:
        seen = outline(zoo.program(model), (), {})
        assert list(pyro.get_param_store().keys()) == ["mine"]
        assert seen.parameters["loc"].shape == (3,)
        pyro.param("loc", torch.full((3,), 5.0))
        assert outline(zoo.program(model), (), {}).parameters["loc"].tolist() == [5.0, 5.0, 5.0]
    finally:
        pyro.clear_param_store()


def wild():
    """A prior so wide that draws of it are no rates."""
    log_rate = pyro.sample("log_rate", dist.Normal(0.0, 1e6))
    pyro.sample("y", dist.Poisson(log_rate.exp()), obs=torch.tensor(3.0))


def test_a_prior_wider_than_its_likelihood_takes_is_no_fault():
    assert outline(zoo.program(wild), (), {}).size == 1


def test_data_off_the_support_are_refused_by_site():
    def model():
        rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
        pyro.sample("y", dist.Poisson(rate), obs=torch.tensor(-3.0))

    with pytest.raises(ValueError, match="'y'"):
        outline(zoo.program(model), (), {})


def test_an_argument_that_is_no_tensor_is_told_where_the_program_fails_on_it():
    def model(x, y):
        slope = pyro.sample("slope", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(slope * x, 1.0).to_event(1), obs=y)

    x = torch.ones(3)
    with pytest.raises(ValueError, match=r"argument 'y' is a numpy ndarray, and the program fails on it .*as_tensor"):
        inference.sample(zoo.program(model), x, y=np.ones(3), draws=2, chains=2, progress=False)


def test_programs_side_by_side_in_threads_are_what_they_are_alone():
    def work(seed):
        found = inference.sample(zoo.program(schools), draws=3, chains=4, max_warmup=12, seed=seed, progress=False)
        made = inference.predict(zoo.program(schools), found, seed=seed)["y"]
        return torch.cat([found["mu"].flatten(), made.flatten()])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        alone = [work(seed) for seed in range(4)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(work, range(4)))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_a_user_s_random_state_is_left_as_it_was():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    outline(zoo.program(schools), (), {})
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_program_is_called_as_its_function_is_whatever_wraps_it():
    wrapped = pyro.poutine.condition(functools.partial(schools, sigma=ONE), data={"y": ONE})
    again = pyro.poutine.reparam(wrapped, config={})
    found = [zoo.program(model).name for model in (schools, wrapped, again, torch.nn.Linear(1, 1))]
    assert found == ["schools", "schools", "schools", "Linear"]


@pytest.mark.parametrize("start", [None, {"w": [0.1, 0.2, 0.3]}])
def test_a_latent_is_of_the_type_that_its_prior_draws(start):
    def regression(x, y):
        w = pyro.sample("w", dist.Normal(x.new_zeros(3), 10.0).to_event(1))
        pyro.sample("y", dist.Normal(x @ w, 0.5).to_event(1), obs=y)

    x = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    program = zoo.program(regression, start=start)
    assert outline(program, (x, x.sum(1)), {}).dtype == torch.float64
    assert outline(program, (x.float(), x.float().sum(1)), {}).dtype == torch.float32
    found = inference.sample(program, x, x.sum(1), draws=200, chains=16, progress=False)["w"].flatten(0, 1)
    precision = x.T @ x / 0.25 + torch.eye(3) / 100
    mean, cov = torch.linalg.solve(precision, x.T @ x.sum(1) / 0.25), torch.linalg.inv(precision)
    assert ((found.mean(0) - mean).abs() < 4 * cov.diagonal().sqrt() / 300**0.5).all()
