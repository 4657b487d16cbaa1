"""The inverse gamma against SciPy, at scales where Pyro's own overflows in single precision."""

from __future__ import annotations

import pyro.distributions as dist
import pytest
import torch
from scipy import special, stats

from zoo.parts.conjugate.inverse_gamma import InverseGamma

SCALES = (1e-26, 1e-13, 1.0, 1e13, 1e26)


@pytest.mark.parametrize("scale", SCALES)
def test_densities_and_gradients_at_any_scale(scale):
    a, b = torch.tensor(2.5), torch.tensor(scale)
    v = (torch.tensor([0.1, 0.7, 3.0]) * scale).requires_grad_()
    density = InverseGamma(a, b).log_prob(v)
    wanted = stats.invgamma(2.5, scale=float(b)).logpdf(v.detach().double().numpy())
    torch.testing.assert_close(density.detach().double(), torch.from_numpy(wanted), rtol=1e-5, atol=1e-5)
    (slope,) = torch.autograd.grad(density.sum(), v)
    exact = -(2.5 + 1) / v.detach().double() + float(b) / v.detach().double().square()
    torch.testing.assert_close(slope.double() * scale, exact * scale, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", SCALES)
def test_draws_at_any_scale_and_their_gradients(scale):
    torch.manual_seed(0)
    a, b = torch.tensor(2.5, requires_grad=True), torch.tensor(scale, requires_grad=True)
    draws = InverseGamma(a, b).rsample((4000,))
    distance = stats.kstest(draws.detach().double().numpy() / scale, stats.invgamma(2.5).cdf).statistic
    assert distance < 1.63 / 4000**0.5  # the 1 % point
    slopes = torch.autograd.grad(draws.log().mean(), (a, b))
    assert float(slopes[1]) * scale == pytest.approx(1, rel=1e-4)  # log v = log b - log g
    assert float(slopes[0]) == pytest.approx(-special.polygamma(1, 2.5), abs=0.05)  # d/da E[log g] = psi'(a)


def test_draws_are_pyros_up_to_rounding_and_so_are_expansions():
    a, b = torch.tensor([1.0, 3.0], dtype=torch.float64), torch.tensor([2.0, 5.0], dtype=torch.float64)
    draws = []
    for family in (InverseGamma, dist.InverseGamma):
        torch.manual_seed(1)
        draws.append(family(a, b).expand((4, 2)).to_event(1).sample((3,)))
    torch.testing.assert_close(*draws)
    assert type(InverseGamma(a, b).expand((4, 2))) is InverseGamma
    with pytest.raises(ValueError, match="support"):
        InverseGamma(a, b, validate_args=True).log_prob(-a)
