"""recurrent: a proper density over sequences, exact against a plain loop; its draws; text in and out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

import inference
import zoo
from tests.helpers.places import benchmark
from zoo import Batch
from zoo.datasets import text

DOUBLE = torch.float64
QUIET = {"progress": False, "device": "cpu"}


def made(seed=0, **config):
    """A pair in float64 whose weights are large enough to matter."""
    torch.manual_seed(seed)
    pair = zoo.create("recurrent", **{"hidden": 6, **config}).double()
    with torch.no_grad():
        for parameter in pair.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    return pair


def density(pair, x, lengths=None):
    """log p(x), (N,), by tracing the pair's own model."""
    batch = Batch.of(x.to(DOUBLE), lengths=torch.full((len(x),), x.shape[1]) if lengths is None else lengths)
    empty = inference.Posterior({}, size=1)
    return inference.log_likelihood(pair, empty, batch)[0, 0]


# --- a density --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_probabilities_of_all_sequences_sum_to_one(cell):
    pair = made(cell=cell, categories=3, layers=2)
    every = torch.tensor(list(itertools.product(range(3), repeat=5)))
    assert float(density(pair, every).exp().sum()) == pytest.approx(1, abs=1e-12)
    rolls = torch.tensor(list(itertools.product((0, 1), repeat=6))).reshape(-1, 3, 2)
    pair = made(cell=cell, emission="bernoulli", features=2)
    assert float(density(pair, rolls).exp().sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("emission", ["gaussian", "mixture"])
def test_a_step_of_real_numbers_integrates_to_one(emission):
    pair = made(emission=emission)
    grid = torch.linspace(-60, 60, 24_001, dtype=DOUBLE)
    x = torch.stack([torch.full_like(grid, 0.3), grid], 1).unsqueeze(-1)  # (G, 2, 1)
    first = density(pair, x[:1, :1])
    assert float((density(pair, x) - first).exp().sum() * 120 / 24_000) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_density_equals_torch_cells_in_a_plain_loop(cell):
    """`nn.GRUCell` and `nn.LSTMCell`, one step at a time, with the pair's weights."""
    pair = made(cell=cell, emission="gaussian", features=2)
    net = pair.net.net
    loop = (nn.GRUCell if cell == "gru" else nn.LSTMCell)(3, 6).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    loop.load_state_dict({name: getattr(net, f"{name}_l0").detach() for name in names})
    x = torch.randn(4, 5, 2, dtype=DOUBLE)
    state = torch.zeros(4, 6, dtype=DOUBLE)
    state = state if cell == "gru" else (state, state.clone())
    told = torch.tensor([[0.0, 0.0, 1.0]], dtype=DOUBLE).expand(4, 3)
    total = torch.zeros(4, dtype=DOUBLE)
    for t in range(5):
        state = loop(told, state)
        h = pair.head(state if cell == "gru" else state[0])
        loc, scale = h[:, :2], nn.functional.softplus(h[:, 2:]) + torch.finfo(DOUBLE).eps
        total += torch.distributions.Normal(loc, scale).log_prob(x[:, t]).sum(-1)
        told = torch.cat([x[:, t], torch.zeros(4, 1, dtype=DOUBLE)], 1)
    torch.testing.assert_close(density(pair, x), total.detach(), rtol=1e-12, atol=1e-12)


def test_rows_of_several_lengths_are_those_rows_alone():
    pair = made(categories=3)
    x = torch.randint(3, (3, 7))
    lengths = torch.tensor([7, 2, 5])
    padded = x.double()
    padded[1, 2:], padded[2, 5:] = torch.nan, 99.0  # neither is looked at
    found = density(pair, padded, lengths)
    alone = [density(pair, x[n : n + 1, :length]) for n, length in enumerate(lengths.tolist())]
    torch.testing.assert_close(found, torch.cat(alone), rtol=1e-12, atol=0)
    pair.train()
    inference.fit(pair, Batch.of(padded, lengths=lengths), steps=3, **QUIET)
    assert all(torch.isfinite(parameter).all() for parameter in pair.parameters())


# --- draws ------------------------------------------------------------------------------------------------------------


def test_draws_are_as_frequent_as_they_are_probable():
    from scipy.stats import chisquare

    pair = made(categories=3, steps=3)
    x = inference.generate(pair, 20_000)["x"].long()
    every = torch.tensor(list(itertools.product(range(3), repeat=3)))
    counts = torch.bincount(x @ torch.tensor([9, 3, 1]), minlength=27)
    expected = density(pair, every).exp() * len(x)
    kept = expected > 5
    observed = torch.cat([counts[kept], counts[~kept].sum()[None]]).numpy()
    wanted = torch.cat([expected[kept], expected[~kept].sum()[None]]).numpy()
    assert chisquare(observed[wanted > 0], wanted[wanted > 0]).pvalue > 1e-3


def continuation(pair, x, lengths, horizon, **options):
    posterior = inference.Posterior({}, size=4000)
    return inference.forecast(pair, posterior, Batch.of(x.to(DOUBLE), lengths=lengths), horizon, **options)[0]


def test_a_continuation_starts_where_its_own_sequence_ends():
    """p(x_{T+1} | x_1..x_T), rows of several lengths at once, against ratios of the density."""
    pair = made(categories=3)
    x, lengths = torch.randint(3, (3, 6)), torch.tensor([6, 1, 4])
    found = continuation(pair, x, lengths, 2)  # (S, N, 2)
    for n, length in enumerate(lengths.tolist()):
        pairs = torch.tensor(list(itertools.product(range(3), repeat=2)))
        longer = torch.cat([x[n, :length].expand(9, -1), pairs], 1)
        probs = (density(pair, longer) - density(pair, x[n : n + 1, :length])).exp()
        codes = (found[:, n] @ torch.tensor([3.0, 1.0], dtype=DOUBLE)).long()
        share = torch.bincount(codes, minlength=9) / len(codes)
        assert ((share - probs).abs() < 4 * (probs * (1 - probs) / len(codes)).sqrt() + 1e-9).all()
    same = continuation(pair, x[:, :4], torch.full((3,), 4), 1)  # rows of one length take another way
    ragged = continuation(pair, x, torch.tensor([4, 4, 4]), 1)
    assert torch.equal(same, ragged)


def test_cold_and_narrow_draws_keep_to_what_is_likely():
    pair = made(categories=4)
    x, lengths = torch.randint(4, (2, 3)), torch.tensor([3, 3])
    every = torch.cat([x.repeat_interleave(4, 0), torch.arange(4).repeat(2)[:, None]], 1)
    probs = (density(pair, every) - density(pair, x).repeat_interleave(4)).exp().reshape(2, 4)
    cold = continuation(pair, x, lengths, 1, temperature=1e-3)[..., 0]
    assert (cold == probs.argmax(-1)).all()
    narrow = continuation(pair, x, lengths, 1, top_p=0.6)[..., 0].long()
    for n in range(2):
        order = probs[n].argsort(descending=True)
        count = int((probs[n][order].cumsum(0) < 0.6).sum()) + 1
        assert set(narrow[:, n].tolist()) == set(order[:count].tolist())
        share = torch.bincount(narrow[:, n], minlength=4)[order[:count]] / len(narrow)
        wanted = probs[n][order[:count]] / probs[n][order[:count]].sum()
        assert ((share - wanted).abs() < 4 * (wanted * (1 - wanted) / len(narrow)).sqrt() + 1e-9).all()
    real = made(emission="mixture")
    still = continuation(real, torch.randn(2, 3, 1), lengths, 1, temperature=1e-9)
    assert still.round(decimals=6).unique().numel() <= 2  # the mean of the likeliest component of each


# --- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_text_that_repeats_itself_is_learned():
    letters = text.alphabet("abc ")
    pair = zoo.create("recurrent", alphabet=letters, hidden=16, steps=32)
    data = "abc abc cab " * 60
    untrained = bits(pair, data)
    inference.fit(pair, data, steps=400, batch_size=16, **QUIET)
    assert untrained > 1.5
    # 12 characters of period: all but the first few follow from the others. A window starts anywhere in it.
    assert bits(pair, data) < 0.15
    told = text.windows("abc abc cab abc", letters, 15)
    said = inference.forecast(pair, inference.Posterior({}, size=1), told, 12, temperature=0.01)[0, 0, 0]
    assert text.decode(said, letters) == " abc cab abc"


def bits(pair, data):
    """Bits per character."""
    batch = text.windows(data, pair.alphabet, pair.steps)
    scores = inference.log_likelihood(pair, inference.Posterior({}, size=1), batch)
    return -float(scores.sum()) / len(data) / math.log(2)


@pytest.mark.slow
def test_a_bayesian_output_layer_has_a_posterior_that_narrows_with_data():
    truth = made(emission="gaussian", hidden=4, steps=10)
    pair = zoo.create("recurrent", emission="gaussian", hidden=4, steps=10, output="bayesian").double()
    spread = {}
    for rows in (5, 200):
        again = zoo.create("recurrent", emission="gaussian", hidden=4, steps=10, output="bayesian").double()
        again.load_state_dict(pair.state_dict())
        inference.fit(again, truth.simulate(rows)[0], steps=400, initialise=True, **QUIET)  # with units of these data
        posterior = inference.draw(again, truth.simulate(2)[0], 300)
        assert posterior["weight"].shape == (1, 300, 4, 2)
        spread[rows] = float(posterior["weight"].std(1).mean())
    assert spread[200] < 0.5 * spread[5] < 0.5


@pytest.mark.slow
def test_bits_per_character_lie_below_an_interpolated_5_gram():
    found = benchmark("text").main(["--steps", "1500"])
    assert found["recurrent"] < found["5-gram"]


# --- text and bad input -----------------------------------------------------------------------------------------------


def test_text_goes_there_and_back():
    data = text.sonnets()
    letters = text.alphabet(data)
    batch = text.windows(data, letters, 100)
    assert batch.size == -(-len(data) // 100)
    back = "".join(text.decode(row[:length], letters) for row, length in zip(batch.x, batch.lengths, strict=True))
    assert back == data
    assert len(text.python_topics()) > 100_000


def test_an_alphabet_is_saved_with_the_pair(tmp_path):
    pair = zoo.create("recurrent", alphabet="abc\n", hidden=4)
    pair.save(tmp_path / "run")
    assert zoo.load(tmp_path / "run").alphabet == "abc\n"
    assert pair.categories == 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: zoo.create("recurrent", alphabet="abca"), "the alphabet has 'a' twice"),
        (lambda: zoo.create("recurrent", alphabet="abc", categories=4), "categories=4, but the alphabet has 3"),
        (lambda: zoo.create("recurrent", emission="gaussian", categories=4), "go with emission='categorical'"),
        (lambda: zoo.create("recurrent", features=2), "a categorical step has one feature"),
        (lambda: zoo.create("recurrent", components=2), "goes with emission='mixture'"),
        (lambda: inference.fit(zoo.create("recurrent", alphabet="abc"), "abxc", steps=1, **QUIET), "character 2, 'x'"),
        (lambda: inference.fit(zoo.create("recurrent", alphabet="abc"), "", steps=1, **QUIET), "the text is empty"),
        (lambda: inference.fit(zoo.create("recurrent"), "abc", steps=1, **QUIET), "without an alphabet"),
        (lambda: inference.fit(zoo.create("recurrent"), torch.tensor([[0.0, 8.0]]), steps=1, **QUIET), "from 0 to 7"),
        (
            lambda: inference.fit(zoo.create("recurrent"), torch.tensor([[0.0, torch.nan]]), steps=1, **QUIET),
            "row 0, step 1: expected a number",
        ),
        (lambda: continuation(made(), torch.zeros(1, 2), torch.tensor([2]), 1, temperature=0), "temperature: expected"),
        (lambda: continuation(made(), torch.zeros(1, 2), torch.tensor([2]), 1, top_p=1.5), "top_p: expected"),
        (lambda: continuation(made(), torch.zeros(1, 2), torch.tensor([2]), 1, heat=1.5), "takes no heat"),
        (lambda: text.decode([3], "abc"), "code 0: expected a whole number from 0 to 2, got 3"),
        (lambda: text.alphabet(""), "the text is empty"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make, words):
    with pytest.raises(ValueError, match=words):
        make()
