"""Sites of a user's own model that inference would pass over, or stumble on, are refused by name, at every door."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import inference
from tests.helpers.pairs import Normal
from zoo.base import Batch

X = np.random.default_rng(0).normal(3, 1, size=20)


class Renamed(Normal):
    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
        with batch.plate():
            return pyro.sample("obs", dist.Normal(loc, 1.0), obs=batch.x)


class HalfRenamed(Normal):
    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
        with batch.plate():
            x = pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)
            pyro.sample("v", dist.Normal(loc, 0.01), obs=batch.y)
            return x


class Twice(Normal):
    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
        with batch.plate():
            x = pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)
            pyro.sample("v", dist.Normal(loc, 1.0), obs=None if batch.x is None else 2 * batch.x)
            return x


class Constant(Normal):
    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
        pyro.sample("extra", dist.Normal(loc, 1.0), obs=self.zero)
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)


class Factor(Normal):
    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
        pyro.factor("penalty", -loc.square())
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)


class Groups(Normal):
    def model(self, batch):
        with pyro.plate("groups", 3):
            a = pyro.sample("a", dist.Normal(self.zero, 10.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(a.mean(), 1.0), obs=batch.x)


class Nested(Normal):
    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
        with batch.plate():
            with pyro.plate("parts", 3, dim=-2):
                pyro.sample("z", dist.Normal(loc, 1.0))
            return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)


REFUSED = {
    Renamed: (X, "site 'obs' observes field 'x' under another name"),
    HalfRenamed: (Batch.of(x=X, y=X), "site 'v' observes field 'y' under another name"),
    Twice: (X, "site 'v' is observed, and no field of a batch has that name"),
    Constant: (X, "site 'extra' is observed, and no field of a batch has that name"),
    Factor: (X, "site 'penalty' is a pyro.factor, which is not supported"),
    Groups: (X, r"site 'a', outside the plate 'data', has batch dimensions \(3,\) of its own"),
    Nested: (X, r"site 'z', inside the plate 'data', has batch dimensions \(3,\) of its own"),
}
CALLS = {
    "fit": lambda pair, data: inference.fit(pair, data, steps=2, progress=False, compile="off"),
    "sample": lambda pair, data: inference.sample(pair, data, 2, 4, max_warmup=2, progress=False),
    "draw": lambda pair, data: inference.draw(pair, data, 3),
    "prior": lambda pair, data: inference.prior(pair, data, 3),
    "predict": lambda pair, data: inference.predict(pair, LOC, data),
    "log_likelihood": lambda pair, data: inference.log_likelihood(pair, LOC, data),
    "khat": inference.khat,
    "to_arviz": lambda pair, data: inference.to_arviz(pair, LOC, data),
}
LOC = inference.Posterior({"loc": torch.zeros(1, 4)}, size=4)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_such_a_site_is_refused_by_name_at_every_door(make, call):
    data, words = REFUSED[make]
    pair = make().double()
    batch = data if isinstance(data, Batch) else Batch.of(x=data)
    for given in (data, batch):
        with pytest.raises(ValueError, match=words):
            CALLS[call](pair, given)
    assert not pair.fitted


def test_without_data_too():
    for make, words in ((Renamed, r"no site is named after a field .*; sites: 'loc', 'obs'"), (Factor, "'penalty'")):
        for call in (inference.generate, inference.prior):
            with pytest.raises(ValueError, match=words):
                call(make(), 3)


def test_data_of_a_wrong_shape_for_such_a_model_do_not_fail_below():
    with pytest.raises(ValueError, match="Renamed"):
        inference.fit(Renamed(), np.ones((4, 3, 2)), steps=2, progress=False)


def test_the_same_model_with_its_site_named_after_the_field_has_the_closed_form_posterior():
    class Named(Normal):
        def model(self, batch):
            loc = pyro.sample("loc", dist.Normal(self.zero, 10.0))
            with batch.plate():
                return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)

    draws = inference.sample(Named().double(), X, 500, 4, compile="graph", progress=False)["loc"]
    precision = 1 / 10**2 + len(X)
    assert abs(float(draws.mean()) - X.sum() / precision) < 0.15 * precision**-0.5
    assert float(draws.std()) == pytest.approx(precision**-0.5, rel=0.15)
