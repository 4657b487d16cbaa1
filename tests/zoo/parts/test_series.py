"""The distribution of an autoregressive series: densities with gaps, moments, forecasts in closed form."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from tests.helpers.series import LENGTHS, drift, joint, make, with_gaps
from zoo.parts.series import AutoregressiveSeries


@pytest.mark.parametrize("inputs", [0, 2])
def test_density_is_the_product_of_the_conditionals(inputs: int) -> None:
    fn = make(inputs)
    x = fn.sample()
    wanted = torch.zeros(3, dtype=x.dtype)
    for n, length in enumerate(LENGTHS.tolist()):
        for t in range(fn.order, length):
            past = sum(w * (x[n, t - lag] - fn.center) for w, lag in zip(fn.weights, fn.lags, strict=True))
            wanted[n] += dist.Normal(fn.center + drift(fn, n, t) + past, fn.scale).log_prob(x[n, t])
    torch.testing.assert_close(fn.log_prob(x), wanted, rtol=1e-12, atol=1e-10)
    filled = x.masked_fill(torch.arange(14) >= LENGTHS[:, None], torch.nan)  # past the end anything goes
    assert torch.equal(fn.log_prob(filled), fn.log_prob(x))


@pytest.mark.parametrize("inputs", [0, 2])
@pytest.mark.parametrize("missing", [3, 8])
def test_missing_steps_are_integrated_out(inputs: int, missing: int) -> None:
    """Against the joint normal density of the steps that are there; the margin for more gaps costs nothing."""
    fn = make(inputs, missing, seed=1)
    x = with_gaps(fn)
    wanted = []
    for n, length in enumerate(LENGTHS.tolist()):
        mean, covariance = joint(fn, x, n, length)
        seen = ~x[n, fn.order : length].isnan()
        normal = dist.MultivariateNormal(mean[seen], covariance[seen][:, seen])
        wanted.append(normal.log_prob(x[n, fn.order : length][seen]))
    torch.testing.assert_close(fn.log_prob(x), torch.stack(wanted), rtol=1e-11, atol=1e-9)
    whole = fn.sample()
    torch.testing.assert_close(fn.log_prob(whole), make(inputs, 0, seed=1).log_prob(whole))


def test_gradients_with_gaps_are_right_and_too_many_gaps_have_no_density() -> None:
    fn = make(1, 3, seed=2)
    x = with_gaps(fn)

    def density(weights: Tensor, intercept: Tensor, scale: Tensor, slopes: Tensor) -> Tensor:
        options: dict[str, Any] = {"slopes": slopes, "inputs": fn.inputs, "lengths": LENGTHS, "missing": 3}
        return AutoregressiveSeries(fn.lags, weights, intercept, scale, 14, fn.center, fn.spread, **options).log_prob(x)

    values = [v.clone().requires_grad_() for v in (fn.weights, fn.intercept, fn.scale, fn.slopes)]
    assert torch.autograd.gradcheck(density, values)
    x[1, 5:9] = torch.nan  # four
    x[2, 0] = torch.nan  # among the first
    assert fn.log_prob(x).isnan().tolist() == [False, True, True]


def test_draws_of_the_latents_run_at_once() -> None:
    """Latents (S, 1, ...) give what a loop over S gives, gaps and forecasts too."""
    fn = make(2, 3, seed=3)
    x, S, ahead = with_gaps(fn), 4, torch.randn(3, 2, 2, dtype=torch.float64)
    weights, intercept = fn.weights * torch.rand(S, 1, 3).double(), torch.randn(S, 1).double()
    scale, slopes = torch.rand(S, 1).double() + 0.5, torch.randn(S, 1, 2).double()
    rest: dict[str, Any] = {"inputs": fn.inputs, "lengths": LENGTHS, "missing": 3}
    many = AutoregressiveSeries(fn.lags, weights, intercept, scale, 14, fn.center, fn.spread, slopes, **rest)
    assert many.batch_shape == (S, 3)
    assert many.sample().shape == (S, 3, 14)
    assert many.expand((2, S, 3)).sample().shape == (2, S, 3, 14)
    for s in range(S):
        one = [value[s, 0] for value in (weights, intercept, scale, slopes)]
        alone = AutoregressiveSeries(fn.lags, *one[:3], 14, fn.center, fn.spread, one[3], **rest)
        torch.testing.assert_close(many.log_prob(x)[s], alone.log_prob(x))
        future, wanted = many.forecast(x, 2, ahead), alone.forecast(x, 2, ahead)
        torch.testing.assert_close(future.mean[s], wanted.mean)
        torch.testing.assert_close(future.covariance_matrix[s], wanted.covariance_matrix)


def test_samples_have_the_exact_moments() -> None:
    """Series that go on from given first steps: z-scores of means and second moments."""
    fn = make(1, seed=4)
    fn.start = torch.randn(3, fn.order, dtype=torch.float64)
    draws = fn.sample((40_000,))
    torch.testing.assert_close(draws[0, :, : fn.order], fn.start)
    for n in range(3):
        mean, covariance = joint(fn, fn.start, n, int(LENGTHS[n]))
        got = draws[:, n, fn.order : int(LENGTHS[n])] - mean
        z = got.mean(0) / (covariance.diagonal() / 40_000).sqrt()
        assert z.abs().max() < 4.5
        products = got[:, :, None] * got[:, None, :]
        z = (products.mean(0) - covariance) / (products.std(0) / 200)
        assert z.abs().max() < 4.5


@pytest.mark.parametrize("missing", [0, 3])
@pytest.mark.parametrize("inputs", [0, 2])
def test_forecast_is_the_closed_form(inputs: int, missing: int) -> None:
    """Mean and covariance by recursion, conditioned on what is there by the formula of the normal distribution."""
    fn, H = make(inputs, missing, seed=5), 6
    x = with_gaps(fn, missing)
    ahead = torch.randn(3, H, inputs, dtype=torch.float64) if inputs else None
    future = fn.forecast(x, H, ahead)
    for n, length in enumerate(LENGTHS.tolist()):
        mean, covariance = joint(fn, x, n, length + H, ahead)
        seen = (~x[n, fn.order : length].isnan()).nonzero().squeeze(-1)
        late = torch.arange(length - fn.order, length - fn.order + H)
        gain = torch.linalg.solve(covariance[seen][:, seen], covariance[seen][:, late]).T
        error = x[n, fn.order : length][seen] - mean[seen]
        torch.testing.assert_close(future.mean[n], mean[late] + gain @ error, rtol=1e-9, atol=1e-9)
        wanted = covariance[late][:, late] - gain @ covariance[seen][:, late]
        torch.testing.assert_close(future.covariance_matrix[n], wanted, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("inputs", "ahead"), [(0, (3, 4, 1)), (2, None), (2, (3, 5, 2)), (2, (3, 4, 1))])
def test_inputs_ahead_that_do_not_fit_are_refused(inputs: int, ahead: tuple[int, ...] | None) -> None:
    fn = make(inputs)
    with pytest.raises(ValueError, match="inputs of the steps ahead: expected"):
        fn.forecast(fn.sample(), 4, None if ahead is None else torch.zeros(ahead))
