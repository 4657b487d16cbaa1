"""Mutants: a sign, an operator, a number or a condition of the numeric core is changed; do the tests see it?

    python -m tests.campaigns.mutants --sample 200 --seed 0     # drawn from the whole core
    python -m tests.campaigns.mutants inference/codes/gaps.py   # every mutant of a file
    python -m tests.campaigns.mutants zoo/parts/em --list       # what would be tried

The mutations are those of cosmic-ray, of each kind the one or two that are hardest to see. Those in messages, reprs,
annotations, decorators and texts are left out. Each mutant stands in a copy of the tree and is met by the test files
that cover its file (`tests/campaigns/covering.py`), the most likely first, until one test fails. It counts as killed
only where that test passes without it, else it is "unsound". Survivors are printed with their line: they want a test,
or a word on why no test can see them.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.covering import ROOT, core, covering
from tests.campaigns.mutable import OPERATORS, Spot, change, mutated, spots

WARM = ("torch", "pyro", "pytest", "scipy.stats", "pandas", "sklearn", "arviz", "matplotlib.figure")


@dataclass(frozen=True)
class Result:
    """What came of one mutant: killed (by which test), survived, or out of time."""

    path: str
    spot: Spot
    outcome: str
    test: str
    seconds: float


class Tree:
    """A copy of the project in which mutants stand, one at a time."""

    def __init__(self, home: Path, limit: float) -> None:
        self.root, self.limit = home / "tree", limit
        self._sound: dict[str, bool] = {}
        ignored = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "run", "demo", "build", "dist")
        shutil.copytree(ROOT, self.root, ignore=ignored)
        os.environ.setdefault("ZOO_REFERENCE", str(ROOT.parent / "shared" / "reference"))
        os.environ.update(PYTHONPATH=str(self.root), OMP_NUM_THREADS="1")
        for name in WARM:  # a fork has them already
            importlib.import_module(name)
        self._first_failure(["--collect-only", "tests"])  # which leaves the byte code of everything behind

    def meet(self, path: str, spot: Spot) -> Result:
        """Put a mutant in its place, run what covers it, and take it out again."""
        file, start = self.root / path, time.monotonic()
        sound, at = file.read_text(), file.stat().st_mtime
        file.write_text(mutated(sound, spot))
        try:
            test = self._first_failure(covering(path))
        finally:
            file.write_text(sound)
            os.utime(file, (at, at))  # its byte code holds again
        outcome = "survived"
        if test == "time":
            outcome, test = "out of time", ""
        elif test:
            if test not in self._sound:
                self._sound[test] = not self._first_failure([test])
            outcome = "killed" if self._sound[test] else "unsound"
        return Result(path, spot, outcome, test, time.monotonic() - start)

    def _first_failure(self, tests: list[str]) -> str:
        """The id of the first test that fails; empty where none does; "time" where it takes too long."""
        receive, send = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=self._run, args=(tests, send))
        process.start()
        send.close()
        process.join(self.limit)
        if process.is_alive():
            os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            return "time"
        try:
            return str(receive.recv())
        except EOFError:  # the process ended itself
            return tests[0]

    def _run(self, tests: list[str], send: multiprocessing.connection.Connection) -> None:
        os.setsid()
        import pytest

        class First:
            failed = ""

            def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
                if report.failed and not self.failed:
                    self.failed = report.nodeid

            def pytest_collectreport(self, report: pytest.CollectReport) -> None:
                if report.failed and not self.failed:
                    self.failed = report.nodeid

        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        os.chdir(self.root)
        sys.path[:] = [str(self.root), *(p for p in sys.path if Path(p).resolve() != ROOT)]
        for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
            del sys.modules[name]
        sys.dont_write_bytecode = "--collect-only" not in tests
        first = First()
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1" * sys.dont_write_bytecode
        status = pytest.main([*tests, "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"], [first])
        send.send(first.failed or (tests[0] if status else ""))
        send.close()
        os._exit(0)


def campaign(chosen: Sequence[tuple[str, Spot]], limit: float, until: float = float("inf")) -> Iterator[Result]:
    """Meet each of these mutants, or as many as there is time for."""
    with tempfile.TemporaryDirectory() as home:
        tree = Tree(Path(home), limit)
        for path, spot in chosen:
            if time.monotonic() > until:
                return
            yield tree.meet(path, spot)


def told(results: Sequence[Result]) -> str:
    """The counts, and what is left to kill."""
    count = Counter(result.outcome for result in results)
    judged = count["killed"] + count["survived"]
    lines = [f"{len(results)} mutants: " + ", ".join(f"{number} {outcome}" for outcome, number in count.items())]
    if judged:
        lines.append(f"killed of those killed or survived: {count['killed'] / judged:.1%}")
    lines += [line(result) for result in results if result.outcome != "killed"]
    return "\n".join(lines)


def line(result: Result) -> str:
    """One mutant: its outcome, its place, and its line before and after."""
    by = f"  by {result.test}" if result.test else ""
    head = f"{result.outcome:<11} {result.path}:{result.spot.line} {result.spot.kind} {result.seconds:.0f} s{by}"
    return f"{head}\n{shown(result.path, result.spot)}"


def shown(path: str, spot: Spot) -> str:
    """The line of a mutant, before and after."""
    before, after = change((ROOT / path).read_text(), spot)
    return f"    - {before}\n    + {after}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", help="files or folders of the core; by default all of it")
    parser.add_argument("--sample", type=int, help="try so many, drawn at random; by default all")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many of the sample: to go on")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--limit", type=float, default=240, help="seconds for each mutant")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no other mutant after so many")
    parser.add_argument("--list", action="store_true", help="say which mutants, and run nothing")
    options = parser.parse_args()
    found = [(path, spot) for path in core(options.files) for spot in spots((ROOT / path).read_text())]
    # By the place of each mutant alone, so that a sample hardly changes with the rest of the tree.
    found.sort(key=lambda of: random.Random(f"{options.seed} {of[0]} {of[1].kind} {of[1].occurrence}").random())
    chosen = found[options.skip : options.sample]
    print(f"{len(chosen)} of {len(found)} mutants, {len(OPERATORS)} kinds, seed {options.seed}", flush=True)
    if options.list:
        for path, spot in chosen:
            print(f"{path}:{spot.line} {spot.kind}\n{shown(path, spot)}")
        sys.exit()
    results = []
    for result in campaign(chosen, options.limit, time.monotonic() + 60 * options.minutes):
        results.append(result)
        print(line(result), flush=True)
    print(told(results))
    sys.exit(any(result.outcome != "killed" for result in results))
