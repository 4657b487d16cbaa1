"""An `infer` that fails leaves the pair as it was, whichever road it failed on, an interrupt included."""

from __future__ import annotations

import pytest
import torch

import inference
import zoo
from inference.data.check import check
from inference.fitting import loop
from inference.roads import infer as roads
from inference.sampling.chains import SamplingError
from zoo import held

# One pair for each road, and pairs whose constants, networks or draws a road changes on the way.
PAIRS = {
    "gmm": {"features": 2, "components": 2},
    "polynomial_regression": {"features": 2, "noise": "student_t"},
    "decision_tree": {"features": 2, "depth": 1},
    "random_forest": {"features": 2},
    "gaussian_vae": {"features": 3, "latent": 1, "likelihood": "gaussian"},
    "masked_autoregressive": {"features": 3},
    "hmm": {"states": 2, "features": 1, "steps": 8},
}
ROADS = ("_exact", "_gaussian", "_tempered", "_hamiltonian", "_amortised", "_points", "by_steps")


def made(name):
    torch.manual_seed(0)
    data = zoo.create(name, **PAIRS[name]).simulate(30)[0]
    far = {
        field: 5 + 3 * value
        for field, value in data.fields().items()
        if field in ("x", "y") and name != "masked_autoregressive"
    }
    return zoo.create(name, **PAIRS[name]), data.but(**far)


def standing(pair):
    """All that is known of a pair."""
    bits = {name: value.clone() for name, value in pair.state_dict().items()}
    return bits, pair._history, dict(pair.card), held.of(pair), pair.training, pair.trained, pair.measured, pair.fitted


def same(one, other):
    assert one[0].keys() == other[0].keys()
    assert all(torch.equal(value, other[0][name]) for name, value in one[0].items())
    assert one[1:] == other[1:]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SamplingError("planted"), RuntimeError("planted")])
@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_put_back_where_every_road_ends_in_an_error(name, error, monkeypatch):
    """Each road goes to its very end, with all that it changes, and fails there."""

    def planted(road):
        def fails(given, *args):
            with given.pair.learning("trained"), torch.no_grad():
                if not given.pair.trained:
                    given.pair.measure(given.batch)
                    given.pair.remember(given.batch)
                for value in given.pair.parameters():
                    value.add_(1.0)
                given.pair.card = {"fit": {"road": road}}
            raise error

        return fails

    for road in ROADS:
        monkeypatch.setattr(roads, road, planted(road))
    pair, data = made(name)
    before = standing(pair)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        inference.infer(pair, data, draws=30, progress=False)
    same(before, standing(pair))


@pytest.mark.parametrize("name", ["gaussian_vae", "masked_autoregressive", "random_forest"])
def test_an_interrupt_of_the_steps_of_a_fit_is_passed_on(name, monkeypatch):
    """`fit` ends with what it has, as its users want; `infer` would go on to the next road."""
    advance, count = loop.Loop._advance, 0

    def interrupted(self, *args):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return advance(self, *args)

    monkeypatch.setattr(loop.Loop, "_advance", interrupted)
    pair, data = made(name)
    before = standing(pair)
    with pytest.raises(KeyboardInterrupt):
        inference.infer(pair, data, draws=30, progress=False)
    assert count == 3
    same(before, standing(pair))


@pytest.mark.parametrize("name", ["decision_tree", "polynomial_regression"])
def test_a_pair_whose_starting_values_are_no_closed_form_is_not_taken_for_a_trained_one(name):
    pair, data = made(name)
    pair.double()
    found = roads._exact(check(pair, data), 30, 0, None)
    assert found is None
    assert not pair.trained
    assert pair.measured  # the roads that follow stand on these


def test_draws_that_a_pair_holds_come_back(monkeypatch):
    pair, data = made("gmm")
    values = inference.prior(pair, data, draws=10).draws
    sites = {name for name, site in pair.sites().items() if not (site.observed or site.enumerated or site.local)}
    held.hold(pair, {name: values[name] for name in sites}, "mcmc")
    before, was = standing(pair), held.of(pair)

    def fails(given, *args):
        held.release(given.pair)
        raise SamplingError("planted")

    for road in ROADS:
        monkeypatch.setattr(roads, road, fails)
    with pytest.raises(SamplingError, match="planted"):
        inference.infer(pair, data, draws=30, progress=False)
    same(before, standing(pair))
    assert held.of(pair) is was
    assert all(torch.equal(value, values[name]) for name, value in was.draws.items())


def test_chains_interrupted_before_they_draw_leave_the_constants(monkeypatch):
    def stops(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("inference.sampling.sample.run", stops)
    pair, data = made("gmm")
    before = standing(pair)
    with pytest.raises(KeyboardInterrupt):
        inference.sample(pair, data, draws=10, progress=False)
    same(before, standing(pair))
