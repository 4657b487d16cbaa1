"""Data that were checked once: whether all is there that a pair observes, and its latents by kind."""

import pytest
import torch

import zoo
from inference.data.check import check


def test_what_lacks_a_response_is_looked_at_again_where_it_is_needed():
    pair = zoo.create("polynomial_regression", features=2)
    covariates = zoo.Batch.of(torch.rand(5, 2))
    without = check(pair, covariates, complete=False)
    assert not without.complete
    assert check(pair, without, complete=False) is without
    with pytest.raises(ValueError, match=r"needs field 'y'.*given: x"):
        check(pair, without)
    whole = check(pair, covariates.but(y=torch.rand(5)))
    assert whole.complete
    assert check(pair, whole) is whole


@pytest.mark.parametrize(
    ("name", "observed", "globals_", "locals_", "continuous"),
    [
        ("polynomial_regression", {"y"}, {"variance", "coefficients"}, set(), False),
        ("gmm", {"x"}, {"weights", "locs", "scales", "correlations"}, {"component"}, False),
        ("gaussian_vae", {"x"}, set(), {"z"}, True),
    ],
)
def test_sites_are_told_apart(name, observed, globals_, locals_, continuous):
    pair = zoo.create(name)
    found = check(pair, pair.simulate(4)[0])
    assert (set(found.observed), set(found.globals), set(found.locals)) == (observed, globals_, locals_)
    assert found.continuous_locals == continuous
    assert found.size == 4
    assert found.complete
