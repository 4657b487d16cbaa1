"""What fails in a user's model or guide keeps its type and words, and says where: site, plate, argument."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo

ROWS = torch.linspace(-1, 1, 5)


@pytest.fixture(autouse=True)
def _store():
    pyro.clear_param_store()
    yield
    pyro.clear_param_store()


def rows(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def twelve(y):
    mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
    with pyro.plate("row", 12):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def beyond(y):
    mu = pyro.sample("mu", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(mu[4], 1.0), obs=y)


def keyed(y):
    scale = pyro.sample("scale", dist.HalfNormal(1.0))
    pyro.sample("y", dist.Normal(0.0, scale), obs={"z": y}["y"])


@pytest.mark.parametrize("function", [inference.sample, inference.fit])
@pytest.mark.parametrize(
    ("model", "argument", "kind", "told"),
    [
        (twelve, ROWS, (RuntimeError, ValueError), "at site 'y' in plate 'row', whose value has shape (5,), its "),
        (rows, "abc", (TypeError, ValueError), "at site 'y' in plate 'row', whose value is a str"),
        (rows, {1.0, 2.0}, (TypeError, ValueError), "whose value is a set, its distribution shape (2,)"),
        (rows, None, TypeError, "has no len(), in rows, after site 'mu'; argument 'y' is None"),
        (beyond, ROWS, IndexError, "index 4 is out of bounds for dimension 0 with size 3, in beyond, after site 'mu'"),
        (keyed, ROWS, KeyError, "y, in keyed, after site 'scale'"),
    ],
)
def test_what_fails_in_a_model_says_where(function, model, argument, kind, told):
    with pytest.raises(kind, match=re.escape(told)) as error:
        function(zoo.program(model), argument, progress=False)
    assert "Trace Shapes" not in str(error.value)


@pytest.mark.parametrize("function", [inference.sample, inference.fit, inference.prior])
def test_an_empty_plate_is_refused_by_name(function):
    with pytest.raises(ValueError, match="rows: plate 'row' is empty, its size is 0"):
        function(zoo.program(rows), torch.zeros(0))


def scaled(y):
    t = pyro.sample("t", dist.HalfNormal(1.0))
    v = pyro.sample("v", dist.Normal(torch.zeros(3), 1.0).to_event(1))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(v[2], t), obs=y)


def guide_of(t, v):
    def guide(y):
        loc = pyro.param("loc", torch.tensor(0.5))
        pyro.sample("t", t(loc))
        pyro.sample("v", v(loc))

    return guide


def vector(size):
    return lambda loc: dist.Normal(loc * torch.ones(size), 1.0).to_event(1)


def failing(loc):
    raise LookupError(f"nothing at {float(loc)}")


@pytest.mark.parametrize(
    ("t", "v", "kind", "told"),
    [
        (
            lambda loc: dist.Normal(loc, 1.0),
            vector(3),
            ValueError,
            "guide draws 't' from Normal with values such as",
        ),
        (lambda loc: dist.Normal(loc - 9, 1.0), vector(3), ValueError, "outside of the support that the program gives"),
        (lambda loc: dist.LogNormal(loc, 1.0), vector(2), ValueError, "draws 'v' in shape (2,), the program in (3,)"),
        (lambda loc: dist.LogNormal(loc, 1.0), failing, LookupError, "at 0.5, in the guide of scaled, after site 't'"),
    ],
)
def test_a_guide_that_does_not_fit_is_told_by_its_site(t, v, kind, told):
    with pytest.raises(kind, match=re.escape(told)) as error:
        inference.fit(zoo.program(scaled, guide=guide_of(t, v)), ROWS, steps=2, progress=False)
    assert "\n" not in str(error.value)


def test_a_guide_of_a_moving_support_is_not_refused():
    def ordered():
        low = pyro.sample("low", dist.Uniform(0.0, 9.0))
        pyro.sample("high", dist.Uniform(low, 10.0))

    def guide():  # the other way round: another high may lie below this low
        high = pyro.sample("high", dist.Uniform(0.0, pyro.param("most", torch.tensor(8.0))))
        pyro.sample("low", dist.Uniform(0.0, high))

    inference.fit(zoo.program(ordered, guide=guide), steps=2, progress=False)
