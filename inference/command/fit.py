"""`zoo fit`: the pair and the data that the words of a command line stand for, and the fit."""

from __future__ import annotations

import argparse
import inspect
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inference.command.words import arguments, kinds, quoted
from zoo.datasets.cells import number, told
from zoo.datasets.opening import kind_of, whole_text

if TYPE_CHECKING:
    from inference.fitting.fit import Fit
    from inference.fitting.watching import Logger
    from inference.running.checked import Checked
    from zoo.base import Batch, ModelGuide

_STANDARDISE = "the fit will be slow or poor: standardise them first"


def fit_pair(options: argparse.Namespace) -> None:
    """`zoo fit`: the posterior of the pair that the words describe, by a road or a fit; keep it, then score it."""
    import inference
    from inference.command import designs, exchange, inferring, room, run_folder, score
    from inference.data.check import check
    from inference.fitting import doubt

    config = _arguments(options)
    out = Path(options.out)
    replace = options.replace or options.resume
    exchange.check(out, replace=replace)
    inferring.asked(options)
    loggers = [inference.CSVLogger(options.log, options.replace, options.resume)] if options.log else []
    pair, data, columns = _pair_and_data(options, config)
    pair = pair.double() if options.double else pair
    print(f"{options.name} on {options.data}: {_size(pair, data)}; {options.threads} processor thread(s)", flush=True)
    if note := _unscaled(pair, data, columns):
        print(f"note: {note}", flush=True)
    given = check(pair, data)
    room.check(out, given, None if options.no_score else options.draws)
    with score.saying_what_stands(out), exchange.claimed(out, replace=replace) as run:
        place = run.checkpoints(resume=options.resume)
        if not options.no_score:
            score.ready()
        found = inferring.inferred(given, options)
        fit = _stepped(pair, given, options, loggers, place) if found is None else None
        score.remember(pair, data, options)
        told = "; ".join(filter(None, (str(found), doubt.caution(pair, given.batch)))) if found else str(fit)
        print(f"{told}\n", flush=True)
        if fit is not None and fit.reason.startswith("interrupted"):
            where = run.keep_interrupted(pair)
            raise KeyboardInterrupt(f"the model as it was then is in {where}, not scored; --resume goes on from there")
        run.keep(pair)
        if fit is not None:
            run_folder.draw_loss(out, fit)
        print(f"The model is in {out}; zoo.load({options.out!r}) gives it back.", flush=True)
        if options.no_score:
            print(f"zoo score {quoted(options.out)} scores it.")
            return
        seconds = options.score_seconds
        spent = time.perf_counter() - options.began
        limit = max(score.LEAST_SECONDS, score.SHARE * spent) if seconds is None else seconds
        score.write(run, pair, data, columns, options, limit)
        designs.explained(pair, data, options)
    print(f"Everything is in {options.out}.")


def _stepped(
    pair: ModelGuide, given: Checked, options: argparse.Namespace, loggers: Sequence[Logger], place: Path
) -> Fit:
    """The fit that the options ask for, with its checkpoints."""
    import inference
    from inference.command import run_folder

    keeps = options.method != "em" and pair.guide_family != "auto"  # which may fit twice
    return inference.fit(
        pair,
        given,
        method="em" if options.method == "em" else "svi",
        epochs=options.epochs,
        steps=options.steps,
        batch_size=options.batch_size,
        lr=options.lr,
        objective=options.objective,
        particles=options.particles,
        validation=options.validation,
        seed=options.seed,
        device=_device(options.device),
        callbacks=[run_folder.follow()],
        max_seconds=options.max_seconds,
        loggers=loggers,
        checkpoint=inference.Checkpoints(place, steps=options.checkpoint_steps) if keeps else None,
        resume=options.resume and keeps,
    )


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that were typed, and those of a file that stands for a pair, which is then named by its model."""
    from inference.command import files

    cls = files.reader(options.name)
    if cls is None:
        return arguments(options.name, options.set)
    found = cls.read(options.name, learned=True)
    options.name = cls.registry_name
    return {**found, **arguments(options.name, options.set)}


def _pair_and_data(options: argparse.Namespace, config: dict[str, Any]) -> tuple[ModelGuide, Batch, tuple[str, ...]]:
    """A pair that fits the data, the data as it takes them, and the names of their columns."""
    import torch

    import zoo
    from inference.command import designs, tables
    from inference.data.check import as_batch
    from zoo.abilities import Network
    from zoo.base import registered
    from zoo.suiting import models_tables

    if options.formula and models_tables(registered(options.name)):
        raise ValueError(f"--formula: {options.name} models all columns of a table together")
    if holds_text(options.data, registered(options.name)):
        return _text_pair(options, config)
    if not models_tables(registered(options.name)):
        if options.kind:
            codes = "; C(COLUMN) in a formula makes categories of numbers"
            more = codes if "design" in inspect.signature(registered(options.name)).parameters else ""
            raise ValueError(f"--kind: {options.name} does not model the columns of a mixed table{more}")
        if (designed := designs.fitting(options, config)) is not None:
            return designed
        data, columns = _loaded(options)
        pair, data = fitting_pair(options.name, config, data, columns, target=options.target, seed=options.seed)
        return pair, data, data.columns if data.x is not None and data.x.ndim > 2 and data.columns else columns
    known = {column.name: column.kind for column in config.get("columns") or () if hasattr(column, "kind")}
    said = kinds(options.kind)
    named = {name: kind if isinstance(kind, str) else kind[0] for name, kind in said.items()}
    table = tables.load(options.data, {**known, **named}, options.header)
    if not known:
        config = {**tables.arguments(registered(options.name), table, options.target, said), **config}
    torch.manual_seed(options.seed)
    pair = zoo.create(options.name, **config)
    if pair.schema is None:
        raise ValueError(f"{options.name} was given columns and has no schema")
    print(tables.described(pair), flush=True)
    if isinstance(pair, Network) and not pair.edges:
        told = 'edges=[["PARENT","CHILD"],…]'
        print(f"note: no arrows were given, so each column stands by itself; --set '{told}' draws some", flush=True)
    if options.double:  # before numbers take on its type
        pair.double()
    return pair, as_batch(pair, table), pair.schema.names


def _loaded(options: argparse.Namespace) -> tuple[Batch, tuple[str, ...]]:
    """What `load` finds; of a .txt that is no table, the message says that the pair models no text either."""
    try:
        return load(options.data, options.target, options.header, series=takes_series(options.name))
    except ValueError as error:
        if kind_of(options.data) != ".txt":
            raise
        raise ValueError(f"{error}; {options.name} does not model text") from error


def _text_pair(options: argparse.Namespace, config: dict[str, Any]) -> tuple[ModelGuide, Batch, tuple[str, ...]]:
    """A model of the characters of a text file, and the text cut into sequences."""
    import torch

    import zoo
    from inference.data.check import as_batch
    from zoo.datasets import text

    words = text_of(options.data)
    torch.manual_seed(options.seed)
    pair = zoo.create(options.name, **{"alphabet": text.alphabet(words), "steps": 64, "hidden": 128, **config})
    return pair, as_batch(pair, words), ("character",)


def holds_text(source: str, cls: type[ModelGuide]) -> bool:
    """Whether a .txt is a text, for a pair that may model text, and not a table: its lines are not all of numbers.

    Raises:
        ValueError: the file cannot be read.
    """
    if kind_of(source) != ".txt" or "alphabet" not in inspect.signature(cls).parameters:
        return False
    words = [line.split() for line in text_of(source).splitlines()[:20]]
    rows = [[number(word.strip(",;|")) for word in line] for line in words if line]
    table = len(rows) > 1 and all(None not in row for row in rows[1:])
    if table:
        print(f"note: '{source}' holds lines of numbers: it was read as a table, not as a text", flush=True)
    return not table


def text_of(source: str) -> str:
    """What a text file holds."""
    try:
        return whole_text(Path(source))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read '{source}': {told(error)}") from None


def _size(pair: ModelGuide, data: Batch) -> str:
    """What the data were understood to be."""
    from inference.data.check import as_batch
    from inference.data.series import understood

    if series := understood(as_batch(pair, data)) if pair.simulate(1)[0].lengths is not None else "":
        return series
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in data.fields().items())
    return f"{data.size} observation{'s' if data.size > 1 else ''}, {shapes}"


def _unscaled(pair: ModelGuide, data: Batch, columns: Sequence[str]) -> str:
    """A word of warning when parameters are to find their way to features of very different scale, step by step."""
    # Covariates go through ranks, standard units or an orthonormal basis.
    real = any(site.observed and not site.discrete and site.name == "x" for site in pair.sites().values())
    steps = bool(pair.own_parameters())
    series = pair.simulate(1)[0].lengths is not None  # whose columns are steps
    if series or not (real and steps and data.x is not None and data.x.ndim == 2 and data.size > 1):
        return ""
    spread = data.x.double().std(0)
    finite = spread[spread > 0]
    if len(finite) < 2 or finite.max() < 100 * finite.min():
        return ""
    widest = int(spread.nan_to_num().argmax())
    name = columns[widest] if len(columns) == len(spread) else f"column {widest}"
    ratio = float(finite.max() / finite.min())
    return f"the columns differ in scale by a factor of {ratio:.0f} ({name} is widest); {_STANDARDISE}"


def _device(name: str) -> str:
    import torch

    if name != "auto":
        try:
            torch.empty(0, device=name)
        except Exception as error:  # torch raises many kinds here
            raise ValueError(f"--device {name}: not usable here ({str(error).splitlines()[0]})") from error
    return name


def takes_series(name: str) -> bool:
    """Whether a model takes series."""
    from inference.data.suited import example_of
    from zoo.base import registered

    example = example_of(registered(name))
    return example is not None and example.lengths is not None


def load(
    source: str, target: str | None, header: bool | None = None, series: bool = False
) -> tuple[Batch, tuple[str, ...]]:
    """A data set or a file as a batch, and the names of the columns of its x; of series with dates, if asked for."""
    from zoo import datasets
    from zoo.datasets.dated import read_dated

    if series and (dated := read_dated(source, target=target, header=header)) is not None:
        return dated, tuple(column for column in dated.columns or () if column != target)
    if source not in datasets.names() and Path(source).is_file():
        batch, columns = datasets.read(source, target=target, header=header)
        # Of an .npz; a target that was asked for is to be modelled.
        return batch.but(spare=("y",) if target is None else ()), columns
    batch = datasets.load(source, target=target)
    return batch, tuple(column for column in datasets.describe(source).columns if column != target)


def fitting_pair(
    name: str,
    config: dict[str, Any],
    data: Batch,
    columns: Sequence[str] = (),
    *,
    target: str | None = None,
    seed: int = 0,
) -> tuple[ModelGuide, Batch]:
    """The pair that fits the data, and the data as it takes them.

    What the words leave out is read off the data, and said; see `inference.pair_for`. Series are read as
    `inference.data.series` says; where a target was asked for, of a model that has no inputs, it is the series, and the
    other columns are left out, with a note.

    Raises:
        ValueError: a bad argument, a model that explains y given data without, or a target that it has no use for.
    """
    import zoo
    from inference.data.series import in_time
    from inference.data.suited import created, in_words
    from zoo.base import registered
    from zoo.suiting import without_auto
    from zoo.threads.randomness import apart

    cls = registered(name)
    takes = inspect.signature(cls).parameters
    config = without_auto(cls, config)

    def suited(data: Batch) -> tuple[ModelGuide, str]:
        suit = cls.suits(data, config)
        return created(name, {**config, **suit.arguments}, seed), in_words(name, suit) if suit.words else ""

    pair, chosen = suited(data)
    with apart():
        example = pair.simulate(2)[0]
    if example.y is not None and data.y is None:
        choice = f"--target COLUMN picks one of {', '.join(columns)}" if len(columns) > 1 else "give data with a y"
        raise ValueError(f"{name} explains a response y, and the data have none: {choice}")
    if target is not None and example.y is None:
        if example.lengths is None:
            raise ValueError(f"--target: {name} has no y; it models all columns together")
        _left_out(columns, f"{name} models {target} alone", "inputs" in takes)
        data = zoo.Batch.of(data.y).but(when=data.when, columns=None if data.when is None else (target,))
        pair, chosen = suited(data)
    elif "y" in data.spare and data.y is not None and example.y is None and not columns:
        print(f"note: {name} reads no y: that of the file is left aside", flush=True)
    if chosen:
        print(f"note: {chosen}", flush=True)
    with apart():
        return pair, in_time(data, pair.simulate(2)[0])


def _left_out(columns: Sequence[str], why: str, inputs: bool) -> None:
    """Say which columns are not modelled."""
    if columns:
        more = f"; --set inputs={len(columns)} makes them inputs" if inputs else ""
        print(f"note: {why}, and leaves out {', '.join(columns)}{more}", flush=True)
