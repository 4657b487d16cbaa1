"""Codes and reconstructions against closed forms; codes that a pair does not have are refused."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

import inference
import zoo
from inference.codes.collapse import active_units, code_kl, collapsed
from inference.codes.encoding import decode, encode, reconstruct
from inference.codes.gaps import log_marginal
from inference.codes.imputation import impute
from inference.posterior.draws import Posterior
from tests.helpers.codes import Classes, Emitting, HoleyFactors, TwoLevels, globally, linear

# --- encode -----------------------------------------------------------------------------------------------------------


def test_encode_is_the_guide_in_closed_form():
    pair, batch = linear(off=0.3)
    found = encode(pair, batch, draws=4000)
    loc = (batch.x / pair.scale - pair.offset) @ pair.encoder.mT
    sd = pair.scale_tril.square().sum(-1).sqrt().expand(40, 3)
    torch.testing.assert_close(found.mean["z"], loc.detach())
    torch.testing.assert_close(found.sd["z"], sd.detach())
    assert found.draws["z"].shape == (1, 4000, 40, 3)
    z = found.draws["z"][0]
    assert ((z.mean(0) - loc).abs() < 5 * sd / math.sqrt(4000)).all()
    assert ((z.std(0) / sd - 1).abs() < 5 / math.sqrt(2 * 4000)).all()


@pytest.mark.parametrize("name", ["gaussian_vae", "gaussian_autoencoder", "gmm"])
def test_codes_do_not_depend_on_the_other_rows(name):
    pair = zoo.create(name).double()
    batch, _ = pair.simulate(30)
    posterior = globally(pair)
    whole = encode(pair, batch, posterior=posterior)
    some = encode(pair, batch.x[[7, 3]], posterior=posterior, seed=5)
    for part in ("mean", "sd"):
        for site, value in getattr(whole, part).items():
            torch.testing.assert_close(getattr(some, part)[site], value[[7, 3]], rtol=1e-10, atol=1e-10)


def test_moments_are_averaged_over_what_they_depend_on():
    """b | a ~ N(a / 2, 0.3) with a ~ N(x, 1); log c ~ N(x, 0.5), whose moments torch does not know."""
    pair = TwoLevels().double()
    x = torch.randn(5, 2, dtype=torch.float64)
    found = encode(pair, x)
    error = 5 / math.sqrt(1000)
    wanted = {"a": (x[:, 0], 1.0), "b": (x[:, 0] / 2, math.sqrt(0.3**2 + 0.5**2))}
    grow = math.exp(0.5**2)
    wanted["c"] = ((x + 0.125).exp(), (x + 0.125).exp() * math.sqrt(grow - 1))
    for site, (mean, sd) in wanted.items():
        assert ((found.mean[site] - mean).abs() <= error * sd).all(), site
        kurtosis = 3 if site != "c" else grow**4 + 2 * grow**3 + 3 * grow**2 - 3
        tolerance = 5 * math.sqrt((kurtosis - 1) / 4 / 1000)
        assert ((found.sd[site] / sd - 1).abs() < tolerance).all(), site
    assert found.mean["c"].shape == (5, 2)


def test_classes_have_their_exact_probabilities():
    pair = Classes().double()
    x = pair.simulate(50)[0].x
    x[::3, 1] = torch.nan
    x[0] = torch.nan
    found = encode(pair, x, draws=3000)
    wanted = pair.posterior(x)
    torch.testing.assert_close(found.mean["k"], wanted)
    assert "k" not in found.sd
    share = found.draws["k"][0].double().mean(0)
    assert ((share - wanted[:, 1]).abs() < 5 * (wanted[:, 0] * wanted[:, 1] / 3000).sqrt() + 1e-3).all()


def test_gmm_codes_are_the_assignments():
    pair = zoo.create("gmm", components=3).double()
    batch, _ = pair.simulate(30)
    posterior = globally(pair)
    found = encode(pair, batch, posterior=posterior)
    torch.testing.assert_close(found.mean["component"], inference.assignments(pair, posterior, batch)["component"])


# --- decode and reconstruct -------------------------------------------------------------------------------------------


def test_decode_and_reconstruct_by_hand():
    pair, batch = linear(off=0.3)
    z = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(decode(pair, z)["x"], (z @ pair.weight.mT + pair.loc).detach())
    torch.testing.assert_close(decode(pair, {"z": z.numpy()})["x"], decode(pair, z)["x"])
    mean = encode(pair, batch).mean["z"]
    one = reconstruct(pair, batch)
    torch.testing.assert_close(one, decode(pair, mean)["x"])
    # A linear decoder: the mean over codes is that of the mean code.
    many = reconstruct(pair, batch, draws=2000)
    spread = (pair.weight @ pair.scale_tril).square().sum(-1).sqrt().detach()
    assert ((many - one).abs() < 5 * spread / math.sqrt(2000)).all()
    assert (many != one).any()


def test_expected_values():
    z = torch.linspace(-1, 1, 5, dtype=torch.float64)
    weights = torch.stack([torch.ones(5).double(), z.exp(), (2 * z).exp()], -1)
    categories = (weights[:, 1] + 2 * weights[:, 2]) / weights.sum(-1)
    torch.testing.assert_close(decode(Emitting().double(), z)["x"][:, 0], categories)
    torch.testing.assert_close(decode(Emitting("pointed").double(), z)["x"][:, 0], z + 100)
    meanless = decode(Emitting("meanless").double(), z)["x"][:, 0]
    assert ((meanless - z.tanh()).abs() < 0.05).all()


def test_global_latents_are_averaged_over():
    pair = zoo.create("bayesian_vae", likelihood="gaussian").double()
    posterior = globally(pair)
    z = torch.randn(4, 2, dtype=torch.float64)
    by_hand = torch.zeros(4, 16, dtype=torch.float64)
    for s in range(6):
        alone = Posterior({n: v[:, s : s + 1] for n, v in posterior.draws.items()}, posterior.local, size=1)
        by_hand += decode(pair, z, posterior=alone)["x"] / 6
    torch.testing.assert_close(decode(pair, z, posterior=posterior)["x"], by_hand)
    batch, _ = pair.simulate(3)
    assert reconstruct(pair, batch, posterior=posterior).shape == (3, 16)
    assert not torch.equal(decode(pair, z, seed=0)["x"], decode(pair, z, seed=1)["x"])


def test_reconstruction_of_a_mixture_weighs_its_classes():
    pair = Classes().double()
    x = pair.simulate(20)[0].x
    torch.testing.assert_close(reconstruct(pair, x), pair.posterior(x) @ pair.locs)
    torch.testing.assert_close(decode(pair, torch.tensor([1, 0]))["x"], pair.locs[[1, 0]])


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["polynomial_regression", "hmm"])
@pytest.mark.parametrize("function", [encode, reconstruct, impute, active_units, code_kl, collapsed, log_marginal])
def test_pairs_without_codes_are_refused(name, function):
    pair = zoo.create(name)
    with pytest.raises(ValueError, match=f"{name} has no local latents"):
        function(pair, pair.simulate(3)[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode(zoo.create("gaussian_vae"), torch.zeros(2, 64), draws=-1), "draws: expected a whole number"),
        (lambda: decode(zoo.create("gaussian_vae"), torch.zeros(2, 3)), r"codes 'z': expected shape \(M, 2\), got"),
        (lambda: decode(zoo.create("gaussian_vae"), {"w": torch.zeros(2, 2)}), "expected codes z, got w"),
        (lambda: decode(zoo.create("gaussian_vae"), torch.full((2, 2), torch.nan)), "expected finite numbers"),
        (lambda: decode(Classes(), torch.tensor([0.5])), "expected whole numbers"),
        (lambda: decode(TwoLevels(), torch.zeros(2)), "TwoLevels has several codes: give a dict of a, b, c"),
        (lambda: impute(zoo.create("gaussian_vae"), torch.zeros(2, 64)), "no table that may have missing values"),
        (lambda: impute(HoleyFactors(), torch.zeros(2, 5), proposals=0), "proposals: expected a whole number"),
        (lambda: active_units(Classes(), torch.zeros(2, 3)), "draws no code; 'k' is summed out exactly"),
        (lambda: code_kl(Emitting(), torch.zeros(2, 1)), "point mass at 'z'"),
        (
            lambda: encode(zoo.create("bayesian_vae"), torch.zeros(2, 16), posterior=Posterior({}, size=1)),
            "posterior lacks site",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_point_guide_encodes():
    pair = Emitting("pointed").double()
    x = torch.tensor([[0.5], [-1.0]])
    found = encode(pair, x, draws=2)
    assert found.mean["z"].tolist() == [0.5, -1.0]
    assert found.sd["z"].tolist() == [0.0, 0.0]
    assert reconstruct(pair, x)[:, 0].tolist() == [100.5, 99.0]
    assert active_units(pair, x)["z"].item()


@pytest.mark.parametrize("make", [partial(zoo.create, "gaussian_vae"), partial(zoo.create, "bayesian_vae"), Classes])
def test_seeds_and_the_callers_random_state(make):
    pair = make()
    batch, _ = pair.simulate(4)
    state = torch.get_rng_state()
    first, again, other = (encode(pair, batch, draws=20, seed=seed) for seed in (0, 0, 1))
    reconstruct(pair, batch, draws=2)
    assert torch.equal(state, torch.get_rng_state())
    for site in first.draws:
        assert torch.equal(first.draws[site], again.draws[site])
        assert first.mean[site].dtype == torch.float32
    assert any(not torch.equal(first.draws[site], other.draws[site]) for site in first.draws)
