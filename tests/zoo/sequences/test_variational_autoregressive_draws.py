"""Draws, predictions and forecasts of variational_autoregressive against covariances, loops and Kalman filters."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.nn import functional

import inference
from tests.helpers.states import NAN, create, holes, kalman, linear, parts
from zoo.base import Batch


def test_draws_of_a_linear_pair_have_its_covariance() -> None:
    pair, S, T = linear(2, 2), 20000, 3
    p = {name: torch.tensor(value) for name, value in parts(pair).items()}
    mean, cov = [p["m"]], [p["S"]]
    for _ in range(T - 1):
        mean.append(p["A"] @ mean[-1])
        cov.append(p["A"] @ cov[-1] @ p["A"].T + p["Q"])
    torch.manual_seed(0)
    batch, truth = pair.simulate(S)
    x, z = batch.x[:, :T], truth["z"][:, :T]
    joint = torch.cat([z, x], -1)  # (S, T, 4)
    for t in range(T):
        mean_x = p["C"] @ mean[t] + p["d"]
        both = torch.cat([p["C"] @ cov[t], p["C"] @ cov[t] @ p["C"].T + p["R"]], 1)
        full = torch.cat([torch.cat([cov[t], (p["C"] @ cov[t]).T], 1), both])
        check_moments(joint[:, t], torch.cat([mean[t], mean_x]), full)
        if t:  # cov(x_t, x_{t-1}) = C A cov(z_{t-1}) C'
            lagged = (x[:, t] - mean_x).T @ (x[:, t - 1] - p["C"] @ mean[t - 1] - p["d"]) / S
            wanted = p["C"] @ p["A"] @ cov[t - 1] @ p["C"].T
            spread = (x[:, t].var(0)[:, None] * x[:, t - 1].var(0) + wanted.square()).sqrt()
            assert float(((lagged - wanted) / spread).abs().max()) < 4.5 / math.sqrt(S)


def check_moments(draws: Tensor, mean: Tensor, cov: Tensor) -> None:
    """Means and covariances of draws (S, K) within 4.5 standard errors."""
    S, sd = len(draws), cov.diagonal().sqrt()
    assert float(((draws.mean(0) - mean) / sd).abs().max()) < 4.5 / math.sqrt(S)
    found = (draws - mean).T @ (draws - mean) / S
    spread = (sd[:, None] ** 2 * sd**2 + cov.square()).sqrt()
    assert float(((found - cov) / spread).abs().max()) < 4.5 / math.sqrt(S)


def fed_back(**config: Any) -> Any:
    """A network in which states and observations listen to the observation before."""
    torch.manual_seed(4)
    pair = create(features=1, latent=1, hidden=4, **config)
    with torch.no_grad():
        for parameter in pair.dynamics.parameters():
            parameter.mul_(2.5)
    return pair


def by_loop(pair: Any, S: int, steps: int, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Draws of z and x, (S, T), one step at a time with a cell of torch's own."""
    dynamics = pair.dynamics
    cell = torch.nn.GRUCell(4, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in dynamics.net.net.state_dict().items()})
    h, told, made = torch.zeros(S, 4).double(), torch.tensor([0.0, 0.0, 0.0, 1.0]).double().expand(S, 4), []
    for t in range(steps):
        h = cell(told, h)
        now = torch.normal(*dynamics.prior(h)) if z is None else z[:, t, None]
        mean, raw = dynamics.decoder(h, now)
        x = torch.normal(mean, functional.softplus(raw))
        told = torch.cat([x, 0 * x, now, 0 * x], -1)
        made.append((now[:, 0], x[:, 0]))
    zs, xs = zip(*made, strict=True)
    return torch.stack(zs, 1), torch.stack(xs, 1)


def moments(z: Tensor, x: Tensor) -> Tensor:
    """First moments, and products of neighbours, of each draw, (S, *)."""
    return torch.cat([z, x, x * z, x[:, 1:] * x[:, :-1], z[:, 1:] * x[:, :-1], z[:, 1:] * z[:, :-1]], 1)


def agree(one: Tensor, other: Tensor) -> bool:
    """Whether the means of two sets of draws (S, *) are within 4.5 standard errors."""
    error = ((one.var(0) + other.var(0)) / len(one)).sqrt()
    return bool(((one.mean(0) - other.mean(0)).abs() < 4.5 * error + 1e-12).all())


@torch.no_grad()
def test_draws_of_a_network_have_the_moments_of_a_plain_loop() -> None:
    pair = fed_back()
    batch, truth = pair.simulate(20000)
    z, x = by_loop(pair, 20000, 5)
    assert agree(moments(truth["z"][..., 0], batch.x[..., 0]), moments(z, x))
    assert agree(inference.generate(pair, 20000)["x"][..., 0], x)
    # what the test is for: the observations drawn anew given the states do not have them
    assert not agree(moments(z, by_loop(pair, 20000, 5, z)[1]), moments(z, x))


@torch.no_grad()
def test_predictions_with_given_states_follow_them_and_the_observations() -> None:
    pair, S = fed_back(), 20000
    batch, truth = pair.simulate(1)
    draws = {"z": truth["z"][None, None].expand(1, S, 1, 5, 1)}
    posterior = inference.Posterior(draws, frozenset({"z"}), {}, "svi", 1, S)
    x = batch.x.clone()
    x[0, 2] = NAN
    found = inference.predict(pair, posterior, Batch.of(x, lengths=torch.tensor([5])))["x"][0, :, 0, :, 0]
    h = poutine.trace(pair.model).get_trace(batch.but(x=x)).nodes["x"]["fn"].chain.states(truth["z"])
    mean, raw = (value[0, :, 0] for value in pair.dynamics.decoder(h, truth["z"]))
    check_moments(found, mean, functional.softplus(raw).square().diag())
    free = inference.predict(pair, posterior, 1)["x"][0, :, 0, :, 0]  # no observations to follow
    z = truth["z"][0, :, 0].expand(S, 5)
    assert agree(moments(z, free), moments(z, by_loop(pair, S, 5, z)[1]))
    assert not agree(moments(z, free), moments(z, found))


def test_missing_steps_are_completed_as_the_kalman_smoother_does() -> None:
    pair, x = linear(2, 3, exact=True), holes(1, 6, 2)
    found = inference.predict(pair, inference.draw(pair, x, 8000), x)["x"][0, :, 0]  # (S, T, D)
    wanted, p = kalman(pair, x[0]), parts(pair)
    for t in (1, 4):
        cov = p["C"] @ wanted.smoothed_state_cov[..., t] @ p["C"].T + p["R"]
        check_moments(found[:, t], torch.tensor(p["C"] @ wanted.smoothed_state[:, t] + p["d"]), torch.tensor(cov))


def test_forecasts_of_a_linear_pair_are_those_of_the_kalman_filter() -> None:
    pair, x = linear(2, 3, exact=True), holes(3, 6, 2)
    lengths = torch.tensor([6, 4, 6])
    batch = Batch.of(x, lengths=lengths)
    found = inference.forecast(pair, inference.draw(pair, batch, 8000), batch, 3)[0]  # (S, N, H, D)
    for n, length in enumerate(lengths):
        ahead = torch.cat([x[n, :length], torch.full((3, 2), NAN)])
        wanted = kalman(pair, ahead)
        for t in range(3):
            mean, cov = wanted.forecasts[:, length + t], wanted.forecasts_error_cov[..., length + t]
            check_moments(found[:, n, t], torch.tensor(mean), torch.tensor(cov))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_forecasts_of_a_network_go_on_from_the_end_of_each_row(cell: str) -> None:
    pair = fed_back(cell=cell)
    with torch.no_grad():
        for net in (pair.dynamics.prior.net, pair.dynamics.decoder.net):
            net[-1].weight[1:], net[-1].bias[1:] = 0.0, -40.0  # no noise
    batch, truth = pair.simulate(3)  # draws are their own forecasts
    x, lengths = batch.x, torch.tensor([3, 2, 4])
    posterior = inference.Posterior({"z": truth["z"][None, None]}, frozenset({"z"}), {}, "svi", 1, 1)
    batch = batch.but(x=torch.where(torch.arange(5)[:, None] < lengths[:, None, None], x, 50.0), lengths=lengths)
    found = inference.forecast(pair, posterior, batch, 2)[0, 0, ..., 0]
    for n, length in enumerate(lengths.tolist()):
        wanted = x[n, length : length + 2, 0]
        torch.testing.assert_close(found[n, : len(wanted)], wanted, atol=1e-9, rtol=0)
