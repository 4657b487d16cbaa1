"""Runs that are killed at random moments, by SIGKILL, and gone on with in a new process until they end.

    python -m tests.campaigns.broken_off --fits 50 --samples 20    # a table, wrong cells by line

A cell is right where what comes of it is, to the last bit, what comes of a run that nobody killed. Moments are drawn
evenly over the time that such a run takes; every process is a fork of this one, killed as often as the moment comes
before its end. `--dull` plants the fault that this is for: checkpoints that do not keep the state of random numbers.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

import inference  # noqa: E402
import zoo  # noqa: E402
from inference.running import checkpoints  # noqa: E402
from inference.sampling import course  # noqa: E402
from zoo.state import packing  # noqa: E402
from zoo.threads import randomness  # noqa: E402

MOST = 3  # kills of one run
QUIET: dict[str, Any] = {"progress": False, "compile": "graph"}


@dataclass(frozen=True)
class Cell:
    """One run, how often it was killed, and what is wrong with what came of it."""

    case: str
    number: int
    kills: int
    wrong: str


def _fit(name: str, config: dict[str, Any], data: Any, **options: Any) -> Callable[[Path, bool], dict[str, Tensor]]:
    """A fit, its checkpoints in a folder: parameters, buffers and losses."""

    def run(folder: Path, resume: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        pair = zoo.create(name, **config)
        often = inference.Checkpoints(folder, steps=7)
        result = inference.fit(pair, data(), checkpoint=often, resume=resume, **QUIET | options)
        return {**pair.state_dict(), "losses": torch.from_numpy(result.losses.copy())}

    return run


def _faithful() -> Any:
    return zoo.datasets.load("faithful")


def _digits() -> Any:
    return zoo.datasets.load("digits").select(slice(0, 600)).to(dtype=torch.float32)


VAE = {"features": 64, "latent": 4, "hidden": [32], "likelihood": "binomial", "trials": 16}
FITS: dict[str, Callable[[Path, bool], dict[str, Tensor]]] = {
    "mixture, graph": _fit("gmm", {"features": 2}, _faithful, steps=300),
    "mixture in parts, plain": _fit("gmm", {"features": 2}, _faithful, steps=60, batch_size=64, compile="off"),
    "codes, held out": _fit("gaussian_vae", VAE, _digits, steps=400, batch_size=64, validation=0.2),
    "codes, iwae": _fit("gaussian_vae", VAE, _digits, steps=150, batch_size=64, objective="iwae", particles=5),
}


def _sample(**options: Any) -> Callable[[Path, bool], dict[str, Tensor]]:
    """Chains, their draws and checkpoints in a folder."""

    def run(folder: Path, resume: bool) -> dict[str, Tensor]:
        torch.manual_seed(0)
        pair = zoo.create("polynomial_regression", features=1, degree=2).double()
        x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
        data = zoo.Batch.of(x=x, y=2 * x[:, 0] + 0.1 * torch.sin(40 * x[:, 0]))
        found = inference.sample(pair, data, store=folder, resume=resume, **QUIET | options)
        return {**found.draws, **found.stats}

    return run


SAMPLES: dict[str, Callable[[Path, bool], dict[str, Tensor]]] = {
    "chains": _sample(draws=300, chains=8),
    "chains until enough": _sample(draws=2000, chains=8, ess=2000),
}


def in_a_process(work: Callable[[], None], seconds: float | None = None) -> int:
    """The exit status of a fork that does the work, and is killed after so many seconds; -9 if it was."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if seconds is not None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def cells(
    runs: dict[str, Callable[[Path, bool], dict[str, Tensor]]], count: int, seed: int = 0, most: int = MOST
) -> list[Cell]:
    """So many runs, of one case after the other."""
    chance, found = random.Random(seed), []
    with tempfile.TemporaryDirectory() as place:
        known = {}
        for name, run in list(runs.items())[:count]:
            began = time.perf_counter()
            home = Path(place) / f"whole {name}"
            status = in_a_process(lambda run=run, home=home: _keep(run, home, False))  # type: ignore[misc]
            if status:
                raise RuntimeError(f"{name}: the process ended with {status}")
            known[name] = _kept(home), time.perf_counter() - began
        for number in range(count):
            name = list(runs)[number % len(runs)]
            home = Path(place) / str(number)
            found.append(_cell(name, runs[name], number, home, *known[name], chance, most))
    return found


def _cell(
    name: str, run: Callable[[Path, bool], dict[str, Tensor]], number: int, home: Path, whole: dict[str, Tensor],
    seconds: float, chance: random.Random, most: int,
) -> Cell:  # fmt: skip
    def work() -> None:
        _keep(run, home, True)

    kills = 0
    while True:
        status = in_a_process(work, chance.uniform(0, seconds) if kills < most else None)
        if status == 0:
            break
        if status != -signal.SIGKILL:
            return Cell(name, number, kills, f"the process ended with {status}")
        kills += 1
    after = _kept(home)
    wrong = [key for key in whole if key not in after or not _same(whole[key], after[key])]
    return Cell(name, number, kills, f"other bits: {', '.join(wrong)}" if wrong or whole.keys() != after.keys() else "")


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and one.numpy().tobytes() == other.numpy().tobytes()


def _keep(run: Callable[[Path, bool], dict[str, Tensor]], home: Path, resume: bool) -> None:
    """Run, and write down what came of it."""
    found = run(home / "run", resume)
    packing.save(home, "result", {}, found)


def _kept(home: Path) -> dict[str, Tensor]:
    return packing.load(home, "result")[1]


@contextmanager
def often() -> Iterator[None]:
    """Chains keep checkpoints every tenth of a second, as fits do every seven steps: short runs stand for long ones."""
    before = course.SECONDS, checkpoints._SHARE
    course.SECONDS, checkpoints._SHARE = 0.1, 1.0
    try:
        yield
    finally:
        course.SECONDS, checkpoints._SHARE = before


def told(found: list[Cell]) -> str:
    """A table, and wrong cells by line."""
    lines = [f"{'case':<28} {'runs':>5} {'kills':>6} {'wrong':>6}"]
    for name in dict.fromkeys(cell.case for cell in found):
        own = [cell for cell in found if cell.case == name]
        bad = sum(bool(cell.wrong) for cell in own)
        lines.append(f"{name:<28} {len(own):>5} {sum(cell.kills for cell in own):>6} {bad:>6}")
    return "\n".join([*lines, *(f"{cell.case}, {cell.number}: {cell.wrong}" for cell in found if cell.wrong)])


def plant() -> None:
    """Checkpoints forget where the random numbers stand."""
    randomness.restore = lambda kept: None  # type: ignore[assignment]


def main() -> int:
    """The campaign; 1 where a cell is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=50)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dull", action="store_true", help="plant a fault")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.dull:
        plant()
    with often():
        found = cells(FITS, options.fits, options.seed) + cells(SAMPLES, options.samples, options.seed)
    print(told(found))
    return int(any(cell.wrong for cell in found))


if __name__ == "__main__":
    sys.exit(main())
