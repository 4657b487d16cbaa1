"""Numbers among the arguments of a pair: bounded by what their annotation says, and by nothing else."""

from __future__ import annotations

import math
import typing
from typing import Annotated

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import zoo
from zoo.base import ModelGuide, registered
from zoo.config import AtLeast, Positive, hints


class Own(ModelGuide):
    def __init__(
        self,
        far: float,
        loc: float = 0.0,
        low: float = -3.0,
        high: float = 1.0,
        scale: Positive = 1.0,
        share: Annotated[float, AtLeast(0)] = 0.5,
        shift: Annotated[float, AtLeast(-math.inf)] = 2.0,
        lag: int = 0,
        size: int = 2,
        other: float | None = None,
        third: Positive | None = None,
        pair: Annotated[int, AtLeast(2)] = 2,
        guide: zoo.guides.Family = "normal",
    ) -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch):
        loc = pyro.sample("loc", dist.Normal(self.zero, 1.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(loc, 1.0), obs=batch.x)


TAKEN = {
    "far": -7,
    "loc": -2.5,
    "low": 4,
    "high": -2.5,
    "scale": 1e-9,
    "share": 0,
    "shift": -1.0,
    "lag": -3,
    "size": 1,
    "other": -1.0,
    "third": None,
    "pair": 2,
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_number_within_its_bound_is_taken(name):
    config = Own(**{"far": 1.0, name: TAKEN[name]}).config
    assert config[name] == TAKEN[name]
    assert config[name] is None or type(config[name]) is (int if name in ("lag", "size", "pair") else float)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("far", math.nan, "expected a finite number, got nan"),
        ("loc", math.inf, "expected a finite number, got inf"),
        ("loc", "a", "expected a number, got 'a'"),
        ("loc", True, "expected a number, got True"),
        ("scale", 0, "expected a finite number above 0, got 0"),
        ("share", -0.1, "expected a finite number of at least 0, got -0.1"),
        ("lag", 0.5, "expected a whole number, got 0.5"),
        ("size", 0, "expected at least 1, got 0"),
        ("high", -math.inf, "expected a finite number, got -inf"),
        ("high", 10**400, "expected a finite number, got one of 401 digits"),
        ("lag", 10**30, "expected a whole number that 64 bits hold, got one of 31 digits"),
        ("size", -(10**30), "expected a whole number that 64 bits hold, got one of 31 digits"),
        ("third", -1.0, "expected a finite number above 0, got -1.0"),
        ("third", "a", "expected a number, got 'a'"),
        ("pair", 1, "expected a whole number of at least 2, got 1"),
    ],
)
def test_a_number_out_of_its_bound_is_refused(name, value, words):
    with pytest.raises(ValueError, match=f"Own: argument '{name}': {words}"):
        Own(**{"far": 1.0, name: value})


# Scales, rates, concentrations, degrees of freedom: their densities are defined above 0 only.
POSITIVE = """
    bayesian_vae weight_scale
    bayesian_network concentration coefficient_count variance_concentration variance_rate
    gmm concentration loc_scale scale correlation
    naive_bayes class_concentration category_concentration loc_count variance_concentration variance_rate mean_scale
    decision_tree sparsity sharpness leaf_scale leaf_concentration
    polynomial_regression df coefficient_scale noise_concentration noise_rate noise_scale
    random_forest sparsity sharpness leaf_scale
    support_vector_machine gamma cost intercept_scale
    autoregressive intercept_scale coefficient_scale noise_concentration noise_rate noise_scale
    hmm concentration loc_scale scale correlation rate
"""
ARGUMENTS = [(name, key) for name, *keys in map(str.split, POSITIVE.strip().splitlines()) for key in keys]


@pytest.mark.parametrize(("name", "key"), ARGUMENTS)
def test_what_must_be_positive_is(name, key):
    for value in (0, -1.0, math.nan, math.inf):
        with pytest.raises(
            ValueError, match=f"{name}: argument '{key}': expected a finite number above 0, got {value}"
        ):
            zoo.create(name, **{key: value})


def test_these_are_all_numbers_of_all_pairs():
    found = {
        (name, key)
        for name in zoo.names()
        if registered(name).__module__.startswith("zoo.")
        for key, hint in hints(registered(name).__init__).items()
        if float in (hint, *typing.get_args(hint))
    }
    assert found == {*ARGUMENTS, ("hmm", "persistence")}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gmm", {"components": np.int64(3), "scale": np.float32(2), "loc_scale": np.int32(4)}),
        ("gaussian_vae", {"features": np.uint8(4), "hidden": [np.int64(3), np.int16(2)]}),
        ("polynomial_regression", {"features": np.int64(3), "interactions": np.True_, "df": np.float64(4.5)}),
        ("autoregressive", {"order": np.int64(1), "seasonal": np.int64(12), "noise_scale": np.longdouble(2)}),
    ],
)
def test_a_scalar_of_numpy_is_the_number_that_it_is(name, given, tmp_path):
    plain = {
        key: [v.item() for v in value] if isinstance(value, list) else value.item() for key, value in given.items()
    }
    plain = {key: float(value) if isinstance(value, np.longdouble) else value for key, value in plain.items()}
    torch.manual_seed(0)
    pair = zoo.create(name, **given)
    torch.manual_seed(0)
    other = zoo.create(name, **plain)
    assert repr(pair.config) == repr(other.config)  # np.int64(3) has a repr of its own
    for mine, theirs in zip(pair.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    folder, expected = pair.save(tmp_path / "a"), other.save(tmp_path / "b")
    assert (folder / "config.json").read_text() == (expected / "config.json").read_text()
    assert zoo.load(folder).config == other.config


def test_no_other_scalar_of_numpy_is_a_number():
    for value in (np.True_, np.float64(3), np.array([3]), np.str_("3"), np.datetime64("2020")):
        with pytest.raises(ValueError, match=r"gmm: argument 'components': expected a whole number, got"):
            zoo.create("gmm", components=value)
    with pytest.raises(ValueError, match=r"components=1,000,000,000.*: takes more than"):
        zoo.create("gmm", components=np.int64(10**9))  # as of Python's own: refused before it is made
    with pytest.raises(
        ValueError, match=r"'components': expected a whole number that 64 bits hold, got one of 5001 digits"
    ):
        zoo.create("gmm", components=10**5000)


def test_no_persistence_is_the_flat_prior():
    pair = zoo.create("hmm", persistence=0, states=3, concentration=2.0)
    np.testing.assert_array_equal(pair.moves.numpy(), np.full((3, 3), 2.0))
    with pytest.raises(ValueError, match="'persistence': expected a finite number of at least 0, got -1"):
        zoo.create("hmm", persistence=-1)


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("autoregressive", {}, {"intercept_scale": 1.0, "coefficient_scale": 5.0}),
        ("autoregressive", {"prior": "independent"}, {"coefficient_scale": 0.5}),
        ("autoregressive", {"seasonal": 7}, {"seasonal_order": 1}),
        ("bayesian_vae", {"likelihood": "binomial"}, {"trials": 16}),
        ("gaussian_vae", {"features": 4, "likelihood": "binomial"}, {"trials": 16}),
        ("gaussian_vae", {"features": 4, "likelihood": "beta_binomial"}, {"trials": 255}),
        ("gaussian_vae", {"features": 4, "likelihood": "categorical"}, {"trials": 255}),
        ("gaussian_vae", {"features": 4, "prior": "vamp"}, {"components": 50}),
        ("polynomial_regression", {"features": 3}, {"degree": 3, "interactions": True}),
        ("polynomial_regression", {"features": 3, "interactions": False}, {"degree": 2}),
        ("polynomial_regression", {"features": 4}, {"degree": 2, "interactions": False}),
        ("polynomial_regression", {"features": 4, "degree": 2}, {"interactions": True}),
        ("recurrent", {}, {"categories": 8}),
        ("recurrent", {"alphabet": "abc"}, {"categories": 3}),
        ("support_vector_machine", {"features": 4, "kernel": "rbf"}, {"gamma": 0.25}),
    ],
)
def test_what_is_left_out_is_what_the_docstring_says_it_is_by_default(name, config, said):
    assert all(value is None for key, value in zoo.create(name, **config).config.items() if key in said)
    states, draws = [], []
    for more in ({}, said):
        torch.manual_seed(0)
        pair = zoo.create(name, **config, **more)
        states.append(pair.state_dict())
        draws.append(pair.simulate(5)[0].fields())
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=0, atol=0, equal_nan=True)
    assert draws[0].keys() == draws[1].keys()
    for key, value in draws[0].items():
        torch.testing.assert_close(value, draws[1][key], rtol=0, atol=0, equal_nan=True)
