"""Draws in the place of a pair's guide: everything that draws from the guide draws from them, and files keep them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

import inference
import zoo
from zoo import held


@pytest.fixture
def pair():
    """A mixture that holds 12 draws, 3 chains of 4, of which each is told by its first location."""
    torch.manual_seed(0)
    made = zoo.create("gmm", features=1, components=2).double()
    prior = inference.prior(made, 5, 12)
    draws = {name: value.unflatten(0, (3, 4)) for name, value in prior.flat(prior.globals).items()}
    draws["locs"][..., 0, 0] = torch.arange(12.0).reshape(3, 4)
    held.hold(made, draws, "mcmc")
    return made


@pytest.fixture
def data():
    return torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]


def told(posterior):
    return posterior["locs"][0, :, 0, 0].tolist()


def test_each_draw_comes_once_before_any_comes_again(pair, data):
    found = inference.draw(pair, data, 30)
    assert found.method == "mcmc"
    assert sorted(told(found)[:12]) == sorted(told(found)[12:24]) == list(range(12))
    assert told(found)[:12] != told(found)[12:24]  # in another order
    assert "log_q" not in found.stats  # draws have no density


def test_the_latents_of_a_draw_stay_together(pair, data):
    found = inference.draw(pair, data, 12)
    for i, number in enumerate(told(found)):
        chain, draw = divmod(int(number), 4)
        for name, value in pair.held.draws.items():
            assert torch.equal(found[name][0, i], value[chain, draw]), name


@pytest.mark.parametrize("again", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair)), "file"])
def test_copies_and_files_hold_them_too(pair, data, again, tmp_path):
    if again == "file":
        pair.save(tmp_path / "run")
        other = zoo.load(tmp_path / "run")
    else:
        other = again(pair)
    assert other.held.method == "mcmc"
    assert told(inference.draw(other, data, 12)) == told(inference.draw(pair, data, 12))


def test_a_fit_brings_the_guide_back(pair, data):
    held.hold(pair, pair.held.draws, "mcmc")
    inference.fit(pair, data, steps=2, progress=False, compile="off")
    found = inference.draw(pair, data, 5)
    assert held.of(pair) is None
    assert found.method == "svi"
    assert "log_q" in found.stats


def test_draws_are_not_weighed(pair, data):
    assert inference.khat(pair, data).globals is None
    assert inference.loo(pair, inference.draw(pair, data, 40), data).elpd < 0


def test_other_draws_are_refused(pair, data):
    good = dict(pair.held.draws)
    with pytest.raises(ValueError, match=r"gmm, site 'locs': expected \(chain, draw, 2, 1\), got \(3, 4, 2\)"):
        held.hold(pair, {**good, "locs": good["locs"][..., 0]}, "mcmc")
    with pytest.raises(ValueError, match=r"expected draws of .*, got weights"):
        held.hold(pair, {"weights": good["weights"]}, "mcmc")
    vae = zoo.create("gaussian_vae", features=2, latent=1)
    with pytest.raises(ValueError, match="draws of z are those of single observations"):
        held.hold(vae, {}, "mcmc")


def test_a_file_that_says_something_else_is_refused(pair, tmp_path, monkeypatch):
    pair.save(tmp_path / "run")
    monkeypatch.setattr(zoo.state, "recorded", lambda pair: {"method": "mcmc", "shapes": {"locs": [3, "4"]}})
    pair.save(tmp_path / "wrong")
    with pytest.raises(ValueError, match="'held': 'locs': got"):
        zoo.load(tmp_path / "wrong")
