"""Options that a fit can do nothing with are refused by name before anything is touched; so are seeds and pairs."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

import inference
import zoo
from zoo.base import registered

REFUSED = {
    "steps": (2.5, 0, -1, True, "3", math.inf, 10**30),
    "batch_size": (2.5, 0, True, "a", 10**30),
    "particles": ("a", 0, 1.5, 10**30),
    "max_steps": (None, 0, 2.5, 10**30),
    "patience": (None, 0, 2.5, 10**30),
    "epochs": (0, -1.0, math.nan, "a", True, 10**30),
    "lr": (0, -1.0, math.inf, "a", 10**30),
    "clip": (0, "a", math.nan, 10**30),
    "anneal": (-1, "a", 2.5, None, 10**30),
    "free_bits": (-1, "a", math.nan, None, 10**30),
    "average": (-0.1, 1.5, "a", math.nan, 10**30),
    "tolerance": (-1, "a", math.nan, 10**30),
    "method": ("sv", None, 3),
    "schedule": ("cos", None),
    "objective": ("elb", None),
    "compile": ("inductors", True),
    "initialise": ("a", 2),
    "progress": ("a", None),
    "callbacks": (3, [3], print),
    "loggers": (3, [3], print),
    "log_every": (0, None, 2.5),
    "max_seconds": (0, -1.0, math.inf, "a", True),
    "device": ("x", 7.5, "meta", "mps", "xla", "cuda:99", 10**30, -(10**30)),
    "validation": (True, None, 1.0, -0.1, math.nan, np.float32(1.5), 10**400),
    "seed": (None, "3", 2.5, True, [3], math.nan, 2**64),
}


def regression():
    torch.manual_seed(0)
    pair = zoo.create("polynomial_regression", degree=2).double()
    x = torch.linspace(3, 9, 20, dtype=torch.float64)[:, None]
    return pair, zoo.Batch.of(x=x, y=x[:, 0] ** 2)


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_is_refused_by_name_and_nothing_is_touched(name):
    pair, data = regression()
    before, random = copy.deepcopy(pair.state_dict()), torch.get_rng_state()
    for value in REFUSED[name]:
        options = {"steps": 2, "progress": False, "compile": "off"} | {name: value}
        options.pop("steps") if name == "epochs" else None
        with pytest.raises(ValueError, match=f"^{name}: (expected|'.*' was asked for)"):
            inference.fit(pair, data, **options)
    assert pair.training
    assert not pair.fitted
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[key]) for key, value in pair.state_dict().items())


def test_numbers_of_numpy_are_numbers():
    pair, data = regression()
    options = {"progress": False, "compile": "off"}
    fit = inference.fit(pair, data, steps=np.int64(3), lr=np.float32(0.01), seed=np.int32(1), **options)
    assert fit.steps == 3
    three = np.int64(3)
    posterior = inference.draw(pair, data, three)
    assert posterior["coefficients"].shape[:2] == (1, 3)
    assert inference.predict(pair, posterior, data, draws=np.int32(2))["y"].shape == (1, 2, 20)
    assert inference.prior(pair, data, three)["coefficients"].shape[:2] == (1, 3)
    assert inference.generate(pair, three)["y"].shape == (3,)


@pytest.mark.parametrize("wrong", [None, "gmm", registered("gmm"), 3])
def test_what_is_no_pair_is_told_so(wrong):
    _, data = regression()
    for call in (inference.fit, inference.draw, inference.khat, inference.prior):
        with pytest.raises(ValueError, match=r"expected a pair, such as zoo\.create\('gmm'\) makes, got"):
            call(wrong, data)
    with pytest.raises(ValueError, match="expected the name of a model"):
        zoo.create(None)


@pytest.mark.parametrize("seed", [None, "3", 2.5, True, [3], math.nan, -(2**63) - 1])
def test_a_seed_is_a_whole_number_everywhere(seed):
    pair, data = regression()
    random = torch.get_rng_state()
    posterior = inference.draw(pair, data, 5)
    for call in (
        lambda: inference.draw(pair, data, 5, seed=seed),
        lambda: inference.prior(pair, data, 5, seed=seed),
        lambda: inference.predict(pair, posterior, data, seed=seed),
        lambda: inference.khat(pair, data, seed=seed),
        lambda: inference.generate(pair, 5, seed=seed),
        lambda: inference.sample(pair, data, 5, seed=seed),
    ):
        with pytest.raises(ValueError, match=r"^seed: expected a whole number"):
            call()
    assert torch.equal(random, torch.get_rng_state())


YES = {  # option that is true or false -> how it is given
    "draw stats": lambda pair, data, posterior, value: inference.draw(pair, data, 3, stats=value),
    "assignments new": lambda pair, data, posterior, value: inference.assignments(pair, posterior, data, new=value),
    "smooth mean": lambda pair, data, posterior, value: inference.smooth(pair, posterior, data, mean=value),
    "sample progress": lambda pair, data, posterior, value: inference.sample(pair, data, 2, 4, progress=value),
    "fit_by_simulation progress": lambda pair, data, posterior, value: inference.fit_by_simulation(
        pair, steps=2, progress=value
    ),
}


@pytest.mark.parametrize("call", YES)
def test_what_is_true_or_false_is_nothing_else(call):
    pair = zoo.create("gmm")
    data = pair.simulate(6)[0]
    posterior = inference.prior(pair, data, 3)
    for value in ("5", math.nan, [5], None, 1, 10**5000):
        with pytest.raises(ValueError, match=f"^{call.split()[1]}: expected True or False, got"):
            YES[call](pair, data, posterior, value)


@pytest.mark.parametrize(
    "value",
    [[5], "5", {"a": 1}, (1, 2, 3), np.ones((3, 4)), zoo.Batch.of(x=np.ones((2, 3)))],
    ids=lambda value: type(value).__name__,
)
def test_rows_held_out_that_do_not_fit_are_told_by_the_name_of_the_option(value):
    pair = zoo.create("gmm")
    for data in (np.random.default_rng(0).normal(size=(9, 2)), pair.simulate(9)[0]):
        with pytest.raises(ValueError, match=r"^validation: "):
            inference.fit(pair, data, steps=2, validation=value, progress=False, compile="off")
