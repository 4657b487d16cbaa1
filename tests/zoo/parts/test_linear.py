"""Linear equations of conjugate posteriors, also where columns tell the same story: NumPy's least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo.parts.conjugate.linear import solve


@pytest.mark.parametrize("units", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_columns_that_tell_the_same_story_share_it(dtype, units):
    """No factor of the matrix as it is: with the least jitter that has one the fit is that of least squares."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(50, 3))
    design = np.concatenate([base, base, base], 1) * np.array([1, 1, 1, units, 1, 1, 1, 1, 1])
    y = base @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=50)
    X = torch.tensor(design, dtype=dtype)
    gram, cross = X.mT @ X, X.mT @ torch.tensor(y, dtype=dtype)
    unit = gram.diagonal().rsqrt()
    assert torch.linalg.cholesky_ex((gram * unit * unit[:, None]).flip(-2, -1))[1] > 0
    mean, root = solve(gram, cross)
    wanted = base @ np.linalg.lstsq(base, y, rcond=None)[0]
    np.testing.assert_allclose((X @ mean).numpy(), wanted, atol=1e-2 if dtype == torch.float32 else 1e-6)
    assert torch.equal(root, root.tril())


def test_of_what_can_be_told_apart_the_solution_and_the_inverse_are_numpys():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(40, 4)) * [1.0, 1e3, 1e-3, 1.0] + [0.0, 0.0, 0.0, 3.0]
    y = rng.normal(size=40)
    gram, cross = design.T @ design, design.T @ y
    mean, root = solve(torch.tensor(gram), torch.tensor(cross))
    np.testing.assert_allclose(mean, np.linalg.solve(gram, cross), rtol=1e-9)
    np.testing.assert_allclose(root @ root.mT, np.linalg.inv(gram), rtol=1e-9)
