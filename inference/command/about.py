"""What `zoo list` and `zoo info` say: of every model or data set in a line, of one model at length."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from inference.command.words import arguments
from zoo.abilities import FromJSON, Network

if TYPE_CHECKING:
    from zoo.base import ModelGuide

_LINE = 100  # characters of a line of help
_SPELT = {"Schema": "list of columns [NAME, KIND, CATEGORIES]", "Column": "a column [NAME, KIND, CATEGORIES], or K"}
_WORD = 36  # of `key=default`, beside its meaning


def overview(options: argparse.Namespace) -> None:
    """`zoo list`: the registered pairs, or the data sets, with a line each."""
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
    from zoo.registry import registered
    from zoo.sources import sources

    source = sources().get(name)  # read, where importing it would import torch
    if source is not None:
        return source.family, name, source.summary
    cls = registered(name)
    family = cls.__module__.split(".")[1] if cls.__module__.startswith("zoo.") else cls.__module__
    return family, name, (inspect.getdoc(cls) or "").split("\n", maxsplit=1)[0]


def about_pair(options: argparse.Namespace) -> None:
    """`zoo info`: a pair, its arguments and its graph; or a saved one, its card."""
    import zoo
    from inference.command import files
    from zoo.registry import registered

    if options.name not in zoo.names() and Path(options.name).is_dir():
        print("\n".join(about_run(Path(options.name))))
        return
    if files.reader(options.name) is not None:
        print("\n".join(about_network(files.load(options.name))))
        return
    cls = registered(options.name)
    pair = zoo.create(options.name, **arguments(options.name, options.set))
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


def about_run(folder: Path) -> Iterator[str]:
    """What a saved pair is, was fitted to, and took from the data."""
    import zoo
    from inference.running.constants import described

    pair = zoo.load(folder)
    yield repr(pair)
    given = {key: value for key, value in pair.card.items() if key not in ("constants", "versions")}
    for title, entries in {"constants taken from the data, in its units": described(pair), **given}.items():
        if isinstance(entries, dict) and entries:
            yield f"\n{title.capitalize()}\n"
            yield from (f"  {key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items())
    if isinstance(pair, Network):
        yield ""
        yield from about_network(pair)


def about_network(pair: Any) -> Iterator[str]:
    """The nodes of a network, their states and parents, and its tables."""
    from inference.questions.tables import tables
    from zoo.settings import settings

    columns = pair.schema.used
    parents = {column.name: [edge.parent for edge in pair.edges if edge.child == column.name] for column in columns}
    yield f"{pair.name}: {len(columns)} nodes, {len(pair.edges)} arrows"
    yield "\nNodes\n"
    for column in columns:
        given = f", given {', '.join(parents[column.name])}" if parents[column.name] else ""
        yield f"  {column}{given}"
    if not any(column.categories for column in columns):
        return
    cells = tables(pair)
    yield f"\nTables, {len(cells)} probabilities\n"
    for label, line in cells.head(settings.summary_lines).iterrows():
        low, high = line.iloc[2:]
        yield (
            f"  {label} = {line['estimate']:.7g}"
            if low == high
            else (f"  {label} = {line['estimate']:.4f}  [{low:.4f}, {high:.4f}, 95% interval]")
        )
    if len(cells) > settings.summary_lines:
        yield f"  … and {len(cells) - settings.summary_lines} more, in inference.tables(pair)"


def _card(cls: type[ModelGuide]) -> str:
    """The docstrings of the file and of the class, without the arguments."""
    module = inspect.getdoc(sys.modules[cls.__module__]) or ""
    about, _, _ = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    about = about.replace("stands at the top of this file", "stands above")  # the file is not in sight here
    return "\n\n".join([f"{cls.registry_name} ({cls.__name__})", *filter(None, (module.strip(), about.strip()))])


def _arguments(cls: type[ModelGuide]) -> Iterator[str]:
    """`key=default  type: what it is`, for each argument."""
    from zoo.config import declared

    _, _, text = (inspect.getdoc(cls) or "").partition("\nArgs:\n")
    told = {
        match[1]: " ".join(match[2].split())
        for match in re.finditer(r"^    (\w+): (.*(?:\n {8}.*)*)", text.partition("\n\n")[0], re.MULTILINE)
    }
    parameters = inspect.signature(cls).parameters
    shown = {key: f"{key}={_as_word(parameter.default)}" for key, parameter in parameters.items()}
    width = max((len(word) for word in shown.values() if len(word) <= _WORD), default=0)
    margin = " " * (width + 2)
    for key, hint in declared(cls.__init__).items():
        if len(shown[key]) <= width:
            yield f"{shown[key]:<{width}}  {_readable(hint)}"
        else:  # a default too long to stand beside its meaning: that of a schema
            cut = shown[key].replace("],[", "], [")  # where a line may end
            yield from textwrap.wrap(cut, _LINE, subsequent_indent=" " * (len(key) + 2))
            yield f"{margin}{_readable(hint)}"
        if key in told:
            yield from textwrap.wrap(told[key], _LINE, initial_indent=margin, subsequent_indent=margin)


def _as_word(value: Any) -> str:
    """A default as one would type it after --set."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"))


def _readable(hint: Any) -> str:
    """A type hint in words."""
    from zoo.config import bound_of, bounded

    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bound = bound_of(hint)
        word = "whole number" if options[0] is int else "number"
        return _readable(options[0]) if bound is None else f"{word}{bounded(bound)}"
    if origin is Literal:
        return " | ".join(map(str, options))
    if origin in (types.UnionType, typing.Union):
        return " or ".join("nothing (null)" if option is type(None) else _readable(option) for option in options)
    if origin in (tuple, list):
        return f"list: {_readable(options[0])}, …" if options else "list"
    if isinstance(hint, FromJSON):  # typed columns, and what else has a spelling of its own
        called: str = getattr(hint, "__name__", "")
        return _SPELT.get(called, called)
    words = {int: "whole number, at least 1", float: "number", bool: "true or false", str: "text"}
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def _graph(pair: ModelGuide) -> Iterator[str]:
    """The sample sites in order: distribution, event shape, kind, and the sites each depends on."""
    from pyro.infer.inspect import get_model_relations

    from zoo.lean import for_its_shape
    from zoo.threads.handlers import unvalidated
    from zoo.threads.randomness import apart

    with apart(), unvalidated(), for_its_shape():
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
