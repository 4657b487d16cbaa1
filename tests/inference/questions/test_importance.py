"""The interval of an importance against order statistics that are known and NumPy's quantiles."""

from __future__ import annotations

import numpy as np
import torch

from inference.questions.importance import Importance


def test_ends_of_an_interval_are_quantiles_of_each_covariates_draws():
    """Of draws 0, 1, ..., 100 in any order the q-th quantile is 100 q; NumPy says the same of any others."""
    rng = np.random.default_rng(0)
    draws = np.stack([rng.permutation(101), 1000 - 3.0 * rng.permutation(101), rng.gamma(2.0, size=101)], 1)
    found = Importance(("a", "b", "c"), torch.from_numpy(draws))
    for mass, (low, high) in {0.9: (5.0, 95.0), 0.5: (25.0, 75.0), 0.2: (40.0, 60.0)}.items():
        ends = found.interval(mass)
        torch.testing.assert_close(ends[0][:2], torch.tensor([low, 1000 - 3 * high]).double(), rtol=1e-12, atol=0)
        torch.testing.assert_close(ends[1][:2], torch.tensor([high, 1000 - 3 * low]).double(), rtol=1e-12, atol=0)
        wanted = np.quantile(draws, [(1 - mass) / 2, (1 + mass) / 2], axis=0)
        np.testing.assert_allclose(torch.stack(ends), wanted, rtol=1e-12)
    assert torch.equal(found.interval()[0], found.interval(0.9)[0])
    np.testing.assert_allclose(found.mean, draws.mean(0), rtol=1e-12)
