"""Evidence where labels are free: K! equal labellings, of which draws may know one. Closed forms and sums on grids."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.special
import scipy.stats
import torch

import inference
import zoo
from inference.roads.folding import fold
from inference.sampling.labels import ordering
from tests.inference.roads.test_apart import density_of, regression, three

CENTRES, PARTS = (-4.0, 0.0, 4.0), torch.linspace(-0.6, 0.6, 20).double()


def two(y):
    with pyro.plate("part", 2):
        mu = pyro.sample("mu", dist.Normal(torch.zeros(()).to(y), 5.0))
    with pyro.plate("row", len(y)):
        which = pyro.sample("which", dist.Categorical(torch.ones(2).to(y)))
        pyro.sample("y", dist.Normal(mu[which], 0.5), obs=y)


def on_a_grid(y):
    """Log evidence of `two`."""
    grid = np.linspace(-6, 6, 601)
    each = scipy.stats.norm.logpdf(y.numpy()[:, None], grid, 0.5)
    both = (np.logaddexp(each[:, :, None], each[:, None, :]) - math.log(2)).sum(0)
    prior = scipy.stats.norm.logpdf(grid, 0, 5)
    return scipy.special.logsumexp(both + prior[:, None] + prior) + 2 * math.log(grid[1] - grid[0])


def apart(distance):
    rng = np.random.default_rng(1)
    return torch.as_tensor(0.5 * rng.standard_normal(50) + np.repeat([-distance, distance], 25))


@pytest.mark.parametrize(("distance", "told"), [(0.0, False), (0.5, True), (3.0, True)])
def test_a_gaussian_of_one_labelling_tells_the_evidence_of_all(distance, told):
    y = apart(distance)
    program = zoo.program(two)
    posterior = inference.infer(program, y, progress=False)
    assert posterior.road == "Gaussian"
    assert posterior.log_evidence == pytest.approx(on_a_grid(y), abs=4 * posterior.error + 0.01)
    assert ("labels of 'part' in one of 2 equal orders" in str(posterior)) == told
    by_bridge = inference.log_evidence(program, y, posterior=posterior)
    assert by_bridge.method == "bridge"
    assert by_bridge.value == pytest.approx(on_a_grid(y), abs=4 * by_bridge.error + 0.01)


def test_chains_of_one_labelling_tell_the_evidence_of_all():
    """Draws of the posterior in closed form: no row belongs to two parts."""
    rng = np.random.default_rng(0)
    y, precision = torch.cat([PARTS + centre for centre in CENTRES]), 20 / 0.25 + 1 / 25
    means = np.array(CENTRES) * 20 / 0.25 / precision
    draws = torch.as_tensor(means + rng.standard_normal((8, 200, 3)) / math.sqrt(precision))
    exact = math.log(6) - 60 * math.log(3)
    for centre in CENTRES:
        cov = 0.25 * np.eye(20) + 25
        exact += scipy.stats.multivariate_normal.logpdf(PARTS.numpy() + centre, np.zeros(20), cov)
    switched = draws.clone()
    switched[::2] = switched[::2][..., [2, 0, 1]]
    for some in (draws, switched):
        posterior = inference.Posterior({"mu": some}, method="mcmc", chains=8, size=200)
        found = inference.log_evidence(zoo.program(three), y, posterior=posterior)
        assert found.value == pytest.approx(exact, abs=4 * found.error + 0.01)
        assert found.error < 0.03
    found = inference.log_evidence(zoo.program(three), y)
    assert found.value == pytest.approx(exact, abs=4 * found.error + 0.01)
    assert found.error < 0.05


def test_columns_are_told_apart_and_labels_that_overlap_are_left():
    x = torch.tensor([[1.0, 2.0], [0.5, -1.0], [2.0, 0.1]], dtype=torch.float64)
    assert fold(density_of(regression, x, x.sum(-1)), torch.randn(50, 2, dtype=torch.float64)) is None
    density = density_of(two, apart(3.0))
    noise = 0.1 * torch.randn(200, 2, dtype=torch.float64)
    assert fold(density, noise) is None
    far = noise + torch.tensor([-3.0, 3.0])
    found = fold(density, far)
    assert found.copies == pytest.approx(math.log(2))
    assert bool(found.within(far).all())
    assert not bool(found.within(far.flip(1)).any())
    torch.testing.assert_close(found.home(far.flip(1)), far)


def test_every_order_of_a_draw_comes_home_to_the_same():
    torch.manual_seed(0)
    draws = {
        "locs": torch.randn(1, 40, 3, 2, dtype=torch.float64) + torch.tensor([[0.0, 0], [1, 1], [2, 0]]),
        "weights": torch.rand(1, 40, 3, dtype=torch.float64),
    }
    order = ordering(draws, {"locs": ("component", "feature"), "weights": ("component",)}, "component")
    flat = {name: value[0] for name, value in draws.items()}
    home = order.apply(flat, order(flat))
    for p in itertools.permutations(range(3)):
        other = {name: value[:, list(p)] for name, value in flat.items()}
        again = order.apply(other, order(other))
        assert all(torch.equal(again[name], home[name]) for name in home)
