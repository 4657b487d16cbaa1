"""`zoo report`, and what `zoo check` and `zoo compare` leave: pages, JSON and exit statuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import inference
from inference.checking.findings import Check, Finding
from inference.command import report, verdict
from inference.command.main import main
from inference.posterior.latents import Posterior
from inference.reporting import latents
from inference.reporting.encoding import encoded
from tests.helpers.command import fails
from tests.helpers.pages import Read, faults

pytestmark = pytest.mark.usefixtures("blank")
VERDICTS = {"ok": ("trust", 0), "look": ("caution", 1), "wrong": ("do not trust", 2)}


@pytest.fixture(autouse=True)
def _blank_pages(monkeypatch):
    one = encoded(latents.weights(np.zeros(30)))
    monkeypatch.setattr("inference.reporting.parts.encoded", lambda figure: one)


def fitted(out="run", components=1, *more):
    fit = ["fit", "gmm", "--data", "faithful", "--set", f"components={components}", "--steps", "60", "--double"]
    assert main([*fit, "--draws", "60", "--score-seconds", "600", "--out", out, *more]) == 0


def told(state):
    proof = Finding("k̂", "ok", "0.1 ≤ 0.7", 0.1, bears=True)
    return Check("gmm", (proof, Finding("moved", state, "0.3 > 0.1", 0.3, "Yao et al. 2018", "More steps")))


@pytest.mark.parametrize("state", VERDICTS)
def test_the_exit_status_is_the_verdict(state, capsys, monkeypatch):
    words, status = VERDICTS[state]
    monkeypatch.setattr(verdict, "check", lambda *_, **__: told(state))
    monkeypatch.setattr(verdict, "of_run", lambda _: (None, None, None, None))
    monkeypatch.setattr(verdict, "kept", lambda _: None)
    assert main(["check", "run"]) == status
    assert capsys.readouterr().out.splitlines()[0] == f"gmm: {words}"
    assert main(["check", "run", "--json"]) == status
    found = json.loads(capsys.readouterr().out)
    assert (found["verdict"], found["exit"], found["findings"][1]["state"]) == (words, status, state)
    assert found["findings"][1]["source"] == "Yao et al. 2018"


def test_a_run_gets_a_page_and_json(capsys, monkeypatch):
    fitted()
    capsys.readouterr()
    status = main(["report", "run", "--no-run"])
    printed = capsys.readouterr().out
    found = json.loads(Path("run/report.json").read_text())
    assert status == found["exit"] == {"trust": 0, "caution": 1, "do not trust": 2}[found["verdict"]]
    assert printed.splitlines()[0] == f"gmm: {found['verdict']}"
    assert printed.splitlines()[-1] == "The page is run/report.html, the same as JSON run/report.json."
    html = Path("run/report.html").read_text()
    assert faults(html) == []
    text = " ".join(Read(html).text)
    for words in (
        "zoo report run --no-run --seed 0",
        "waiting",
        "faithful",
        "all steps done",
        "log_score_per_observation",
    ):
        assert words in text, words
    assert main(["report", "run", "--no-run"]) == status  # again, over its own page
    Path("run/report.html").write_text("mine")
    assert "no page of this kind" in fails(capsys, "report", "run")
    assert "ends in .html" in fails(capsys, "report", "run", "--out", "page.pdf")
    assert main(["score", "run", "--draws", "30"]) == 0  # a page is in nobody's way
    with monkeypatch.context() as patch:  # draws that the run keeps in the place of its guide are those of the page
        patch.setattr(report, "kept", lambda _: Posterior({"nonsense": torch.zeros(1, 6)}, size=6))
        assert main(["report", "run", "--out", "kept.html"]) == 2
    assert "lacks site" in capsys.readouterr().out
    monkeypatch.setattr(
        report, "report", lambda pair, data, *_, **__: inference.report(pair, data, found=told("wrong"))
    )
    with h5py.File("run/posterior.nc", "a") as file:
        del file["log_likelihood"]
    Path("run/metrics.json").unlink()
    assert main(["report", "run", "--out", "other.html"]) == 2
    notes = json.loads(Path("other.json").read_text())["notes"]
    assert notes[0] == "The run has no scores; zoo score run makes them."
    assert notes[1] == "posterior.nc lacks log_likelihood; the draws on this page were made anew."
    Path("run/posterior.nc").write_bytes(b"nonsense")
    assert main(["report", "run", "--out", "other.html"]) == 2
    assert "posterior.nc cannot be read" in json.loads(Path("other.json").read_text())["notes"][1]


def test_comparing_ends_in_a_page(capsys):
    fitted("one")
    shutil.copytree("one", "two")
    capsys.readouterr()
    assert main(["compare", "one", "two"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "The page is comparison.html."
    assert "too little to tell the two apart" in printed
    assert faults(Path("comparison.html").read_text()) == []
    models = json.loads(Path("comparison.json").read_text())["models"]
    assert [model["elpd_diff"] for model in models] == [0.0, 0.0]
    assert {model["name"] for model in models} == {"one", "two"}
    assert main(["compare", "one", "two"]) == 0  # over its own page
    Path("comparison.html").write_text("mine")
    assert "no page of this kind" in fails(capsys, "compare", "one", "two")
