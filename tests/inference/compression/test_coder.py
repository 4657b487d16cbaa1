"""constriction under frequencies of whole numbers: no rounding, and no bits lost."""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from constriction import stream
from hypothesis import given, settings
from hypothesis import strategies as st

import inference
import zoo
from inference.compression.coder import Reader, Writer, _alike, _weights
from inference.compression.errors import CompressionError
from inference.compression.integers import TOTAL, cumulative, log_table


def tables(rng, B, C):
    return cumulative(log_table(rng.dirichlet(np.full(C, 0.2), size=B)))


def by_integers(symbols, edges):
    """Asymmetric numeral systems in Python's whole numbers (Duda 2013), words of 32 bits, a state of 64."""
    state, words = 0, []
    for symbol, row in reversed([*zip(symbols.tolist(), edges.tolist(), strict=True)]):
        low, frequency = row[symbol], row[symbol + 1] - row[symbol]
        if state >= frequency << 40:
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // frequency << 24) + state % frequency + low
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return words


@pytest.mark.parametrize("C", [2, 3, 64, 513, 4096])
def test_constriction_takes_the_frequencies_as_they_are(C):
    rng = np.random.default_rng(C)
    edges = tables(rng, 300, C)
    symbols = (rng.integers(0, TOTAL, size=(300, 1)) >= edges[:, 1:]).sum(1)
    coder = stream.stack.AnsCoder()
    coder.encode_reverse(symbols.astype(np.int32), stream.model.Categorical(perfect=False), _weights(edges))
    assert coder.get_compressed().tolist() == by_integers(symbols, edges)
    coder = stream.stack.AnsCoder()
    coder.encode_reverse(symbols.astype(np.int32), _alike(edges[0]))
    assert coder.get_compressed().tolist() == by_integers(symbols, np.tile(edges[0], (300, 1)))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80), st.integers(1, 90))
def test_symbols_come_back_at_their_rate(seed, B, C):
    rng = np.random.default_rng(seed)
    edges, one = tables(rng, B, C), tables(rng, 1, C)[0]
    symbols, others = rng.integers(0, C, size=B), rng.integers(0, C, size=B)
    writer = Writer()
    writer.code(edges, symbols)
    writer.code(one, others)
    data = writer.bytes()
    reader = Reader(data)
    assert reader.code(edges, np.zeros(B, np.int64)).tolist() == symbols.tolist()
    assert reader.code(one, np.zeros(B, np.int64)).tolist() == others.tolist()
    bits = -np.log2(np.diff(edges)[np.arange(B), symbols] / TOTAL).sum() - np.log2(np.diff(one)[others] / TOTAL).sum()
    assert 8 * len(data) <= 1.001 * bits + 64


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=40))
def test_numbers_below_a_size_come_back_at_their_rate(pairs):
    sizes = np.array([size for size, _ in pairs], dtype=np.uint64)
    values = np.array([value % size for size, value in pairs], dtype=np.uint64)
    writer = Writer()
    writer.even(sizes, values)
    data = writer.bytes()
    assert Reader(data).even(sizes, values).tolist() == values.tolist()
    assert 8 * len(data) <= sum(np.log2(float(size)) for size, _ in pairs) + 0.006 * len(pairs) + 64


def test_a_number_out_of_its_range_is_refused():
    writer = Writer()
    writer.even(np.array([1 << 40], np.uint64), np.array([(1 << 40) - 1], np.uint64))
    with pytest.raises(CompressionError, match=r"out of its range|no valid code"):
        Reader(writer.bytes()).even(np.array([(1 << 40) - 5], np.uint64))


def test_without_constriction_it_says_what_to_install(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *given, **named):
        if name.startswith("constriction"):
            raise ImportError(name)
        return real(name, *given, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    pair = zoo.create("naive_bayes")
    for call in (
        lambda: inference.compress(pair, pair.simulate(3)[0], tmp_path / "a"),
        lambda: inference.decompress("a"),
    ):
        with pytest.raises(ValueError, match=r"pip install 'pyro-zoo\[compress\]'"):
            call()
    assert not list(tmp_path.iterdir())
