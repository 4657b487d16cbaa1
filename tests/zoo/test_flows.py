"""Normalising flows: their density against numerical changes of variables, and the Gaussian that they begin as."""

from __future__ import annotations

import sys

import numpy as np
import pyro.distributions as dist
import pytest
import scipy.stats
import torch

import zoo
from zoo import guides
from zoo.base import Batch, ModelGuide
from zoo.flows import Warp, flowing

LOC = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
TRIL = torch.tensor([[0.5, 0, 0], [0.3, 2.0, 0], [-1.0, 0.2, 0.7]], dtype=torch.float64)


def bent(size, seed=0, scale=1.5):
    """A flow far from the identity."""
    torch.manual_seed(seed)
    warp = Warp(size).double()
    with torch.no_grad():
        for parameter in warp.parameters():
            parameter.add_(scale * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return warp


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_begins_as_its_gaussian(size):
    loc, tril = LOC[:size], TRIL[:size, :size]
    warp = Warp(size).double()
    q = flowing(loc, tril, warp())
    torch.manual_seed(1)
    u = q(torch.Size([50]))
    torch.manual_seed(1)
    noise = torch.normal(torch.zeros(50, size, dtype=torch.float64), 1.0).numpy()
    np.testing.assert_allclose(u.detach(), loc.numpy() + noise @ tril.numpy().T, rtol=1e-12, atol=1e-12)
    expected = scipy.stats.multivariate_normal(loc.numpy(), (tril @ tril.T).numpy()).logpdf(u.detach().numpy())
    for value in (u, u.clone()):  # as it was drawn, and by inversion
        np.testing.assert_allclose(q.log_prob(value).detach(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_density_against_a_numerical_change_of_variables(size):
    """log q = log N(e; 0, I) - log |det du/de|, by central differences of the map from noise to draws."""
    loc, tril, warp = LOC[:size], TRIL[:size, :size], bent(size)
    q = flowing(loc, tril, warp())
    mapped = q.dist.transform.inv
    torch.manual_seed(2)
    u = q(torch.Size([20]))
    torch.manual_seed(2)
    noise = torch.normal(torch.zeros(20, size, dtype=torch.float64), 1.0)
    off = (u - loc) @ torch.linalg.inv(tril).mT - noise
    assert float(off.abs().max()) > 0.2
    step = 1e-5 * torch.eye(size, dtype=torch.float64)
    with torch.no_grad():
        jacobians = np.stack([((mapped(e + step) - mapped(e - step)) / 2e-5).numpy() for e in noise])
    expected = scipy.stats.norm.logpdf(noise.numpy()).sum(-1) - np.linalg.slogdet(jacobians)[1]
    np.testing.assert_allclose(q.log_prob(u).detach(), expected, atol=1e-5)
    np.testing.assert_allclose(q.log_prob(u.clone()).detach(), expected, atol=1e-5)


def test_density_of_two_numbers_has_mass_one():
    """By the trapezoidal rule, of the density by inversion; and means of draws are those of the density."""
    q = flowing(LOC[:2], TRIL[:2, :2], bent(2)())
    with torch.no_grad():
        u = q(torch.Size([5_000]))
        low, high = u.amin(0) - 1, u.amax(0) + 1
        axes = [torch.linspace(float(a), float(b), 150, dtype=torch.float64) for a, b in zip(low, high, strict=True)]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
        density = q.log_prob(grid).exp().numpy()

    def integral(of):
        return np.trapezoid(np.trapezoid(of, axes[1].numpy(), axis=1), axes[0].numpy())

    assert integral(density) == pytest.approx(1, abs=5e-3)
    for k in range(2):
        mean = integral(density * grid[..., k].numpy())
        assert mean == pytest.approx(float(u[:, k].mean()), abs=4 * float(u[:, k].std()) / 5_000**0.5 + 5e-3)


def test_reset_is_the_identity_again():
    warp = bent(3)
    warp.reset()
    q = flowing(LOC, TRIL, warp())
    u = q(torch.Size([10]))
    expected = scipy.stats.multivariate_normal(LOC.numpy(), (TRIL @ TRIL.T).numpy()).logpdf(u.detach().numpy())
    np.testing.assert_allclose(q.log_prob(u).detach(), expected, rtol=1e-9)


class Rates(ModelGuide):
    """Counts of one rate."""

    def __init__(self, guide: guides.Family = "flow") -> None:
        super().__init__(guide)
        self.register_buffer("one", torch.ones(()))

    def model(self, batch: Batch) -> torch.Tensor:
        import pyro

        rate = pyro.sample("rate", dist.Gamma(2 * self.one, self.one))
        with batch.plate():
            return pyro.sample("x", dist.Poisson(rate), obs=batch.x)


def test_medians_and_quantiles_are_those_of_the_gaussian_at_the_start():
    """log rate is normal: quantiles are exp of its own."""
    pair = Rates().double()
    auto = pair.automatic
    with torch.no_grad():
        auto.centre.fill_(0.7)
        auto.standardise(torch.tensor([0.3], dtype=torch.float64))
    found = auto.quantiles([0.1, 0.5, 0.9])["rate"]
    expected = scipy.stats.norm(0.7, 0.3).ppf([0.1, 0.5, 0.9])
    np.testing.assert_allclose(found.log(), expected, atol=4 * 0.3 / 0.58 / 10_000**0.5)  # 0.58: sqrt(p q) / density
    assert float(auto.median()["rate"].log()) == pytest.approx(0.7, abs=4 * 0.3 * 1.25 / 10_000**0.5)


def test_networks_of_two_flows_are_alike_whatever_was_drawn_before():
    pairs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        pairs.append(zoo.create("gmm", guide="flow"))
    found = [{n: v for n, v in pair.named_parameters() if ".warp." in n} for pair in pairs]
    assert len(found[0]) > 10
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_without_zuko_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko.flows", None)
    with pytest.raises(ValueError, match=r"pip install 'pyro-zoo\[flows\]'"):
        zoo.create("gmm", guide="flow")
