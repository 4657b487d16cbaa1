"""The variational road: steps, then the weights of all rows; and the order of the roads, which is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import inference
import zoo
from inference.data.check import check
from inference.roads import infer as roads
from inference.roads import roads as by
from inference.roads.grounds import Ground
from inference.roads.variational import by_steps
from tests.inference.roads.test_streaming import line

SMALL = {
    "gmm": ["exact", "Gaussian", "tempered", "Hamiltonian", "tempered"],
    "naive_bayes": [
        "exact",
        "Gaussian",
        "tempered",
        "variational",
        "Hamiltonian",
        "tempered",
    ],  # its own guide: no code
    "bayesian_network": ["exact", "Gaussian", "tempered", "variational", "Hamiltonian", "tempered"],
    "random_forest": ["exact", "tempered", "variational", "Hamiltonian", "tempered"],
    "gaussian_vae": ["exact", "amortised", "Hamiltonian"],
    "masked_autoregressive": ["points"],
}


@pytest.mark.parametrize("name", SMALL)
def test_the_roads_of_a_pair_follow_from_what_it_declares(name):
    pair = zoo.create(name)
    given = check(pair, pair.simulate(60)[0])
    assert [road for road, _ in roads._roads(given, 10, 0, False)] == SMALL[name]


def test_chains_are_no_road_for_many_rows_and_it_is_said(monkeypatch):
    pair, data = line(400, "normal")
    given = check(pair, data)
    monkeypatch.setattr(roads, "READ", 399 * given.width)
    assert [road for road, _ in roads._roads(given, 10, 0, False)] == ["exact", "Gaussian", "variational"]
    assert "chains would read 400 rows" in roads._note(given)
    assert "infer from 99 of them at random" in roads._note(given)
    monkeypatch.setattr(roads, "READ", 400 * given.width)
    assert not roads._note(given)


@pytest.fixture
def stepped(monkeypatch):
    """Pairs of any size are too large for a Gaussian of a moment."""
    monkeypatch.setattr(roads, "LARGEST", 2)
    monkeypatch.setattr(by, "LARGEST", 2)
    monkeypatch.setattr(roads, "_exact", lambda *args: None)
    monkeypatch.setattr(roads, "READ", 1)


def test_a_fitted_guide_is_weighed_by_all_rows_and_corrected(stepped):
    pair, data = line(400)
    exact = by_steps(check(pair, data), 1000, 0, False, None).log_evidence  # the pair's own guide: a closed form
    pair, data = line(400, "multivariate")
    found = inference.infer(pair, data, progress=False)
    assert (found.road, found.trusted, found.method) == ("variational", True, "psis")
    assert found.log_evidence == pytest.approx(exact, abs=4 * found.error)
    assert found.size == 1000
    assert pair.trained
    assert repr(found).startswith("trust it: variational road")
    X, y = data
    design = np.column_stack([np.ones(400), X, X**2, X[:, 0] * X[:, 1]])
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    noise = inference.predict(pair, found, zoo.Batch.of(X[:50], y[:50]))["y"][0].std(0).mean()
    assert float(noise) == pytest.approx(residual.std(), rel=0.1)


def test_where_the_weights_do_not_hold_it_says_what_to_change(stepped, monkeypatch):
    monkeypatch.setattr(roads, "by_steps", lambda *args: _narrow(by_steps(*args)))
    pair, data = line(400, "normal")
    found = inference.infer(pair, data, progress=False)
    assert not found.trusted
    assert repr(found).startswith("do not trust: variational road")
    assert "chains would read 400 rows" in found.advice.replace("Chains", "chains")


def _narrow(found):
    """Evidence that does not hold."""
    return replace(found, grounds=(*found.grounds, Ground("effective share", 0.1, 0.3, least=True)))


def test_a_budget_ends_the_steps_and_it_is_said(stepped, monkeypatch):
    monkeypatch.setattr(roads, "by_steps", lambda *args: _narrow(by_steps(*args)))  # its start is good enough here
    pair, data = line(2000, "normal")
    found = inference.infer(pair, data, budget=1e-3, progress=False)
    assert found.road == "variational"
    assert not found.trusted
    assert "stopped after" in found.advice


def test_a_budget_that_ends_the_fit_of_networks_is_told_with_what_to_do():
    pair = zoo.create("gaussian_vae", features=3, latent=1, likelihood="gaussian")
    data = pair.simulate(40)[0]
    pair = zoo.create("gaussian_vae", features=3, latent=1, likelihood="gaussian")
    found = inference.infer(pair, data, draws=30, budget=0.5, progress=False)
    assert found.road == "amortised"
    assert found.trusted or "the fit stopped after" in found.advice
    assert found.trusted or "before it had converged: give it more time" in found.advice
    pair = zoo.create("masked_autoregressive", features=3)
    found = inference.infer(pair, pair.simulate(40)[0], draws=30, budget=0.5, progress=False)
    assert found.road == "points"
    assert "Its parameters are points" in found.advice or "its parameters are points" in found.advice


def test_chains_over_the_codes_of_many_observations_are_no_road(monkeypatch):
    pair = zoo.create("gaussian_vae")
    given = check(pair, pair.simulate(60)[0])
    assert "Hamiltonian" in dict(roads._roads(given, 10, 0, False))
    monkeypatch.setattr(roads, "CODES", 60 * pair.config["latent"] - 1)
    assert list(dict(roads._roads(given, 10, 0, False))) == ["exact", "amortised"]


def test_an_encoder_that_falls_short_is_told_with_what_to_do(monkeypatch):
    pair = zoo.create("gaussian_vae", features=3, latent=1, likelihood="gaussian").double()
    data = pair.simulate(40)[0]
    monkeypatch.setattr(roads, "fitted", lambda given, *args: inference.fit(given.pair, given, steps=1, progress=False))
    monkeypatch.setattr(roads, "RELIABLE", 1.01)
    pair = zoo.create("gaussian_vae", features=3, latent=1, likelihood="gaussian").double()
    given = check(pair, data)
    found = roads._amortised(given, 30, 0, False, None)
    assert "of the observations: more steps, a larger encoder, or inference.refine" in found.advice
    assert "these draws are of refined guides, which gain" in found.advice
