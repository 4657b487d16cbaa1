"""zoo forecast, zoo query, and texts: from a file to an answer, as a user types it."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest

import inference
import zoo
from inference.command.main import main
from tests.helpers.command import blank_pictures
from zoo.datasets import text


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    x = zoo.datasets.load("lakehuron").x.flatten()
    (folder / "lake.csv").write_text("feet\n" + "\n".join(f"{value:g}" for value in x.tolist()) + "\n")
    fit = ["fit", "autoregressive", "--data", str(folder / "lake.csv"), "--set", "order=2", "--double"]
    with blank_pictures():
        assert main([*fit, "--steps", "50", "--draws", "100", "--out", str(folder / "run")]) == 0
    return folder


def test_a_series_is_forecast_with_intervals(lake, capsys):
    out = lake / "next.csv"
    command = ["forecast", str(lake / "run"), str(lake / "lake.csv"), "--horizon", "30", "--draws", "400"]
    assert main([*command, "--out", str(out)]) == 0
    assert "30 steps ahead of 1 series, with 90% intervals" in capsys.readouterr().out
    found = rows(out)
    assert [int(row["step"]) for row in found] == list(range(1, 31))
    low, mean, high = (np.array([float(row[name]) for row in found]) for name in ("low", "mean", "high"))
    assert (low < mean).all()
    assert (mean < high).all()
    assert (high - low)[-1] > 1.3 * (high - low)[0]  # less is known of later years
    pair = zoo.load(lake / "run")
    series = zoo.datasets.load("lakehuron").x.reshape(1, -1)
    draws = inference.forecast(pair, inference.draw(pair, series, 4000), series, 30)[0, :, 0]
    error = 4 * (draws.std(0) / 400**0.5).numpy()
    assert (np.abs(mean - draws.mean(0).numpy()) < error * 1.1).all()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("network")
    rng = np.random.default_rng(0)
    rain = rng.random(500) < 0.3
    wet = rng.random(500) < np.where(rain, 0.9, 0.2)
    table = "\n".join(f"{'yes' if r else 'no'},{'wet' if w else 'dry'}" for r, w in zip(rain, wet, strict=True))
    (folder / "garden.csv").write_text(f"rain,grass\n{table}\n")
    fit = ["fit", "bayesian_network", "--data", str(folder / "garden.csv"), "--set", 'edges=[["rain","grass"]]']
    with blank_pictures():
        assert main([*fit, "--steps", "20", "--draws", "100", "--out", str(folder / "run")]) == 0
    return folder, rain, wet


def test_a_network_is_asked(network, capsys):
    folder, rain, wet = network
    picture = folder / "graph.png"
    assert main(["query", str(folder / "run"), "rain", "--given", "grass=wet", "--picture", str(picture)]) == 0
    told = capsys.readouterr().out
    assert "P(rain | grass = wet)" in told
    yes = float(told.split("yes: ")[1].split()[0])
    assert yes == pytest.approx((rain & wet).sum() / wet.sum(), abs=0.02)
    assert picture.stat().st_size > 1000
    assert main(["query", str(folder / "run"), "rain", "--do", "grass=wet"]) == 0  # watering brings no rain
    told = capsys.readouterr().out
    assert float(told.split("yes: ")[1].split()[0]) == pytest.approx(rain.mean(), abs=0.02)


@pytest.fixture(scope="module")
def poet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("poet")
    (folder / "book.txt").write_text(text.sonnets())
    fit = ["fit", "recurrent", "--data", str(folder / "book.txt"), "--set", "hidden=16", "--steps", "20"]
    with blank_pictures():
        assert main([*fit, "--draws", "10", "--out", str(folder / "run")]) == 0
    return folder


def test_a_text_is_no_image_and_has_bits_for_each_character(poet):
    """64 characters are not 8 x 8 pixels; bits from `log_likelihood` of all windows."""
    found = json.loads((poet / "run" / "metrics.json").read_text())
    assert "bits_per_dimension" not in found
    pair = zoo.load(poet / "run")
    scores = inference.log_likelihood(pair, inference.draw(pair, text.sonnets(), 1), text.sonnets())
    wanted = -float(scores.double().sum()) / len(text.sonnets()) / math.log(2)
    assert found["bits_per_character"] == pytest.approx(wanted, rel=1e-4)


def test_texts_are_written(poet, capsys):
    out = poet / "new.txt"
    options = ["--prefix", "Shall I", "--length", "40", "-n", "3", "--temperature", "0.5", "--top-p", "0.9"]
    assert main(["sample", str(poet / "run"), *options, "--out", str(out)]) == 0
    assert "3 texts of 40 characters" in capsys.readouterr().out
    written = out.read_text()
    assert written.count("Shall I") >= 3
    assert set(written) <= set(text.sonnets())


@pytest.mark.parametrize(
    ("home", "command", "words"),
    [
        (
            "poet",
            ["sample", "RUN", "--prefix", "¿Shall", "--out", "OUT.txt"],
            "character 0, '¿' (INVERTED QUESTION MARK)",
        ),
        ("poet", ["sample", "RUN", "--out", "OUT.csv"], "recurrent writes texts, which go into a .txt"),
        ("poet", ["sample", "RUN", "--temperature", "0", "--out", "OUT.txt"], "temperature: expected a finite number"),
        ("poet", ["query", "RUN", "rain"], "recurrent, which is no network that can be asked"),
        ("lake", ["sample", "RUN", "--prefix", "a", "--out", "OUT.csv"], "--prefix: autoregressive writes no text"),
        ("lake", ["forecast", "RUN", "lakehuron", "--horizon", "0", "--out", "OUT.csv"], "expected a whole number"),
        ("lake", ["fit", "gmm", "--data", "BOOK.txt", "--out", "OUT"], "gmm does not model text"),
        ("network", ["query", "RUN", "snow"], "snow"),
        ("network", ["query", "RUN", "rain", "--given", "grass=frozen"], "frozen"),
        ("network", ["query", "RUN", "rain", "--given", "grass"], "--given grass: expected NAME=VALUE"),
        ("network", ["forecast", "RUN", "iris", "--horizon", "2", "--out", "OUT.csv"], "expected shape (N, 2)"),
    ],
)
def test_what_cannot_be_asked_is_one_line(home, command, words, request, tmp_path, capsys):
    folder = request.getfixturevalue(home)
    folder = folder[0] if home == "network" else folder
    (tmp_path / "BOOK.txt").write_text("hello")
    named = [word.replace("RUN", str(folder / "run")).replace("OUT", str(tmp_path / "out")) for word in command]
    named = [word.replace("BOOK.txt", str(tmp_path / "BOOK.txt")) for word in named]
    try:
        status = main(named)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1
