"""Where a long run keeps what it needs to go on: checkpoints in a folder, of which the newest and the best stay.

A checkpoint is a state (`zoo.state.packing`) of a step, with what it was a run of: another model, other options or data
are refused by name. Whoever writes holds a lock, which ends with the process. Between two checkpoints without a number
of steps to count by lie a hundred times the seconds that the last one took: they cost at most a hundredth of the run.
"""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nobody is kept out
    fcntl = None  # type: ignore[assignment]

from inference.compiling.fallback import somebodys_level
from inference.running.words import check_count, check_number, told
from zoo.state import packing
from zoo.state.files import DamagedFile
from zoo.state.packing import TENSORS, TOLD
from zoo.version import versions

_SHARE = 0.01  # of the time that checkpoints may take, where nobody counts steps
_LOCK = ".lock"
_MADE = re.compile(r"(\d{6,})-step-(\d{9,})")


class CheckpointError(ValueError):
    """A run cannot go on from these checkpoints: damaged, of something else, or somebody is writing there."""


@dataclass(frozen=True)
class Checkpoints:
    """Where checkpoints go, how often, and how many stay.

        >>> import inference, zoo
        >>> pair, data = zoo.create("gmm", features=2), zoo.datasets.load("faithful")
        >>> often = inference.Checkpoints("run/checkpoints", steps=1000, keep=3)
        >>> inference.fit(pair, data, steps=20_000, checkpoint=often, resume=True)  # doctest: +SKIP

    Args:
        folder: made where it is not there.
        steps: between two; by default time decides.
        seconds: between two, or a hundred times what the last one took, if that is longer.
        keep: how many of the newest stay, beside the best: that of the lowest held-out loss, or mean loss since the one
            before where no rows are held out.

    Raises:
        ValueError: an option out of range.
    """

    folder: str | os.PathLike[str]
    steps: int | None = None
    seconds: float = 60.0
    keep: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.folder, (str, os.PathLike)):
            raise ValueError(f"checkpoint: expected the path of a folder, got {told(self.folder)}")
        if self.steps is not None:
            check_count("steps", self.steps, 1)
        check_number("seconds", self.seconds)
        if self.seconds <= 0:
            raise ValueError(f"seconds: expected a number above 0, got {self.seconds!r}")
        check_count("keep", self.keep, 1)


@dataclass(frozen=True)
class OfData(Checkpoints):
    """Checkpoints of a run that does not see its data itself: their digest."""

    data: str = ""


def asked(checkpoint: Any, resume: Any) -> Checkpoints | None:
    """What `checkpoint` and `resume` ask for.

    Raises:
        ValueError: neither a folder nor `Checkpoints`, or to go on from nothing.
    """
    if resume is not True and resume is not False:
        raise ValueError(f"resume: expected True or False, got {told(resume)}")
    if checkpoint is None:
        if resume:
            raise ValueError("resume: give checkpoint=, the folder to go on from")
        return None
    return checkpoint if isinstance(checkpoint, Checkpoints) else Checkpoints(checkpoint)


@dataclass(frozen=True)
class Found:
    """A checkpoint: its name, step, what it says of itself, and the state."""

    name: str
    step: int
    told: Mapping[str, Any]
    state: dict[str, Any]


class Shelf:
    """The folder of one run, held for as long as it is open.

    Args:
        given: where, how often and how many.
        run: what it is a run of: names to JSON, all of which must be the same where a run goes on. `data` and such are
            told as they are where they differ.
        resume: go on from what is there; else nothing may be there.
        doing: the run in a word, for what is said.

    Raises:
        CheckpointError: another process writes there, or checkpoints are there already and nobody asked to go on.
        ValueError: the folder cannot be made or written into.
    """

    def __init__(self, given: Checkpoints, run: Mapping[str, Any], resume: bool, doing: str = "fit") -> None:
        self.given, self.run, self.doing, self.folder = given, dict(run), doing, Path(given.folder)
        self.cost, self.kept_at, self.failed = 0.0, time.perf_counter(), False
        self._made = not self.folder.exists()  # else it is somebody's, and stays
        self._handle: int | None = _locked(self.folder)
        try:
            self.names = _names(self.folder)
            if self.names and not resume:
                raise CheckpointError(
                    f"checkpoint: '{self.folder}' holds checkpoints already: resume=True (--resume) goes on from them, "
                    "or name another folder"
                )
            self._scores = {name: score for name in self.names if (score := self._score(name)) is not None}
            self._tidy()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let others write there; a folder made for this run in which nothing was kept goes."""
        if self._handle is not None and not _names(self.folder):
            with suppress(OSError):
                (self.folder / _LOCK).unlink()
                if self._made:
                    self.folder.rmdir()
        if self._handle is not None and self._handle >= 0:
            with suppress(OSError):
                fcntl.flock(self._handle, fcntl.LOCK_UN)
            os.close(self._handle)
        self._handle = None

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Whatever a state that does not fit provokes is the state's fault: a `CheckpointError`."""
        try:
            yield
        except CheckpointError:
            raise
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(f"checkpoint: '{self.folder}' does not fit this {self.doing}: {what}") from error

    def newest(self, before: Any = lambda found: True) -> Found | None:
        """The newest whole checkpoint for which `before` holds; None where there is none at all.

        Of one that is damaged a warning tells, and the one before it is taken.

        Raises:
            CheckpointError: all are damaged, or it is of another run.
        """
        damage: list[str] = []
        for name in reversed(self.names):
            try:
                known, state = packing.load(self.folder, name)
                found = Found(name, _number(name, 2), known, state)
            except DamagedFile as error:
                damage.append(str(error))
                continue
            self._check(known)
            if not before(found):
                continue
            if damage:
                self._say(f"{damage[0]}; going on from the checkpoint of step {found.step:,}, which is whole")
            return found
        if damage and len(damage) == len(self.names):
            raise CheckpointError(f"checkpoint: '{self.folder}' holds no checkpoint that is whole: {damage[0]}")
        return None

    def _check(self, known: Mapping[str, Any]) -> None:
        """Refuse the checkpoint of another run, and say what is not the same about this machine."""
        before, here = known.get("run"), known.get("versions")
        if not isinstance(before, dict) or not isinstance(here, dict):
            raise CheckpointError(f"checkpoint: '{self.folder}' does not say what it is of")
        if here.get("zoo") != versions()["zoo"]:
            raise CheckpointError(
                f"checkpoint: '{self.folder}' is of version {here.get('zoo')!r:.50}, this is {versions()['zoo']!r}"
            )
        for name in [*self.run, *before]:
            one, other = before.get(name), self.run.get(name)
            if one != other:
                raise CheckpointError(
                    f"checkpoint: '{self.folder}' is of another {self.doing}, {name}: {_short(one)} there, "
                    f"{_short(other)} here"
                )

    def due(self, step: int) -> bool:
        """Whether a checkpoint is to be written after this many steps."""
        if self.given.steps is not None and step % self.given.steps == 0:
            return True
        wait = max(self.given.seconds, self.cost / _SHARE)
        return self.given.steps is None and time.perf_counter() - self.kept_at >= wait

    def write(self, step: int, state: Mapping[str, Any], score: float | None = None, **more: Any) -> bool:
        """Keep a state; whether it is on the disk. Where it cannot be, one warning says so, and what is there stays.

        Args:
            step: steps done.
            state: to go on from.
            score: the lower the better; None where nothing is known.
            more: what else to tell of it.
        """
        began = time.perf_counter()
        score = None if score is None or not math.isfinite(score) else float(score)
        known = {"step": step, "score": score, "run": self.run, "versions": versions(), "time": time.time(), **more}
        serial = _number(self.names[-1], 1) + 1 if self.names else 0
        name = f"{serial:06d}-step-{step:09d}"
        try:
            packing.save(self.folder, name, known, state)
        except OSError as error:
            self._tidy()
            if not self.failed:
                last = f"that of step {_number(self.names[-1], 2):,} is the last" if self.names else "there is none yet"
                self._say(f"cannot be written ({error.strerror or error}); the {self.doing} goes on, {last}")
            self.failed = True
            self.cost, self.kept_at = time.perf_counter() - began, time.perf_counter()
            return False
        self.failed = False
        self.names.append(name)
        if score is not None:
            self._scores[name] = score
        self._drop()
        self.cost, self.kept_at = time.perf_counter() - began, time.perf_counter()
        return True

    def _drop(self) -> None:
        """Let the oldest go, but not the best."""
        best = min(self._scores, key=self._scores.__getitem__, default=None)
        newest = self.names[-self.given.keep :]
        for name in [name for name in self.names if name not in newest and name != best]:
            for end in (TOLD, TENSORS):
                with suppress(OSError):
                    (self.folder / (name + end)).unlink(missing_ok=True)
            self.names.remove(name)
            self._scores.pop(name, None)

    def _score(self, name: str) -> float | None:
        try:
            score = packing.told(self.folder, name).get("score")
        except DamagedFile:
            return None
        return score if isinstance(score, float) else None

    def _tidy(self) -> None:
        """Take away what a killed run began to write."""
        known = {name + end for name in self.names for end in (TOLD, TENSORS)}
        for path in self.folder.iterdir():
            if _MADE.match(path.name) and path.name not in known:
                with suppress(OSError):
                    path.unlink()

    def _say(self, what: str) -> None:
        warnings.warn(f"checkpoint: '{self.folder}': {what}", stacklevel=somebodys_level())


def _names(folder: Path) -> list[str]:
    """Checkpoints that are there, oldest first."""
    found = [path.name.removesuffix(TOLD) for path in folder.glob("*" + TOLD)]
    return sorted((name for name in found if _MADE.fullmatch(name)), key=lambda name: _number(name, 1))


def _number(name: str, which: int) -> int:
    """The serial number (1) or the step (2) in the name of a checkpoint."""
    found = _MADE.match(name)
    return int(found[which]) if found else -1


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _locked(folder: Path) -> int:
    """A handle that holds the folder's lock, which ends with its process."""
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            handle = os.open(folder / _LOCK, flags, 0o644)
        except FileNotFoundError:  # whoever had it has just taken the folder away
            continue
        except OSError as error:
            raise ValueError(f"checkpoint: cannot write into '{folder}': {error.strerror or error}") from error
        if fcntl is None:
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(handle, 20).decode(errors="replace")
            os.close(handle)
            named = f" ({who})" if who.isdigit() else ""
            raise CheckpointError(
                f"checkpoint: another run{named} is writing into '{folder}': wait for it, or name another folder"
            ) from None
        except OSError:  # some network file systems have no locks
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), (folder / _LOCK).stat()):
                break
        os.close(handle)
    with suppress(OSError):
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
    return handle


@dataclass(frozen=True)
class Standing:
    """What a folder of checkpoints says at a glance: what the newest tells of itself, and whether a run is at work."""

    told: Mapping[str, Any]
    busy: bool


def standing(folder: Path) -> Standing | None:
    """What stands in a folder of checkpoints; None where none is there that says what it is. Nothing is written."""
    for name in reversed(_names(folder)):
        with suppress(DamagedFile):
            return Standing(packing.told(folder, name), _busy(folder))
    return None


def _busy(folder: Path) -> bool:
    if fcntl is None:
        return False
    try:
        handle = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(handle, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False
