"""The variational autoregressive pair against the Kalman filter of statsmodels and against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.nn import functional

import inference
import zoo
from inference.running.densities import run
from tests.helpers.states import KINDS, NAMES, NAN, create, holes, kalman, linear, log_weights
from zoo import datasets
from zoo.base import Batch

QUICK: dict[str, Any] = {"progress": False, "device": "cpu"}


# --- the linear-Gaussian case ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("D", "L"), [(1, 1), (2, 3), (3, 2)])
def test_every_draw_of_the_exact_smoother_weighs_what_the_kalman_filter_says(D: int, L: int) -> None:
    pair = linear(D, L, exact=True)
    x, lengths = holes(4, 7, D), torch.tensor([7, 7, 4, 1])
    found = run(pair, Batch.of(x, lengths=lengths), 5).log_weight
    wanted = torch.tensor([kalman(pair, row[:n]).llf_obs.sum() for row, n in zip(x, lengths, strict=True)])
    torch.testing.assert_close(found, wanted.expand(5, 4), rtol=1e-9, atol=1e-9)


def test_smoothed_states_are_those_of_the_kalman_smoother() -> None:
    pair = linear(2, 3, exact=True)
    x = holes(1, 6, 2)
    z = inference.draw(pair, x, 4000)["z"][0, :, 0]  # (S, T, L)
    wanted = kalman(pair, x[0])
    mean, cov = torch.tensor(wanted.smoothed_state.T), torch.tensor(wanted.smoothed_state_cov).permute(2, 0, 1)
    sd = cov.diagonal(dim1=-2, dim2=-1).sqrt()
    assert float(((z.mean(0) - mean) / sd).abs().max()) < 4.5 / math.sqrt(4000)
    spread = torch.einsum("stl,stm->tlm", z - z.mean(0), z - z.mean(0)) / 4000
    assert float(((spread - cov) / (sd.unsqueeze(-1) * sd.unsqueeze(-2))).abs().max()) < 4.5 * math.sqrt(2 / 4000)


def test_the_gradient_of_the_exact_bound_is_that_of_the_log_likelihood() -> None:
    pair, x = linear(2, 2, exact=True), holes(1, 5, 2)
    total = run(pair, Batch.of(x, lengths=torch.tensor([5]))).log_weight.sum()
    parameters = dict(pair.dynamics.named_parameters())
    gradients = torch.autograd.grad(total, list(parameters.values()))
    for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
        direction, ends = torch.randn_like(parameter), []
        for step in (-1e-5, 1e-5):
            with torch.no_grad():
                parameter.add_(step * direction)
                ends.append(kalman(pair, x[0]).llf_obs.sum())
                parameter.sub_(step * direction)
        assert float((gradient * direction).sum()) == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-5, abs=1e-7), (
            name
        )


def test_the_exact_smoother_is_above_the_exact_filter() -> None:
    bounds = {}
    for guide in ("smooth", "filter"):
        torch.manual_seed(0)
        pair = linear(1, 2, exact=True, guide=guide)
        batch, _ = pair.simulate(50)
        bounds[guide] = run(pair, batch, 50).log_weight
    assert bounds["smooth"].std(0).max() < 1e-9
    gap = bounds["smooth"].mean() - bounds["filter"].mean()
    assert gap > 4 * bounds["filter"].mean(1).std() / math.sqrt(50)


@pytest.mark.parametrize("guide", ["smooth", pytest.param("filter", marks=pytest.mark.slow)])
def test_a_learned_guide_stays_below_the_kalman_filter_and_the_smoother_comes_within_one_per_cent(guide: str) -> None:
    truth = linear(2, 2, exact=True, steps=6)
    torch.manual_seed(1)
    x, lengths = truth.simulate(50)[0].x.clone(), torch.full((50,), 6)
    x[torch.rand(x.shape) < 0.1] = NAN
    lengths[:10] = 4
    torch.manual_seed(2)
    pair, batch = create(transition="linear", guide=guide), Batch.of(x, lengths=lengths)
    inference.fit(pair, batch, steps=200, lr=0.03, compile="off", **QUICK)
    with torch.no_grad():
        bound = run(pair, batch, 200).log_weight.sum(-1)
    wanted = sum(float(kalman(pair, row[:n]).llf_obs.sum()) for row, n in zip(x, lengths, strict=True))
    gap, error = wanted - float(bound.mean()), float(bound.std()) / math.sqrt(200)
    assert gap > -4 * error
    assert (gap < 0.01 * abs(wanted)) == (guide == "smooth")


def nile() -> Tensor:
    """Flow of the Nile, standardised, (1, 100, 1)."""
    x = datasets.load("nile").x.double().unsqueeze(-1)
    return (x - x.mean()) / x.std()


def test_the_local_level_of_the_nile_is_that_of_statsmodels() -> None:
    api = pytest.importorskip("statsmodels.tsa.api")
    pair, x = create(features=1, latent=1, transition="linear", exact=True), nile()
    x[0, 30:40] = NAN
    model = api.UnobservedComponents(x[0, :, 0].numpy(), "llevel")
    model.ssm.initialize_known(np.zeros(1), np.eye(1))
    model.ssm.loglikelihood_burn = 0
    irregular, level = model.fit(disp=False).params
    prior, decoder = pair.dynamics.prior, pair.dynamics.decoder
    values = {prior.motion.transition: 1.0, decoder.weight: 1.0, decoder.bias: 0.0, prior.first: 0.0}
    for parameter, variance in ((prior.motion.noise, level), (decoder.noise, irregular), (prior.first_noise, 1.0)):
        values[parameter] = math.log(math.expm1(math.sqrt(variance)))
    with torch.no_grad():
        for parameter, value in values.items():
            parameter.fill_(value)
        found = run(pair, Batch.of(x, lengths=torch.tensor([100]))).log_weight
    assert float(found) == pytest.approx(model.loglike([irregular, level]), rel=1e-9)


@pytest.mark.slow
def test_a_learned_smoother_of_the_nile_comes_within_one_per_cent_of_its_kalman_filter() -> None:
    torch.manual_seed(0)
    pair, x = create(features=1, latent=1, transition="linear"), nile()
    inference.fit(pair, Batch.of(x, lengths=torch.tensor([100])), steps=300, lr=0.03, compile="off", **QUICK)
    with torch.no_grad():
        bound = run(pair, Batch.of(x, lengths=torch.tensor([100])), 500).log_weight
    wanted = float(kalman(pair, x[0]).llf_obs.sum())
    gap, error = wanted - float(bound.mean()), float(bound.std()) / math.sqrt(500)
    assert -4 * error < gap < 0.01 * abs(wanted)
    assert wanted > -126.103  # the most that a local level from Normal(0, 1) reaches, by statsmodels


# --- densities ------------------------------------------------------------------------------------------------------


def test_densities_are_those_of_a_plain_loop() -> None:
    torch.manual_seed(0)
    pair = create(features=2, latent=3, hidden=5)
    x, z = holes(1, 4, 2), torch.randn(1, 4, 3, dtype=torch.float64)
    parameters = {name: value.detach() for name, value in pair.dynamics.named_parameters()}
    h, told, log_p = torch.zeros(5).double(), torch.tensor([0.0] * 7 + [1.0]).double(), 0.0
    for t in range(4):
        gates_x = parameters["net.net.weight_ih_l0"] @ told + parameters["net.net.bias_ih_l0"]
        gates_h = parameters["net.net.weight_hh_l0"] @ h + parameters["net.net.bias_hh_l0"]
        r, u = (gates_x + gates_h)[:10].sigmoid().split(5)
        h = u * h + (1 - u) * (gates_x[10:] + r * gates_h[10:]).tanh()
        a, b = pair.dynamics.prior(h)
        mean, raw = pair.dynamics.decoder(h, z[0, t])
        log_p += torch.distributions.Normal(a, b).log_prob(z[0, t]).sum()
        seen = ~x[0, t].isnan()
        log_p += torch.distributions.Normal(mean[seen], functional.softplus(raw)[seen]).log_prob(x[0, t, seen]).sum()
        told = torch.cat([x[0, t].nan_to_num(), (~seen).double(), z[0, t], torch.zeros(1).double()])
    with poutine.condition(data={"z": z}):
        trace = poutine.trace(pair.model).get_trace(Batch.of(x, lengths=torch.tensor([4])))
    torch.testing.assert_close(trace.log_prob_sum(), log_p)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_padded_rows_weigh_what_each_weighs_alone_and_states_past_the_end_weigh_nothing(kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    pair = create(**kind)
    x, z, lengths = holes(4, 6, 2), torch.randn(4, 6, 2, dtype=torch.float64), torch.tensor([6, 3, 1, 5])
    x = torch.where(x.isnan(), NAN, (x > 0).double()) if kind.get("emission") == "bernoulli" else x
    for n, length in enumerate(lengths):
        x[n, length:] = 77.0 if n % 2 else NAN  # not looked at
    together = log_weights(pair, Batch.of(x, lengths=lengths), z)
    for n, length in enumerate(lengths):
        alone = Batch.of(x[n : n + 1, :length], lengths=length[None])
        torch.testing.assert_close(log_weights(pair, alone, z[n : n + 1, :length])[0], together[n])
    torch.testing.assert_close(run(pair, Batch.of(torch.full_like(x, NAN), lengths=lengths)).log_weight, 0 * together)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_what_a_walk_keeps_for_the_density_is_what_one_pass_gives(kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    pair = create(**kind)
    batch, _ = pair.simulate(3)
    batch = batch.but(lengths=torch.tensor([5, 2, 4]))
    torch.manual_seed(1)
    terms = run(pair, batch)
    torch.manual_seed(1)
    z = poutine.trace(pair.guide).get_trace(batch).nodes["z"]["value"].detach()
    torch.testing.assert_close(terms.log_weight.detach(), log_weights(pair, batch, z))


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_the_density_of_a_draw_is_that_of_the_same_sequences_when_observed(kind: dict[str, Any]) -> None:
    torch.manual_seed(0)
    pair, lengths = create(**kind), torch.tensor([5, 1, 3, 4])
    drawn = poutine.trace(pair.model).get_trace(Batch(4, 4, lengths=lengths))
    x, z = drawn.nodes["x"]["value"], drawn.nodes["z"]["value"]
    with poutine.condition(data={"z": z.clone()}):
        observed = poutine.trace(pair.model).get_trace(Batch.of(x, lengths=lengths))
    torch.testing.assert_close(drawn.log_prob_sum(), observed.log_prob_sum())


@pytest.mark.parametrize("guide", ["smooth", pytest.param("filter", marks=pytest.mark.slow)])
def test_a_filter_does_not_see_the_future_and_a_smoother_does(guide: str) -> None:
    pair, x = create(guide=guide), holes(1, 5, 2)
    z, other = torch.randn(1, 5, 2).double(), x.clone()
    other[0, 3:] = 1.0
    kept = []
    for data in (x, other):
        with poutine.condition(data={"z": z}):
            fn = poutine.trace(pair.guide).get_trace(Batch.of(data, lengths=torch.tensor([5]))).nodes["z"]["fn"]
        dynamics, evidence = fn.chain.dynamics, fn.evidence
        kept.append(dynamics.state(fn.chain.states(z), evidence, evidence.parts).mean[0, :3])
    assert torch.equal(*kept) == (guide == "filter")


# --- what is refused --------------------------------------------------------------------------------------------------


def test_bad_input_is_refused_by_name() -> None:
    pair, x = create(), holes(3, 5, 2)
    for lengths in ([5, 0, 5], [5, 6, 5]):
        with pytest.raises(ValueError, match=f"'lengths', row 1: expected 1 to 5, got {lengths[1]}"):
            inference.fit(pair, Batch.of(x, lengths=torch.tensor(lengths)), steps=1, **QUICK)
    with pytest.raises(ValueError, match=r"expected shape \(N, T, 2\)"):
        inference.fit(pair, x[..., :1].numpy(), steps=1, **QUICK)
    with pytest.raises(ValueError, match=r"0 or 1, or NaN where missing, got 0\.5"):
        inference.fit(create(emission="bernoulli"), torch.full_like(x, 0.5), steps=1, **QUICK)
    with pytest.raises(ValueError, match="did you mean 'emission'"):
        create(emissions="bernoulli")
    for wrong in ({"transition": "network"}, {"transition": "linear", "emission": "bernoulli"}):
        with pytest.raises(ValueError, match="exact=True goes with"):
            create(exact=True, **wrong)
    with pytest.raises(ValueError, match="without 'x'"):
        pair.guide(pair.inputs(2))
    create(features=1, latent=3)  # more states than features are none of these


def test_it_fits_what_is_mostly_missing() -> None:
    pair = zoo.create("variational_autoregressive")
    x = torch.full((6, 5, 2), NAN)
    x[:4, ::2, 0] = torch.randn(4, 3)
    fit = inference.fit(pair, Batch.of(x, lengths=torch.tensor([5, 5, 3, 1, 2, 5])), steps=20, **QUICK)
    assert np.isfinite(fit.losses).all()
    assert all(bool(value.isfinite().all()) for value in pair.state_dict().values())


@pytest.mark.slow
def test_a_smoother_of_a_network_is_above_its_filter_where_the_future_helps() -> None:
    """A walk seen through noise: where it stands is known better afterwards."""
    torch.manual_seed(0)
    x = (0.5 * torch.randn(400, 8, 1)).cumsum(1) + torch.randn(400, 8, 1)
    bounds = {}
    for guide in ("smooth", "filter"):
        torch.manual_seed(1)
        pair = zoo.create("variational_autoregressive", features=1, guide=guide)
        batch = Batch.of(x, lengths=torch.full((400,), 8))
        inference.fit(pair, batch, steps=600, compile="off", lr=5e-3, **QUICK)
        with torch.no_grad():
            bounds[guide] = run(pair, batch, 50).log_weight.mean(0)
    difference = bounds["smooth"] - bounds["filter"]
    assert difference.mean() > -4 * difference.std() / 20
