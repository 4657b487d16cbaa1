"""The demo says and draws what it promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import inference
import zoo
from inference.command import demo
from inference.command.main import main
from tests.helpers.pages import faults

# The demo ------------------------------------------------------------------------------------------------------------
PICTURES = {"mixture_density", "reconstructions", "samples", "latent_map", "loss"}


def test_the_demo_says_and_draws_what_it_promises(tmp_path, capsys, monkeypatch):
    real = demo.fit
    monkeypatch.setattr(demo, "fit", lambda pair, data, **_: real(pair, data, steps=3, progress=False))
    page = demo.report  # without chains, which three steps are not worth
    monkeypatch.setattr(demo, "report", lambda *given, **named: page(*given, run=False, **named))
    assert main(["demo", "--out", "pictures"]) == 0
    text = capsys.readouterr().out
    assert {path.stem for path in (tmp_path / "pictures").glob("*.png")} == PICTURES
    for words in ("locs[0, waiting]", "has not seen", "k̂", "a single Gaussian"):
        assert words in text
    assert text.splitlines()[-1] == "  pictures/report.html"
    html = (tmp_path / "pictures" / "report.html").read_text(encoding="utf-8")
    assert faults(html) == []
    assert "locs[0, waiting]" in html


@pytest.mark.slow
def test_the_demo_reaches_good_scores(tmp_path):
    scores = demo.run(tmp_path)
    assert scores["gmm_log_score"] == pytest.approx(-4.19, abs=0.03)
    assert scores["gmm_khat"] < 2 / 3
    assert scores["vae_log_score"] > -86  # one histogram a pixel scores -107.5


def test_samples_of_the_demo_are_expected_ink():
    torch.manual_seed(0)
    pair = zoo.create("gaussian_vae", likelihood="binomial", trials=16)
    drawn = demo._expected_ink(pair, 5, repeats=400)
    z = inference.prior(pair, 5, draws=1, seed=1)["z"][0, 0]
    expected = pair.decode(z).mean
    assert drawn.shape == (5, 64)
    # The deviation of a binomial of 16 trials is at most 2; of a mean of 400, 0.1.
    assert (drawn - expected).abs().max() < 0.5


# Beside the command --------------------------------------------------------------------------------------------------
def test_a_predictive_check_has_a_panel_for_each_real_feature():
    from inference.drawing import plots

    rng = np.random.default_rng(0)
    figure = plots.predictive_check(rng.normal(size=(30, 4)), rng.normal(size=(20, 30, 4)), names=list("abcd"))
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in shown] == ["a", "b", "c", "d"]
    pooled = plots.predictive_check(rng.poisson(5, (30, 4)), rng.poisson(5, (20, 30, 4)))
    assert len(pooled.axes) == 1


def test_marginals_leave_constants_out_and_take_labels():
    from inference.drawing import plots

    draws = torch.randn(1, 50, 2, 2).tril()
    axes = plots.marginals({"L": draws}, labels={"L": ["aa", "ab", "ba", "bb"]}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["aa", "ba", "bb"]
