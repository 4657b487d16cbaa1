"""The contract's own state: what counts as fitted, whose constants a pair keeps, and what it says of itself."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import inference
import zoo
from inference import KeptConstants
from tests.helpers.pairs import NAMES, Coded, Normal
from zoo import base
from zoo.base import Batch, ModelGuide
from zoo.pair import rebuild

QUICK = {"compile": "off", "progress": False, "device": "cpu"}


def rows(size=40, scale=1.0):
    torch.manual_seed(3)
    return scale * (7 + 3 * torch.randn(size, 5))


def line(size=60, scale=1.0):
    torch.manual_seed(4)
    x = torch.randn(size, 1)
    return Batch.of(x=scale * x, y=scale * (3 + 2 * x[:, 0] + 0.1 * torch.randn(size)))


def loss_of(pair, batch):
    torch.manual_seed(0)
    return Trace_ELBO().loss(pair.model, pair.guide, batch)


def trained(pair, batch, steps=5, size=None):
    """By plain Pyro, in minibatches if a size is given."""
    svi = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for step in range(steps):
        some = slice(0, batch.size) if size is None else slice(step % 4 * size, (step % 4 + 1) * size)
        svi.step(batch.select(some))
    return pair


def copies(pair, folder):
    """The same pair after whatever keeps it what it is."""
    yield "copied", copy.deepcopy(pair)
    yield "pickled", pickle.loads(pickle.dumps(pair))
    yield "double and back", copy.deepcopy(pair).double().float()
    yield "moved", copy.deepcopy(pair).to("cpu").train().eval()
    yield "loaded", zoo.load(pair.save(folder))


# --- fitted or not ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_was_only_made_is_not_fitted_whatever_is_done_to_it(name, tmp_path):
    pair = zoo.create(name)
    pair.simulate(3)
    pair.sites()
    assert not pair.fitted
    for how, same in copies(pair, tmp_path):
        assert not same.fitted, how
        assert not same.measured, how


def test_a_note_in_the_card_changes_nothing(tmp_path):
    pairs = []
    for note in ({}, {"data": "of last week"}, {"fit": "none"}):
        torch.manual_seed(0)
        pairs.append(zoo.create("polynomial_regression"))
        pairs[-1].card = dict(note)
        assert not pairs[-1].fitted
        assert not zoo.load(pairs[-1].save(tmp_path / str(len(pairs)))).fitted
    losses = [inference.fit(pair, line(scale=1e3), steps=30, **QUICK).losses for pair in pairs]
    assert (losses[0] == losses[1]).all()
    assert (losses[0] == losses[2]).all()


def adam(pair, batch):
    step(pair, batch, torch.optim.Adam(pair.parameters(), lr=0.01))


def fused(pair, batch):
    step(pair, batch, torch.optim.Adam(pair.parameters(), lr=0.01, fused=True))


def lbfgs(pair, batch):
    optimiser = torch.optim.LBFGS(pair.parameters(), lr=0.01)

    def closure():
        optimiser.zero_grad()
        loss = Trace_ELBO().differentiable_loss(pair.model, pair.guide, batch)
        loss.backward()
        return loss

    optimiser.step(closure)


def step(pair, batch, optimiser):
    Trace_ELBO().differentiable_loss(pair.model, pair.guide, batch).backward()
    optimiser.step()


def loaded(pair, batch):
    pair.load_state_dict(trained(copy.deepcopy(pair), batch).state_dict())


def functional(pair, _):
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(
            1.01 * torch.nn.utils.parameters_to_vector(pair.parameters()), pair.parameters()
        )


def after_double(pair, batch):
    adam(pair.double(), batch.to(dtype=torch.float64))
    pair.float()


plain_pyro = pytest.mark.filterwarnings("ignore:Found vars in model but not guide")  # gmm's, which is enumerated
TRAININGS = [
    trained, lambda pair, batch: trained(pair, batch, size=10), adam, fused, lbfgs, loaded, functional, after_double,
]  # fmt: skip


@plain_pyro
@pytest.mark.parametrize("training", TRAININGS, ids=lambda f: f.__name__.strip("<>"))
@pytest.mark.parametrize("name", ["gmm", "gaussian_autoencoder"])
def test_a_training_of_ones_own_counts_and_is_not_forgotten(name, training, tmp_path):
    pair = zoo.create(name, features=5)
    training(pair, Batch.of(x=rows()))
    assert pair.fitted
    for how, same in copies(pair, tmp_path):
        assert same.fitted, how


def test_a_type_of_few_bits_is_no_training():
    pair = zoo.create("gaussian_autoencoder")
    assert not copy.deepcopy(pair).to(torch.bfloat16).fitted
    assert trained(pair, Batch.of(x=rows())).to(torch.bfloat16).fitted


def test_a_fit_goes_on_where_plain_pyro_stopped():
    batch = Batch.of(x=rows())
    pair = trained(zoo.create("gaussian_autoencoder"), batch, steps=200)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    with pytest.warns(KeptConstants, match="made with"):
        inference.fit(pair, batch, steps=1, lr=1e-6, **QUICK)
    for name, value in pair.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=1e-5)
    inference.fit(pair, batch, steps=1, lr=1e-6, initialise=True, **QUICK)
    assert not torch.allclose(pair.scale, before["scale_unconstrained"].exp(), rtol=1e-2), "started anew, as asked"


def test_constants_stay_too_where_plain_pyro_stopped():
    batch = Batch.of(x=rows())
    pair = trained(zoo.create("neural_autoencoder", features=5), batch, steps=100)
    before = loss_of(pair, batch)
    with pytest.warns(KeptConstants, match="keeps the constants it was made with \\(center, unit\\)"):
        fit = inference.fit(pair, batch, steps=1, lr=1e-9, **QUICK)
    assert fit.kept == ("center", "unit")
    assert loss_of(pair, batch) == pytest.approx(before, rel=1e-4)


def test_fit_sample_and_fit_by_simulation_count():
    one, two, three = Normal(), Normal(), Coded()
    inference.fit(one, torch.zeros(9), steps=1, **QUICK)
    inference.sample(two, torch.zeros(9), draws=4, chains=2, compile="off", progress=False, max_warmup=30)
    inference.fit_by_simulation(three, steps=1, progress=False)
    assert [pair.fitted for pair in (one, two, three)] == [True, True, True]
    assert [pair.trained for pair in (one, two, three)] == [True, False, True], "sampling moves no parameter"
    assert copy.deepcopy(two).fitted


def test_starting_values_are_no_training():
    pair = zoo.create("gaussian_vae", features=5, likelihood="gaussian", prior="vamp", components=3)
    batch, before = Batch.of(x=rows()), pair.pseudo_inputs.detach().clone()
    pair.initial(batch)
    assert not torch.equal(pair.pseudo_inputs, before)
    assert not pair.fitted
    pair.double()
    assert not pair.fitted


def test_a_fit_that_fails_leaves_a_new_pair_unfitted():
    pair = zoo.create("polynomial_regression")

    def broken(*_):
        raise RuntimeError("of the caller's own")

    with pytest.raises(RuntimeError, match="own"):
        inference.fit(pair, line(), steps=5, callbacks=[broken], **QUICK)
    assert not pair.fitted
    assert not pair.measured
    with warnings.catch_warnings():
        warnings.simplefilter("error", KeptConstants)
        assert inference.fit(pair, line(scale=1e3), steps=5, **QUICK).kept == ()


# --- constants --------------------------------------------------------------------------------------------------------


def error_of(pair, batch):
    fitted = inference.predict(pair, inference.draw(pair, batch, 200), batch)["y"].mean((0, 1))
    return float((fitted - batch.y).square().mean().sqrt() / batch.y.std())


def test_a_refit_on_data_of_another_scale_keeps_its_constants_and_says_so():
    pair = zoo.create("polynomial_regression", degree=1)
    inference.fit(pair, line(), steps=50, **QUICK)
    first = {name: value.clone() for name, value in pair.named_buffers()}
    with pytest.warns(KeptConstants, match="of the data it was first fitted to .*halfwidth.*initialise=True") as told:
        fit = inference.fit(pair, line(scale=1e3), steps=5, **QUICK)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert fit.kept == ("centre", "halfwidth", "location", "spread")
    assert "constants kept: centre, halfwidth, location, spread" in repr(fit)
    assert all(torch.equal(value, first[name]) for name, value in pair.named_buffers() if name in fit.kept)
    assert inference.fit(pair, line(scale=1e3), steps=50, initialise=True, **QUICK).kept == ()
    assert not torch.equal(pair.spread, first["spread"])
    assert error_of(pair, line(scale=1e3)) < 0.2


def test_a_refit_on_the_same_data_says_nothing(tmp_path):
    x = rows(60)
    pair = zoo.create("neural_autoencoder", features=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error", KeptConstants)
        inference.fit(pair, x, steps=2, validation=0.2, **QUICK)
        inference.fit(pair, x, steps=2, validation=0.3, seed=5, **QUICK)  # other rows held out of the same
        inference.fit(pair.double(), x.double(), steps=2, **QUICK)
        inference.fit(copy.deepcopy(pair), x.numpy(), steps=2, **QUICK)
        inference.fit(zoo.load(pair.save(tmp_path)), x, steps=2, **QUICK)
        inference.fit(pair, x, steps=2, initialise=True, **QUICK)
        inference.fit(pair, x.flip(0), steps=2, **QUICK)  # other data, of the same constants


@pytest.mark.filterwarnings("ignore:warm-up stopped", "ignore:chains disagree")  # a few draws, on purpose
def test_sampling_keeps_and_says_so_too():
    options = {"draws": 4, "chains": 2, "max_warmup": 30, "compile": "off", "progress": False}
    pair = zoo.create("polynomial_regression", degree=1).double()
    inference.sample(pair, line(), **options)
    assert (pair.fitted, pair.trained, pair.measured) == (True, False, True)
    with pytest.warns(KeptConstants):
        inference.sample(pair, line(scale=1e3), **options)
    codes = zoo.create("neural_autoencoder", features=5)
    inference.fit(codes, rows(), steps=2, **QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("error", KeptConstants)
        inference.sample(codes, rows(3, scale=2.0), **options)  # codes of other rows are no refit


def test_what_fails_in_sampling_leaves_the_pair_unmeasured(monkeypatch):
    pair = zoo.create("polynomial_regression")
    before = copy.deepcopy(pair.state_dict())

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("inference.sampling.starts.find", interrupt)
    with pytest.raises(KeyboardInterrupt):
        inference.sample(pair, line(), progress=False)
    assert not pair.fitted
    assert not pair.measured
    assert all(torch.equal(value, before[name]) for name, value in pair.state_dict().items())


def test_constants_can_be_measured_by_hand_and_are_then_kept():
    pair = zoo.create("polynomial_regression")
    pair.measure(line(scale=1e3))
    assert pair.measured
    assert not pair.fitted
    spread = pair.spread.clone()
    with pytest.warns(KeptConstants):
        inference.fit(pair, line(), steps=2, **QUICK)
    assert torch.equal(pair.spread, spread)


def test_starting_values_by_hand_measure_first():
    pair, batch = zoo.create("polynomial_regression"), line(scale=1e3)
    values = pair.initial(batch)
    assert pair.measured
    other = zoo.create("polynomial_regression")
    other.measure(batch)
    torch.testing.assert_close(other.initial(batch), values)


@pytest.mark.parametrize("name", NAMES)
def test_measuring_writes_buffers_alone_and_draws_nothing(name):
    torch.manual_seed(0)
    pair = zoo.create(name)
    batch = pair.simulate(12)[0]
    before, state = copy.deepcopy(pair.state_dict()), torch.get_rng_state()
    pair.measure(batch)
    assert torch.equal(state, torch.get_rng_state())
    parameters = {key for key, _ in pair.named_parameters()}
    assert all(torch.equal(value, before[key]) for key, value in pair.state_dict().items() if key in parameters)
    assert pair.measured == pair.measures
    once = copy.deepcopy(pair.state_dict())
    pair.measure(batch)
    assert all(torch.equal(value, once[key]) for key, value in pair.state_dict().items()), "measured twice is once"


@pytest.mark.parametrize("name", NAMES)
def test_starting_values_set_no_constant(name):
    """Buffers that `initial` writes belong to the guide: what the model says of values that are given stays."""
    torch.manual_seed(0)
    pair = zoo.create(name)
    for seed in range(20):
        torch.manual_seed(seed)
        batch, latents = pair.simulate(12)
        try:
            pair.check(batch)
            break
        except ValueError:
            continue
    pair.measure(batch)
    parameters = {
        key: value.clone() for key, value in pair.state_dict().items() if key in dict(pair.named_parameters())
    }
    with torch.no_grad():
        before = pyro.poutine.trace(pyro.poutine.condition(pair.model, latents)).get_trace(batch).log_prob_sum()
        pair.initial(batch)
        for key, value in pair.named_parameters():
            value.copy_(parameters[key])
        after = pyro.poutine.trace(pyro.poutine.condition(pair.model, latents)).get_trace(batch).log_prob_sum()
    torch.testing.assert_close(before, after)


# --- files ------------------------------------------------------------------------------------------------------------


def test_history_is_saved(tmp_path):
    pair = zoo.create("polynomial_regression")
    inference.fit(pair, line(), steps=2, **QUICK)
    again = zoo.load(pair.save(tmp_path))
    assert (again.fitted, again.trained, again.measured) == (True, True, True)
    record = json.loads((Path(tmp_path) / "config.json").read_text())["history"]
    assert record.keys() == {"trained", "sampled", "measured"}
    with pytest.warns(KeptConstants):
        inference.fit(again, line(scale=1e3), steps=2, **QUICK)


# --- words ------------------------------------------------------------------------------------------------------------


def test_a_pair_says_what_it_is_in_a_line():
    pair = zoo.create("gmm", components=3, features=2)
    assert repr(pair) == "gmm(components=3): not fitted, 34 parameters, float32 on cpu"
    inference.fit(pair.double(), rows()[:, :2], steps=1, **QUICK)
    assert ": fitted, " in repr(pair)
    assert repr(pair).endswith(" parameters, float64 on cpu")
    assert repr(zoo.create("gmm")).startswith("gmm(): not fitted, ")
    assert all("\n" not in repr(zoo.create(name)) and len(repr(zoo.create(name))) < 400 for name in NAMES)


def test_a_pair_that_is_not_registered_has_the_name_of_its_class():
    assert Normal().name == "Normal"
    assert zoo.create("hmm").name == "hmm"


def test_own_parameters_are_those_that_the_automatic_guide_has_not():
    pair = zoo.create("gmm")
    assert pair.automatic is not None
    assert pair.own_parameters() == {}
    coded = Coded()
    assert coded.automatic is None
    assert coded.own_parameters().keys() == {name for name, _ in coded.named_parameters()}


def test_the_face_of_the_contract_keeps_its_names():
    assert isinstance(zoo.create("gmm"), ModelGuide)
    assert base._rebuild is rebuild


def test_a_column_of_large_numbers_hides_no_other_that_changed():
    """A centre at 1e6 and one at 0: a shift of the second is seen (each against itself)."""
    draw = np.random.default_rng(0).normal
    x = np.stack([draw(1e6, 1e5, 300), draw(size=300)], 1)
    y = 2 * x[:, 1] + draw(size=300)
    pair = zoo.create("polynomial_regression", features=2, degree=1)
    inference.fit(pair, (x, y), steps=5, progress=False, compile="off")
    with pytest.warns(inference.KeptConstants, match="centre"):
        again = inference.fit(pair, (x * [1, 80] + [0, 90], y), steps=5, progress=False, compile="off")
    assert "centre" in again.kept
