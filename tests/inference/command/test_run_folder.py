"""A run replaces an earlier one whole, only when asked, or leaves what was there; its model comes before its scores."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shlex
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

import zoo
from inference.command import exchange, parser, run_folder, score
from inference.command.main import main
from inference.command.words import quoted
from inference.posterior import containers
from tests.helpers.command import FEW, FIT, blank_pictures, fails
from tests.helpers.saving import same

pytestmark = pytest.mark.usefixtures("blank")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run, made once."""
    folder = tmp_path_factory.mktemp("made") / "run"
    with blank_pictures():
        assert main([*FIT[:-1], str(folder), *FEW]) == 0
    return folder


@pytest.fixture
def earlier(made, tmp_path):
    """A copy of it under the name that `FIT` gives."""
    shutil.copytree(made, tmp_path / "run")


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.usefixtures("earlier")
def test_an_earlier_run_is_replaced_only_when_asked(tmp_path, capsys):
    before = snapshot(tmp_path / "run")
    assert "--replace" in fails(capsys, *FIT, *FEW)
    assert snapshot(tmp_path / "run") == before
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert main([*FIT, *FEW, "--set", "components=3", "--replace"]) == 0
    assert zoo.load("run").config["components"] == 3
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "run" / exchange.UNFINISHED).exists()


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.usefixtures("earlier")
def test_a_disk_that_is_full_when_the_model_is_saved_leaves_what_was_there(tmp_path, capsys, monkeypatch):
    before = snapshot(tmp_path / "run")
    monkeypatch.setattr(zoo.base.ModelGuide, "save", full)
    assert "No space left on device: what was in run stays" in fails(capsys, *FIT, *FEW, "--replace")
    assert snapshot(tmp_path / "run") == before
    assert "no model was written, but the checkpoints in fresh" in fails(capsys, *FIT[:-1], "fresh", *FEW)
    assert os.listdir(tmp_path / "fresh") == [exchange.CHECKPOINTS]


@pytest.mark.usefixtures("earlier")
def test_a_disk_that_is_full_when_scores_are_written_leaves_the_new_model(tmp_path, capsys, monkeypatch):
    old = zoo.load("run")
    with monkeypatch.context() as patch:
        patch.setattr(containers, "save", full)
        words = fails(capsys, *FIT, *FEW, "--seed", "1", "--replace")
    assert "No space left on device: the model is in run, not scored; zoo score run scores it" in words
    assert not same(zoo.load("run"), old)
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert main(["score", "run", "--draws", "20"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == zoo.load("run").card["metrics"]
    own = {exchange.CHECKPOINTS, "predictive.png", "loss.png"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*exchange.FILES, *own}


class Small:
    """A file of the disk, of which so many bytes are left."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        if self.file.tell() + len(content) > self.room:
            full()
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("room", [0, 100, 5_000, 40_000])
def test_a_disk_that_fills_up_under_hdf5_is_an_error_and_no_crash(room, tmp_path, monkeypatch):
    # HDF5 ends the process where a write fails; here it runs in a process of its own, that it may.
    def work():
        import numpy as np

        real = containers._Patient.__init__
        monkeypatch.setattr(containers._Patient, "__init__", lambda self, file: real(self, Small(file, room)))
        groups = {"posterior": {"a": (("chain", "draw"), np.random.default_rng(0).normal(size=(2, 5000)))}}
        try:
            containers.save(containers.build(groups), tmp_path / "posterior.nc")
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def interrupting(number):
    def interrupt(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(5)  # the signal comes at once

    return interrupt


@pytest.fixture
def heeded():
    """Ctrl-C is heeded, also where a shell started the tests in the background and so had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_whatever_ends_the_scoring_keeps_the_model(number, status, tmp_path, capsys, monkeypatch, heeded):
    handlers = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(score, "score", interrupting(number))
        assert main([*FIT, *FEW]) == status
    words = capsys.readouterr().err
    assert words.count("\n") == 1
    assert "interrupted" in words
    assert words.endswith("; the model is in run, not scored; zoo score run scores it\n")
    assert signal.getsignal(number) == handlers
    assert zoo.load("run").card["fit"]["steps"] == 3
    assert "observations_scored" not in zoo.load("run").card["metrics"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        *exchange.FILES[:3],
        exchange.CHECKPOINTS,
        "loss.png",
    }


def test_an_interrupted_training_is_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run_folder, "follow", lambda: interrupting(signal.SIGTERM))
    assert main([*FIT, "--steps", "100"]) == 143
    assert "interrupted by SIGTERM; the model as it was then is in run, not scored" in capsys.readouterr().err
    assert zoo.load("run").card["fit"] | {"steps": 1, "stopped": "interrupted"} == zoo.load("run").card["fit"]


@pytest.mark.usefixtures("earlier")
def test_an_interrupted_training_takes_no_earlier_run_away(tmp_path, capsys, monkeypatch, heeded):
    before = snapshot(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "follow", lambda: interrupting(signal.SIGINT))
        assert main([*FIT, "--steps", "100", "--replace"]) == 130
    assert f"the model as it was then is in run/{exchange.INTERRUPTED}, not scored" in capsys.readouterr().err
    assert zoo.load(f"run/{exchange.INTERRUPTED}").card["fit"]["steps"] == 1
    shutil.rmtree(tmp_path / "run" / exchange.INTERRUPTED)
    assert snapshot(tmp_path / "run") == before


def test_scoring_may_be_left_for_later_and_is_then_the_same(made, tmp_path, capsys):
    assert main([*FIT, *FEW, "--no-score"]) == 0
    assert "zoo score run scores it" in capsys.readouterr().out
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert main(["score", "run", "--draws", "20"]) == 0
    later, at_once = (json.loads((folder / "metrics.json").read_text()) for folder in (tmp_path / "run", made))
    later["seconds"] = at_once["seconds"]
    assert later == at_once


@pytest.mark.usefixtures("earlier")
def test_other_data_are_not_scored_as_those_of_the_fit(tmp_path, capsys):
    before = snapshot(tmp_path / "run")
    (tmp_path / "moved.csv").write_text("a,b\n1,2\n3,4\n5,7\n")
    assert "does not hold the data that 'run' was fitted to" in fails(capsys, "score", "run", "--data", "moved.csv")
    pair = zoo.load("run")
    zoo.create("gmm").save(tmp_path / "bare")
    assert "its card names no fit and no data" in fails(capsys, "score", "bare")
    assert snapshot(tmp_path / "run") == before
    x = zoo.datasets.load("faithful").x
    (tmp_path / "moved.csv").write_text("a,b\n" + "\n".join(f"{a!r},{b!r}" for a, b in x.tolist()))
    assert main(["score", "run", "--data", "moved.csv", "--draws", "20"]) == 0
    assert zoo.load("run").card["data"]["name"] == "moved.csv"
    del pair.card["metrics"]["observations_scored"]


def test_a_run_finds_its_data_from_any_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(score, "write", lambda run, pair, *_: run.keep(pair))
    x = zoo.datasets.load("faithful").x.tolist()
    (tmp_path / "big.csv").write_text("a,b\n" + "\n".join(f"{a!r},{b!r}" for a, b in x))
    assert main(["fit", "gmm", "--data", "big.csv", "--out", "run", "--steps", "2"]) == 0
    card = zoo.load("run").card["data"]
    assert (card["name"], card["path"]) == ("big.csv", "../big.csv")
    assert str(tmp_path) not in (tmp_path / "run" / "README.md").read_text() + json.dumps(card)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "big.csv").write_text("a,b\n1,2\n3,4\n")  # of that name, and not the fit's
    monkeypatch.chdir(elsewhere)
    assert main(["score", "../run"]) == 0
    assert zoo.load("../run").card["data"] == card
    shutil.move(tmp_path / "big.csv", elsewhere / "gone.csv")
    (elsewhere / "big.csv").unlink()
    words = fails(capsys, "score", "../run")
    assert "cannot read 'big.csv'" in words
    assert "say where the data of '../run' are now: --data FILE" in words
    assert main(["score", "../run", "--data", "gone.csv"]) == 0
    assert zoo.load("../run").card["data"]["path"] == "../else where/gone.csv"
    monkeypatch.chdir(tmp_path)
    assert main(["score", "run"]) == 0, "as it was told last"


@pytest.mark.parametrize("name", ["my run ü", "-lead", "it's", "$HOME", "--", "run"])
def test_a_path_in_a_hint_is_one_word_and_no_option(name):
    parsed = parser.parser().parse_args(shlex.split(f"score {quoted(name)}"))
    assert Path(parsed.folder) == Path(name)


def test_the_command_that_scores_can_be_pasted(capsys, monkeypatch):
    monkeypatch.setattr(score, "write", lambda run, pair, *_: run.keep(pair))
    assert main([*FIT[:-2], "--out=-my run's ü", "--steps", "2", "--no-score"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    words = shlex.split(told.removesuffix(" scores it."))
    assert words[:2] == ["zoo", "score"]
    assert main(words[1:]) == 0


# Two at a time -------------------------------------------------------------------------------------------------------


def test_a_second_run_into_one_folder_is_refused_at_once(tmp_path, capsys, monkeypatch):
    with exchange.claimed(tmp_path / "run"):
        began = time.perf_counter()
        words = fails(capsys, *FIT, "--steps", "100000")
        assert f"'run': another process ({os.getpid()}) is writing there" in words
        assert time.perf_counter() - began < 30  # it did not fit
    assert not (tmp_path / "run").exists()
    assert main([*FIT, *FEW, "--no-score"]) == 0


def test_the_lock_of_a_process_that_died_is_no_obstacle(tmp_path):
    def work():
        with exchange.claimed(tmp_path / "run"):
            os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert (tmp_path / "run" / exchange.UNFINISHED).is_dir()
    assert main([*FIT, *FEW, "--no-score"]) == 0
    assert not (tmp_path / "run" / exchange.UNFINISHED).exists()


def test_of_many_writers_one_has_the_folder(tmp_path):
    inside, most, refused, lock = 0, 0, [], threading.Lock()

    def work():
        nonlocal inside, most
        for _ in range(50):
            try:
                with exchange.claimed(tmp_path / "run"):
                    with lock:
                        inside += 1
                        most = max(most, inside)
                    time.sleep(0.0005)
                    with lock:
                        inside -= 1
            except ValueError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert refused
    assert all("is writing there" in words for words in refused)


def test_an_empty_folder_may_be_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["fit", "gmm", "--data", "faithful", "--out", ".", *FEW]) == 0
    assert zoo.load(".").registry_name == "gmm"


def test_the_course_of_a_fit_is_logged_and_its_time_limited(tmp_path, capsys):
    options = ["--no-score", "--max-seconds", "1e-6", "--log", "course.csv"]
    assert main([*FIT, *options]) == 0
    assert "stopped after" in capsys.readouterr().out
    lines = (tmp_path / "course.csv").read_text().splitlines()
    assert lines[0] == "step,loss,validation,learning_rate,seconds,likelihood[x],kl[globals]"
    assert len(lines) == 2
    told = fails(capsys, *FIT[:-1], "other", *options)
    assert "'course.csv' is there already; replace=True (--replace) writes over it" in told
