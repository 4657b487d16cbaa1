"""Estimators of images: what goes in as images comes out as images, and as rows where rows went in."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits

from inference import Estimator

DIGITS = load_digits().images[:30].astype(np.uint8)
QUICK = {"steps": 3, "latent": 2, "hidden": (4,)}


def test_images_come_back_as_images():
    model = Estimator("gaussian_vae", **QUICK).fit(DIGITS)
    assert model.pair_.image == (8, 8)
    assert "beta_binomial" in model.suited_
    assert model.predict(DIGITS).shape == DIGITS.shape
    codes = model.transform(DIGITS)
    assert codes.shape == (30, 2)
    np.testing.assert_allclose(model.decode(codes), model.predict(DIGITS), rtol=1e-5)
    assert model.sample(3).shape == (3, 8, 8)
    assert clone(model).fit(DIGITS[:, None]).predict(DIGITS[:4, None]).shape == (4, 1, 8, 8)
    with pytest.raises(ValueError, match=r"gaussian_vae was fitted to images of \(8, 8\), got images of \(7, 8\)"):
        model.predict(DIGITS[:, 1:])


def test_rows_of_images_come_back_as_rows():
    rows = DIGITS.reshape(30, 64)
    model = Estimator("gaussian_vae", image=(8, 8), net="conv", **QUICK).fit(rows)
    assert model.predict(rows).shape == rows.shape
    assert model.sample(3).shape == (3, 64)
    with pytest.raises(ValueError, match=r"gaussian_vae was fitted to rows of 64, got images of \(8, 8\)"):
        model.predict(DIGITS)
