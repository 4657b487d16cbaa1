"""Codes that say nothing are found, counted and announced."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

import zoo
from inference.codes.collapse import CollapseWarning, active_units, code_kl, collapsed
from inference.codes.encoding import encode
from tests.helpers.codes import TwoLevels, linear


def planted(dead):
    """A linear pair at its exact posterior whose decoder does not use the dimensions `dead`."""
    pair, batch = linear()
    with torch.no_grad():
        pair.loading[:, dead] = 0
        loading = pair.loading
        covariance = (torch.eye(3).double() + loading.mT @ loading).inverse()
        pair.encoder.copy_(covariance @ loading.mT)
        pair.scale_tril = torch.linalg.cholesky(covariance)
    return pair, batch


def test_a_dead_dimension_is_found():
    pair, batch = planted([1])
    assert active_units(pair, batch)["z"].tolist() == [True, False, True]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (note,) = collapsed(pair, batch)
    assert "1 of 3 dimensions of the code 'z' are unused (1)" in note
    assert collapsed(*linear()) == []


def test_a_collapsed_posterior_is_announced():
    pair, batch = planted([0, 1, 2])
    with pytest.warns(CollapseWarning, match="the code 'z' has collapsed: all 3 dimensions carry less than 0.01 nats"):
        notes = collapsed(pair, batch)
    assert len(notes) == 1


def test_dead_dimensions_of_a_factorised_guide():
    pair = zoo.create("gaussian_vae", features=5, latent=3, hidden=()).double()
    x = torch.rand(50, 5).round()
    with torch.no_grad():
        layer = pair.encoder[-1]
        layer.weight[1] = layer.weight[4] = 0.0
        layer.bias[1], layer.bias[4] = 0.0, math.log(math.expm1(1.0))
        layer.weight[0] *= 10
        layer.weight[2], layer.bias[2] = 0.0, 2.0  # costs nats, and says the same of every row
    kl = code_kl(pair, x)["z"]
    mean, sd = (encode(pair, x).mean["z"], encode(pair, x).sd["z"])
    by_hand = 0.5 * (mean.square() + sd.square() - 1) - sd.log()
    torch.testing.assert_close(kl, by_hand.mean(0))
    assert kl[1] < 1e-12
    assert kl[2] > 1
    assert active_units(pair, x)["z"].tolist() == [True, False, False]
    assert "2 of 3 dimensions of the code 'z' are unused (1, 2)" in collapsed(pair, x)[0]


def test_kl_without_closed_form_is_the_total():
    """log c ~ N(x, 0.5) against log c ~ N(0, 1), sampled; the codes a and b have theirs exactly."""
    pair = TwoLevels().double()
    x = torch.randn(60, 2, dtype=torch.float64)
    found = code_kl(pair, x, draws=400)
    wanted = (0.5 * (x.square() + 0.25 - 1) - math.log(0.5)).sum(-1)
    spread = 2 * (0.5**2 + 0.5**4 / 2 + (0.5 * x).square().mean())
    assert abs(found["c"] - wanted.mean()) < 5 * math.sqrt(spread / 400 / 60)
    torch.testing.assert_close(found["a"], (0.5 * x[:, 0].square()).mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("threshold", [None, 0.3, 1e-4])
def test_a_unit_is_active_just_above_the_threshold(threshold):
    """The mean of each code is linear in x, so that its variance is scaled to 1 % below and above the threshold."""
    pair, batch = planted([])
    limit = 0.01 if threshold is None else threshold  # the threshold of Burda et al. 2016
    options = {} if threshold is None else {"threshold": threshold}
    with torch.no_grad():
        rows = encode(pair, batch).mean["z"]
        wanted = torch.tensor([0.99, 1.01, 1.01], dtype=torch.float64) * limit
        pair.encoder.mul_((wanted / rows.numpy().var(0)).sqrt()[:, None])
    assert encode(pair, batch).mean["z"].numpy().var(0) == pytest.approx(wanted.numpy(), rel=1e-9)
    assert active_units(pair, batch, **options)["z"].tolist() == [False, True, True]
