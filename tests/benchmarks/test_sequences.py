"""The benchmarks of text and of long sequences, each in a tiny form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.helpers.places import benchmark


class TestText:
    @pytest.fixture
    def script(self):
        return benchmark("text")

    def test_probabilities_of_the_ngram_sum_to_one(self, script):
        letters, train, before = "abcd", "abracadabra", "cabra"

        def bits(test):
            return script.ngram(train.replace("r", "c"), test, letters) * len(test)

        before = before.replace("r", "c")
        total = sum(2 ** (bits(before) - bits(before + letter)) for letter in letters)
        assert total == pytest.approx(1, abs=1e-12)

    def test_the_ngram_by_hand(self, script):
        # "aab": P(a) = (2 + 2 / 2) / (3 + 2) = 3 / 5; after a, one a and one b: (1 + 2 * 3 / 5) / (2 + 2) = 11 / 20
        assert script.ngram("aab", "aa", "ab", order=2) == pytest.approx(-math.log2(3 / 5 * 11 / 20) / 2)

    def test_a_tiny_run(self, script, monkeypatch, capsys):
        monkeypatch.setattr(script.text, "python_topics", lambda: 10 * script.text.sonnets())
        found = script.main(["--quick", "--hidden", "8"])
        letters = len(script.text.alphabet(script.text.sonnets()))
        assert 0 < found["5-gram"] < math.log2(letters)
        assert 0 < found["recurrent"] < math.log2(letters) + 1
        assert "bits per character" in capsys.readouterr().out


class TestSequences:
    @pytest.fixture
    def sequences(self):
        return benchmark("sequences")

    def test_a_part_of_a_score_is_read(self, sequences):
        from xml.etree import ElementTree

        note = "<note><pitch><step>{}</step>{}<octave>4</octave></pitch><duration>{}</duration></note>"
        score = "".join([
            "<part><attributes><divisions>2</divisions></attributes>",
            note.format("C", "", 2),
            "<note><rest/><duration>1</duration></note>",
            note.format("F", "<alter>1</alter>", 3),
            note.format("A", "", 3).replace("<note>", "<note><chord/>"),
            "<backup><duration>4</duration></backup>",
            note.format("E", "", 2).replace("<note>", "<note><grace/>"),
            note.format("E", "", 2),
            "</part>",
        ])  # fmt: skip
        found = sequences.part_of(ElementTree.fromstring(score))
        assert found == [(0.0, 1.0, 60), (1.5, 3.0, 66), (1.5, 3.0, 69), (1.0, 2.0, 64)]
        roll = sequences.roll_of([found])
        assert roll.shape == (3, 54)
        sounds = [{int(pitch) + sequences.LOW for pitch in row.nonzero()[0]} for row in roll]
        assert sounds == [{60}, {64}, {66, 69}]  # on the beat

    def test_years_are_not_shared(self, sequences):
        fit, validation, held_out = sequences.sunspots()
        assert fit.shape[1:] == validation.shape[1:] == held_out.shape[1:] == (11, 1)
        torch.testing.assert_close(fit[1, :-1], fit[0, 1:])
        values = [set(part.flatten().tolist()) for part in (fit, validation, held_out)]
        x = sequences.datasets.load("sunspots").x[0].float().sqrt()
        x = (x - x[:154].mean()) / x[:154].std()
        assert len(fit) + 10 == 154
        assert validation.flatten().tolist() == x[154:198].tolist()
        assert held_out.flatten().tolist() == x[198 : 198 + 110].tolist()
        assert values[0] == set(x[:154].tolist())

    def test_differences_are_paired(self, sequences):
        def fit(**scores):
            return {"scores": scores, "parameters": 3, "seconds": 1.0}

        runs = {
            "recurrent, small": [fit(exact=[-3.0, -5.0])],
            "recurrent, large": [fit(exact=[-2.0, -4.0])],
            "variational": [fit(ELBO=[-2.0, -1.0]), fit(ELBO=[-1.0, -2.0])],
        }
        shown = sequences.table(runs)
        assert "| exact | -3.000 ± 2.000 |  |" in shown
        assert "| ELBO | -1.500 ± 0.000 (-1.500, -1.500) | +1.500 ± 2.000 |" in shown

    def test_a_tiny_run_is_kept_and_not_repeated(self, sequences, tmp_path, monkeypatch, capsys):
        torch.manual_seed(0)
        x = torch.randn(12, 3, 1)
        data = {"chorales": lambda: None, "sunspots": lambda: (x[:6], x[6:9], x[9:])}
        monkeypatch.setattr(sequences, "HIDDEN", 4)
        arguments = ["--quick", "--only", "chorales,sunspots", "--out", str(tmp_path / "kept.json")]
        found = sequences.main(arguments, data)
        assert len(found) == 4
        for run in found.values():
            for values in run["scores"].values():
                assert len(values) == 3
                assert np.isfinite(values).all()
        monkeypatch.setattr(sequences, "fitted", None)
        assert sequences.main(arguments, data) == found
        shown = capsys.readouterr().out
        assert "chorales: music21 is not installed" in shown
        assert "| variational, filter |" in shown
        with pytest.raises(SystemExit):
            sequences.main(["--only", "moonspots"])
