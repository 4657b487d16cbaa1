"""`zoo compare` ranks runs of the same data by their leave-one-out scores, and refuses runs of other data."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

import zoo
from inference.command.main import main
from tests.helpers.command import fails

pytestmark = pytest.mark.usefixtures("blank")


def fitted(components, data, out, draws=100):
    fit = ["fit", "gmm", "--data", data, "--set", f"components={components}", "--steps", "20"]
    assert main([*fit, "--draws", str(draws), "--score-seconds", "600", "--out", out]) == 0


def test_a_run_and_its_copy_are_equal(tmp_path, capsys):
    fitted(2, "faithful", "one")
    shutil.copytree("one", "two")
    zoo.create("gmm").save("bare")
    capsys.readouterr()
    assert main(["compare", "one", "two", "--out", "table.csv"]) == 0
    assert "log density expected of new data" in capsys.readouterr().out
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = {row["run"]: row for row in csv.DictReader(file)}
    each = json.loads((tmp_path / "one" / "metrics.json").read_text())["elpd_loo_per_observation"]
    for name in ("one", "two"):
        assert float(rows[name].get("elpd_loo") or rows[name]["elpd"]) == pytest.approx(272 * each, rel=1e-6)
        assert float(rows[name]["elpd_diff"]) == 0
    assert "'bare' has no scores: zoo score bare makes them" in fails(capsys, "compare", "one", "bare")
    assert "at least two runs, each once" in fails(capsys, "compare", "one", "one")
    assert "table.csv' is there already" in fails(capsys, "compare", "one", "two", "--out", "table.csv")


@pytest.mark.slow
def test_runs_are_ranked_or_refused(capsys):
    fitted(1, "faithful", "one")
    fitted(2, "faithful", "two")
    fitted(2, "iris", "iris", draws=30)
    capsys.readouterr()
    assert main(["compare", "one", "two"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[0] == "two"
    line = fails(capsys, "compare", "one", "iris")
    assert "'one' and 'iris' cannot be compared: they score 272 and 150 observations" in line
