"""Perplexities against torch's own cell in a plain loop, what is written against its own stop strings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import inference
import zoo
from inference.command.main import main
from inference.data.check import check
from inference.fitting.held_out import split
from zoo.datasets import text
from zoo.settings import settings

LETTERS = "\n abcdeé"
WORDS = "abba cab\n\ndé bead\nace"
DOUBLE = torch.float64


@pytest.fixture(scope="module")
def poet():
    torch.manual_seed(0)
    pair = zoo.create("recurrent", alphabet=LETTERS, cell="lstm", hidden=5, steps=4).double()
    with torch.no_grad():
        for value in pair.parameters():
            value.copy_(torch.randn_like(value))
    return pair


def by_hand(pair, words):
    """-log p of each character in nats, one step of `nn.LSTMCell` at a time."""
    net, count = pair.net.net, len(LETTERS)
    loop = nn.LSTMCell(count + 1, 5).double()
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    loop.load_state_dict({name: getattr(net, f"{name}_l0").detach() for name in names})
    state = torch.zeros(1, 5, dtype=DOUBLE), torch.zeros(1, 5, dtype=DOUBLE)
    told = torch.zeros(1, count + 1, dtype=DOUBLE)
    told[0, count], nats = 1.0, []
    for letter in words:
        state = loop(told, state)
        code = LETTERS.index(letter)
        nats.append(-float(pair.head(state[0]).log_softmax(-1)[0, code]))
        told = torch.zeros(1, count + 1, dtype=DOUBLE)
        told[0, code] = 1.0
    return np.array(nats)


def test_a_text_is_read_from_its_beginning_to_its_end(poet):
    nats = by_hand(poet, WORDS)
    found = inference.perplexity(poet, WORDS)
    np.testing.assert_allclose(torch.cat(found.steps), nats, rtol=1e-12)
    assert found.bits_per_character == pytest.approx(nats.sum() / len(WORDS) / math.log(2), rel=1e-12)
    assert found.perplexity == pytest.approx(2**found.bits_per_character, rel=1e-12)
    frame = found.frame()
    assert frame["text"].tolist() == ["abba cab\n", "\n", "dé bead\n", "ace"]
    assert frame["characters"].tolist() == [9, 1, 8, 3]
    np.testing.assert_allclose(frame["nats"], [nats[a:b].sum() for a, b in ((0, 9), (9, 10), (10, 18), (18, 21))])
    assert frame.loc[4, "perplexity"] == pytest.approx(math.exp(nats[18:].mean()))
    assert frame.loc[1, "bits_per_character"] == pytest.approx(nats[:9].mean() / math.log(2))
    assert f"21 characters: {found.bits_per_character:.4g} bits per character" in str(found)


def test_lines_of_a_list_are_read_one_by_one(poet):
    lines = ["abba", "c", "dé bead"]
    frame = inference.perplexity(poet, lines).frame()
    np.testing.assert_allclose(frame["nats"], [by_hand(poet, line).sum() for line in lines], rtol=1e-12)


def test_page_by_page_it_is_the_same(poet):
    whole = inference.perplexity(poet, WORDS).nats
    with settings.using(memory=50):
        torch.testing.assert_close(inference.perplexity(poet, WORDS).nats, whole, rtol=1e-12, atol=0)


def test_characters_that_are_all_alike_have_the_perplexity_of_a_die():
    pair = zoo.create("recurrent", alphabet=LETTERS, hidden=3).double()
    with torch.no_grad():
        for value in (pair.head.weight, pair.head.bias):
            value.zero_()
    assert inference.perplexity(pair, WORDS).perplexity == pytest.approx(len(LETTERS), rel=1e-12)


def test_uncertain_weights_are_averaged_in_probability():
    """log mean_s p(text | s), from the density of the whole text under each draw."""
    torch.manual_seed(0)
    pair = zoo.create("recurrent", alphabet=LETTERS, hidden=3, output="bayesian").double()
    posterior = inference.prior(pair, 1, 7)
    found = inference.perplexity(pair, WORDS, posterior)
    each = inference.log_likelihood(pair, posterior, text.windows(WORDS, LETTERS, len(WORDS)))[0, :, 0]
    assert float(found.nats.sum()) == pytest.approx(-float(each.logsumexp(0)) + math.log(7), rel=1e-10)
    assert np.isfinite(inference.perplexity(pair, WORDS).perplexity)  # draws from the guide
    assert len(set(inference.write(pair, 3, length=30))) == 3


def test_a_text_ends_before_the_first_stop_string(poet):
    whole = inference.write(poet, 20, prompt="cab", length=40)
    assert {len(said) for said in whole} == {43}
    assert all(said.startswith("cab") for said in whole)
    for stop in ("\n", "a", ["é", "b "], ["ab", "b"]):
        stops = [stop] if isinstance(stop, str) else stop
        found = inference.write(poet, 20, prompt="cab", length=40, stop=stop)
        for said, long in zip(found, whole, strict=True):
            wanted = min((long.find(s, 3) for s in stops if long.find(s, 3) >= 0), default=43)
            assert said == long[:wanted]
    assert any(len(said) < 43 for said in found)
    cold = inference.write(poet, 5, prompt="cab", length=9, temperature=1e-6)
    assert len(set(cold)) == 1
    likeliest = "cab"
    for _ in range(9):
        likeliest += min(LETTERS, key=lambda letter: by_hand(poet, likeliest + letter)[-1])
    assert cold[0] == likeliest


def test_of_a_text_the_last_part_is_held_out():
    pair = zoo.create("recurrent", alphabet=text.alphabet(WORDS), hidden=3, steps=4)
    train, held_out, whole = split(check(pair, WORDS), 0.3, seed=5)
    assert (whole.size, train.size, held_out.size) == (6, 4, 2)

    def said(batch):
        return "".join(text.decode(x[:n], pair.alphabet) for x, n in zip(batch.x, batch.lengths, strict=True))

    assert said(train) + said(held_out) == WORDS
    assert held_out.total == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda pair: inference.perplexity(pair, ""), "the text is empty"),
        (lambda pair: inference.perplexity(pair, []), "text: expected .*got an empty list"),
        (lambda pair: inference.perplexity(pair, ["ab", ""]), "line 2: the text is empty"),
        (lambda pair: inference.perplexity(pair, ["ab", "axb"]), r"line 2: character 1, 'x' \(LATIN SMALL LETTER X\)"),
        (
            lambda pair: inference.perplexity(pair, "ab\nab\nac¿"),
            r"character 8 \(line 3, place 3\), '¿' \(INVERTED QUESTION MARK\), is not in the alphabet of 8 characters",
        ),
        (lambda pair: inference.perplexity(pair, 3), "text: expected a text or a list of lines"),
        (lambda pair: inference.perplexity(zoo.create("gmm"), "ab"), "gmm, without an alphabet, models no text"),
        (lambda pair: inference.write(pair, prompt="x"), "prompt: character 0, 'x'"),
        (lambda pair: inference.write(pair, stop="end"), "stop: character 1, 'n'"),
        (lambda pair: inference.write(pair, stop=["a", ""]), "stop: the text is empty"),
        (lambda pair: inference.write(pair, stop=3), "prompt and stop: expected strings, got '' and 3"),
        (lambda pair: inference.write(pair, 0), "number: expected a whole number of at least 1"),
        (lambda pair: inference.write(pair, length=10**6), "length: expected 1 to 10000"),
        (lambda pair: inference.write(pair, temperature=0), "temperature: expected"),
    ],
)
def test_what_cannot_be_is_refused_by_name(poet, call, words):
    with pytest.raises(ValueError, match=words):
        call(poet)


def test_blanks_alone_are_no_text(tmp_path, capsys):
    poet = zoo.create("recurrent", alphabet="ab \n", hidden=4)
    for read in (lambda: inference.pair_for("recurrent", " \n \n"), lambda: inference.perplexity(poet, "  \n ")):
        with pytest.raises(ValueError, match=r"the text is blank: 4 characters, all of them white space"):
            read()
    with pytest.raises(ValueError, match="the text is blank"):
        inference.fit(poet, " \n \n", steps=1, progress=False)
    (tmp_path / "blank.txt").write_text(" \n \n")
    assert main(["fit", "recurrent", "--data", str(tmp_path / "blank.txt"), "--out", str(tmp_path / "run")]) == 2
    assert "the text is blank: 4 characters" in capsys.readouterr().err


def test_an_unknown_character_comes_with_a_way_on():
    poet = zoo.create("recurrent", alphabet="ab \n", hidden=4)
    with pytest.raises(ValueError, match="leave it out or write another in its place, or fit a model to a text that"):
        inference.perplexity(poet, "abc")
