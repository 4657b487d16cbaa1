"""What a run will take of memory and disk is looked at before its first step."""

from __future__ import annotations

import shutil
from collections import namedtuple

import pytest

import inference
import zoo
from inference.command import room
from inference.command.main import main
from inference.data.check import check
from zoo.state import WEIGHTS

Usage = namedtuple("Usage", "total used free")


def test_draws_that_memory_does_not_hold_are_refused_before_training(tmp_path, capsys):
    words = ["fit", "gmm", "--data", "faithful", "--out", str(tmp_path / "run"), "--draws", str(10**12)]
    assert main(words) == 2
    told = capsys.readouterr()
    assert "--draws: 1,000,000,000,000 would take 72 TB of memory" in told.err  # 18 numbers of 4 bytes a draw
    assert "Fit(" not in told.out
    assert not (tmp_path / "run").exists()


def test_so_is_what_the_disk_does_not_hold(tmp_path, monkeypatch):
    """The estimate is below what a run does take, and above a quarter of it."""
    pair, data = zoo.create("gmm", features=2).double(), zoo.datasets.load("faithful")
    given = check(pair, data)
    inference.fit(pair, data, steps=2, progress=False, compile="off")
    pair.save(tmp_path)
    exported = inference.to_arviz(pair, inference.draw(pair, data, 200), data)
    inference.posterior.containers.save(exported, tmp_path / "posterior.nc")
    weights, scores = ((tmp_path / name).stat().st_size for name in (WEIGHTS, "posterior.nc"))

    def free(size):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(size, 0, size))

    deep = tmp_path / "not" / "there"
    free(weights)
    room.check(deep, given, None)
    with pytest.raises(
        ValueError, match=r"--out .*there: .* MB of weights and .* MB of scores of 200 draws, and the disk"
    ):
        room.check(deep, given, 200)
    free(weights + scores)
    room.check(deep, given, 200)
    free(100)
    with pytest.raises(ValueError, match=r"of weights, and the disk has .* left; name a folder on another disk$"):
        room.check(deep, given, None)
    free((weights + scores) // 4)
    with pytest.raises(ValueError, match="or take fewer --draws, or --no-score"):
        room.check(deep, given, 200)
