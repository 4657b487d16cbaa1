"""Scoring, with which `zoo fit` ends and which `zoo score` repeats: a model that is kept already gets its scores."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from inference.command import exchange, run_folder
from inference.command.scoring import score
from inference.command.words import quoted
from inference.data.check import as_batch, check
from inference.fitting.held_out import split
from inference.fitting.loop import NonFiniteError
from inference.running.loading import arviz
from zoo import datasets
from zoo.base import Batch, ModelGuide
from zoo.history import fingerprint

SHARE, LEAST_SECONDS = 0.3, 3.0  # of the time before it: with the pictures less than 30 % of the whole
_LIBRARIES = ("arviz_stats.base", "matplotlib.pyplot", "h5netcdf")


def ready() -> None:
    """Load the libraries that scoring takes: seconds, which would else be taken for those of a draw or a row."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arviz()
        for name in _LIBRARIES:
            importlib.import_module(name)


def remember(pair: ModelGuide, data: Batch, options: argparse.Namespace) -> None:
    """Note in the card what `zoo score` asks for: which data, and how much of them was held out."""
    kept: dict[str, Any] = {"name": options.data, "checksum": fingerprint(as_batch(pair, data))}
    kept |= found_from(options.out, options.data)
    kept |= {"target": options.target} if options.target else {}
    kept |= {"header": options.header} if options.header is not None else {}
    kept |= {"held_out": options.validation} if options.validation else {}
    pair.card["data"] = kept | pair.card["data"]
    if options.module:
        pair.card["module"] = options.module


def found_from(folder: str | Path, source: str) -> dict[str, str]:
    """The way from a run folder to its data, where they are a file of a relative path: as `path` of the card.

    The card travels: a path of this machine would tell more than the user wrote, and be of no use elsewhere.
    """
    if source in datasets.names() or Path(source).is_absolute():
        return {}
    try:
        return {"path": Path(os.path.relpath(os.path.realpath(source), os.path.realpath(folder))).as_posix()}
    except ValueError:  # another drive
        return {}


def write(
    run: exchange.Run,
    pair: ModelGuide,
    data: Batch,
    columns: Sequence[str],
    options: argparse.Namespace,
    seconds: float | None,
) -> None:
    """Score a model and put the scores beside it; announced, and with a bar."""
    ready()
    known = pair.card["data"]
    whole = check(pair, data)
    given = whole.but(split(whole, known.get("held_out", 0.0), int(pair.card.get("seed", 0)))[0])
    limit = "" if seconds is None else f", for about {seconds:.0f} s"
    print(f"Scoring {given.size} observations under {options.draws} draws{limit}:", flush=True)
    with _progress(given.size) as progress:
        found = score(given, options.draws, seconds, seed=options.seed, progress=progress)
    target = known.get("target") or "y"
    print(
        f"\n{run_folder.write_scores(run, pair, found, columns=columns, target=target, seed=options.seed)}", flush=True
    )


@contextmanager
def _progress(size: int) -> Iterator[Callable[[int, int], None]]:
    """A bar of the rows that are scored; now and then a line, where no bar can be seen."""
    bar = tqdm(total=None, disable=None, unit="row", desc="scoring")
    told = time.perf_counter()

    def progress(done: int, of: int) -> None:
        nonlocal told
        bar.total = of
        bar.update(done - bar.n)
        if time.perf_counter() - told > 10 and not sys.stderr.isatty():
            told = time.perf_counter()
            print(f"  {done} of {of} observations", flush=True)

    try:
        yield progress
    finally:
        bar.close()


@contextmanager
def saying_what_stands(folder: Path) -> Iterator[None]:
    """Whatever ends the work: the message says which model the folder holds then."""
    before = exchange.weights(folder)

    def stands() -> str:
        now = exchange.weights(folder)
        if now is None:
            steps = f"no model was written, but the checkpoints in {folder}, from which --resume goes on"
            return steps if exchange.holds_checkpoints(folder) else "nothing was written"
        if now == before:
            return f"what was in {folder} stays"
        return f"the model is in {folder}, not scored; zoo score {quoted(folder)} scores it"

    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(str(error) or stands()) from None
    except NonFiniteError as error:
        raise NonFiniteError(f"{error}; {stands()}") from error
    except (OSError, MemoryError) as error:
        raise ValueError(f"{getattr(error, 'strerror', None) or error or type(error).__name__}: {stands()}") from error
