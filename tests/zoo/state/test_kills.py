"""A kill, a full disk or another writer at any moment leaves one whole checkpoint."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.helpers.places import ROOT
from tests.helpers.saving import made, same
from zoo import state
from zoo.base import ModelGuide
from zoo.state import CONFIG, README, WEIGHTS, DamagedFile, files


class Killed(BaseException):
    """What the process feels of SIGKILL."""


class Killer:
    """Kills the process at the k-th call that touches the disk; the dead do nothing more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, torn: bool) -> None:
        self.at, self.calls = at, 0
        fsync = os.fsync

        def cut(handle: int) -> None:
            if torn and self.calls == self.at - 1 and stat.S_ISREG(os.fstat(handle).st_mode):
                os.truncate(handle, os.fstat(handle).st_size // 2)
            self.guard(fsync)(handle)

        monkeypatch.setattr(os, "fsync", cut)
        open_path = Path.open

        def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = open_path(path, mode, *args, **kwargs)  # a file opened for writing is empty before it is full
            if set(mode) & set("wxa"):
                try:
                    self.guard(lambda: None)()
                except Killed:
                    file.close()
                    raise
            return file

        monkeypatch.setattr(Path, "open", opened)
        for name in ("replace", "unlink"):
            monkeypatch.setattr(Path, name, self.guard(getattr(Path, name)))

    def guard(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls >= self.at:
                raise Killed
            return function(*args, **kwargs)

        return guarded


def killed_saves(folder: Path, pair: ModelGuide, torn: bool) -> Any:
    """Save `pair` again and again, killed one step later each time, until a save gets through."""
    for step in range(1, 100):
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, step, torn)
            try:
                pair.save(folder)
            except Killed:
                pass
            else:
                return
        yield step
    raise AssertionError("no save got through")


@pytest.mark.parametrize("torn", [False, True])
def test_killed_at_every_step(torn: bool, tmp_path: Path) -> None:
    # Each kill starts from a clean folder; the loader must find the old pair, then from some step on the new one.
    old, new = made(seed=0), made(seed=1, features=5)
    seen = []
    for step in killed_saves(tmp_path / "count", new, torn):
        folder = tmp_path / str(step)
        old.save(folder)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, step, torn)
            with pytest.raises(Killed):
                new.save(folder)
        found = zoo.load(folder)
        assert same(found, old) or same(found, new)
        seen.append(same(found, new))
        third = made(seed=2)
        third.save(folder)
        assert same(zoo.load(folder), third)
        assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, README}
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert {*seen} == {False, True}


@pytest.mark.parametrize("torn", [False, True])
def test_killed_over_and_over(torn: bool, tmp_path: Path) -> None:
    # One folder, killed saves piled on each other, back and forth between pairs, same weights under another card.
    pairs = [made(seed=0), made(seed=1, features=5), made(seed=0), made(seed=2)]
    pairs[2].card = {"seed": "another card"}
    rng = random.Random(0)
    current = pairs[0]
    current.save(tmp_path)
    for _ in range(20):
        pair = rng.choice(pairs)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, rng.randint(1, 25), torn)
            try:
                pair.save(tmp_path)
            except Killed:
                found = zoo.load(tmp_path)
                assert same(found, current) or same(found, pair)
                current = pair if same(found, pair) else current
            else:
                current = pair
        assert same(zoo.load(tmp_path), current)


def test_killed_first_save_is_no_checkpoint(tmp_path: Path) -> None:
    pair, seen = made(), []
    for step in killed_saves(tmp_path / "count", pair, False):
        folder = tmp_path / str(step)
        with pytest.MonkeyPatch.context() as monkeypatch:
            Killer(monkeypatch, step, False)
            with pytest.raises(Killed):
                pair.save(folder)
        with suppress(DamagedFile):
            assert same(zoo.load(folder), pair)
            seen.append(True)
            continue
        seen.append(False)
    assert seen == sorted(seen)
    assert {*seen} == {False, True}


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = made()
    old.save(tmp_path)
    fsync, calls = os.fsync, []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 3:  # the weights
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        made(seed=1).save(tmp_path)
    assert same(zoo.load(tmp_path), old)
    assert not list(tmp_path.glob("*.part"))


def test_threads_save_and_load_side_by_side(tmp_path: Path) -> None:
    pairs = [made(seed=seed, features=3 + seed) for seed in range(3)]
    pairs[0].save(tmp_path)
    failures: list[BaseException] = []

    def work(pair: ModelGuide) -> None:
        try:
            for _ in range(10):
                state.save(pair, tmp_path)
                with files.locked(tmp_path, exclusive=False):
                    record = state._matching(tmp_path)
                assert record["config"]["features"] in (3, 4, 5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(pair,)) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert any(same(zoo.load(tmp_path), pair) for pair in pairs)


@pytest.mark.slow
def test_sigkill(tmp_path: Path) -> None:
    script = tmp_path / "saver.py"
    script.write_text(
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]\n"
        "from tests.helpers import saving as t\n"
        "pairs = [t.made(seed=0), t.made(seed=1, features=5)]\n"
        f"pairs[0].save({str(tmp_path / 'run')!r}); print('ready', flush=True)\n"
        f"while True:\n    for pair in pairs: pair.save({str(tmp_path / 'run')!r})\n"
    )
    pairs, rng = [made(seed=0), made(seed=1, features=5)], random.Random(0)
    for _ in range(3):
        with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
        found = zoo.load(tmp_path / "run")
        assert any(same(found, pair) for pair in pairs)
