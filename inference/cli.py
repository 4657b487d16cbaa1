"""The `zoo` command: what is done when it is typed. `inference.parser` says what may be; help needs no torch.

Every error is one line on standard error and exit status 2; `--debug` shows the traceback instead.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import re
import sys
import textwrap
import types
import typing
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from inference.parser import parser

if TYPE_CHECKING:
    from zoo.base import Batch, ModelGuide


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser(_RUNS, _with_run).parse_args(arguments)
    try:
        with warnings.catch_warnings():
            # What libraries will change one day is of no use to whoever typed `zoo`.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `zoo list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _complain(options, f"interrupted{'; nothing was written' if options.run is _fit else ''}", 130)
    except (ValueError, OSError) as error:
        if options.debug:
            raise
        return _complain(options, str(error) or type(error).__name__, 2)
    except Exception as error:
        if options.debug:
            raise
        told = f"{type(error).__name__}: {error}"
        return _complain(options, f"internal error, {told} (run with --debug for the traceback, and report it)", 2)
    return 0


def _complain(options: argparse.Namespace, message: str, status: int) -> int:
    print(f"zoo {options.command}: {' '.join(message.split())}", file=sys.stderr)
    return status


def _with_run(name: str) -> Callable[[argparse.Namespace], None]:
    """A command that works with a run folder; its code is loaded when it runs."""

    def run(options: argparse.Namespace) -> None:
        import torch

        from inference import asking, commands

        torch.set_num_threads(options.threads)
        if name == "query":
            wanted = "NAME=VALUE, such as smoke=yes"
            options.given = _words(options.given, "--given", wanted)
            options.do = _words(options.do, "--do", wanted)
        getattr(asking if name in ("forecast", "query") else commands, name)(options)

    return run


# list ----------------------------------------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> None:
    import fnmatch

    import zoo

    if options.data:
        known = zoo.datasets.names()
        names = fnmatch.filter(known, options.pattern)
    else:
        names = zoo.names(options.pattern)
        known = names or zoo.names()
    if not names:
        what = "data set" if options.data else "model"
        raise ValueError(f"no {what} matches '{options.pattern}'; known: {', '.join(known)}")
    width = max(map(len, names))
    if options.data:
        for name in names:
            print(f"{name:<{width}}  {zoo.datasets.describe(name).what}")
        return
    last = None
    for family, name, summary in sorted(described(name) for name in names):
        if family != last:
            print(f"{family}/")
            last = family
        print(f"  {name:<{width}}  {summary}")


def described(name: str) -> tuple[str, str, str]:
    """Family, name, and the first line of the class docstring of a registered model."""
    from zoo.base import registered

    cls = registered(name)
    family = cls.__module__.split(".")[1] if cls.__module__.startswith("zoo.") else cls.__module__
    return family, name, (inspect.getdoc(cls) or "").split("\n", maxsplit=1)[0]


# info ----------------------------------------------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> None:
    import zoo
    from zoo.base import registered

    words = _words(options.set)
    zoo.names()
    cls = registered(options.name)
    pair = zoo.create(options.name, **_settings(options.name, words))
    print(_card(cls))
    print("\nArguments\n")
    for line in _arguments(cls):
        print(f"  {line}")
    print("\nGraph, from one traced run\n")
    for line in _graph(pair):
        print(f"  {line}")
    if options.graph:
        _draw_graph(pair, Path(options.graph))
        print(f"\nDrawn in {options.graph}")


def _card(cls: type[ModelGuide]) -> str:
    """The docstrings of the file and of the class, without the arguments."""
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    about, _, _ = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    return "\n\n".join([f"{cls.registry_name} ({cls.__name__})", *filter(None, (module.strip(), about.strip()))])


def _arguments(cls: type[ModelGuide]) -> Iterator[str]:
    """`key=default  type: what it is`, for each argument."""
    from zoo.config import hints

    _, _, text = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    told = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^    (\w+): (.*(?:\n {8}.*)*)", text.partition("\n\n")[0], re.MULTILINE)
    }
    parameters = inspect.signature(cls).parameters
    shown = {key: f"{key}={_as_word(parameter.default)}" for key, parameter in parameters.items()}
    width = max(map(len, shown.values()), default=0)
    for key, hint in hints(cls.__init__).items():
        yield f"{shown[key]:<{width}}  {_readable(hint)}"
        if key in told:
            margin = " " * (width + 2)
            yield from textwrap.wrap(told[key], 100, initial_indent=margin, subsequent_indent=margin)


def _as_word(value: Any) -> str:
    """A default as one would type it after --set."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def _readable(hint: Any) -> str:
    """A type hint in words."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, options))
    if origin in (types.UnionType, typing.Union):
        return " or ".join("nothing (null)" if option is type(None) else _readable(option) for option in options)
    if origin in (tuple, list):
        return f"list: {_readable(options[0])}, …" if options else "list"
    words = {int: "whole number, at least 1", float: "number above 0", bool: "true or false", str: "text"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _graph(pair: ModelGuide) -> Iterator[str]:
    """The sample sites in order: distribution, event shape, kind, and the sites each depends on."""
    import pyro
    import torch
    from pyro.infer.inspect import get_model_relations

    with torch.random.fork_rng(), pyro.validation_enabled(False):
        batch = pair.simulate(2)[0]
        sites = pair.sites(batch)
        parents: dict[str, list[str]] = get_model_relations(pair.model, model_args=(batch,))["sample_sample"]
    rows = []
    for name, site in sites.items():
        kind = "observed" if site.observed else "latent, summed out" if site.enumerated else "latent"
        given = sorted(set(parents.get(name, ())) & sites.keys() - {name}, key=list(sites).index)
        dims = pair.dims.get(name, ())
        shape = "×".join(map(str, site.event_shape)) or "scalar"
        shape += f" ({', '.join(dims)})" if dims and len(dims) == len(site.event_shape) else ""
        rows.append(
            (
                "each n" if site.local else "global",
                f"{name} ~ {_family_of(site.fn)}",
                shape,
                kind,
                f"given {', '.join(given)}" if given else "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip()


def _family_of(fn: Any) -> str:
    """The name of a distribution, without what only shapes it."""
    while type(fn).__name__ in ("Independent", "ExpandedDistribution", "MaskedDistribution"):
        fn = fn.base_dist
    return type(fn).__name__


def _draw_graph(pair: ModelGuide, path: Path) -> None:
    import importlib.util
    import shutil

    import pyro

    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--graph {path}: expected a name that ends in .png, .svg or .pdf")
    if importlib.util.find_spec("graphviz") is None:
        raise ValueError("--graph needs the Python package graphviz: pip install 'pyro-zoo[graph]'")
    if shutil.which("dot") is None:
        raise ValueError("--graph needs the program `dot`: install graphviz with your system's package manager")
    if not path.parent.is_dir():
        raise ValueError(f"--graph {path}: no folder '{path.parent}'")
    pyro.render_model(pair.model, model_args=(pair.simulate(2)[0],), filename=str(path), render_distributions=True)


# fit -----------------------------------------------------------------------------------------------------------------


def _words(
    assignments: Sequence[str], option: str = "--set", wanted: str = "KEY=VALUE, such as --set components=3"
) -> dict[str, str]:
    """`key=value` words as a dictionary of texts."""
    found: dict[str, str] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"{option} {assignment}: expected {wanted}")
        if key.strip() in found:
            raise ValueError(f"{option} {assignment}: '{key.strip()}' is set twice")
        found[key.strip()] = text.strip()
    return found


def _settings(name: str, words: dict[str, str]) -> dict[str, Any]:
    """Words as typed arguments of a model: JSON where it reads as JSON, else text; lists also as 256,128."""
    from zoo.base import registered
    from zoo.config import hints

    expected = hints(registered(name).__init__)
    found: dict[str, Any] = {}
    for key, text in words.items():
        value = _value(text)
        if typing.get_origin(expected.get(key)) in (tuple, list) and not isinstance(value, (list, tuple)):
            value = [_value(part) for part in text.split(",")] if text else []
        found[key] = value
    return found


def _value(text: str) -> Any:
    known = {"True": True, "False": False, "None": None}
    if text in known:
        return known[text]
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def _fit(options: argparse.Namespace) -> None:
    words = _words(options.set)  # before anything heavy is loaded
    import torch

    import inference
    import zoo
    from inference import run_folder

    torch.set_num_threads(options.threads)
    zoo.names()
    config = _settings(options.name, words)
    run_folder.check(Path(options.out), replace=options.replace)
    pair, data, columns = _pair_and_data(options, config)
    pair = pair.double() if options.double else pair
    print(f"{options.name} on {options.data}: {_size(data)}; {options.threads} processor thread(s)", flush=True)
    if note := _unscaled(pair, data, columns):
        print(f"note: {note}", flush=True)
    with run_folder.staged(Path(options.out), replace=options.replace) as folder:
        fit = inference.fit(
            pair,
            data,
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
        )
        if fit.reason == "interrupted":
            raise KeyboardInterrupt
        print(f"{fit}\n", flush=True)
        summary = run_folder.write_run(
            folder,
            pair,
            data,
            fit,
            draws=options.draws,
            source=options.data,
            columns=columns,
            target=options.target or "y",
            seed=options.seed,
        )
    print(summary)
    print(f"Everything is in {options.out}; zoo.load({options.out!r}) gives the model back.")


def _pair_and_data(options: argparse.Namespace, config: dict[str, Any]) -> tuple[ModelGuide, Batch, tuple[str, ...]]:
    """A pair that fits the data, the data as it takes them, and the names of their columns."""
    import torch

    import zoo
    from inference import tables
    from inference.data import as_batch
    from zoo.base import registered

    if Path(options.data).suffix.lower() == ".txt":
        return _text_pair(options, config)
    kinds = _words(options.kind, "--kind", "COLUMN=KIND, such as --kind stage=ordinal")
    if not tables.models_tables(registered(options.name)):
        if kinds:
            raise ValueError(f"--kind: {options.name} does not model the columns of a mixed table")
        data, columns = _load(options.data, options.target)
        return *fitting_pair(options.name, config, data, columns, seed=options.seed), columns
    table = tables.load(options.data)
    config = {**tables.settings(registered(options.name), table, options.target, kinds), **config}
    torch.manual_seed(options.seed)
    pair = zoo.create(options.name, **config)
    if pair.schema is None:
        raise ValueError(f"{options.name} was given columns and has no schema")
    print(tables.described(pair), flush=True)
    return pair, as_batch(pair, table), pair.schema.names


def _text_pair(options: argparse.Namespace, config: dict[str, Any]) -> tuple[ModelGuide, Batch, tuple[str, ...]]:
    """A model of the characters of a text file, and the text cut into sequences."""
    import torch

    import zoo
    from inference.data import as_batch
    from zoo.base import registered
    from zoo.datasets import text

    if "alphabet" not in inspect.signature(registered(options.name)).parameters:
        raise ValueError(f"{options.name} does not model text, which '{options.data}' holds")
    try:
        words = Path(options.data).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"'{options.data}': {error}") from None
    torch.manual_seed(options.seed)
    pair = zoo.create(options.name, **{"alphabet": text.alphabet(words), "steps": 64, "hidden": 128, **config})
    return pair, as_batch(pair, words), ("character",)


def _size(data: Batch) -> str:
    shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in data.fields().items())
    return f"{data.size} observation{'s' if data.size > 1 else ''}, {shapes}"


_STANDARDISE = "the fit will be slow or poor: standardise them first"


def _unscaled(pair: ModelGuide, data: Batch, columns: Sequence[str]) -> str:
    """A word of warning when parameters are to find their way to features of very different scale, step by step."""
    real = any(site.observed and not site.discrete for site in pair.sites().values())
    steps = any(not name.startswith("auto.") for name, _ in pair.named_parameters())
    if not (real and steps and data.x is not None and data.x.ndim == 2 and data.size > 1):
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


def _load(source: str, target: str | None) -> tuple[Batch, tuple[str, ...]]:
    """A data set or a file as a batch, and the names of the columns of its x."""
    from zoo import datasets

    if source not in datasets.names() and Path(source).is_file():
        return datasets.read(source, target=target)
    batch = datasets.load(source, target=target)
    return batch, tuple(column for column in datasets.describe(source).columns if column != target)


def fitting_pair(
    name: str, config: dict[str, Any], data: Batch, columns: Sequence[str] = (), *, seed: int = 0
) -> tuple[ModelGuide, Batch]:
    """The pair that fits the data, and the data as it takes them.

    `features` is read off the data unless given; where the model takes sequences, a table is a single one.

    Raises:
        ValueError: a bad argument, or a model that explains y given data without.
    """
    import torch

    import zoo
    from zoo.base import registered

    zoo.names()
    takes = inspect.signature(registered(name)).parameters
    example = zoo.create(name, **config).simulate(2)[0]
    if example.y is not None and data.y is None:
        choice = f"--target COLUMN picks one of {', '.join(columns)}" if len(columns) > 1 else "give data with a y"
        raise ValueError(f"{name} explains a response y, and the data have none: {choice}")
    x, wanted = data.x, example.x
    if x is not None and wanted is not None:
        if example.lengths is not None and data.lengths is None:
            if x.ndim == wanted.ndim == 2 and x.shape[1] == 1:
                x = x[:, 0]  # a table of one column is one series
            if x.ndim == wanted.ndim - 1:
                x, data = x[None], zoo.Batch.of(x[None])
        steps = example.lengths is not None
        if "features" in takes and "features" not in config and x.ndim == wanted.ndim > 1 + steps:
            config = {**config, "features": x.shape[-1]}
    torch.manual_seed(seed)
    return zoo.create(name, **config), data


def _demo(options: argparse.Namespace) -> None:
    import torch

    from inference import demo

    torch.set_num_threads(options.threads)
    demo.run(Path(options.out))


_RUNS = {"list": _list, "info": _info, "fit": _fit, "demo": _demo}

if __name__ == "__main__":
    sys.exit(main())
