"""A fitted pair and the forms of columns -> integer tables: the last floating-point numbers that matter.

What a pair offers decides on the codec (`zoo.abilities`); columns that its codec does not take, and all columns of
pairs that have none, are coded by the frequencies of their symbols in the data, *marginals*, which stand in the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.compression.chain import Chain
from inference.compression.chunks import Part
from inference.compression.conditioning import codes, network
from inference.compression.forms import Form
from inference.compression.integers import Ints, log_table
from inference.compression.layout import Layout
from inference.compression.mixture import Mixture
from inference.data.check import example
from inference.posterior.draws import drawn
from zoo.abilities import ClassTables, Conditionals, StateTables
from zoo.base import ModelGuide
from zoo.columns import kept
from zoo.schema.column import Column

DRAWS = 200  # of the global latents, over which tables are averaged


class Named(NamedTuple):
    """A column of the layout as the model knows it."""

    column: int  # in the layout
    field: str  # `x`, or `y`
    place: int  # in x
    known: Column | None  # of the schema


def model_hash(pair: ModelGuide) -> str:
    """SHA-256 of a pair: its name, arguments, type and tensors."""
    total = hashlib.sha256(json.dumps([pair.name, repr(pair.config), str(pair.dtype)]).encode())
    for name, value in sorted(pair.state_dict().items()):
        total.update(f"{name} {tuple(value.shape)};".encode())
        total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def matched(pair: ModelGuide, fields: Sequence[Any]) -> tuple[list[Named], str]:
    """Which columns of the data the model knows, in its order; and what to say where it knows none.

    A pair with a schema finds columns of a table by name, those of an array by their place in the schema; any other
    finds them by the names that it was fitted to, or by their place.
    """
    at, places = 0, {}
    for field in fields:
        places[field.name] = range(at, at + field.columns)
        at += field.columns
    arrays = fields[0].name == "x" and bool(fields[0].shape)
    wanted: list[tuple[str, Column | None]]
    if pair.schema is not None:
        wanted = [(column.name, column) for column in pair.schema.used]
    else:
        width = int(np.prod(example(pair).example.fields()["x"].shape[1:])) if "x" in pair.dims else 0
        names = kept(pair) or [name for name, places_ in places.items() if len(places_) == 1][:width]
        wanted = [(name, None) for name in names]
        wanted = wanted if len(wanted) == width else [(f"x{i}", None) for i in range(width)]
    target = pair.target
    if arrays:
        if len(places["x"]) != len(wanted):
            return [], f"the model takes {len(wanted)} columns, the data have {len(places['x'])}"
        found = [Named(places["x"][i], "x", i, column) for i, (_, column) in enumerate(wanted)]
        label = places.get("y", range(0))
    else:
        absent = [name for name, _ in wanted if len(places.get(name, ())) != 1]
        if absent or not wanted:
            return [], f"the data have no column '{absent[0]}'" if absent else "the model takes no table"
        found = [Named(places[name][0], "x", i, column) for i, (name, column) in enumerate(wanted)]
        label = places.get(target.name, range(0)) if target is not None else range(0)
    if target is not None and len(label) == 1:
        found.insert(0, Named(label[0], "y", 0, target))
    return found, ""


def freeze(pair: ModelGuide, layout: Layout) -> tuple[Part | None, str]:
    """The codec of the pair for the columns that it knows; or None, and why."""
    for ability, way in ((ClassTables, _mixture), (StateTables, _chain), (Conditionals, _network)):
        if isinstance(pair, ability):
            return way(pair, layout)
    return None, f"{pair.name} has no codec of its own yet"


def fine(pair: ModelGuide) -> bool:
    """Whether numbers may have many bins, since the pair's codec keeps no table of them."""
    return isinstance(pair, Conditionals) and not isinstance(pair, ClassTables)


def _mixture(pair: Any, layout: Layout) -> tuple[Part | None, str]:
    """Classes given which columns are independent."""
    named, why = matched(pair, layout.fields)
    if not named:
        return None, why
    columns = layout.columns
    forms = [layout.form(*columns[name.column]) for name in named]
    strange = [form.kind == "literal" if n.known is not None and n.known.categories else not form.measured
               for n, form in zip(named, forms, strict=True)]  # fmt: skip
    literal = next((name for name, odd in zip(named, strange, strict=True) if odd), None)
    if literal is not None:
        told = layout.fields[columns[literal.column][0]].name
        return None, f"column '{told}' holds what the model does not know"
    x = [form for name, form in zip(named, forms, strict=True) if name.field == "x"]
    known = [name.known for name in named if name.field == "x"]
    cuts = [
        None if column is not None and column.categories else torch.from_numpy(form.cuts.copy())
        for form, column in zip(x, known, strict=True)
    ]
    tables = pair.class_tables(_values(pair), cuts)
    if tables is None:
        return None, f"this {pair.name} has no codec of its own yet"
    weights, masses = tables[0].mean(0).numpy(), [mass.mean(0).numpy() for mass in tables[1]]
    rest = [_by_symbol(m, f, c) for m, f, c in zip(masses, x, known, strict=True)]
    label = [_by_symbol(np.eye(len(weights)), forms[0], named[0].known)] if named[0].field == "y" else []
    use = np.arange(len(named), dtype=np.int32)
    model = Mixture(log_table(weights), [log_table(table) for table in (*label, *rest)], use)
    return Part(model, tuple(name.column for name in named)), ""


def _chain(pair: Any, layout: Layout) -> tuple[Part | None, str]:
    """States that move, along the rows of an array or down the rows of a table."""
    width = int(np.prod(example(pair).batch.fields()["x"].shape[2:]))  # features of a step
    first = layout.fields[0]
    if first.name == "x" and first.shape:
        columns, steps = tuple(range(first.columns)), first.shape[0]
        if int(np.prod(first.shape[1:])) != width:
            return None, f"the model takes steps of {width} features, the data have {first.shape[1:]}"
    else:
        at, steps = {name: d for d, (f, _) in enumerate(layout.columns) if (name := layout.fields[f].name)}, 0
        plain = [field.name for f, field in enumerate(layout.fields) if layout.forms[f][0].measured]
        wanted = kept(pair) or plain
        if len(wanted) != width or any(name not in at for name in wanted):
            return None, f"the model takes steps of {width} features, the data have other columns"
        columns = tuple(at[name] for name in wanted)
    forms = [layout.form(*layout.columns[d]) for d in columns[:width]]
    if not all(form.measured for form in forms):
        return None, "the data hold what the model does not know"
    tables = pair.state_tables(_values(pair), [torch.from_numpy(form.cuts.copy()) for form in forms])
    if tables is None:
        return None, f"this {pair.name} has no codec of its own yet"
    start, moves = (log_table(part.mean(0).numpy()) for part in tables[:2])
    return Part(Chain(start, moves, [log_table(mass.mean(0).numpy()) for mass in tables[2]], steps), columns), ""


def _network(pair: Any, layout: Layout) -> tuple[Part | None, str]:
    """Columns given others."""
    named, why = matched(pair, layout.fields)
    if not named:
        return None, why
    forms = {name.place: layout.form(*layout.columns[name.column]) for name in named}
    at = {name.place: name.column for name in named}
    weights, given = pair.conditionals(_values(pair))
    for node in given:
        form, column = forms[node.column], at[node.column]
        if form.kind == "literal" or (node.probs is None and not form.measured):
            told = layout.fields[layout.columns[column][0]].name
            return None, f"column '{told}' holds what the model does not know"
    model = network(weights, given, forms)
    return Part(model, tuple(at[node.column] for node in given)), ""


def _values(pair: ModelGuide) -> dict[str, Tensor]:
    """Draws of the global latents in double precision, (S, ...)."""
    posterior = drawn(example(pair), DRAWS, stats=False, seed=0)
    return {name: value.detach().double().cpu() for name, value in posterior.flat(posterior.globals).items()}


def marginals(layout: Layout, taken: Sequence[int], counts: Sequence[Sequence[Ints]]) -> Part | None:
    """The codec of columns that no model takes, of how often each symbol of each form occurs."""
    use: list[int] = []
    tables: list[NDArray[np.int16]] = []
    index: dict[tuple[int, int], int] = {}
    columns: list[int] = []
    for d, (f, j) in enumerate(layout.columns):
        form, at = layout.form(f, j), (f, layout.fields[f].form(j))
        if d in set(taken) or form.kind == "literal":
            continue
        if at not in index:
            index[at] = len(tables)
            tables.append(log_table(counts[f][at[1]][None].astype(np.float64)))
        use.append(index[at])
        columns.append(d)
    if not columns:
        return None
    return Part(Mixture(np.zeros(1, np.int16), tables, np.array(use, np.int32)), tuple(columns))


def numbered(number: int, part: Part) -> dict[str, Any]:
    """The arrays of a part, named for the file."""
    return {f"{number}.{name}": array for name, array in part.model.arrays().items()}


def _by_symbol(masses: NDArray[np.float64], form: Form, column: Column | None) -> NDArray[np.float64]:
    """Masses (K, C) of a model's codes in the order of the symbols of a form; those of bins are in theirs already."""
    if column is None or not column.categories or form.kind == "category":
        return masses
    marks = codes(form, masses.shape[1])
    return np.where(marks >= 0, masses[:, np.maximum(marks, 0)], 0.0)
