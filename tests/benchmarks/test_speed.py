"""The benchmarks of speed: all contenders fit the same model, and ratios are told."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

import zoo
from tests.helpers.places import benchmark


class TestSpeed:
    @pytest.fixture
    def speed(self):
        return benchmark("speed")

    def test_contenders_fit_the_same_model(self, speed):
        x = (torch.rand(64, 16, generator=torch.Generator().manual_seed(0)) < 0.3).float()
        batch, ends = zoo.Batch.of(x), {}
        contenders = {"Pyro": speed.plain_pyro(speed.vae(16, 16, 2), batch), "by hand": speed.by_hand(16, 16, 2)}
        for who, prepare in contenders.items():
            torch.manual_seed(0)
            step = prepare()
            losses = [float(step(batch)) for _ in range(500)]
            ends[who] = np.mean(losses[-100:]) / (64 if who == "Pyro" else 1)
        rate = float(x.mean())
        coins = -16 * (rate * math.log(rate) + (1 - rate) * math.log(1 - rate))  # nats a row of independent bits
        assert ends["Pyro"] == pytest.approx(ends["by hand"], rel=0.02)
        assert ends["Pyro"] == pytest.approx(coins, rel=0.05)

    def test_a_quick_run_tells_ratios_and_writes_nothing(self, speed, capsys):
        before = speed.README.read_text()
        speed.main(["--quick", "--only", "logistic"])
        shown = capsys.readouterr().out
        assert re.search(r"\| Pyro SVI \| [\d,]+ \| graph \d+\.\d{3} \|", shown)
        assert speed.README.read_text() == before

    def test_memory_of_one_contender(self, speed, capsys):
        speed.main(["--quick", "--alone", "VAE 16-16-2, B = 64|zoo, graph"])
        whole, added = map(float, capsys.readouterr().out.split())
        assert whole > 50
        assert 0 <= added < whole

    def test_a_table_is_written_between_its_marks(self, speed, tmp_path):
        file = tmp_path / "README.md"
        file.write_text("a\n<!-- steps -->\nold\n<!-- /steps -->\nb\n<!-- memory -->\n<!-- /memory -->\n")
        for _ in range(2):
            speed.write("steps", "new", file)
        assert file.read_text() == "a\n<!-- steps -->\nnew\n<!-- /steps -->\nb\n<!-- memory -->\n<!-- /memory -->\n"
        for mark in ("steps", "memory"):
            assert f"<!-- {mark} -->" in speed.README.read_text()


@pytest.mark.slow
def test_hidden_markov_chains_agree_and_their_times_are_told(capsys):
    found = benchmark("markov").main(["--quick"])  # refuses methods whose log-likelihoods differ
    assert {work for work, _, _ in found} == {"score", "gradient"}
    assert "| score | 1 x 1,000 | zoo, float64 |" in capsys.readouterr().out


def test_mixtures_from_the_same_start_end_at_the_same_likelihood(capsys):
    pytest.importorskip("sklearn")
    ours, peer = benchmark("mixtures").main(["--quick", "--only", "start"])["start"][0]
    assert ours[2] == pytest.approx(peer[2], abs=0.05)
    assert "| zoo | " in capsys.readouterr().out
