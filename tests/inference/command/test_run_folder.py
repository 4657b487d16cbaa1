"""A run replaces an earlier one whole, only when asked, or leaves what was there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import zoo
from inference.command import run_folder
from inference.command.main import main
from tests.helpers.command import FEW, FIT, blank_pictures, fails

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
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.usefixtures("earlier")
def test_an_earlier_run_is_replaced_only_when_asked(tmp_path, capsys):
    before = snapshot(tmp_path / "run")
    assert "--replace" in fails(capsys, *FIT, *FEW)
    assert snapshot(tmp_path / "run") == before
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert main([*FIT, *FEW, "--set", "components=3", "--replace"]) == 0
    assert zoo.load("run").config["components"] == 3
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "run" / run_folder.UNFINISHED).exists()


@pytest.mark.usefixtures("earlier")
def test_a_run_that_fails_at_its_end_leaves_what_was_there(tmp_path, capsys, monkeypatch):
    before = snapshot(tmp_path / "run")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("inference.posterior.containers.save", full)
    assert "No space left" in fails(capsys, *FIT, *FEW, "--replace")
    assert snapshot(tmp_path / "run") == before
    assert "No space left" in fails(capsys, *FIT[:-1], "fresh", *FEW)
    assert not (tmp_path / "fresh").exists()


def test_an_interrupted_run_leaves_nothing(tmp_path, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_folder, "follow", lambda: interrupt)
    assert main([*FIT, "--steps", "100"]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("earlier")
def test_a_run_stopped_while_its_files_move_is_no_run(tmp_path, capsys, monkeypatch):
    real = Path.replace

    def stop(path, target):
        if path.parent.parent.name == run_folder.UNFINISHED and path.name == "summary.txt":
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    assert main([*FIT, *FEW, "--replace"]) == 130
    assert (tmp_path / "run" / "posterior.nc").exists()
    with pytest.raises(ValueError, match=r"no config\.json"):
        zoo.load("run")
    capsys.readouterr()
    assert "holds no earlier run" in fails(capsys, *FIT, *FEW)


def test_an_empty_folder_may_be_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["fit", "gmm", "--data", "faithful", "--out", ".", *FEW]) == 0
    assert zoo.load(".").registry_name == "gmm"
