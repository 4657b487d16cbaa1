"""Tests of uniformity hold their level, and predictions that are wrong are seen; expected values by SciPy and Stan."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import stats

import inference
import zoo
from inference.checking import predictive, uniformity
from inference.posterior.loo import leaving_out

pytestmark = pytest.mark.usefixtures("double")


def test_order_statistics_are_joined_as_arviz_does():
    """ArviZ 1.3's and R's `uniformity_test`, POT: of 2 min(F, 1 - F) of Beta(i, n + 1 - i), those below 1/2."""
    values = np.random.default_rng(3).beta(0.8, 1.3, size=50)
    i = np.arange(1, 51)
    below = stats.beta.cdf(np.sort(values), i, 51 - i)
    each = 2 * np.minimum(below, 1 - below)
    wanted = stats.cauchy.sf(np.mean(stats.cauchy.isf(each[each < 0.5])))
    assert uniformity.of_order(values) == pytest.approx(wanted, rel=1e-9)
    assert uniformity.dependent(values) == pytest.approx(2 * wanted, rel=1e-6)


@pytest.mark.parametrize("size", [20, 300])
def test_uniform_numbers_are_left_alone(size):
    generator = np.random.default_rng(0)
    found = np.array([uniformity.dependent(generator.random(size)) for _ in range(1000)])
    for level in (0.01, 0.05):  # four standard errors
        assert (found < level).mean() < level + 4 * (level * (1 - level) / 1000) ** 0.5
        assert (found < level).mean() > level / 4


def test_the_band_of_ranks_holds_its_level_and_its_p_value_is_exact():
    generator = np.random.default_rng(1)
    found = np.array([uniformity.of_ranks(generator.integers(0, 20, 60), 19) for _ in range(300)])
    for level in (0.05, 0.2):
        assert abs((found <= level).mean() - level) < level * 0.25 + 4 * (level * (1 - level) / 300) ** 0.5
    points, low, high = uniformity.band(60, 19, 0.9)
    inside = 0
    for _ in range(300):
        ranks = generator.integers(0, 20, 60)
        share = np.array([(ranks < round(20 * point)).mean() for point in points])
        inside += bool(((low - 1e-12 <= share) & (share <= high + 1e-12)).all())
    assert inside / 300 == pytest.approx(0.9, abs=4 * (0.09 / 300) ** 0.5 + 0.02)


def test_of_one_point_the_band_is_binomial():
    """Ranks among one draw: coins, whose exact two-sided test SciPy has."""
    for heads in (12, 17, 20, 29):
        ranks = np.repeat([0, 1], [heads, 40 - heads])
        assert uniformity.of_ranks(ranks, 1) == pytest.approx(stats.binomtest(heads, 40).pvalue, rel=1e-9)


@pytest.mark.parametrize("fault", ["shifted", "narrow", "wide", None])
def test_predictions_beside_data(fault):
    generator = torch.Generator().manual_seed(0)
    y, drawn = torch.randn(200, generator=generator), torch.randn(500, 200, generator=generator)
    drawn = {"shifted": drawn + 0.5, "narrow": 0.7 * drawn, "wide": 1.5 * drawn, None: drawn}[fault]
    (found,) = predictive.of_predictions("y", y, drawn, None)
    assert found.name == "PIT of 'y'"
    assert found.state == ("ok" if fault is None else "look"), found


def test_leaving_out_takes_the_bias_out_of_pit_values():
    """With as many parameters as half the rows, predictions follow each observation; without it they do not."""
    generator = torch.Generator().manual_seed(4)
    rows = torch.randn(60, 20, generator=generator)
    y = rows @ torch.randn(20, generator=generator) + torch.randn(60, generator=generator)
    precision = rows.T @ rows + torch.eye(20)
    mean = torch.linalg.solve(precision, rows.T @ y)
    root = torch.linalg.cholesky(torch.linalg.inv(precision))
    weights = mean + torch.randn(4000, 20, generator=generator) @ root.T
    loc = weights @ rows.T
    drawn = loc + torch.randn(4000, 60, generator=generator)
    log_p = dist.Normal(loc, 1.0).log_prob(y).numpy()
    _, left = leaving_out(log_p, None, range(60))
    random = np.random.default_rng(0)
    found = predictive.pit(y.numpy(), drawn.numpy(), left, random)
    precise = precision[None] - rows[:, :, None] * rows[:, None, :]  # of the others alone, in closed form
    means = torch.linalg.solve(precise, (rows.T @ y)[None] - rows * y[:, None])
    sd = (1 + (rows * torch.linalg.solve(precise, rows)).sum(-1)).sqrt()
    wanted = dist.Normal((rows * means).sum(-1), sd).cdf(y).numpy()
    assert np.abs(found - wanted).mean() < 0.03
    plain = predictive.pit(y.numpy(), drawn.numpy(), None, random)
    assert plain.std() < 0.9 * found.std()


def test_counts_with_too_many_zeros_and_classes_too_sure_are_seen():
    generator = torch.Generator().manual_seed(2)
    rate = torch.full((300,), 9.0)
    y, drawn = torch.poisson(rate, generator=generator), torch.poisson(rate.expand(400, -1), generator=generator)
    pit, root = predictive.of_predictions("y", y, drawn, None)
    assert (pit.state, root.state, root.name) == ("ok", "ok", "rootogram of 'y'")
    y[:40] = 0
    assert predictive.rootogram(y.numpy(), drawn.numpy()) < 0.01
    p = torch.rand(300, generator=generator)
    y = (torch.rand(300, generator=generator) < p).double()
    right = (torch.rand(1000, 300, generator=generator) < p).double()
    sure = (torch.rand(1000, 300, generator=generator) < (3 * torch.logit(p)).sigmoid()).double()
    assert predictive.calibrated(y.numpy(), right.numpy(), None, np.random.default_rng(0)) > 0.01
    assert predictive.calibrated(y.numpy(), sure.numpy(), None, np.random.default_rng(0)) < 0.01
    *_, found = predictive.of_predictions("y", y, sure, None)
    assert (found.name, found.state) == ("calibration of 'y'", "look")


def test_calibration_of_three_classes_holds_its_level():
    random = np.random.default_rng(5)
    found = []
    for _ in range(15):
        probs = random.dirichlet(np.ones(3), size=80)
        ends = probs.cumsum(1)
        y = (random.random((80, 1)) > ends).sum(1).clip(max=2)
        drawn = (random.random((500, 80, 1)) > ends).sum(2).clip(max=2)
        found.append(predictive.calibrated(y, drawn, None, random))
    assert (np.array(found) < 0.1).mean() < 0.1 + 4 * (0.09 / 15) ** 0.5
    assert min(found) < 0.5


def _line(x, y, scale=1.0, reach=5.0):
    slope = pyro.sample("slope", dist.Normal(0.0, reach))
    with pyro.plate("row", len(x)):
        pyro.sample("y", dist.Normal(slope * x, scale), obs=y)


def test_a_likelihood_with_the_wrong_scale_and_a_prior_out_of_reach_are_told():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, generator=generator)
    y = 2 * x + torch.randn(80, generator=generator)
    program = zoo.program(_line)
    posterior = inference.sample(program, x, y, draws=100, progress=False)
    found = inference.check(program, posterior, x, y)
    assert found.verdict == "trust", found
    assert found["LOO-PIT of 'y'"].state == found["prior predictive of 'y'"].state == "ok"
    wide = inference.sample(program, x, y, 2.0, draws=100, progress=False)  # coverage cannot see it: all are inside
    found = inference.check(program, wide, x, y, 2.0)
    assert found["coverage of 'y'"].state == "ok"
    assert found["LOO-PIT of 'y'"].state == "look"
    assert found.verdict == "caution"
    far = inference.sample(program, x, y + 40, draws=100, progress=False)
    assert inference.check(program, far, x, y + 40)["prior predictive of 'y'"].state == "look"


def test_first_steps_that_a_model_takes_as_they_are_do_not_count():
    pair = zoo.create("autoregressive", order=1, dtype=torch.float64)
    torch.manual_seed(1)
    data, _ = pair.simulate(60)
    inference.fit(pair, data, progress=False)
    assert inference.check(pair, data)["LOO-PIT of 'x'"].state == "ok"
