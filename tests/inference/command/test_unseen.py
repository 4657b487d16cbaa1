"""zoo score RUN DATA: rows of a table, and lines of a text, that the model has not seen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

import inference
import zoo
from inference.command.main import main
from tests.helpers.command import blank_pictures, fails
from zoo.datasets import text


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = zoo.datasets.load("faithful").x.numpy()
    pd.DataFrame(data[:200], columns=["lasts", "waits"]).to_csv(folder / "old.csv", index=False)
    pd.DataFrame(data[200:], columns=["lasts", "waits"]).to_csv(folder / "new.csv", index=False)
    sonnets = text.sonnets()
    cut = sonnets.rindex("\n\n")
    (folder / "read.txt").write_text(sonnets[:cut])
    (folder / "unread.txt").write_text(sonnets[cut:].strip())
    few = ["--steps", "10", "--draws", "30", "--no-score", "--out"]
    with blank_pictures():
        gmm = [
            "fit",
            "gmm",
            "--data",
            str(folder / "old.csv"),
            "--set",
            "components=1",
            "--set",
            "covariance=diag",
            "--double",
        ]
        assert main([*gmm, *few, str(folder / "geyser")]) == 0
        poet = ["fit", "recurrent", "--data", str(folder / "read.txt"), "--set", "hidden=8", "--double"]
        assert main([*poet, *few, str(folder / "poet")]) == 0
    return folder


def test_rows_of_a_table_are_scored(runs, capsys):
    """A mixture of one component is two normals at each draw: SciPy's density, averaged over the draws."""
    before = {path.name: path.read_bytes() for path in (runs / "geyser").iterdir() if path.is_file()}
    out = runs / "rows.csv"
    command = ["score", str(runs / "geyser"), str(runs / "new.csv"), "--draws", "30"]
    assert main([*command, "--out", str(out), "--replace"]) == 0
    told = capsys.readouterr().out
    pair = zoo.load(runs / "geyser")
    new = pd.read_csv(runs / "new.csv")
    posterior = inference.draw(pair, new, 30, stats=False)
    locs = posterior["locs"][0, :, 0].numpy()
    scales = posterior["scales"][0, :, 0].numpy()
    each = [norm(loc, scale).logpdf(new).sum(-1) for loc, scale in zip(locs, scales, strict=True)]
    wanted = logsumexp(each, axis=0) - np.log(30)
    frame = pd.read_csv(out)
    np.testing.assert_allclose(frame["log_density"], wanted, rtol=1e-8)
    assert frame["row"].tolist() == list(range(1, 73))
    error = wanted.std(ddof=1) / np.sqrt(72)
    assert f"log density of 72 rows of {runs / 'new.csv'}: {wanted.mean():.4f} nats a row ± {error:.4f}" in told
    assert {path.name: path.read_bytes() for path in (runs / "geyser").iterdir() if path.is_file()} == before
    np.testing.assert_allclose(inference.log_score(pair, posterior, new), wanted, rtol=1e-8)


def test_a_text_is_scored(runs, capsys):
    out = runs / "lines.csv"
    assert main(["score", str(runs / "poet"), str(runs / "unread.txt"), "--out", str(out), "--replace"]) == 0
    told = capsys.readouterr().out
    found = inference.perplexity(zoo.load(runs / "poet"), (runs / "unread.txt").read_text())
    assert str(found) in told
    frame = pd.read_csv(out)
    np.testing.assert_allclose(frame["nats"], found.nats)
    assert frame["line"].tolist() == list(range(1, 15))  # of a sonnet


def test_texts_end_at_a_stop_string(runs, tmp_path):
    options = ["--prompt", "Shall", "--stop", r"\n", "--stop", "e", "--length", "60", "-n", "4"]
    assert main(["sample", str(runs / "poet"), *options, "--out", str(tmp_path / "new.txt")]) == 0
    said = (tmp_path / "new.txt").read_text().strip("\n").split("\n\n")
    assert said == [s.strip("\n") for s in inference.write(
        zoo.load(runs / "poet"), 4, prompt="Shall", stop=["\n", "e"], length=60)]  # fmt: skip
    assert all("e" not in one for one in said)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["poet", "HERE/bad.txt"], "character 13 (line 2, place 3), '¿' (INVERTED QUESTION MARK)"),
        (["poet", "HERE/empty.txt"], "empty"),
        (["geyser", "none.csv"], "none.csv"),
        (["geyser", "HERE/new.csv", "--data", "HERE/old.csv"], "--data: names the data of the fit; leave it out"),
        (["geyser", "HERE/new.csv", "--out", "rows.txt"], "expected a name that ends in .csv"),
        (["geyser", "--out", "rows.csv"], "--out: takes the scores of the rows of DATA"),
    ],
)
def test_what_cannot_be_scored_is_one_line(runs, words, error, capsys):
    (runs / "bad.txt").write_text("Shall I th\nSa¿")
    (runs / "empty.txt").write_text("")
    run, *rest = [word.replace("HERE", str(runs)) for word in words]
    assert error in fails(capsys, "score", str(runs / run), *rest)
