"""Pieces of bounded size add up to the whole."""

from __future__ import annotations

import torch

import inference
from inference.data.check import as_batch
from inference.fitting.objective import Objective, choose
from inference.running.densities import run
from tests.helpers.pairs import Normal, data
from zoo.settings import settings


def test_pieces_of_bounded_size_give_the_same_numbers(monkeypatch):
    """log_likelihood and predict in many small pieces equal one big one."""
    from inference.running import marginal, pieces

    pair, x = Normal().double(), data(50).double()
    posterior = inference.draw(pair, x, 30)
    whole = inference.log_likelihood(pair, posterior, x)
    runs = []
    monkeypatch.setattr(marginal, "run", lambda *args, **options: runs.append(args[2]) or run(*args, **options))
    with settings.using(memory=16 * 10):
        cut = inference.log_likelihood(pair, posterior, x)
        torch.testing.assert_close(cut, whole, rtol=1e-12, atol=0)
        assert len(runs) > 3
        assert inference.predict(pair, posterior, x)["x"].shape == (1, 30, 50)
        slices = list(pieces.pieces(100, 25))
    assert max(piece.stop - piece.start for piece in slices) == 6
    assert slices[-1].stop == 100
    assert isinstance(choose(pair, as_batch(pair, x)), Objective)
