"""Kills: a process ends itself before its k-th step on the disk, for every k; then the old model or the new one loads.

    python tests/campaigns/kills.py           # every step of every case; a table
    python tests/campaigns/kills.py --every 5 # each fifth step

Cases: `zoo fit --replace` over an earlier run, `zoo score` of a run, `pair.save` over an earlier model. Steps: unlink,
replace, rename, rmdir, mkdir, fsync, and the opening of a file for writing. A process ends by `os._exit`, which runs
nothing more of it, as SIGKILL does. A cell is right where the model that loads is the old or the new one to the last
bit, where the scores that lie beside it are its own or none, and where the next `zoo score` gets through.
"""

from __future__ import annotations

import argparse
import builtins
import io
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

import zoo  # noqa: E402
from inference.command import run_folder  # noqa: E402
from inference.command.main import main as command  # noqa: E402
from zoo.base import ModelGuide  # noqa: E402

KILLED, THROUGH = 77, 0
STEPS = ("unlink", "replace", "rename", "rmdir", "mkdir", "fsync")
FIT = ["fit", "gmm", "--data", "faithful", "--steps", "2", "--draws", "10", "--score-seconds", "600", "--threads", "1"]


@dataclass(frozen=True)
class Cell:
    """One kill, and what is wrong with what it left."""

    case: str
    step: int
    wrong: str


def dies_before(step: int) -> None:
    """From now on this process ends before so many steps on the disk, with status `KILLED`."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == step:
                os._exit(KILLED)
            return function(*args, **kwargs)

        return call

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))
    opened, opened_counted = io.open, counted(io.open)

    def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return (opened_counted if set(mode) & set("wxa+") else opened)(file, mode, *args, **kwargs)

    io.open = builtins.open = opening  # type: ignore[assignment]


def in_a_process(work: Callable[[], None], step: int) -> int:
    """The exit status of a child that does the work and dies before that step."""

    def child() -> None:
        with open(os.devnull, "w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
            dies_before(step)
            try:
                work()
            except BaseException:
                os._exit(1)
        os._exit(THROUGH)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    return int(process.exitcode or 0)


def silently(arguments: list[str]) -> int:
    """The command, without what it says."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return command(arguments)


def replaced(folder: Path) -> None:
    """A fit over an earlier run."""
    if silently([*FIT, "--set", "components=3", "--out", str(folder), "--replace"]):
        raise ValueError("the fit failed")


def rescored(folder: Path) -> None:
    """Other scores for the same model."""
    if silently(["score", str(folder), "--draws", "12", "--seed", "3"]):
        raise ValueError("the scoring failed")


def saved(folder: Path) -> None:
    """Another model over an earlier one."""
    torch.manual_seed(1)
    zoo.create("gmm", components=3).save(folder)


CASES: dict[str, Callable[[Path], None]] = {
    "zoo fit --replace": replaced,
    "zoo score": rescored,
    "pair.save": saved,
}


def bits(pair: ModelGuide) -> tuple[Any, ...]:
    """What makes a model the same: arguments and every bit of its tensors."""
    return pair.config, tuple((name, value.numpy().tobytes()) for name, value in pair.state_dict().items())


def scores(folder: Path) -> dict[str, bytes]:
    """The scores that lie in a folder, without the pictures' and containers' times of writing."""
    return {name: (folder / name).read_bytes() for name in ("metrics.json", "summary.txt") if (folder / name).is_file()}


def timeless(found: dict[str, bytes]) -> dict[str, bytes]:
    """Scores without what the fit took, which no two fits share."""
    kept = dict(found)
    if "metrics.json" in kept:
        told = json.loads(kept["metrics.json"])
        kept["metrics.json"] = json.dumps(told | {"seconds": 0}).encode()
    if "summary.txt" in kept:
        kept["summary.txt"] = b"\n".join(line for line in kept["summary.txt"].splitlines() if b" steps in " not in line)
    return kept


def verdict(folder: Path, old: Path, new: Path) -> str:
    """What is wrong with a folder that a kill left; empty where nothing is."""
    models = {"old": bits(zoo.load(old)), "new": bits(zoo.load(new))}
    try:
        found = bits(zoo.load(folder))
    except Exception as error:
        return f"nothing loads: {error}"
    which = [name for name, model in models.items() if model == found]
    if not which:
        return "the model is neither the old nor the new one"
    if "metrics.json" not in scores(old):
        return ""
    silently(["sample", str(folder), "--out", str(folder.parent / "new.csv"), "--replace"])  # a door: it tidies up
    left, known = timeless(scores(folder)), [timeless(scores(home)) for home in (old, new)]
    own = [known[("old", "new").index(name)] for name in which]
    if left not in own and not (which[-1] == "new" and "metrics.json" not in left):
        return f"beside the {which[-1]} model stand scores that are not its own: {', '.join(left) or 'none'}"
    if (folder / ".unfinished").exists():
        return "what was not finished is still there"
    status = silently(["score", str(folder), "--draws", "10", "--score-seconds", "600"])
    return "" if status == 0 else f"zoo score ends with {status}"


def kills(case: str, home: Path, every: int = 1) -> Iterator[Cell]:
    """Kill a case at each step, from a fresh copy of the earlier run each time, until it gets through."""
    old, new = home / "old", home / "new"
    if not old.exists():
        if case == "pair.save":
            torch.manual_seed(0)
            zoo.create("gmm", components=2).save(old)
        else:
            silently([*FIT, "--out", str(old)])
    shutil.copytree(old, new)
    CASES[case](new)
    step, status = 1, KILLED
    while status == KILLED:
        folder = home / "run"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(old, folder)
        status = in_a_process(lambda folder=folder: CASES[case](folder), step)  # type: ignore[misc]
        if status not in (KILLED, THROUGH):
            yield Cell(case, step, f"the process ended with {status}")
        else:
            yield Cell(case, step, verdict(folder, old, new))
        step += every


def campaign(every: int = 1, cases: tuple[str, ...] = tuple(CASES)) -> list[Cell]:
    """All cells of these cases."""
    found: list[Cell] = []
    pictures = run_folder._pictures
    run_folder._pictures = lambda *_: iter(())  # type: ignore[assignment]  # half of the time, and no files of their own
    try:
        for case in cases:
            with tempfile.TemporaryDirectory() as home:
                found += kills(case, Path(home), every)
    finally:
        run_folder._pictures = pictures
    return found


def told(cells: list[Cell]) -> str:
    """A table: cells and wrong ones of each case, and the wrong ones by line."""
    lines = [f"{'case':<20} {'kills':>5} {'wrong':>5}"]
    for case in dict.fromkeys(cell.case for cell in cells):
        mine = [cell for cell in cells if cell.case == case]
        lines.append(f"{case:<20} {len(mine):>5} {sum(bool(cell.wrong) for cell in mine):>5}")
    lines += [f"  {cell.case}, before step {cell.step}: {cell.wrong}" for cell in cells if cell.wrong]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--every", type=int, default=1, help="kill at each so many-th step only")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this one; may be given again")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cells = campaign(options.every, tuple(options.case or CASES))
    print(told(cells))
    sys.exit(any(cell.wrong for cell in cells))
