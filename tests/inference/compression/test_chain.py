"""Hidden Markov chains in whole numbers, beside hmmlearn's floats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hmmlearn.hmm import CategoricalHMM, PoissonHMM

import inference
import zoo
from inference.compression.chain import Chain
from inference.compression.coder import Reader, Writer
from inference.compression.errors import CompressionError
from inference.compression.integers import log_table


def chain(K, C, steps, seed=0):
    """A chain of hmmlearn's, the same frozen, and sequences of it, (40, T)."""
    rng = np.random.default_rng(seed)
    theirs = CategoricalHMM(K, n_features=C)
    theirs.startprob_ = rng.dirichlet(np.ones(K))
    theirs.transmat_ = rng.dirichlet(np.ones(K), size=K) * 0.2 + 0.8 * np.eye(K)
    theirs.emissionprob_ = rng.dirichlet(np.full(C, 0.3), size=K)
    theirs.n_features = C
    x = np.stack([theirs.sample(steps, random_state=s)[0][:, 0] for s in range(40)])
    parts = (theirs.startprob_, theirs.transmat_, theirs.emissionprob_)
    start, moves, table = (log_table(part) for part in parts)
    return theirs, Chain(start, moves, [table], steps), x


@pytest.mark.parametrize(("K", "C", "steps"), [(1, 3, 20), (2, 4, 100), (5, 30, 60), (3, 200, 50)])
def test_the_bits_are_those_of_the_forward_filter(K, C, steps):
    theirs, ours, x = chain(K, C, steps)
    writer, seen = Writer(), np.ones(x.shape, dtype=bool)
    ours.code(writer, x, seen)
    data = writer.bytes()
    bits = -theirs.score(x.reshape(-1, 1), [steps] * len(x)) / np.log(2)
    assert 8 * len(data) == pytest.approx(bits, rel=2e-3, abs=64)
    np.testing.assert_array_equal(ours.code(Reader(data), np.zeros_like(x), seen), x)


def test_time_down_the_rows_and_missing_steps():
    theirs, ours, x = chain(3, 5, 200)
    down = Chain(ours.initial, ours.moves, ours.tables, 0)
    x, seen = x[:1].T, np.random.default_rng(0).random((200, 1)) < 0.9
    writer = Writer()
    down.code(writer, x, seen)
    found = down.code(Reader(writer.bytes()), np.zeros_like(x), seen)
    np.testing.assert_array_equal(found, np.where(seen, x, 0))
    # A missing step has the emission 1 in every state: the filter written out in floats.
    weights, nats = theirs.startprob_, 0.0
    for t in range(200):
        weights = weights @ theirs.transmat_ if t else weights
        if seen[t, 0]:
            weights = weights * theirs.emissionprob_[:, x[t, 0]]
            nats -= np.log(weights.sum())
            weights = weights / weights.sum()
    assert 8 * len(writer.bytes()) == pytest.approx(nats / np.log(2), rel=5e-3, abs=64)


def test_a_pair_of_counts_codes_at_the_rate_of_its_density(tmp_path):
    torch.manual_seed(0)
    pair = zoo.create("hmm", states=3, emission="poisson", guide="delta").double()
    data = pair.simulate(60)[0]
    inference.fit(pair, data, steps=20, progress=False, compile="off")
    made = inference.compress(pair, data, tmp_path / "a.zoo", with_model=True)
    values = {name: value[0, 0].numpy() for name, value in inference.draw(pair, data, 1, stats=False).draws.items()}
    theirs = PoissonHMM(3)
    theirs.startprob_, theirs.transmat_ = values["initial"], values["transition"]
    theirs.lambdas_, theirs.n_features = values["rates"][:, None], 1
    bits = -theirs.score(data.x.numpy().reshape(-1, 1).astype(int), data.lengths.tolist()) / np.log(2)
    assert made.coded == "model"
    assert 8 * made.rates.chunks == pytest.approx(bits, rel=0.01, abs=64)
    found = inference.decompress(tmp_path / "a.zoo")
    assert torch.equal(found.x, data.x)
    assert torch.equal(found.lengths, data.lengths)


def test_a_long_series_as_a_column_is_a_chain_too(tmp_path):
    pair = zoo.create("hmm", states=2, emission="poisson", guide="delta").double()
    x = np.random.default_rng(0).poisson(np.repeat([3.0, 30.0, 3.0, 30.0], 100))
    inference.fit(pair, torch.from_numpy(x), steps=20, progress=False, compile="off")
    sizes = []
    for model in (pair, zoo.create("gmm", features=5)):
        made = inference.compress(model, x, tmp_path / "a.zoo", chunk=150)
        assert inference.decompress(tmp_path / "a.zoo", model).tobytes() == x.tobytes()
        sizes.append(made.rates.chunks)
    assert sizes[0] < 0.95 * sizes[1]


def test_tables_that_do_not_belong_together_are_refused():
    one = np.zeros((1, 1), np.int16)
    for wrong in (
        (np.zeros(2, np.int16), one, [one], 0), (one[0], one, [], 0), (one, one, [one], 0), (one[0], one, [one], -1),
        (one[0], one, [np.zeros((2, 1), np.int16)], 3),
    ):  # fmt: skip
        with pytest.raises(CompressionError):
            Chain(*wrong)
