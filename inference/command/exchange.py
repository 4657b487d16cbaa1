"""A run folder, and how what it holds is exchanged: the earlier run or the new one, whole, whatever ends the process.

The model goes first: `pair.save` renames it into its place, so that any kill leaves the earlier or the new one. Its
scores follow: metrics.json, posterior.nc, a summary and pictures. Those of before are set aside meanwhile, in
`.unfinished/earlier`, with a note that says of which weights they are; `tidy` puts them back where these weights still
stand and nothing complete came after them. metrics.json is the last of the scores to arrive and the first to leave:
where it is, the scores are whole.

Whoever writes holds a lock on `.unfinished`, which ends with the process that has it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nobody is kept out
    fcntl = None  # type: ignore[assignment]

from inference.command.words import quoted
from zoo.base import ModelGuide
from zoo.state import CONFIG, README, WEIGHTS, files

METRICS = "metrics.json"
SCORES = (METRICS, "posterior.nc", "summary.txt")
LOSS = "loss.png"  # of the fit, not of the scores
PICTURES = ("predictive", "posterior", "density", "curve", "latent_*")
FILES = (CONFIG, WEIGHTS, README, *SCORES)
UNFINISHED, INTERRUPTED = ".unfinished", ".interrupted"
CHECKPOINTS = "checkpoints"
_NEW, _EARLIER, _NOTE, _PROCESS = "new", "earlier", "of.json", "process"


def check(folder: Path, *, replace: bool = False) -> None:
    """Refuse, before any work, a folder that a run cannot go into.

    Raises:
        ValueError: the name is no text in UTF-8; the path is a file, or a folder that holds an earlier run (unless
            `replace`) or something else.
    """
    try:
        os.fspath(folder).encode("utf-8")
    except UnicodeEncodeError:  # model cards are UTF-8, and hold it
        shown = os.fsencode(folder).decode("utf-8", errors="backslashreplace")
        raise ValueError(f"--out {shown}: the name is not UTF-8; choose another") from None
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise ValueError(f"--out {folder}: a file is in the way")
        return
    found = sorted(name for name in _names(folder) if not _ours(name))
    if found and not holds_a_run(folder):
        raise ValueError(f"--out {folder}: the folder is not empty ({found[0]}) and holds no earlier run")
    if found and not replace:
        on = ", --resume goes on with it" if holds_checkpoints(folder) else ""
        raise ValueError(f"--out {folder}: an earlier run is there; --replace writes over it{on}")
    if holds_checkpoints(folder) and not replace:
        raise ValueError(f"--out {folder}: a run was broken off there; --resume goes on with it, --replace begins anew")


def _names(folder: Path) -> list[str]:
    """Of the files in a folder; none where another process has just taken it away."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def holds_a_run(folder: Path) -> bool:
    """Whether a model is there; a save that was killed between two renames left it under a name of its own."""
    return (folder / CONFIG).is_file() or ((folder / WEIGHTS).is_file() and any(folder.glob(".config-*.json")))


def holds_checkpoints(folder: Path) -> bool:
    """Whether a fit left checkpoints there."""
    return any((folder / CHECKPOINTS).glob("*.json"))


def _ours(name: str) -> bool:
    """Whether a file is what a run or a save leaves that was killed."""
    return name in (UNFINISHED, INTERRUPTED, CHECKPOINTS) or name.startswith(".config-") or name.endswith(".part")


@dataclass(frozen=True)
class Run:
    """A run folder that nobody else writes into meanwhile. Made by `claimed`."""

    folder: Path

    def checkpoints(self, *, resume: bool) -> Path:
        """Where the fit keeps its checkpoints; those of an earlier run go, unless this one goes on from them.

        Raises:
            ValueError: an earlier run left none to go on from.
        """
        place = self.folder / CHECKPOINTS
        if resume and holds_a_run(self.folder) and not holds_checkpoints(self.folder):
            raise ValueError(
                f"--resume: the run in {self.folder} left no checkpoints to go on from; --replace begins anew"
            )
        if not resume:
            shutil.rmtree(place, ignore_errors=True)
        return place

    def keep(self, pair: ModelGuide) -> None:
        """Put a model in the place of the earlier one, whose scores go with it.

        Raises:
            OSError, ValueError: it cannot be saved; the earlier run stays.
        """
        _set_aside(self.folder, LOSS)
        try:
            pair.save(self.folder)
        finally:
            _settle(self.folder)
        shutil.rmtree(self.folder / INTERRUPTED, ignore_errors=True)

    def keep_interrupted(self, pair: ModelGuide) -> Path:
        """Put down a model whose training was interrupted: beside an earlier run, if there is one; returns where."""
        if not holds_a_run(self.folder):
            self.keep(pair)
            return self.folder
        return pair.save(self.folder / INTERRUPTED)

    @contextmanager
    def scores(self, pair: ModelGuide) -> Iterator[Path]:
        """A folder to write the scores of the model into, which then take the place of those that are there.

        The model's card is saved again with them.
        """
        new = self.folder / UNFINISHED / _NEW
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        try:
            yield new
            _set_aside(self.folder)
            try:
                pair.save(self.folder)
                _move(new, self.folder, [path.name for path in new.iterdir()])
                files.sync(self.folder)
            finally:
                _settle(self.folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)


@contextmanager
def claimed(folder: Path, *, replace: bool = False, new: bool = True) -> Iterator[Run]:
    """The folder, made where it is not there and tidied up, for one writer.

    Args:
        folder: where.
        replace: an earlier run may be there.
        new: else a run has to be there, and stays.

    Raises:
        ValueError: see `check`; it cannot be written into, or another process does so now.
    """
    if new:
        check(folder, replace=replace)
    fresh = not folder.exists()
    place = folder / UNFINISHED
    try:
        handle = _locked(place)
    except OSError as error:
        raise ValueError(f"--out {folder}: cannot be written ({error.strerror})") from error
    if handle is None:
        raise ValueError(f"'{folder}': another process{_named(place)} is writing there; wait for it, or choose another")
    try:
        tidy(folder)
        if new:
            check(folder, replace=replace)  # once more: somebody may have finished meanwhile
        with suppress(OSError):
            (place / _PROCESS).write_text(str(os.getpid()))
        yield Run(folder)
    finally:
        try:
            tidy(folder)  # what was set aside must not go with the rest
            shutil.rmtree(place, ignore_errors=True)
        finally:
            _unlock(handle)
        if fresh:
            with suppress(OSError):  # it is empty after a failure only
                folder.rmdir()


def recover(folder: Path) -> str:
    """Put in order what a killed run left, unless somebody is at work there or it may not be written; what was done."""
    place = folder / UNFINISHED
    if not place.is_dir():
        return ""
    with suppress(OSError):
        handle = _locked(place)
        if handle is not None:
            try:
                tidy(folder)
                shutil.rmtree(place, ignore_errors=True)
            finally:
                _unlock(handle)
            scored = (
                "with its scores"
                if (folder / METRICS).is_file()
                else f"not scored (zoo score {quoted(folder)} scores it)"
            )
            return f"a run in {folder} was killed; the model that is there is whole, {scored}"
    return ""


def tidy(folder: Path) -> None:
    """Put scores back that were set aside and are still those of the model, and drop what was not finished."""
    shutil.rmtree(folder / UNFINISHED / _NEW, ignore_errors=True)
    _settle(folder)


def _scores(folder: Path) -> list[str]:
    """Names of the scores and their pictures that are there."""
    plain = [name for name in SCORES if (folder / name).is_file()]
    return plain + [path.name for name in PICTURES for path in sorted(folder.glob(f"{name}.png"))]


def _set_aside(folder: Path, *more: str) -> None:
    """Move the scores that are there out of the way, and `more`, with a note of whose they are."""
    names = _scores(folder) + [name for name in more if (folder / name).is_file()]
    if not names:
        return
    earlier = folder / UNFINISHED / _EARLIER
    shutil.rmtree(earlier, ignore_errors=True)
    earlier.mkdir(parents=True)
    files.write(earlier / _NOTE, json.dumps({"weights": weights(folder), "names": names}).encode())
    _move(folder, earlier, names, last=False)
    files.sync(earlier)
    files.sync(folder)


def _settle(folder: Path) -> None:
    """What was set aside goes back, if it is of the model that is there and no other scores are; else it goes."""
    earlier = folder / UNFINISHED / _EARLIER
    try:
        note = json.loads((earlier / _NOTE).read_bytes())
    except (OSError, ValueError):
        note = None  # nothing was moved before it was written
    if note is not None and note["weights"] == weights(folder) and not (folder / METRICS).is_file():
        for name in set(_scores(folder)) - set(note["names"]):
            (folder / name).unlink()
        _move(earlier, folder, [name for name in note["names"] if (earlier / name).is_file()])
        files.sync(folder)
    shutil.rmtree(earlier, ignore_errors=True)


def _move(source: Path, target: Path, names: Sequence[str], *, last: bool = True) -> None:
    """Rename files, metrics.json last or first."""
    for name in sorted(names, key=lambda name: ((name == METRICS) == last, name)):
        (source / name).replace(target / name)


def weights(folder: Path) -> str | None:
    """The digest of the weights that are there."""
    path = folder / WEIGHTS
    return files.digest(path) if path.is_file() else None


def _locked(place: Path) -> int | None:
    """A handle of the folder, made where it is not there, that holds its lock; None if another process has it.

    A lock ends with its process. Whoever had it may have taken the folder away between two steps of ours: once more.
    """
    while True:
        try:
            place.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                return -1
            handle = os.open(place, os.O_RDONLY)
        except FileNotFoundError:
            continue
        except FileExistsError:  # a folder, taken away before it was looked at; or a file
            if place.is_file() or place.parent.is_file():
                raise
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        except OSError:  # some network file systems have no locks
            return handle
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), place.stat()):
                return handle
        os.close(handle)


def _unlock(handle: int) -> None:
    if fcntl is not None and handle >= 0:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough when a forked child holds a copy
        os.close(handle)


def _named(place: Path) -> str:
    """The number of the process that writes, if it left one."""
    try:
        return f" ({int((place / _PROCESS).read_text())})"
    except (OSError, ValueError):
        return ""
