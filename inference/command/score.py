"""`zoo score`, and the scoring that `zoo fit` ends with: a model that is kept already gets its scores."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from inference.command import exchange, files, run_folder, tables
from inference.command.fit import fitting_pair, load, text_of
from inference.command.scoring import score
from inference.data.check import as_batch, check
from inference.fitting.fit import split
from inference.fitting.loop import NonFiniteError
from zoo.abilities import Text
from zoo.base import Batch, ModelGuide
from zoo.history import fingerprint

SHARE, LEAST_SECONDS = 0.4, 3.0  # of the time before it: less than 30 % of the whole


def score_run(options: argparse.Namespace) -> None:
    """`zoo score`: metrics, posterior and pictures of the model in a run folder."""
    folder = Path(options.folder)
    pair = files.load(options.folder)
    known = pair.card.get("data") or {}
    source = options.data or known.get("name")
    if source is None or "fit" not in pair.card or not exchange.holds_a_run(folder):
        raise ValueError(f"'{folder}' was not left by `zoo fit`: its card names no fit and no data")
    data, columns = _data(pair, str(source), known.get("target"))
    if known.get("checksum", fingerprint(data)) != fingerprint(data):
        raise ValueError(
            f"'{source}' does not hold the data that '{folder}' was fitted to: scores would be of another posterior; "
            "name them with --data"
        )
    known["name"] = source
    with saying_what_stands(folder), exchange.claimed(folder, new=False) as run:
        write(run, pair, data, columns, options, options.score_seconds)
    print(f"Everything is in {folder}.")


def remember(pair: ModelGuide, data: Batch, options: argparse.Namespace) -> None:
    """Note in the card what `zoo score` asks for: which data, and how much of them was held out."""
    kept: dict[str, Any] = {"name": options.data, "checksum": fingerprint(as_batch(pair, data))}
    kept |= {"target": options.target} if options.target else {}
    kept |= {"held_out": options.validation} if options.validation else {}
    pair.card["data"] = kept | pair.card["data"]


def write(
    run: exchange.Run,
    pair: ModelGuide,
    data: Batch,
    columns: Sequence[str],
    options: argparse.Namespace,
    seconds: float | None,
) -> None:
    """Score a model and put the scores beside it; announced, and with a bar."""
    known = pair.card["data"]
    fitted = split(pair, data, known.get("held_out", 0.0), int(pair.card.get("seed", 0)))[0]
    given = check(pair, fitted)
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
            return "nothing was written"
        if now == before:
            return f"what was in {folder} stays"
        return f"the model is in {folder}, not scored; zoo score {folder} scores it"

    try:
        yield
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(str(error) or stands()) from None
    except NonFiniteError as error:
        raise NonFiniteError(f"{error}; {stands()}") from error
    except (OSError, MemoryError) as error:
        raise ValueError(f"{getattr(error, 'strerror', None) or error or type(error).__name__}: {stands()}") from error


def _data(pair: ModelGuide, source: str, target: str | None) -> tuple[Batch, Sequence[str]]:
    """The data as a saved pair takes them, and the names of their columns."""
    if Path(source).suffix.lower() == ".txt" and isinstance(pair, Text):
        return as_batch(pair, text_of(source)), ("character",)
    if pair.schema is not None:
        return as_batch(pair, tables.load(source)), pair.schema.names
    data, columns = load(source, target)
    return as_batch(pair, fitting_pair(pair.name, pair.config, data, columns)[1]), columns
