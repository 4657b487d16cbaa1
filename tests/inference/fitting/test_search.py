"""Where guides start and what "converged" means: log evidences and posteriors in closed form."""

from __future__ import annotations

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
import torch

import inference
import zoo
from inference.fitting import exact, search, settled
from inference.fitting.keeping import KeepingGuide
from inference.fitting.objective import choose, plain
from inference.fitting.schedule import Cycles
from inference.fitting.step import Stepper
from zoo.base import Batch, ModelGuide

QUIET = {"progress": False, "compile": "off"}


class Line(ModelGuide):
    """y_n ~ Normal(w_1 + w_2 x_n, 1), w_i ~ Normal(0, 10): no `initial`, and a ridge where x lies far from 0."""

    def __init__(self, guide: zoo.guides.Family = "multivariate") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(2))

    def inputs(self, n: int) -> Batch:
        return Batch(n, n, x=torch.randn(n, dtype=self.zero.dtype))

    def model(self, batch: Batch) -> torch.Tensor:
        w = pyro.sample("w", dist.Normal(self.zero, 10.0).to_event(1))
        with batch.plate():
            return pyro.sample("y", dist.Normal(w[..., 0] + w[..., 1] * batch.x, 1.0), obs=batch.y)


class Precision(ModelGuide):
    """x_n ~ Normal(3, t^(-1/2)), t ~ Gamma(1e-4, 1e-4): the prior median of t is no number."""

    def __init__(self, guide: zoo.guides.Family = "multivariate") -> None:
        super().__init__(guide)
        self.register_buffer("rate", torch.tensor(1e-4))

    def model(self, batch: Batch) -> torch.Tensor:
        t = pyro.sample("t", dist.Gamma(self.rate, self.rate))
        with batch.plate():
            return pyro.sample("x", dist.Normal(3.0, t.rsqrt()), obs=batch.x)


class Groups(ModelGuide):
    """x_nj ~ Normal(m_j, 1), m_j ~ Normal(m, s), the neck of a funnel at s = 0."""

    def __init__(self, groups: int = 8, guide: zoo.guides.Family = "multivariate") -> None:
        super().__init__(guide)
        self.groups = groups
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch: Batch) -> torch.Tensor:
        m = pyro.sample("m", dist.Normal(self.zero, 5.0))
        s = pyro.sample("s", dist.HalfCauchy(self.zero + 5.0))
        means = pyro.sample(
            "means", dist.Normal(m[..., None], s[..., None]).expand((*m.shape, self.groups)).to_event(1)
        )
        with batch.plate():
            return pyro.sample("x", dist.Normal(means, 1.0).to_event(1), obs=batch.x)


def line(dtype=torch.float64):
    """Data, posterior mean and covariance, and log evidence, by linear algebra."""
    generator = np.random.default_rng(0)
    x = np.linspace(3950, 4010, 62)
    y = 3 + 0.05 * x + generator.normal(size=62)
    if dtype == torch.float32:  # what the pair sees
        x, y = x.astype(np.float32).astype(float), y.astype(np.float32).astype(float)
    design = np.stack([np.ones(62), x], -1)
    precision = design.T @ design + np.eye(2) / 100
    mean = np.linalg.solve(precision, design.T @ y)
    evidence = scipy.stats.norm.logpdf(y - design @ mean).sum() + scipy.stats.norm.logpdf(mean, 0, 10).sum()
    evidence += np.log(2 * np.pi) - np.linalg.slogdet(precision)[1] / 2  # Laplace's formula, exact here
    batch = Batch.of(x=torch.tensor(x, dtype=dtype), y=torch.tensor(y, dtype=dtype))
    return batch, mean, np.linalg.inv(precision), evidence


def moved(pair, batch):
    assert search.move(pair, batch, plain(choose(pair, batch)), "off")
    return pair.automatic.get_posterior()


def test_a_ridge_is_found_at_once():
    batch, mean, covariance, evidence = line()
    pair = Line().double()
    fit = inference.fit(pair, batch, **QUIET)
    assert fit.reason == "the guide is the exact posterior"
    assert -fit.losses[0] * 62 == pytest.approx(evidence, abs=1e-4)
    found = pair.automatic.get_posterior()
    np.testing.assert_allclose(found.mean.detach(), mean, rtol=1e-4)
    np.testing.assert_allclose(found.covariance_matrix.detach(), covariance, rtol=1e-3)


def test_a_ridge_is_found_in_single_precision():
    batch, mean, covariance, _ = line(torch.float32)
    found = moved(Line(), batch)
    off = np.abs(found.mean.detach().double().numpy() - mean) / np.sqrt(np.diag(covariance))
    assert off.max() < 0.25
    np.testing.assert_allclose(found.stddev.detach(), np.sqrt(np.diag(covariance)), rtol=0.05)


def test_a_prior_without_a_median_is_no_obstacle():
    x = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) / 2 + 3
    found = moved(Precision().double(), Batch.of(x=x))
    shape, rate = 1e-4 + 25, 1e-4 + float((x - 3).square().sum()) / 2  # Gamma(shape, rate), by conjugacy
    assert abs(float(found.mean) - scipy.special.digamma(shape) + np.log(rate)) < 0.25 * shape**-0.5  # that of log t
    assert float(found.stddev) == pytest.approx(scipy.special.polygamma(1, shape) ** 0.5, rel=0.1)


def test_the_neck_of_a_funnel_is_no_start():
    """The joint density is unbounded as s goes to 0; the means of the data say that s is about 4."""
    x = torch.linspace(-6, 6, 8).double()[None] + 1.0
    pair = Groups().double()
    s = moved(pair, Batch.of(x=x)).mean[1].exp()
    assert 1.5 < float(s) < 10


def test_a_factorised_guide_takes_conditional_widths():
    batch, _, covariance, _ = line()
    found = moved(Line("normal").double(), batch)
    np.testing.assert_allclose(found.stddev.detach(), np.diag(np.linalg.inv(covariance)) ** -0.5, rtol=1e-3)


@pytest.mark.parametrize(("off", "wide", "wanted"), [(0.0, 1.0, 0.0), (2.0, 1.0, 2.0), (0.0, 1e-3, 1.0)])
def test_the_slope_of_the_elbo_is_that_of_a_gaussian(off, wide, wanted):
    """Of a guide that is `off` by deviations, or too narrow: slopes in closed form, off and 1 - wide^2."""
    x = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    batch = Batch.of(x=x)
    pair = Mean().double()
    precision = 40 + 1 / 25
    guide = pair.automatic
    with torch.no_grad():
        guide.centre.fill_(float(x.sum()) / precision + off * precision**-0.5)
        guide.loc.zero_()
        guide.standardise(torch.full((1,), wide * precision**-0.5, dtype=torch.float64))
    torch.manual_seed(0)
    stepper = Stepper(pair, choose(pair, batch), "off", fallback=False)
    found = settled.slope(stepper, lambda: batch, torch.ones((), dtype=torch.float64))
    assert found == pytest.approx(wanted, abs=0.3)
    assert (found > 0) == (wanted > 0)


@pytest.mark.parametrize(
    ("rounds", "errors", "steep"), [(1, 2.49, False), (1, 2.51, True), (2, 3.99, False), (2, 4.01, True)]
)
def test_a_slope_is_beyond_doubt_by_its_standard_error(rounds, errors, steep):
    """By SciPy's standard error of a mean: 2.5 of those of 64 gradients, and 4 of those of 320."""
    few, many = settled.DRAWS, 5 * settled.DRAWS
    slopes = np.tile([-1.0, 1.0], many // 2)
    if rounds == 2:  # the first ones leave no doubt
        slopes += np.where(np.arange(many) < few, 0.2, -0.05)
    binding = slopes[: few if rounds == 1 else many]
    slopes += errors * scipy.stats.sem(binding)
    other = slopes if rounds == 1 else slopes[:few]
    assert other.mean() > (4.0 if rounds == 1 else 2.5) * scipy.stats.sem(other)

    class Told:
        """A stepper whose slopes are those numbers."""

        pair = Mean().double()
        parameters = dict.fromkeys(["auto.loc"])

        def __init__(self, slopes):
            self.slopes = iter(slopes)

        def __call__(self, batch, one):
            return None, [torch.full((1,), next(self.slopes) / (batch.total * zoo.guides.WIDTH), dtype=one.dtype)]

    batch = Batch.of(x=torch.zeros(7, dtype=torch.float64))
    Told.pair.automatic._setup_prototype(batch)
    for scale, wanted in ((3.0, 3 * slopes.mean() if steep else 0.0), (0.5, 0.0)):  # less than 0.3 nats do not count
        found = settled.slope(Told(scale * slopes), lambda: batch, torch.ones((), dtype=torch.float64))
        assert found == pytest.approx(wanted, rel=1e-9)


class Mean(ModelGuide):
    """x_n ~ Normal(m, 1), m ~ Normal(0, 5)."""

    def __init__(self, guide: zoo.guides.Family = "normal") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(()))

    def model(self, batch: Batch) -> torch.Tensor:
        m = pyro.sample("m", dist.Normal(self.zero, 5.0))
        with batch.plate():
            return pyro.sample("x", dist.Normal(m, 1.0), obs=batch.x)


def test_a_ridge_that_is_missed_has_a_slope():
    """Widths of each latent given the other: what is missing has a slope of their correlation, near 1."""
    batch, mean, covariance, _ = line()
    pair = Line().double()
    with torch.no_grad():
        pair.automatic.centre.copy_(torch.tensor(mean))
        pair.automatic.standardise(torch.tensor(np.diag(np.linalg.inv(covariance)) ** -0.5))
    torch.manual_seed(0)
    stepper = Stepper(pair, choose(pair, batch), "off", fallback=False)
    assert settled.slope(stepper, lambda: batch, torch.ones((), dtype=torch.float64)) == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize(
    ("slope", "rounds", "told"), [(0.0, 1, "the ELBO has"), (0.9, 3, "not"), (None, 1, "the ELBO has")]
)
def test_losses_that_stand_still_are_not_called_converged(slope, rounds, told, monkeypatch):
    """With a steep slope the fit goes on, twice; then it says so."""
    asked, real = [], settled.slope
    monkeypatch.setattr(settled, "slope", lambda *given: asked.append(1) or (real(*given) if slope is None else slope))
    monkeypatch.setattr(Cycles.__init__, "__defaults__", (10,))
    x = torch.randn(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(exact, "exact_evidence", lambda *_: None)
    fit = inference.fit(Mean().double(), x, tolerance=10.0, **QUIET)
    assert len(asked) == rounds
    assert fit.reason.startswith(f"{told} converged")


def test_a_start_is_kept_where_steps_lose_by_it():
    batch, mean, _, _ = line()
    pair = Line().double()
    inference.fit(pair, batch, **QUIET)
    keeping = KeepingGuide(pair, batch, plain(choose(pair, batch)))
    with torch.no_grad():
        pair.automatic.loc.add_(0.1)  # a deviation of the guide
    assert keeping.back()
    np.testing.assert_allclose(pair.automatic.get_posterior().mean.detach(), mean, rtol=1e-4)
    assert not keeping.back()  # as good as itself


@pytest.mark.slow
def test_a_full_covariance_is_never_worse_than_none():
    """90 independent group means of 10 rows each: log evidence in closed form."""
    generator = torch.Generator().manual_seed(0)
    means = 2 * torch.randn(90, dtype=torch.float64, generator=generator)
    x = means + torch.randn(10, 90, dtype=torch.float64, generator=generator)
    each = scipy.stats.multivariate_normal(np.zeros(10), np.eye(10) + 9.0)
    evidence = each.logpdf(x.T.numpy()).sum()
    pair = Independent().double()
    fit = inference.fit(pair, Batch.of(x=x), steps=300, progress=False)
    with torch.no_grad():
        bound = -np.mean([float(fit.objective.loss(pair, Batch.of(x=x))) for _ in range(200)])
    assert evidence - 0.5 < bound < evidence + 0.1


class Independent(ModelGuide):
    """x_nj ~ Normal(m_j, 1), m_j ~ Normal(0, 3)."""

    def __init__(self, guide: zoo.guides.Family = "multivariate") -> None:
        super().__init__(guide)
        self.register_buffer("zero", torch.zeros(90))

    def model(self, batch: Batch) -> torch.Tensor:
        m = pyro.sample("m", dist.Normal(self.zero, 3.0).to_event(1))
        with batch.plate():
            return pyro.sample("x", dist.Normal(m, 1.0).to_event(1), obs=batch.x)
