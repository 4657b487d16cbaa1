"""The table of an autoregression, `lag 1` and `lag 12`, against statsmodels' own least squares."""

from __future__ import annotations

import arviz as az
import numpy as np
import pytest
import torch

import inference
import zoo
from inference.posterior.latents import Posterior
from zoo.base import Batch

AutoReg = pytest.importorskip("statsmodels.tsa.ar_model").AutoReg


def series(steps: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    u, x = rng.normal(3.0, 2.0, steps), np.full(steps, 20.0)
    for t in range(12, steps):
        x[t] = 4 + 0.5 * x[t - 1] + 0.3 * x[t - 12] + 0.7 * u[t] + rng.normal()
    return x, u


@pytest.mark.parametrize("inputs", [None, 1])
def test_terms_are_those_of_statsmodels(inputs):
    x, u = series()
    pair = zoo.create("autoregressive", order=1, seasonal=12, inputs=inputs, coefficient_scale=1e4).double()
    batch = Batch.of(x=x[None]) if inputs is None else Batch.of(x=u[None, :, None], y=x[None])
    pair.measure(batch)
    point = pair.initial(batch)
    posterior = Posterior({name: v[None, None].expand(1, 2, *v.shape) for name, v in point.items()}, size=2)
    ours = inference.coefficients(pair, posterior)["estimate"]
    theirs = AutoReg(x, [1, 12], exog=None if inputs is None else u[:, None]).fit()
    assert list(ours.index) == ["Intercept", "lag 1", "lag 12", *["x0"] * bool(inputs), "sigma"]
    np.testing.assert_allclose(ours.to_numpy()[:-1], theirs.params, rtol=1e-3)
    assert ours["sigma"] == pytest.approx(theirs.sigma2**0.5, rel=0.02)


def test_arviz_has_the_same_names():
    x, _ = series(60)
    pair = zoo.create("autoregressive", order=1, seasonal=12, products=True).double()
    inference.fit(pair, x, steps=1, progress=False)
    idata = inference.to_arviz(pair, inference.draw(pair, x, draws=20), x)
    names = list(az.summary(idata, kind="stats").index)
    assert {"intercept", "coefficients[lag 1]", "seasonal[lag 12]", "products[lag 13]", "sigma"} <= set(names)
    assert torch.isfinite(torch.as_tensor(idata.posterior["intercept"].values)).all()
