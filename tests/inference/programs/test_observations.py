"""Observed values outside of their support, or NaN, are refused at every door; those that only look so are not."""

import re

import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
import zoo
from inference.programs.outline import outline
from inference.running.quiet import quietly

NAN = float("nan")
INF = float("inf")
T = torch.tensor
SEEN = T([True, False, True])


class Censored(dist.Normal):
    """Above 1 is said to be infinite."""

    def __init__(self, loc, validate_args=None):
        super().__init__(loc, 1.0, validate_args=validate_args)

    def expand(self, shape, _instance=None):
        return Censored(self.loc.expand(shape))

    def log_prob(self, value):
        above = (1 - self.cdf(T(1.0))).log()
        return torch.where(value.isinf(), above, super().log_prob(value.clamp(max=9.0)))


def observing(kind, **options):
    """A program that observes y under a distribution made from a positive latent."""

    def rated(y):
        rate = pyro.sample("rate", dist.Gamma(1.0, 1.0))
        pyro.sample("y", kind(rate), obs=y, **options)

    return zoo.program(rated)


def hidden_chain(rate):
    return dist.DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Poisson(rate * T([1.0, 2.0])))


def by_state(_):
    return dist.DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Uniform(0.0, T([1.0, 9.0])))


def pieces(rate):
    return dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), dist.Exponential(torch.stack([rate, 2 * rate])))


@pytest.mark.parametrize(
    ("kind", "y", "told"),
    [
        (
            dist.Exponential,
            T([1.0, -1.0]),
            "index [1]: -1.0 is observed, which lies outside the support",
        ),
        (dist.Exponential, T(-1.0), "site 'y': -1.0 is observed"),
        (lambda r: dist.Poisson(r).expand([2]).to_event(1), T([1.5, 1.0]), "index [0]: 1.5 is observed"),
        (lambda r: dist.Bernoulli(r / (1 + r)), T([1.0, 2.0, 2.0, 1.0]), "index [1]: 2.0 is observed"),
        (lambda _: dist.Categorical(torch.ones(3)), T([1, 3]), "IntegerInterval(lower_bound=0, upper_bound=2)"),
        (lambda _: dist.Categorical(torch.ones(3)), T([1, 2, -1]), "index [2]: -1 is observed"),
        (lambda r: dist.Binomial(T([3.0, 4.0]), r / (1 + r)), T([3.0, 5.0]), "(lower_bound=0, upper_bound=4.0)"),
        (lambda r: dist.Dirichlet(torch.ones(3) * r), T([0.25, 0.25, 0.75]), "the support of Dirichlet, Simplex"),
        (lambda _: dist.Uniform(0.0, T([5.0, 6.0])), T([3.0, 7.0]), "index [1]: 7.0 is observed"),
        (lambda r: dist.LogNormal(r, 1.0).expand([3]).mask(SEEN), T([5.0, NAN, -1.0]), "index [2]: -1.0 is observed"),
        (pieces, T([3.0, -1.0]), "index [1]: -1.0 is observed"),
        (hidden_chain, T([0.0, 1.0, -1.0]), "index [2]: -1.0 is observed"),
        (lambda r: dist.Normal(r, 1.0), T([1.0, NAN]), "index [1]: NaN is observed. obs_mask=…"),
        (lambda r: dist.Normal(r, 1.0), T([1.0, INF]), "index [1]: inf is observed, of which the density is 0"),
        (lambda r: dist.Gamma(r, 1.0).expand([2]).to_event(1), T([1.0, INF]), "index [1]: inf is observed"),
        (lambda r: dist.MultivariateNormal(torch.zeros(2), r * torch.eye(2)), T([[1.0, -INF]]), "index [0, 1]: -inf"),
        (lambda r: dist.Uniform(-r, r).expand([2]), T([0.0, NAN]), "index [1]: NaN is observed"),
        (lambda r: dist.MultivariateNormal(torch.zeros(2), r * torch.eye(2)), T([[1.0, NAN]]), "index [0, 1]: NaN"),
    ],
)
def test_a_value_outside_of_its_support_is_told_by_index(kind, y, told):
    with quietly(0), pytest.raises(ValueError, match=re.escape(told)) as error:
        outline(observing(kind), (y,), {})
    assert "site 'y'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("validating", [True, False])
@pytest.mark.parametrize(
    ("kind", "y"),
    [
        (lambda r: dist.Uniform(-r, r).expand([3]), T([5.0, 0.0, 1.0])),  # may move to where they are
        (lambda r: dist.Bernoulli(r / (1 + r), validate_args=False).expand([2]).to_event(1), T([0.5, 0.2])),
        (lambda r: dist.Normal(r, 1.0).expand([3]).mask(SEEN).to_event(1), T([0.5, NAN, 0.2])),
        (lambda r: dist.LogNormal(r, 1.0).expand([3]).mask(SEEN), T([0.5, -1.0, 0.2])),
        (Censored, T([0.5, INF])),
        (lambda r: dist.ZeroInflatedPoisson(r, gate=T(0.5)), T([0.0, 2.0])),
        (lambda r: dist.Multinomial(4, torch.ones(3) * r), T([3.0, 1.0, 0.0])),
        (hidden_chain, T([0.0, 2.0, 1.0])),
        (
            lambda r: dist.DiscreteHMM(torch.zeros(2), torch.zeros(2, 2), dist.Uniform(0.0, T([1.0, 9.0]))),
            T([2.0, 0.5]),
        ),
    ],
)
def test_what_may_be_observed_is_not_refused(kind, y, validating):
    before = pyro.distributions.is_validation_enabled()
    pyro.distributions.enable_validation(validating)
    try:
        found = outline(observing(kind), (y,), {}, sampled=False)
    finally:
        pyro.distributions.enable_validation(before)
    assert list(found.observed) == ["y"]


def test_a_support_that_a_start_or_a_class_decides_is_not_refused():
    def bounded(y):
        top = pyro.sample("top", dist.Uniform(0.0, 10.0))
        which = pyro.sample("which", dist.Categorical(torch.ones(3)))
        pyro.sample("y", dist.Uniform(0.0, top).expand([1]), obs=y)
        pyro.sample("z", dist.Uniform(0.0, T([1.0, 2.0, 9.0])[which]), obs=y[0])

    outline(zoo.program(bounded, start={"top": 1.0}), (T([8.0]),), {}, sampled=False)


def test_cells_that_obs_mask_leaves_out_may_be_anything():
    program = observing(lambda r: dist.Exponential(r).expand([3]), obs_mask=SEEN)
    outline(program, (T([1.0, NAN, 2.0]),), {}, sampled=False)
    with pytest.raises(ValueError, match=re.escape("site 'y', index [0]: NaN is observed")):
        outline(program, (T([NAN, 1.0, 2.0]),), {}, sampled=False)


def test_every_door_refuses_before_work():
    program, good, wrong = observing(dist.Exponential), T([1.0, 2.0]), T([1.0, -1.0])
    found = inference.prior(program, good, draws=30)
    doors = [
        lambda: inference.sample(program, wrong, draws=2, chains=2, progress=False),
        lambda: inference.fit(program, wrong, steps=1, progress=False),
        lambda: inference.draw(program, wrong, draws=2),
        lambda: inference.khat(program, wrong, draws=100),
        lambda: inference.prior(program, wrong),
        lambda: inference.predict(program, found, wrong),
        lambda: inference.log_likelihood(program, found, wrong),
        lambda: inference.log_score(program, found, wrong),
        lambda: inference.loo(program, found, wrong),
        lambda: inference.to_arviz(program, found, wrong),
        lambda: inference.infer(program, wrong, progress=False),
        lambda: inference.log_evidence(program, wrong),
    ]
    for door in doors:
        with pytest.raises(ValueError, match=r"-1\.0 is observed, which lies outside the support of Exponential"):
            door()


@pytest.mark.parametrize("how", ["obs_mask", "poutine", "mask"])
def test_cells_that_are_missing_may_be_nan(how):
    """mu | y ~ Normal(sum of those seen / (N + 1/25), 1 / (N + 1/25)) of the N that are seen."""
    y = T([1.0, NAN, 2.0, 4.0, NAN]).double()

    def model(y, seen):
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        kind = dist.Normal(mu, 1.0)
        with pyro.plate("row", len(y)):
            if how == "obs_mask":
                pyro.sample("y", kind, obs=y, obs_mask=seen)
            elif how == "mask":
                pyro.sample("y", kind.expand(y.shape).mask(seen), obs=y)
            else:
                with pyro.poutine.mask(mask=seen):
                    pyro.sample("y", kind, obs=y)

    found = inference.sample(zoo.program(model), y, ~y.isnan(), draws=500, chains=16, progress=False)["mu"]
    precision = 3 + 1 / 25
    assert float(found.mean()) == pytest.approx(7 / precision, abs=5 * (precision * 4000) ** -0.5)
    assert float(found.std()) == pytest.approx(precision**-0.5, rel=0.06)
    program = zoo.program(model, guide="normal")
    inference.fit(program, y, ~y.isnan(), steps=300, progress=False)
    assert float(inference.draw(program, y, ~y.isnan())["mu"].mean()) == pytest.approx(7 / precision, abs=0.1)
