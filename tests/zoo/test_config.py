"""Numbers among the arguments of a pair: bounded by what their annotation or their default says."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import zoo
from zoo.base import ModelGuide
from zoo.config import AtLeast


class Own(ModelGuide):
    def __init__(
        self,
        far: float,
        loc: float = 0.0,
        low: float = -3.0,
        scale: float = 1.0,
        share: Annotated[float, AtLeast(0)] = 0.5,
        shift: Annotated[float, AtLeast(-math.inf)] = 2.0,
        lag: int = 0,
        size: int = 2,
        other: float | None = None,
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
    "scale": 1e-9,
    "share": 0,
    "shift": -1.0,
    "lag": -3,
    "size": 1,
    "other": None,
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_number_within_its_bound_is_taken(name):
    config = Own(**{"far": 1.0, name: TAKEN[name]}).config
    assert config[name] == TAKEN[name]
    assert config[name] is None or type(config[name]) is (int if name in ("lag", "size") else float)


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
        ("other", -1.0, "expected a finite number above 0, got -1.0"),
    ],
)
def test_a_number_out_of_its_bound_is_refused(name, value, words):
    with pytest.raises(ValueError, match=f"Own: argument '{name}': {words}"):
        Own(**{"far": 1.0, name: value})


def test_no_persistence_is_the_flat_prior():
    pair = zoo.create("hmm", persistence=0, states=3, concentration=2.0)
    np.testing.assert_array_equal(pair.moves.numpy(), np.full((3, 3), 2.0))
    with pytest.raises(ValueError, match="'persistence': expected a finite number of at least 0, got -1"):
        zoo.create("hmm", persistence=-1)
