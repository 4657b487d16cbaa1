"""Pieces of work are cut by what they really hold: the largest tensor of any of them stays within the budget."""

import pytest
import torch

import inference
import zoo
from inference.data.check import as_batch
from inference.running.width import Sizes, width
from zoo.settings import settings


def test_width_is_that_of_the_decoder_or_of_the_states():
    pair = zoo.create("gaussian_vae", features=20, likelihood="categorical")
    assert width(pair, pair.simulate(5)[0]) == 20 * 256  # logits
    mixture = zoo.create("gmm", components=7, features=3)
    assert width(mixture, mixture.simulate(5)[0]) >= 7 * 3  # every component sees every row
    x = torch.rand(4, 3)
    flat = zoo.create("polynomial_regression", features=3)
    assert width(flat, as_batch(flat, zoo.Batch.of(x), complete=False)) >= 3  # y is drawn where it is missing


def test_what_was_measured_is_kept_for_the_same_shapes_and_the_same_networks_only():
    series = zoo.create("recurrent", hidden=4, alphabet="ab")
    widths = []
    for steps in (7, 70, 7):
        codes = torch.zeros(3, steps)
        widths.append(width(series, zoo.Batch.of(codes, lengths=torch.full((3,), steps))))
    assert widths[1] == 10 * widths[0]
    assert widths[2] == widths[0]
    pair = zoo.create("gaussian_vae", features=20, hidden=(8,))
    x = pair.simulate(5)[0]
    before = width(pair, x)
    pair.decoder = zoo.create("gaussian_vae", features=20, hidden=(900,)).decoder
    assert width(pair, x) == 900 > before


@pytest.mark.parametrize("rows", [30, 90])
@settings.using(memory=2**18)
def test_a_wide_decoder_is_run_in_small_pieces(rows):
    pair = zoo.create("gaussian_vae", features=20, likelihood="categorical")
    x = torch.randint(0, 256, (rows, 20))

    def peak(work):
        with Sizes() as recorder:
            found = work()
        return max(recorder.sizes), found

    largest, posterior = peak(lambda: inference.draw(pair, x, 12))
    assert largest <= 2**18
    own = 12 * rows * 20  # what is asked for
    assert peak(lambda: inference.predict(pair, posterior, x))[0] <= max(2**18, own)
    assert peak(lambda: inference.log_likelihood(pair, posterior, x, particles=10))[0] <= 2**18
    assert peak(lambda: as_batch(pair, torch.randint(0, 256, (40 * rows, 20))))[0] <= 40 * rows * 20 + 2**18


@settings.using(memory=2**18)
def test_a_cut_by_data_cells_would_break_the_budget(monkeypatch):
    pair = zoo.create("gaussian_vae", features=20, likelihood="categorical")
    x = torch.randint(0, 256, (30, 20))
    posterior = inference.draw(pair, x, 40)
    monkeypatch.setattr("inference.running.checked.width", lambda pair, batch: 20)
    with Sizes() as recorder:
        inference.predict(pair, posterior, x)
    assert max(recorder.sizes) > 2**19


def test_draws_without_their_densities_are_the_same_draws():
    pair = zoo.create("gmm")
    x = pair.simulate(10)[0]
    with_them, without = inference.draw(pair, x, 5), inference.draw(pair, x, 5, stats=False)
    assert with_them.stats.keys() == {"log_p", "log_q"}
    assert not without.stats
    torch.testing.assert_close(without["locs"], with_them["locs"])
