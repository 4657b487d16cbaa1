"""Mutants: a sign, an operator, a number or a condition of the numeric core is changed; do the tests see it?

    python -m tests.campaigns.mutants --sample 200 --seed 0     # drawn from the whole core
    python -m tests.campaigns.mutants inference/codes/gaps.py   # every mutant of a file
    python -m tests.campaigns.mutants zoo/parts/em --list       # what would be tried

The mutations are those of cosmic-ray, of each kind the one or two that are hardest to see. Those in messages, reprs,
annotations, decorators and texts are left out. Each mutant stands in a copy of the tree and is met by the test files
that cover its file (`COVER`), the most likely first, until one test fails. It counts as killed only where that test
passes without it. Survivors are printed with their line: they want a test, or a word on why no test can see them.
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

from tests.campaigns.mutable import OPERATORS, Spot, change, mutated, spots

ROOT = Path(__file__).parents[2]
WARM = ("torch", "pyro", "pytest", "scipy.stats", "pandas", "sklearn", "arviz", "matplotlib.figure")

_MIXTURES, _TREES = ["tests/zoo/mixtures"], ["tests/zoo/regression/test_decision_tree.py", "tests/zoo/regression"]
_CODES, _VAES = ["tests/inference/codes"], ["tests/zoo/autoencoders"]
_PARTS, _SEQUENCES = ["tests/zoo/parts"], ["tests/zoo/sequences"]

# What covers a file: the longest beginning of its path that stands here, after the test of its own name. Without
# conformance, whose checks take minutes for each pair.
COVER: dict[str, list[str]] = {
    "inference/codes": _CODES,
    "inference/fitting": ["tests/inference/fitting"],
    "inference/posterior": ["tests/inference/posterior"],
    "inference/questions": ["tests/inference/questions", "tests/zoo/regression/test_decision_tree.py"],
    "inference/running": ["tests/inference/running", "tests/inference/codes", "tests/inference/posterior"],
    "inference/sampling": ["tests/inference/sampling"],
    "zoo/autoencoders": [*_VAES, "tests/inference/codes/test_collapse.py"],
    "zoo/graphs": ["tests/zoo/graphs", "tests/zoo/parts/test_networks.py", "tests/inference/questions/test_queries.py"],
    "zoo/guides.py": ["tests/inference/fitting", "tests/inference/posterior", "tests/zoo/test_pair.py"],
    "zoo/mixtures": _MIXTURES,
    "zoo/parts": [*_PARTS, *_VAES, *_SEQUENCES],
    "zoo/parts/chains": [*_PARTS, "tests/zoo/sequences/test_hmm.py", "tests/inference/questions/test_sequences.py"],
    "zoo/parts/conjugate": [*_PARTS, "tests/zoo/regression", "tests/zoo/sequences/test_autoregressive.py"],
    "zoo/parts/covariates.py": [*_PARTS, "tests/zoo/regression"],
    "zoo/parts/em": ["tests/zoo/parts/test_em.py", *_MIXTURES],
    "zoo/parts/missing.py": [*_PARTS, *_MIXTURES, *_VAES],
    "zoo/parts/networks": [*_PARTS, "tests/zoo/graphs", "tests/inference/questions/test_queries.py"],
    "zoo/parts/polynomials.py": [*_PARTS, "tests/zoo/regression"],
    "zoo/parts/recurrent": [*_PARTS, *_SEQUENCES],
    "zoo/parts/series.py": [*_PARTS, *_SEQUENCES],
    "zoo/parts/sequence.py": [*_PARTS, *_SEQUENCES],
    "zoo/parts/tables": [*_PARTS, *_MIXTURES, "tests/zoo/autoencoders/test_naive_bayes_vae.py"],
    "zoo/parts/trees": [*_TREES, "tests/inference/questions"],
    "zoo/regression": ["tests/zoo/regression", "tests/inference/questions"],
    "zoo/sequences": [*_SEQUENCES, "tests/inference/questions/test_sequences.py"],
}
# Files of tests that are not called after what they test.
OWN = {
    "inference/fitting/step.py": "test_fit.py", "inference/fitting/loop.py": "test_fit.py",
    "inference/posterior/draws.py": "test_check.py", "inference/posterior/psis.py": "test_khat.py",
    "inference/codes/reading.py": "test_encoding.py", "zoo/parts/tables/rows.py": "test_columns.py",
    "zoo/parts/trees/leaves.py": "test_decision_tree.py", "zoo/parts/em/gaussian.py": "test_em.py",
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What came of one mutant: killed (by which test), survived, or out of time."""

    path: str
    spot: Spot
    outcome: str
    test: str
    seconds: float


def core(names: Sequence[str] = ()) -> list[str]:
    """Files of the numeric core, or those of them that were named (a file or a folder), by path from the root."""
    found = []
    for name in names or [key for key in COVER if key.count("/") == 1]:
        path = ROOT / name
        if not path.exists():
            raise ValueError(f"{name}: there is no such file or folder")
        files = sorted(path.rglob("*.py")) if path.is_dir() else [path.resolve()]
        found += [file.relative_to(ROOT).as_posix() for file in files if file.name != "__init__.py"]
    for name in found:
        covering(name)
    return list(dict.fromkeys(found))


def covering(path: str) -> list[str]:
    """Test files for a source file: that of its own name first, then what covers its folder.

    Raises:
        ValueError: the file is outside the numeric core.
    """
    known = [key for key in COVER if path == key or path.startswith(f"{key}/")]
    if not known:
        raise ValueError(f"{path}: no tests are known for it; the core is {', '.join(COVER)}")
    files: list[str] = []
    for name in COVER[max(known, key=len)]:
        home = ROOT / name
        files += [name] if home.is_file() else [p.relative_to(ROOT).as_posix() for p in sorted(home.glob("test_*.py"))]
    own = OWN.get(path, f"test_{Path(path).stem}.py")
    stem = own.removesuffix(".py")
    return sorted(dict.fromkeys(files), key=lambda name: (Path(name).name != own, stem not in name))


class Tree:
    """A copy of the project in which mutants stand, one at a time."""

    def __init__(self, home: Path, limit: float) -> None:
        self.root, self.limit = home / "tree", limit
        self._sound: dict[str, bool] = {}
        ignored = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "run", "demo", "build", "dist")
        shutil.copytree(ROOT, self.root, ignore=ignored)
        os.environ.setdefault("ZOO_REFERENCE", str(ROOT.parent / "shared" / "reference"))
        os.environ.update(PYTHONPATH=str(self.root), OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        for name in WARM:  # a fork has them already
            importlib.import_module(name)

    def meet(self, path: str, spot: Spot) -> Result:
        """Put a mutant in its place, run what covers it, and take it out again."""
        file, start = self.root / path, time.monotonic()
        sound = file.read_text()
        file.write_text(mutated(sound, spot))
        try:
            test = self._first_failure(covering(path))
        finally:
            file.write_text(sound)
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
        sys.dont_write_bytecode = True
        first = First()
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
    random.Random(options.seed).shuffle(found)
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
