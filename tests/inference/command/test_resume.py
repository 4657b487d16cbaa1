"""`zoo fit --resume` goes on with a run that was broken off, by whatever, bit for bit; `zoo runs` lists what stands."""

from __future__ import annotations

import contextlib
import csv
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zoo
from inference.command import exchange, run_folder
from inference.command.main import main
from tests.helpers.command import fails

FIT = ["fit", "gmm", "--data", "faithful", "--steps", "12", "--no-score", "--out"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def broken(monkeypatch, *words, at=7, number=signal.SIGINT):
    """`zoo fit` that is interrupted at a step; its status."""

    def follow(*_):
        return lambda step, *_: signal.raise_signal(number) if step == at else None

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "follow", follow)
        return main([*FIT, *words])


def bits(folder):
    return {name: value.numpy().tobytes() for name, value in zoo.load(folder).state_dict().items()}


def steps(folder):
    return [int(path.stem.split("-")[-1]) for path in sorted((Path(folder) / "checkpoints").glob("*.json"))]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_was_interrupted_goes_on(number, monkeypatch, capsys):
    assert main([*FIT, "whole"]) == 0
    assert broken(monkeypatch, "run", number=number) == 128 + number
    assert "the model as it was then is in run, not scored; --resume goes on from there" in capsys.readouterr().err
    assert steps("run") == [8]
    assert "--replace writes over it, --resume goes on with it" in fails(capsys, *FIT, "run")
    assert main([*FIT, "run", "--resume"]) == 0
    assert "12 steps from 8 on" in capsys.readouterr().out
    assert bits("whole") == bits("run")
    for card in (whole := zoo.load("whole").card, run := zoo.load("run").card):
        card["fit"].pop("seconds")
    assert whole == run
    assert main([*FIT, "run", "--resume"]) == 0, "of a run that has ended nothing is done again"
    assert "12 steps from 12 on" in capsys.readouterr().out
    assert bits("whole") == bits("run")


def test_a_run_begins_where_nothing_is_there(capsys):
    assert main([*FIT, "run", "--resume"]) == 0
    assert " from " not in capsys.readouterr().out.splitlines()[1]


def test_a_run_without_a_model_asks_how_to_go_on(monkeypatch, capsys):
    """As a kill leaves it: checkpoints, and nothing else."""
    assert broken(monkeypatch, "run") == 130
    for name in (exchange.CONFIG, exchange.WEIGHTS, exchange.README):
        (Path("run") / name).unlink()
    capsys.readouterr()
    assert "--resume goes on with it, --replace begins anew" in fails(capsys, *FIT, "run")
    assert main([*FIT, "run", "--replace"]) == 0
    assert steps("run") == [12]
    assert "12 steps, " in capsys.readouterr().out


def test_what_cannot_go_on_is_refused(monkeypatch, capsys):
    assert main([*FIT[:4], *FIT[6:], "road", "--budget", "5"]) == 0
    capsys.readouterr()
    assert "the run in road left no checkpoints to go on from; --replace" in fails(capsys, *FIT, "road", "--resume")
    assert broken(monkeypatch, "run") == 130
    capsys.readouterr()
    assert "is of another fit, seed: 0 there, 1 here" in fails(capsys, *FIT, "run", "--resume", "--seed", "1")
    assert "config: " in fails(capsys, *FIT, "run", "--resume", "--set", "components=3")
    assert steps("run") == [8]


def test_the_course_goes_on_in_its_file(monkeypatch, capsys):
    log = ["--log"]
    assert main([*FIT, "whole", *log, "whole.csv"]) == 0
    assert broken(monkeypatch, "run", *log, "run.csv") == 130
    with Path("run.csv").open("a") as file:
        file.write("13,7,")  # a kill cut this line short
    assert main([*FIT, "run", *log, "run.csv", "--resume"]) == 0

    def told(name):
        with Path(name).open() as file:
            return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]

    assert told("whole.csv") == told("run.csv")
    capsys.readouterr()
    Path("other.csv").write_text("a,b\n1,2\n")
    assert "is no course of a fit" in fails(capsys, *FIT, "run", *log, "other.csv", "--resume")


def test_runs_are_listed(monkeypatch, capsys):
    assert main(["runs"]) == 0
    assert "no run in ." in capsys.readouterr().out
    assert main([*FIT, "some/whole"]) == 0
    assert broken(monkeypatch, "some/broken") == 130
    for name in (exchange.CONFIG, exchange.WEIGHTS):
        (Path("some/broken") / name).unlink()
    Path("some/damaged").mkdir()
    Path("some/damaged/config.json").write_text("{")
    capsys.readouterr()
    assert main(["runs", "some"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["run"].split() == ["run", "model", "data", "verdict", "when", "resumable"]
    assert all(word in lines["some/whole"] for word in ("gmm", "faithful", "all steps done", "from step 12 of 12"))
    assert all(word in lines["some/broken"] for word in ("gmm", "broken off", "from step 8 of 12"))
    assert lines["some/damaged"].split() == ["some/damaged", "?", "not", "fitted", "no"]
    assert "'none' is no folder" in fails(capsys, "runs", "none")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_run_that_was_killed_goes_on(seed):
    """By SIGKILL, at a random moment from the start to the end of the process, three times over."""
    words = [*FIT[:3], "faithful", "--steps", "400", "--no-score", "--out"]
    assert main([*words, "whole"]) == 0
    call = [sys.executable, "-m", "inference", *words, "run", "--resume", "--checkpoint-steps", "20"]
    chance = random.Random(seed)
    for _ in range(3):
        process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.5, 8))
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()
    assert main([*words, "run", "--resume"]) == 0
    assert bits("whole") == bits("run")
