"""Hidden states, paths and forecasts of fitted chains, averaged over draws, against loops and matrix powers."""

from __future__ import annotations

import pytest
import torch

import zoo
from inference.data.check import as_batch
from inference.posterior.draws import Posterior
from inference.questions.sequences import forecast, sample_paths, smooth, viterbi
from tests.helpers.chains import KINDS_OF_MOVES, moving, posterior_of
from zoo.sequences.hmm import HMM
from zoo.settings import settings


def test_sample_paths_average_to_the_smoothed_states() -> None:
    """Over draws of the parameters too: shares of 400 paths a draw against `smooth`, z-scores; seeds; lengths."""
    pair = HMM(emission="categorical", categories=3, steps=8).double()
    posterior = posterior_of(pair, 3)
    batch = as_batch(pair, pair.simulate(2)[0]).but(lengths=torch.tensor([8, 3]))
    states = smooth(pair, posterior, batch, mean=False)[0]  # (3, 2, 8, K)
    many = Posterior({name: value.repeat_interleave(400, 1) for name, value in posterior.draws.items()}, size=1200)
    paths = sample_paths(pair, many, batch).view(3, 400, 2, 8).transpose(0, 1)
    assert (paths[:, :, 1, 3:] == -1).all()
    assert (states[:, 0].prod(-1) > 0.005).all(), "the data must not settle the states"
    for t, n in ((0, 0), (7, 0), (4, 0), (2, 1)):
        share, p = (paths[:, :, n, t] == 1).double().mean(0), states[:, n, t, 1]
        assert ((share - p).abs() <= 4.5 * (p * (1 - p) / 400).sqrt() + 1e-12).all()
    found, again, other = (sample_paths(pair, many, batch, seed=seed) for seed in (1, 1, 2))
    assert found.shape == (1, 1200, 2, 8)
    assert torch.equal(found, again)
    assert not torch.equal(found, other)
    assert sample_paths(pair, posterior, batch, 2).shape == (1, 2, 2, 8)
    other = zoo.create("polynomial_regression")
    with pytest.raises(ValueError, match="no hidden states"):
        sample_paths(other, posterior_of(other, 2), other.simulate(3)[0])


@pytest.mark.parametrize("kind", KINDS_OF_MOVES)
def test_forecast_of_every_kind(kind: str) -> None:
    """The mean of the categories ahead, by matrix powers of the last filtered states; z-scores of 4,000 draws."""
    pair, values = moving(kind)
    batch = as_batch(pair, pair.simulate(2)[0]).but(lengths=torch.tensor([20, 5]))
    many = Posterior({n: v.expand(1, 4000, *v.shape) for n, v in values.items()}, size=4000)
    ahead = forecast(pair, many, batch, 3)[0].double()  # (4000, 2, 3)
    codes = values["probs"] @ torch.arange(3.0, dtype=torch.float64)
    for n, length in enumerate((20, 5)):
        last = pair.chain(values, length, None).filter(batch.x[n, :length])[-1]
        for h in range(3):
            mean = last @ torch.linalg.matrix_power(pair.transition(values), h + 1) @ codes
            assert abs(ahead[:, n, h].mean() - mean) < 4 * ahead[:, n, h].std() / 4000**0.5


def test_sequence_tools_equal_a_loop_over_draws() -> None:
    pair = HMM(emission="poisson", steps=12).double()
    posterior = posterior_of(pair, 5)
    batch = as_batch(pair, pair.simulate(4)[0])
    chains = [pair.chain({n: v[0, s] for n, v in posterior.draws.items()}, 12, batch.lengths) for s in range(5)]
    states = torch.stack([chain.smooth(batch.x) for chain in chains])
    for budget in (2**22, 12 * 8 * 3):  # all at once, and three pieces of work at a time
        with settings.using(memory=budget):
            torch.testing.assert_close(smooth(pair, posterior, batch, mean=False)[0], states)
            torch.testing.assert_close(smooth(pair, posterior, batch), states.mean(0))
            paths = viterbi(pair, posterior, batch)
            assert paths.shape == (1, 5, 4, 12)
            assert all(torch.equal(paths[0, s], chain.viterbi(batch.x)[0]) for s, chain in enumerate(chains))
            assert forecast(pair, posterior, batch, 6, draws=2).shape == (1, 2, 4, 6)
    assert torch.equal(forecast(pair, posterior, batch, 6, seed=1), forecast(pair, posterior, batch, 6, seed=1))
    with pytest.raises(ValueError, match="horizon"):
        forecast(pair, posterior, batch, 0)
    other = zoo.create("polynomial_regression")
    with pytest.raises(ValueError, match="polynomial_regression has no hidden states at y"):
        smooth(other, posterior_of(other, 2), other.simulate(3)[0])
