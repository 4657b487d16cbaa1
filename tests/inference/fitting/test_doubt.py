"""What a fit says and does at its two ends: a start that is the maximum, and a guide that is far from the posterior."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from sklearn.datasets import load_iris

import inference
import zoo
from inference.data.check import check
from inference.fitting import doubt
from inference.fitting.keeping import HIGHEST, Keeping
from inference.fitting.loop import CONVERGED
from inference.fitting.objective import choose, plain
from inference.fitting.search import move
from inference.fitting.step import Stepper
from tests.helpers.pairs import Normal, data
from zoo.base import Batch, ModelGuide

IRIS = load_iris().data


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("gaussian_autoencoder", 404.963),  # minus the log-likelihood of probabilistic PCA, by its eigenvalues
        ("linear_autoencoder", None),
    ],
)
def test_a_start_that_is_the_maximum_takes_no_steps(name, wanted):
    pair = zoo.create(name, features=4, latent=2, dtype=torch.float64)
    fit = inference.fit(pair, IRIS, progress=False)
    assert (fit.steps, fit.reason) == (0, HIGHEST)
    if wanted:
        assert fit.losses[0] * 150 == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(("wide", "highest"), [(1.0, True), (1.02, False), (1.1, False), (2.0, False)])
def test_a_start_beside_the_maximum_is_not_taken_for_it(wide, highest):
    """W is too long by a factor; by 1.02 that costs 0.09 nats of 405."""
    pair, batch = zoo.create("gaussian_autoencoder", features=4, latent=2, dtype=torch.float64), Batch.of(x=IRIS)
    batch = check(pair, batch).batch
    pair.measure(batch)
    pair.initial(batch)
    with torch.no_grad():
        own = wide * pair.loading
        covariance = (torch.eye(2).double() + own.mT @ own).inverse()
        pair.loading.copy_(own)
        pair.encoder.copy_(covariance @ own.mT)
        pair.scale_tril = torch.linalg.cholesky(covariance)
        before = {key: value.clone() for key, value in pair.state_dict().items()}
        assert Keeping(pair, batch).highest(1e-4) == highest
    assert all(torch.equal(value, before[key]) for key, value in pair.state_dict().items())


class Sum(ModelGuide):
    """x_n ~ Normal(w_1 + w_2, 1), w_i ~ Normal(0, 10): the posterior is a ridge, of correlation -0.9999."""

    def __init__(self, guide: zoo.guides.Family) -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(2))

    def model(self, batch: Batch) -> torch.Tensor:
        w = pyro.sample("w", dist.Normal(self.zero, 10.0).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(w.sum(-1), 1.0), obs=batch.x)


@pytest.mark.parametrize(("guide", "poor"), [("normal", True), ("multivariate", False)])
def test_converged_does_not_stand_alone_where_the_guide_is_poor(guide, poor):
    """Independent widths are the best of their family there, and a hundredth of the posterior's."""
    pair, batch = Sum(guide).double(), Batch.of(x=torch.linspace(1, 5, 50).double())
    assert move(pair, batch, plain(choose(pair, batch)), "off")
    said = doubt.said(check(pair, batch), CONVERGED, 0)
    assert said.startswith(CONVERGED)
    assert ("poor fit" in said) == poor
    assert (inference.khat(pair, batch).share < 0.2) == poor
    assert doubt.said(check(pair, batch), "all steps done", 0) == "all steps done"


@pytest.mark.parametrize(("off", "far"), [(0.0, False), (0.05, False), (0.4, True), (-1.0, True)])
def test_a_guide_whose_weights_move_its_mean_has_not_converged(off, far):
    """The guide is the posterior, in closed form, but for a mean that is off by so many deviations."""
    pair, x = Normal().double(), data().double()
    precision = len(x) + 1 / 4
    with torch.no_grad():
        pair.automatic.centre.copy_(x.sum() / precision + off * precision**-0.5)
        pair.automatic.loc.zero_()
        pair.automatic.standardise(torch.full((1,), precision**-0.5).double())
    said = doubt.said(check(pair, x), CONVERGED, 0)
    assert said.startswith("not converged" if far else CONVERGED)
    assert ("mean of loc" in said) == far


@pytest.mark.parametrize("guide", ["normal", "multivariate", "lowrank"])
def test_a_guide_that_is_the_posterior_has_no_gradient_at_any_draw(guide):
    """Roeder, Wu & Duvenaud (2017), section 3: noise about zero is what they leave out."""
    pair, batch = Normal(guide).double(), Batch.of(x=data().double())
    precision = batch.size + 1 / 4
    with torch.no_grad():
        pair.automatic.centre.copy_(batch.x.sum() / precision)
        width = torch.full((1,), precision**-0.5).double()
        pair.automatic.standardise(width)
        if guide == "lowrank":
            pair.automatic.cov_factor.zero_()
            pair.automatic.scale = width / pair.automatic.unit
    stepper = Stepper(pair, plain(choose(pair, batch)), "off", fallback=False)
    one = torch.ones((), dtype=torch.float64)
    found = {}
    for landing in (False, True):
        pair.automatic.landing = landing
        torch.manual_seed(0)
        loss, gradients = stepper(batch, one)
        found[landing] = loss, max(float(gradient.abs().max()) for gradient in gradients)
    assert torch.equal(found[True][0], found[False][0])  # the same bound
    assert found[True][1] < 1e-6
    assert found[False][1] > 1e-3


class Counts(ModelGuide):
    """y_n ~ Poisson(exp(w_0 + w x_n)), w ~ Normal(0, 5): no `initial`."""

    def __init__(self) -> None:
        super().__init__("multivariate")
        self.register_buffer("zero", torch.zeros(6))

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, x=torch.randn(n, 5, dtype=self.zero.dtype))

    def model(self, batch: Batch) -> torch.Tensor:
        w = pyro.sample("w", dist.Normal(self.zero, 5.0).to_event(1))
        with batch.plate():
            rate = ((w[..., 1:] * batch.x).sum(-1) + w[..., 0]).clamp(max=20).exp()
            return pyro.sample("y", dist.Poisson(rate), obs=batch.y)


def test_a_poisson_regression_on_columns_of_unlike_scale_starts_at_its_mode():
    """From where x w was 20 the search came back by 1 a step; the fit ended 5e8 nats below. Mode by Newton's method."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 5))
    x[:, 1] *= 30
    x[:, 2] += 10
    y = generator.poisson(np.exp(np.clip(0.5 * (0.3 + x @ [1.0, 0.05, -0.2, 0.5, 0.0]), -5, 4))).astype(float)
    design, mode = np.c_[np.ones(200), x], np.zeros(6)
    for _ in range(100):
        rate = np.exp(np.minimum(design @ mode, 20))
        precision = design.T @ (rate[:, None] * design) + np.eye(6) / 25
        mode += np.clip(np.linalg.solve(precision, design.T @ (y - rate) - mode / 25), -1, 1)
    pair, batch = Counts().double(), Batch.of(x=x, y=y)
    batch = check(pair, batch).batch
    assert move(pair, batch, plain(choose(pair, batch)), "off")
    found = pair.automatic.get_posterior().mean.detach().numpy()
    assert (np.abs(found - mode) / np.sqrt(np.diag(np.linalg.inv(precision)))).max() < 0.5
