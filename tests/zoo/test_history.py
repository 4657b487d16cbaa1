"""What counts as a training and what does not, and how often it is said that constants are kept."""

from __future__ import annotations

import copy
import pickle
import warnings

import pyro
import pytest
import torch
from pyro.infer import SVI, Trace_ELBO

import inference
import zoo
from inference import KeptConstants
from tests.helpers.pairs import Coded
from zoo.base import Batch

QUICK = {"steps": 1, "lr": 1e-9, "compile": "off", "progress": False, "device": "cpu"}


def rows(scale=1.0):
    torch.manual_seed(3)
    return scale * (7 + 3 * torch.randn(40, 5))


def trained_by_pyro():
    pair = zoo.create("neural_autoencoder", features=5)
    svi = SVI(pair.model, pair.guide, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    svi.step(Batch.of(x=rows()))
    assert pair.trained
    assert not pair.measured
    return pair


@pytest.fixture
def unheard():
    with warnings.catch_warnings():
        warnings.simplefilter("error", KeptConstants)
        yield


def test_a_pair_trained_by_pyro_says_once_for_the_same_data_that_it_keeps_its_constants(unheard):
    pair = trained_by_pyro()
    for data in (rows(), rows(scale=2.0)):
        with pytest.warns(KeptConstants, match="keeps the constants it was made with"):
            inference.fit(pair, data, **QUICK)
        assert inference.fit(pair, data, **QUICK).kept == ("center", "unit")  # which is told in any case
        inference.fit(pair, data, validation=0.2, seed=5, **QUICK)
        inference.fit(pair.double(), data.double(), **QUICK)
        pair.float()
    for again in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair)), pair):
        inference.fit(again, rows(), **QUICK)
        inference.fit(again, rows(scale=2.0), **QUICK)


def test_what_was_said_of_constants_is_said_again_of_others(unheard):
    pair = zoo.create("neural_autoencoder", features=5)
    inference.fit(pair, rows(), **QUICK)
    with pytest.warns(KeptConstants):
        inference.fit(pair, rows(scale=2.0), **QUICK)
    inference.fit(pair, rows(scale=2.0), **QUICK)
    inference.fit(pair, rows(scale=2.0), initialise=True, **QUICK)
    inference.fit(pair, rows(scale=2.0), **QUICK)
    with pytest.warns(KeptConstants):
        inference.fit(pair, rows(), **QUICK)
    inference.fit(pair, rows(), initialise=True, **QUICK)
    with pytest.warns(KeptConstants, match="of the data it was first fitted to"):
        inference.fit(pair, rows(scale=2.0), **QUICK)


def test_a_fit_that_fails_has_not_said_it(unheard):
    pair = trained_by_pyro()

    def broken(step, loss, pair):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), pytest.warns(KeptConstants):
        inference.fit(pair, rows(), callbacks=[broken], **QUICK)
    with pytest.warns(KeptConstants):
        inference.fit(pair, rows(), **QUICK)


PARTS = {
    "automatic guide": ("gmm", lambda pair: pair.automatic),
    "network": ("neural_autoencoder", lambda pair: next(m for m in pair.children() if list(m.parameters()))),
}


@pytest.mark.parametrize("part", PARTS)
def test_another_type_of_a_part_of_a_pair_is_no_training(part):
    name, of = PARTS[part]
    pair = zoo.create(name)
    of(pair).double()
    assert not pair.fitted
    assert not zoo.create(name).double().to(torch.float64).fitted
    for same in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair)), pair):
        assert not same.float().fitted
    of(pair).double()
    with torch.no_grad():
        next(of(pair).parameters()).add_(0.01)
    assert pair.fitted
    assert pair.float().fitted


def test_a_step_in_double_precision_counts_however_small():
    pair = zoo.create("gmm").double()
    with torch.no_grad():
        next(pair.parameters()).add_(1e-12)
    assert pair.fitted


def test_values_that_were_loaded_are_a_training_whatever_pair_they_are_of():
    torch.manual_seed(0)
    one, same, other = (zoo.create("gaussian_autoencoder", features=5) for _ in range(3))
    state = copy.deepcopy(one.state_dict())
    other.load_state_dict(state)
    assert other.fitted
    one.load_state_dict(state)
    assert not one.fitted, "its own values: nothing moved"
    with pytest.warns(KeptConstants, match="made with"):
        inference.fit(other, rows(), **QUICK)
    inference.fit(same, rows(), **QUICK)
    for name, value in other.own_parameters().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-5)
    assert any(not torch.equal(value, state[name]) for name, value in same.own_parameters().items())


def test_a_pair_in_the_making_does_not_claim_to_be_fitted():
    seen = []

    class Own(Coded):
        def __init__(self) -> None:
            seen.append(repr(self))
            super().__init__()
            seen.append(repr(self))
            seen.append(repr(self.double()))
            assert not self.fitted
            assert not self.trained

        def guide(self, batch):
            seen.append(repr(self))
            return super().guide(batch)

    pair = Own()
    assert seen == ["Own(): in the making"] * 4
    assert "not fitted" in repr(pair)
    with torch.no_grad():
        pair.encoder.weight += 1
    assert pair.trained
