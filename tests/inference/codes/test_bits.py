"""Bits per dimension by hand: probabilities of whole numbers, and densities integrated over cells by SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

import inference
import zoo
from tests.helpers.mixtures import mixture
from tests.helpers.vae import bent

SEED = 3
VALUES = {"weights": [0.3, 0.7], "locs": [[0.0, 1.0], [4.0, -2.0]], "scales": [[1.5, 2.0], [2.5, 1.2]]}


def test_probabilities_of_counts():
    pair, x, marginal, bound = bent()
    for tight, nats in ((True, marginal), (False, bound)):
        found = inference.bits_per_dimension(pair, x, tight=tight, draws=5_000, seed=SEED)
        exact = -nats / np.log(2) / 6
        assert np.abs((found.rows.numpy() - exact) / found.sd.numpy()).max() < 4
        assert found.width is None
        assert found.mean == pytest.approx(exact.mean(), abs=0.02)
        assert found.error == pytest.approx(exact.std() / np.sqrt(12), abs=0.02)
    assert str(found).endswith("bits per dimension (bound, 12 observations)")


@pytest.mark.parametrize("step", [1.0, 0.5])
def test_a_density_over_its_cells(step):
    pair, posterior = mixture(**VALUES)
    x = step * np.array([[0, 2], [8, -4], [3, 0], [20, 3]], dtype=float)
    held = []
    for weight, loc, scale in zip(*VALUES.values(), strict=True):
        above, below = (scipy.stats.norm.cdf(x + s * step / 2, loc, scale) for s in (1, -1))
        held.append(weight * (above - below).prod(-1))
    exact = -np.log2(sum(held)) / 2
    found = inference.bits_per_dimension(pair, x, tight=True, posterior=posterior, width=step, seed=SEED, draws=2)
    assert np.all(np.abs(found.rows.numpy() - exact) < 4 * found.sd.numpy())
    assert found.width == step
    fast = inference.bits_per_dimension(pair, x, posterior=posterior, width=step, seed=SEED)
    assert np.all(fast.rows.numpy() >= found.rows.numpy())  # the bound, on the same points
    assert "a density, over cells of width" in str(fast)


def test_the_grid_is_found():
    pair, posterior = mixture(**VALUES)
    whole, shares = torch.tensor([[0.0, 3.0], [7.0, 1.0]]).double(), torch.tensor([[0.0, 51.0], [255.0, 1.0]]) / 255
    assert inference.bits_per_dimension(pair, whole, posterior=posterior, draws=2).width == 1
    assert inference.bits_per_dimension(pair, shares, posterior=posterior, draws=2).width == 1 / 255
    with pytest.raises(ValueError, match="neither whole numbers nor shares of 255; width="):
        inference.bits_per_dimension(pair, whole / 7, posterior=posterior)
    with pytest.raises(ValueError, match="width: expected a number above 0"):
        inference.bits_per_dimension(pair, whole, posterior=posterior, width=0)


def test_what_stands_past_the_end_is_no_dimension():
    pair = zoo.create("recurrent", categories=5, hidden=3).double()
    batch = zoo.Batch.of(np.array([[1, 3, 0, 2], [2, 1, 4, 0]]), lengths=[4, 2])
    posterior = inference.draw(pair, batch, 1, stats=False)
    nats = inference.log_likelihood(pair, posterior, batch)[0, 0].numpy()
    found = inference.bits_per_dimension(pair, batch, posterior=posterior)
    np.testing.assert_allclose(found.rows, -nats / np.log(2) / np.array([4, 2]))
    assert found.mean == pytest.approx(-nats.sum() / np.log(2) / 6)


def test_what_has_no_bits_per_dimension():
    pair, x, _, _ = bent()
    with pytest.raises(ValueError, match="width: gaussian_vae gives probabilities of whole numbers"):
        inference.bits_per_dimension(pair, x, width=1.0)
    table = zoo.create("naive_bayes", columns=["real", "binary"])
    with pytest.raises(ValueError, match="models a table, whose columns are on no common grid"):
        inference.bits_per_dimension(table, table.simulate(3)[0])
