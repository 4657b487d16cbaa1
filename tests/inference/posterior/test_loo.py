"""Leave-one-out scores of guide draws and draws resampled by their weights: a Gaussian regression's closed form."""

from __future__ import annotations

import json
import warnings
from contextlib import nullcontext

import arviz as az
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import inference
from inference.posterior.latents import Posterior
from inference.posterior.loo import LeaveOneOut, weights_of
from zoo.base import Batch, ModelGuide

N = 25


class Line(ModelGuide):
    """y_n ~ Normal(a + b x_n, 1), a, b ~ Normal(0, 10): a and b are correlated where x is off centre."""

    def __init__(self) -> None:
        super().__init__("normal")
        self.register_buffer("ten", torch.full((2,), 10.0))

    def model(self, batch: Batch) -> torch.Tensor:
        w = pyro.sample("w", dist.Normal(0 * self.ten, self.ten).to_event(1))
        with batch.plate():
            mean = w[..., 0] + w[..., 1] * batch.x[..., 0]
            return pyro.sample("y", dist.Normal(mean, 1.0), obs=batch.y)

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, x=torch.randn(n, 1).to(self.ten))


def line() -> tuple[Line, Batch, np.ndarray, np.ndarray, np.ndarray]:
    """The pair, its guide too wide; the data; in closed form elpd_n and the mean and covariance of the posterior."""
    rng = np.random.default_rng(0)
    x = 0.6 + rng.normal(size=N)
    y = 1 + 2 * x + rng.normal(size=N)
    design = np.stack([np.ones(N), x], -1)
    precision = design.T @ design + np.eye(2) / 100
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ y
    exact = []
    for n in range(N):
        others = np.arange(N) != n
        cov = np.linalg.inv(design[others].T @ design[others] + np.eye(2) / 100)
        loc = design[n] @ cov @ design[others].T @ y[others]
        exact.append(scipy.stats.norm.logpdf(y[n], loc, (1 + design[n] @ cov @ design[n]) ** 0.5))
    pair = Line().double()
    with torch.no_grad():  # factorised, and half as wide again as the posterior: as a fit that was stopped early
        pair.automatic.centre.copy_(torch.tensor(mean))
        pair.automatic.loc.zero_()
        pair.automatic.unit.copy_(torch.tensor(1.5 * np.diag(covariance) ** 0.5 / 0.1))
    batch = Batch(N, N, x=torch.tensor(x)[:, None], y=torch.tensor(y))
    return pair, batch, np.array(exact), mean, covariance


def test_leave_one_out_of_guide_draws_is_that_of_the_posterior():
    pair, batch, exact, mean, covariance = line()
    posterior = inference.draw(pair, batch, 4000)
    found = inference.loo(pair, posterior, batch)
    assert found.weighted
    assert (np.abs(found.pointwise - exact) < 4 * errors(pair, batch, posterior, exact)).all()
    assert found.elpd == pytest.approx(exact.sum(), abs=0.1)
    assert found.unsure == 0
    # as draws of the posterior they are wrong by the width of the guide
    plain = inference.loo(pair, Posterior(posterior.draws, method="mcmc", size=4000), batch)
    assert not plain.weighted
    assert plain.elpd < exact.sum() - 4
    design = np.stack([np.ones(N), batch.x[:, 0].numpy()], -1)  # p_loo: by how much seeing a row raises its density
    spread = (1 + (design @ covariance * design).sum(1)) ** 0.5
    seen = scipy.stats.norm.logpdf(batch.y.numpy(), design @ mean, spread)
    assert found.penalty == pytest.approx((seen - exact).sum(), abs=0.1)


def errors(pair, batch, posterior, exact):
    """Standard errors of leave-one-out scores by weighed draws, (N,): those of ratios of means (delta method)."""
    log_p = inference.log_likelihood(pair, posterior, batch)[0].numpy()
    ratios = weights_of(posterior)[:, None] - log_p
    weights = np.exp(ratios - np.logaddexp.reduce(ratios, 0))
    return np.sqrt(((weights * (np.exp(log_p - exact) - 1)) ** 2).sum(0))


def test_the_command_writes_the_score_that_counts_the_weights(tmp_path):
    from inference.command import run_folder, scoring
    from inference.data.check import check

    class Run:
        scores = staticmethod(lambda pair: nullcontext(tmp_path))

    pair, batch, exact, _, _ = line()
    inference.fit(pair, batch, steps=1, lr=1e-12, initialise=False, progress=False, compile="off")
    pair.card["data"]["name"] = "a line"
    found = scoring.score(check(pair, batch), 4000, progress=lambda done, of: None)
    said = run_folder.write_scores(Run(), pair, found)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    posterior = inference.draw(pair, batch, 4000)
    error = np.sqrt((errors(pair, batch, posterior, exact) ** 2).sum())
    assert metrics["elpd_loo_per_observation"] == pytest.approx(exact.mean(), abs=4 * error / N)
    assert metrics["pareto_k_threshold"] == 0.7
    assert metrics["pareto_k_above_threshold"] == 0
    assert metrics["khat_threshold"] == 0.7
    # p = Normal(m, C), q as wide as 1.5 times its marginals: the share is in closed form (two more normals)
    assert metrics["effective_share"] == pytest.approx(share(), abs=0.05)
    assert "(Pareto k above 0.70)" in said
    assert "effective share 5" in said


def share():
    """1 / E_q[(p / q)^2] of p = Normal(m, C) and q = Normal(m, D): sqrt|C|^2 / |D| sqrt|2 C^-1 - D^-1| each."""
    covariance = line()[-1]
    wide = np.diag(1.5**2 * np.diag(covariance))
    inner = 2 * np.linalg.inv(covariance) - np.linalg.inv(wide)
    return np.linalg.det(covariance) * np.linalg.det(inner) ** 0.5 / np.linalg.det(wide) ** 0.5


def test_resampled_draws_are_those_of_the_posterior():
    pair, batch, exact, mean, covariance = line()
    guide = inference.draw(pair, batch, 4000)
    found = inference.resample(guide, seed=3)
    assert (found.method, found.size) == ("psis", 4000)
    ratios = (guide.stats["log_p"] - guide.stats["log_q"])[0].numpy()
    weights = np.exp(ratios - ratios.max())
    size = weights.sum() ** 2 / (weights**2).sum()
    drawn = found["w"][0].numpy()
    sd = np.sqrt(np.diag(covariance))
    assert (np.abs(drawn.mean(0) - mean) < 4 * sd / size**0.5).all()
    assert (np.abs(drawn.std(0) / sd - 1) < 4 / np.sqrt(2 * size)).all()
    assert (guide["w"][0].numpy().std(0) > 1.4 * sd).all()  # as the guide has them
    scored = az.loo(inference.to_arviz(pair, found, batch))
    assert (scored.elpd_loo if hasattr(scored, "elpd_loo") else scored.elpd) == pytest.approx(exact.sum(), abs=0.1)
    torch.testing.assert_close(found.stats["log_p"], inference.resample(guide, seed=3).stats["log_p"], rtol=0, atol=0)
    fewer = inference.resample(guide, draws=70)
    assert fewer.size == 70
    torch.testing.assert_close(fewer["w"], inference.resample(guide, 70, seed=0)["w"], rtol=0, atol=0)


@pytest.mark.parametrize("last", [0.0, 3.0])
def test_each_draw_is_taken_as_often_as_its_weight_says(last):
    """Systematic resampling takes a draw of weight w, by ArviZ, floor(S w) or ceil(S w) times, also the last ones."""
    from arviz_stats import base

    ratios = torch.randn(400, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ratios[-20:] += last
    stats = {"log_p": ratios[None], "log_q": torch.zeros(1, 400).double()}
    numbered = Posterior({"w": torch.arange(400.0).double()[None]}, size=400, stats=stats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        taken = inference.resample(numbered, 10_000)["w"].flatten().long().bincount(minlength=400)
    log_weights = base.array_stats.psislw(-ratios.numpy())[0]
    weights = np.exp(log_weights - np.logaddexp.reduce(log_weights))
    assert taken.sum() == 10_000
    assert (np.abs(taken.numpy() - 10_000 * weights) < 1 + 1e-6).all()


def test_as_many_are_unsure_as_have_a_k_above_the_threshold():
    found = LeaveOneOut(np.zeros(4), np.array([0.2, 0.7, 0.71, np.inf]), 0.0, 0.7, weighted=False)
    assert found.unsure == 2
    assert "2 of 4 unsure" in repr(found)


def test_draws_without_weights_are_what_they_are():
    pair, batch, _, _, _ = line()
    mcmc = Posterior({"w": torch.randn(2, 50, 2).double()}, method="mcmc", chains=2, size=50)
    assert inference.resample(mcmc) is mcmc
    assert inference.resample(mcmc, 10).size == 10
    bare = inference.draw(pair, batch, 50, stats=False)
    for call in (lambda: inference.resample(bare), lambda: inference.loo(pair, bare, batch)):
        with pytest.raises(ValueError, match="draw them with stats=True"):
            call()


def test_resampling_says_when_no_weights_can_make_up_for_the_guide():
    pair, batch, _, _, _ = line()
    guide = inference.draw(pair, batch, 1000)
    guide.stats["log_q"][0, 7] -= 50.0
    with pytest.warns(UserWarning, match=r"k̂ = .* is above 0.67"):
        inference.resample(guide)
