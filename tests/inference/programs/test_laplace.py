"""Pyro's `AutoLaplaceApproximation`: draws are of the curvature at its point, exact where the posterior is normal."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.autoguide import AutoLaplaceApproximation, init_to_value

import inference
import zoo
from tests.helpers.programs import conjugate, noise

Y = noise(12) + 2


@pytest.fixture(autouse=True)
def _store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def test_draws_have_the_spread_of_a_normal_posterior():
    """mu | y ~ Normal(sum(y) / (N + 1/25), 1 / (N + 1/25)), which its curvature tells exactly."""
    program = zoo.program(conjugate, guide=AutoLaplaceApproximation)
    inference.fit(program, Y, steps=1500, lr=0.02, progress=False)
    mu = inference.draw(program, Y, draws=10_000)["mu"]
    precision, count = len(Y) + 1 / 25, 10_000
    assert float(mu.std()) == pytest.approx(precision**-0.5, rel=5 / (2 * count) ** 0.5)
    assert float(mu.mean()) == pytest.approx(float(Y.sum() / precision), abs=0.05 * precision**-0.5)
    assert inference.khat(program, Y, draws=2000).share > 0.99  # p and q are the same


def squared():
    x = pyro.sample("x", dist.Normal(0.0, 10.0))
    pyro.sample("y", dist.Normal(x**2, 1.0), obs=torch.tensor(4.0))


def test_a_point_that_is_no_maximum_is_refused():
    at_zero = init_to_value(values={"x": torch.tensor(0.0)})  # a minimum between the modes -2 and 2
    program = zoo.program(squared, guide=AutoLaplaceApproximation(squared, init_loc_fn=at_zero))
    with pytest.raises(ValueError, match=r"squared: the curvature at the point .* is not positive definite"):
        inference.draw(program, draws=5)


def test_a_curvature_is_of_all_rows_where_a_plate_takes_a_part():
    """As above, wherever the point is: the curvature is the same everywhere."""

    def some(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("row", len(y), subsample_size=4) as rows:
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y[rows])

    mu = inference.draw(zoo.program(some, guide=AutoLaplaceApproximation), Y, draws=2000)["mu"]
    assert float(mu.std()) == pytest.approx((len(Y) + 1 / 25) ** -0.5, rel=5 / 4000**0.5)


def test_a_curvature_that_cannot_be_told_is_said():
    def some(y):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        with pyro.plate("row", 100, subsample_size=len(y)):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y)

    program = zoo.program(some, guide=AutoLaplaceApproximation)
    with pytest.warns(UserWarning, match="some: plate 'row' takes a part of its rows, so the curvature .* that point"):
        mu = inference.draw(program, Y, draws=5)["mu"]
    assert float(mu.std()) == 0
