"""Comparisons of models: a Gaussian regression's closed form, ArviZ's own table, and what cannot be compared."""

from __future__ import annotations

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import inference
import zoo
from inference.posterior.latents import Posterior
from inference.posterior.loo import LeaveOneOut
from zoo.base import Batch, ModelGuide

N, DRAWS = 30, 4000


class Line(ModelGuide):
    """y_n ~ Normal(w_0 + w_1 x_n, 1), w ~ Normal(0, 10); `slope` 0 leaves out x."""

    def __init__(self, slope: float = 1.0) -> None:
        super().__init__("normal")
        self.slope = slope
        self.register_buffer("ten", torch.full((2,), 10.0))

    def model(self, batch: Batch) -> torch.Tensor:
        w = pyro.sample("w", dist.Normal(0 * self.ten, self.ten).to_event(1))
        with batch.plate():
            mean = w[..., 0] + self.slope * w[..., 1] * batch.x[..., 0]
            return pyro.sample("y", dist.Normal(mean, 1.0), obs=batch.y)

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, x=torch.randn(n, 1).to(self.ten))


def data() -> Batch:
    rng = np.random.default_rng(0)
    x = rng.normal(size=N)
    return Batch(N, N, x=torch.tensor(x)[:, None], y=torch.tensor(1 + 0.4 * x + rng.normal(size=N)))


def solved(slope: float, batch: Batch) -> tuple[Line, Posterior, np.ndarray]:
    """The pair, draws of its exact posterior, and elpd_n in closed form."""
    x, y = batch.x[:, 0].numpy(), batch.y.numpy()
    design = np.stack([np.ones(N), slope * x], -1)
    exact = []
    for n in range(N):
        others = np.arange(N) != n
        cov = np.linalg.inv(design[others].T @ design[others] + np.eye(2) / 100)
        loc = design[n] @ cov @ design[others].T @ y[others]
        exact.append(scipy.stats.norm.logpdf(y[n], loc, (1 + design[n] @ cov @ design[n]) ** 0.5))
    cov = np.linalg.inv(design.T @ design + np.eye(2) / 100)
    draws = np.random.default_rng(1).multivariate_normal(cov @ design.T @ y, cov, DRAWS)
    posterior = Posterior({"w": torch.tensor(draws)[None]}, method="mcmc", size=DRAWS)
    return Line(slope).double(), posterior, np.array(exact)


def column(table, name):
    return table[name if name in table else f"{name}_loo"]


def test_two_regressions_against_the_closed_form():
    batch = data()
    line, flat = solved(1.0, batch), solved(0.0, batch)
    models = {"flat": (flat[0], flat[1], batch), "line": (line[0], line[1], batch)}
    table = inference.compare(models)
    wanted = {"line": line[2], "flat": flat[2]}
    best = max(wanted, key=lambda name: wanted[name].sum())
    other = {"line": "flat", "flat": "line"}[best]
    assert list(table.index) == [best, other]
    for name, exact in wanted.items():
        assert column(table, "elpd")[name] == pytest.approx(exact.sum(), abs=0.1)
        assert column(table, "se")[name] == pytest.approx(N**0.5 * exact.std(), rel=0.05)
    difference = wanted[best] - wanted[other]
    assert abs(table["elpd_diff"][other]) == pytest.approx(difference.sum(), abs=0.1)
    assert table["dse"][other] == pytest.approx(N**0.5 * difference.std(), rel=0.05)
    assert table["weight"].sum() == pytest.approx(1)
    # the same from what goes to ArviZ, and from ArviZ itself, whose draws these are
    exported = {name: inference.to_arviz(*model, predictive=False) for name, model in models.items()}
    again = inference.compare(exported)
    for name in ("elpd_diff", "dse", "weight"):
        np.testing.assert_allclose(again[name], table[name], atol=1e-6)
        np.testing.assert_allclose(again[name], az.compare(exported)[name], atol=0.02)


def scores(pointwise):
    pointwise = np.asarray(pointwise, dtype=float)
    return LeaveOneOut(pointwise, np.zeros(len(pointwise)), 1.0, 0.7, weighted=False)


def test_densities_that_no_number_holds_are_compared_all_the_same():
    """Of images, say: exp(-1000) is 0. Stacking of two models, one better by 0.5 on all rows, takes that one."""
    low = np.full(50, -1000.0) + np.arange(50)
    table = inference.compare({"worse": scores(low - 0.5), "better": scores(low)})
    assert list(table.index) == ["better", "worse"]
    np.testing.assert_allclose(table["weight"], [1, 0], atol=1e-6)
    assert column(table, "elpd")["better"] == pytest.approx(low.sum())
    assert abs(table["elpd_diff"]["worse"]) == pytest.approx(25)
    assert table["dse"]["worse"] == pytest.approx(0, abs=1e-9)


def test_draws_of_a_guide_count_by_their_weights():
    batch = data()
    pair = solved(1.0, batch)[0]
    posterior = inference.draw(pair, batch, 200)
    exported = inference.to_arviz(pair, posterior, batch, predictive=False)
    found = inference.loo(pair, posterior, batch)
    table = inference.compare({"a": exported, "b": found})
    assert found.weighted
    assert column(table, "elpd").tolist() == pytest.approx([found.elpd] * 2, rel=1e-6)


def test_what_cannot_be_compared_is_refused():
    batch = data()
    pair, posterior, _ = solved(1.0, batch)
    one = (pair, posterior, batch)
    shifted = batch.but(y=batch.y + torch.eye(N)[3].double())
    single = batch.select(slice(0, 1))
    vae = zoo.create("gaussian_vae")
    images = vae.simulate(5)[0]
    for models, words in (
        ({"a": one}, "at least two named models"),
        ([one, one], "at least two named models, got list"),
        ({"a": one, "b": 3}, "model 'b': expected .pair, posterior, data., .* got 3"),
        ({"a": one, "b": (pair, posterior, shifted)}, r"'a' and 'b' cannot be compared: their y differ, as at \(3,\)"),
        ({"a": one, "b": (pair, posterior, batch.select(slice(0, 9)))}, "they score 30 and 9 observations"),
        ({"a": (pair, posterior, single), "b": (pair, posterior, single)}, "of a single observation nothing is left"),
        (
            {"a": one, "b": (vae, inference.draw(vae, images, 30), images)},
            "model 'b': gaussian_vae has no global latents",
        ),
        ({"a": one, "b": (pair, posterior.thin(5), batch)}, "model 'b': .*draws"),
    ):
        with pytest.raises(ValueError, match=words):
            inference.compare(models)
    with pytest.raises(ValueError, match="method: expected one of stacking"):
        inference.compare({"a": one, "b": one}, method="stack")
