"""Sensitivity to prior and likelihood: ArviZ's own numbers, and what closed forms say of a normal mean."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from scipy import integrate, stats

import inference
import zoo
from inference.checking.sensitivity import of_scaling, sensitivity

pytestmark = pytest.mark.usefixtures("double")


def normal(reach, shift, size=25, count=8000, seed=0):
    """Draws of the mean of `size` numbers around `shift`, prior Normal(0, reach), with both log densities."""
    generator = torch.Generator().manual_seed(seed)
    y = shift + torch.linspace(-1, 1, size)
    precision = size + reach**-2
    draws = y.sum() / precision + torch.randn(4, count // 4, generator=generator) / precision**0.5
    return draws, dist.Normal(0.0, reach).log_prob(draws), dist.Normal(draws[..., None], 1.0).log_prob(y).sum(-1)


def _exact(reach, shift, low, high, size=25):
    """Of the likelihood, by the distribution functions: sqrt of the cumulative Jensen-Shannon divergence at 1.01.

    It is divided by what lies below (or above) the functions in the range of the draws.
    """
    tilted = []
    for power in (1.0, 1.01):
        precision = power * size + reach**-2
        tilted.append(stats.norm(power * size * shift / precision, precision**-0.5))
    p, q = (one.cdf for one in tilted)

    def divergence(flip):
        def term(x):
            a, b = (1 - p(x), 1 - q(x)) if flip else (p(x), q(x))
            mid = (a + b) / 2
            parts = (u * np.log2(u / mid) if u > 0 else 0.0 for u in (a, b))
            return sum(parts)

        return integrate.quad(term, low, high, limit=200)[0]

    total = [integrate.quad(f, low, high)[0] for f in (p, q)]
    upper = [high - low - part for part in total]
    return max((divergence(False) / sum(total)) ** 0.5, (divergence(True) / sum(upper)) ** 0.5) / np.log2(1.01)


@pytest.mark.parametrize(("reach", "shift"), [(1.0, 0.0), (0.2, 1.0)])
def test_a_normal_mean_has_the_sensitivity_of_its_distribution_functions(reach, shift):
    draws, _, likelihood = normal(reach, shift, count=20000)
    (found,) = sensitivity(draws.numpy()[..., None], likelihood.numpy())
    assert found == pytest.approx(_exact(reach, shift, float(draws.min()), float(draws.max())), rel=0.1)


def test_sensitivities_are_those_of_arviz():
    from arviz_stats.base import array_stats

    draws, prior, likelihood = normal(0.2, 1.0, count=4000)
    values = torch.stack([draws, draws**3, torch.randn(draws.shape, generator=torch.Generator().manual_seed(7))], -1)
    for part in (prior.numpy(), likelihood.numpy()):
        weights = [np.exp(array_stats.power_scale_lw(part, alpha, axis=[0, 1])) for alpha in (0.99, 1.01)]
        wanted = [
            array_stats.power_scale_sense(values[..., i].numpy(), *weights, 0.99, 1.01, chain_axis=0, draw_axis=1)
            for i in range(3)
        ]
        np.testing.assert_allclose(sensitivity(values.numpy(), part), wanted, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(
    ("reach", "shift", "size", "words"),
    [(5.0, 1.0, 25, "the data decide"), (0.2, 1.0, 25, "may be at odds"), (0.05, 0.0, 2, "the prior decides")],
)
def test_diagnoses(reach, shift, size, words):
    draws, prior, likelihood = normal(reach, shift, size)
    (found,) = of_scaling({"mu": draws}, prior, likelihood)
    assert words in found.told, found
    assert found.state == ("ok" if "data decide" in words else "look")
    assert not found.counts


def test_draws_of_a_guide_count_by_their_weights():
    draws, prior, likelihood = normal(0.2, 1.0)
    (right,) = of_scaling({"mu": draws}, prior, likelihood)
    centre, spread = draws.mean(), 1.4 * draws.std()
    wide = centre + spread * torch.randn(1, 8000, generator=torch.Generator().manual_seed(1))
    y = 1.0 + torch.linspace(-1, 1, 25)
    before = dist.Normal(0.0, 0.2).log_prob(wide)
    of = dist.Normal(wide[..., None], 1.0).log_prob(y).sum(-1)
    ratios = (before + of - dist.Normal(centre, spread).log_prob(wide)).flatten().numpy()
    (found,) = of_scaling({"mu": wide}, before, of, ratios)
    assert found.value == pytest.approx(right.value, rel=0.15)
    (without,) = of_scaling({"mu": wide}, before, of)
    assert abs(without.value - right.value) > 2 * abs(found.value - right.value)


def _mean(y, reach=0.2):
    mu = pyro.sample("mu", dist.Normal(0.0, reach))
    with pyro.plate("row", len(y)):
        pyro.sample("y", dist.Normal(mu, 1.0), obs=y)


def test_a_prior_at_odds_with_the_data_is_told_of_programs_and_pairs():
    y = 1.0 + torch.linspace(-1, 1, 25)
    program = zoo.program(_mean)
    posterior = inference.sample(program, y, draws=100, progress=False)
    found = inference.check(program, posterior, y)["sensitivity to the prior"]
    draws, prior, likelihood = normal(0.2, 1.0, count=960)  # as many as are looked at: few give more, 0.29 for 0.26
    (wanted,) = of_scaling({"mu": draws}, prior, likelihood)
    assert "may be at odds" in found.told
    assert found.value == pytest.approx(wanted.value, rel=0.15)
    pair = zoo.create("polynomial_regression", features=1, degree=1, dtype=torch.float64)
    x = torch.linspace(-1, 1, 100).unsqueeze(-1)
    data = x, 2 * x[:, 0] + torch.randn(100, generator=torch.Generator().manual_seed(0))
    inference.fit(pair, data, progress=False)
    found = inference.check(pair, data)
    assert found["sensitivity to the prior"].value < 0.1 < wanted.value
    assert found.verdict == "trust"  # it is told, and no fault of the posterior
