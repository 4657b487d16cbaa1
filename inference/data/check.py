"""Whatever the user brings -> `Checked`, once, before step one.

Accepted: a NumPy array, a torch tensor, a pandas or polars frame or series, an Arrow table, a pair (X, y), a `Batch`, a
map-style torch `Dataset` of rows or (x, y) pairs. Series are laid out as `inference.data.series` says. Checks read the
pair's own trace: which fields it observes, their shapes, and the support of each observed site; an error names field,
row, column, what was expected and what was found. A field that no site reads is an error too, if it is not spare.
A pair with a `schema` also takes a table in the user's units and category names, its `target` column becoming y, and
one with an `alphabet` a text, cut into sequences of as many characters as the pair has `steps`.

What has been checked is handed on as `Checked`; given to a function again it is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.distributions import constraints

from inference.data.accept import accept, is_table, made_as_example
from inference.data.images import as_rows
from inference.data.magnitude import check_size
from inference.data.precision import check_precision
from inference.data.series import in_time, without_dates
from inference.data.sites import check_observes, check_seen, check_sites
from inference.running.checked import Checked
from inference.running.pieces import chunks, rows_at_once
from inference.running.width import width
from inference.running.words import check_count
from zoo.abilities import InWords, TakesMissing
from zoo.arrays import place
from zoo.base import Batch, ModelGuide, Site
from zoo.columns import check_names
from zoo.dates.calendar import Calendar
from zoo.images import pixel_names
from zoo.programs import Program
from zoo.rows import nth
from zoo.state.memory import check_room
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart

_CHUNK = 64  # rows that the support check traces without asking how much they hold


def check_pair(pair: Any) -> None:
    """Refuse what is no pair: its name, its class, a program of Pyro's.

    Raises:
        ValueError: with what to give.
    """
    if isinstance(pair, Program):
        raise ValueError(
            f"expected a pair, such as zoo.create('gmm') makes, got {pair}: programs have fit, sample, draw, khat, "
            "prior, predict, log_likelihood, log_score, loo, compare, resample and to_arviz, whose result ArviZ takes"
        )
    if not isinstance(pair, ModelGuide):
        hint = "" if not callable(pair) or isinstance(pair, type) else "; a Pyro program goes in as zoo.program(model)"
        got = f"the class {pair.__name__}" if isinstance(pair, type) else repr(pair)[:50]
        raise ValueError(f"expected a pair, such as zoo.create('gmm') makes, got {got}{hint}")


def check(pair: ModelGuide, data: Any, *, complete: bool = True) -> Checked:
    """Turn `data` into a batch on the pair's device and in its floating-point type, and refuse what does not fit.

    Args:
        pair: whose trace says what is expected.
        data: see the module docstring. Arrays and frames fill the field that the pair observes, or, of a pair that
            explains it by covariates, these where it will be generated.
        complete: require every field that the pair observes; otherwise a missing one will be generated.

    Raises:
        ValueError: no pair; wrong kind, rank, width or length; fields that no site reads; columns of other names than
            those of the fit; NaN, infinite or too large values, or values outside the support.
    """
    check_pair(pair)
    if isinstance(data, Checked):
        if data.pair is pair and _at_home(pair, data.batch):
            return data if data.complete or not complete else check(pair, data.batch)
        data = data.batch
    example = _example(pair)
    sites = pair.sites(example)
    check_sites(pair, sites)
    observed = {name: site for name, site in sites.items() if site.observed}
    first = _first(pair, example, observed, complete)
    undated, rows = without_dates(data, example)
    batch = accept(pair, undated, first)
    batch = in_time(batch if rows is None else batch.but(when=rows), example)
    if pair.image is not None and "x" in observed:
        batch = as_rows(pair, batch, _elementwise(observed["x"].fn.support))
    check_names(pair, batch.columns)
    columns = pair.schema.names if pair.schema is not None else batch.columns
    if columns is None and pair.image is not None:
        columns = pixel_names(pair.image)
    named = batch.fields() if isinstance(data, (Batch, tuple)) else {f"one array or frame, taken as {first}": None}
    if pair.design is not None and is_table(data):
        named = {f"a frame without the response '{pair.design.response.name}'": None}
    check_seen(pair, batch, example)
    check_observes(pair, sites)
    batch = _keep(pair, batch, example, observed, complete, given=", ".join(named))
    series = example.lengths is not None
    converted = {name: _convert(name, value, pair, columns, series) for name, value in batch.fields().items()}
    batch = batch.but(**converted)
    _check_shapes(pair, batch, example)
    if example.lengths is not None:
        batch = _check_lengths(batch)
    return _check_values(pair, batch, example, observed, columns)


def as_batch(pair: ModelGuide, data: Any, complete: bool = True) -> Batch:
    """The checked batch alone; see `check`."""
    return check(pair, data, complete=complete).batch


def example(pair: ModelGuide) -> Checked:
    """Two simulated observations, for reading the pair's trace. The caller's random state is left alone."""
    check_pair(pair)
    batch = _example(pair)
    sites = pair.sites(batch)
    check_sites(pair, sites)
    check_observes(pair, sites)
    return Checked(pair, batch, batch, sites)


def new_rows(pair: ModelGuide, data: Any) -> Checked:
    """Rows to generate: those of the data, whose observed fields may be missing, or a number of new ones."""
    check_pair(pair)
    if isinstance(data, Integral) and not isinstance(data, bool):
        check_count("number of rows", data)
        check_room("number of rows", int(data), int(data) * pair.dtype.itemsize)
        with apart():
            batch = pair.inputs(int(data)).to(pair.device, pair.dtype)
        return example(pair).but(batch)
    given = check(pair, data, complete=False)
    return given.but(given.batch.but(total=given.size))


def _at_home(pair: ModelGuide, batch: Batch) -> bool:
    """Whether the batch is still on the pair's device and in its type."""
    numbers = [value for value in batch.fields().values() if value.is_floating_point()]
    return all(value.dtype == pair.dtype and value.device == pair.device for value in numbers)


def _example(pair: ModelGuide) -> Batch:
    with apart(), unvalidated():
        return pair.simulate(2)[0]


def _first(pair: ModelGuide, example: Batch, observed: dict[str, Site], complete: bool) -> str:
    """The field that bare data fill: the observed one; where that may be generated, what it is generated from."""
    covariates = [name for name in example.fields() if name not in observed and name != "lengths"]
    if pair.schema is not None:
        return "x"
    return covariates[0] if covariates and not complete else next(iter(observed), "x")


def _keep(
    pair: ModelGuide, batch: Batch, example: Batch, observed: dict[str, Site], complete: bool, given: str
) -> Batch:
    """Require the fields that the pair needs; refuse those that it has no use for, drop them where they are spare."""
    used = example.fields().keys()
    missing = [name for name in used if getattr(batch, name) is None and name != "lengths"]
    for name in missing:
        if complete and name in observed and batch.fields() and may_be_missing(observed[name]):
            value = torch.full((batch.size, *getattr(example, name).shape[1:]), torch.nan)
            batch = batch.but(**{name: value})
        elif complete or name not in observed:
            shape = ", ".join(["N", *map(str, getattr(example, name).shape[1:])])
            both = "; give both, as fit(pair, X, y) or Batch.of(x=…, y=…)" if {"x", "y"} <= used else ""
            raise ValueError(f"{pair.name} needs field '{name}' of shape ({shape}); given: {given}{both}")
    unused = [name for name in batch.fields() if name not in used]
    for name in unused:
        if name not in batch.spare:
            reads = ", ".join(name for name in used if name != "lengths")
            more = "; a series to model is x itself" if example.lengths is not None and name == "y" else ""
            raise ValueError(
                f"field '{name}': {pair.name} reads {reads} alone and would not see it: leave it out{more}"
            )
    return batch.but(**dict.fromkeys(unused))


def may_be_missing(site: Site) -> bool:
    """Whether the support of an observed site holds NaN, a missing value."""
    return bool(_elementwise(site.fn.support).check(nans_like(site.value)).all())


def nans_like(value: Tensor) -> Tensor:
    """NaN in the shape of a value, which may be of whole numbers, such as a class."""
    return torch.full_like(value, torch.nan, dtype=None if value.is_floating_point() else torch.float32)


def _elementwise(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _convert(field: str, value: Tensor, pair: ModelGuide, columns: Sequence[str] | None, series: bool) -> Tensor:
    if value.is_complex():
        raise ValueError(f"field '{field}': expected real numbers, got dtype {value.dtype}")
    if field == "lengths":
        if value.is_floating_point() and (bad := value != value.round()).any():  # NaN is unequal to itself
            row = int(bad.nonzero()[0, 0])
            raise ValueError(
                f"field 'lengths', row {nth(row)}: expected a whole number of steps, got {value[row].item():g}"
            )
        return value.detach().to(device=pair.device, dtype=torch.long)
    value = value.detach()
    check_size(field, value, pair.dtype, columns)
    check_precision(field, value, pair.dtype, columns, series=series, fitted=lambda: pair.fitted)
    return value.to(device=pair.device, dtype=pair.dtype).contiguous()


def _check_shapes(pair: ModelGuide, batch: Batch, example: Batch) -> None:
    for name, value in batch.fields().items():
        wanted, found = tuple(getattr(example, name).shape[1:]), tuple(value.shape[1:])
        free = example.lengths is not None and name != "lengths"  # the time dim of sequences may differ
        if len(wanted) != len(found) or wanted[free:] != found[free:]:
            shown = ["N", *(["T"] if free else []), *map(str, wanted[free:])]
            vector = len(found) == 0 and len(wanted) == 1
            hint = "; a single column needs reshape(-1, 1)" if vector and not free else ""
            if free and not found:
                hint = "; a series of several features is a table (T, D): time runs down its rows"
            if len(found) in (2, 3) and len(wanted) == 1 and not free:
                made = f"make the pair with image={found}, or " if "image" in pair.config else ""
                hint = f"; of images: {made}give rows, x.reshape(len(x), -1)"
            if found == (1,) and not wanted:
                hint = "; one column is given as a vector: frame['name'], or array[:, 0]"
            if name == "x" and not hint and (note := made_as_example(pair)):
                hint = f"; {note}"
            raise ValueError(f"field '{name}': expected shape ({', '.join(shown)}), got {tuple(value.shape)}{hint}")


def _check_lengths(batch: Batch) -> Batch:
    steps = next(value.shape[1] for name, value in batch.fields().items() if name != "lengths")
    if batch.lengths is None:
        device = next(iter(batch.fields().values())).device
        return batch.but(lengths=torch.full((batch.size,), steps, dtype=torch.long, device=device))
    bad = (batch.lengths < 1) | (batch.lengths > steps)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"field 'lengths', row {nth(row)}: expected 1 to {steps}, got {int(batch.lengths[row])}")
    return batch


@torch.no_grad()
def _check_values(
    pair: ModelGuide, batch: Batch, example: Batch, observed: dict[str, Site], columns: Sequence[str] | None
) -> Checked:
    for name, value in batch.fields().items():
        if name not in observed and name != "lengths" and value.isnan().any():
            index = value.isnan().nonzero()[0].tolist()
            raise ValueError(f"{place(name, index, columns)}: expected a number, got NaN")
    first: dict[str, Site] = {}
    rows, measured = _rows(pair, batch, example)
    with apart(), unvalidated():
        for piece, part in chunks(batch, rows):
            sites = pair.sites(part)
            check_sites(pair, sites, part)
            for name, site in sites.items():
                if site.observed and name in part.fields():
                    _check_support(pair, site, getattr(part, name), part, piece.start, columns)
            first = first or {name: replace(site, observed=name in observed) for name, site in sites.items()}
    checked = Checked(pair, batch, example, first)
    if measured is not None:
        checked.__dict__["width"] = measured
    return checked


def _rows(pair: ModelGuide, batch: Batch, example: Batch) -> tuple[int, int | None]:
    """How many rows to trace at once, and the width of a row where it had to be measured for that."""
    if batch.size <= _CHUNK:
        return _CHUNK, None
    # The example's values are valid, where a run on the user's may fail; sequences may be longer than its own.
    longer = max(-(-v[0].numel() // max(1, getattr(example, n)[0].numel())) for n, v in batch.fields().items())
    measured = width(pair, example)
    return rows_at_once(batch, measured * longer), measured if longer == 1 else None


def _check_support(
    pair: ModelGuide, site: Site, value: Tensor, part: Batch, begin: int, columns: Sequence[str] | None
) -> None:
    lengths = part.lengths
    support = _elementwise(site.fn.support)
    bad = ~support.check(value)
    if lengths is not None and bad.ndim > 1:  # what stands past the end of a sequence is not looked at
        over = torch.arange(bad.shape[1], device=bad.device) >= lengths.unsqueeze(-1)
        bad &= ~over.reshape(*over.shape, *[1] * (bad.ndim - 2))
    if not bad.any():
        return
    index = bad.nonzero()[0].tolist()
    found = value[tuple(index)]
    when = part.when.place(index[0], index[1]) if isinstance(part.when, Calendar) and len(index) > 1 else ""
    index[0] += begin
    shown = f"{found.item():g}" if found.numel() == 1 else str(found.tolist())
    where = place(site.name, index, columns)
    if lengths is not None and len(index) == 2:  # of a series of single numbers
        where = f"field '{site.name}', row {nth(index[0])}, step {nth(index[1])}"
    where += when
    if not found.isnan().any():
        wanted = _in_words(support, value, bad)
    elif "missing" in pair.config:
        most = int((value.isnan() & bad).flatten(1).sum(1).max())  # past the end of a series nothing is bad
        wanted = f"a number ({most} step{'s' * (most > 1)} missing: make the pair with missing={most})"
    else:
        wanted = "a number (this model takes no missing values)"
    raise ValueError(f"{where}: expected {wanted}, got {shown}")


def _in_words(support: Any, value: Tensor, bad: Tensor) -> str:
    """What a support holds, where the first bad value stands."""

    def bound(side: str) -> str | None:
        limit = getattr(support, side, None)
        if isinstance(limit, Tensor) and limit.ndim:
            limit = limit.broadcast_to(value.shape)[bad][0]
        return None if limit is None else f"{float(limit):g}"

    if support is constraints.boolean:
        return "0 or 1"
    if isinstance(support, InWords):
        return str(support.in_words(int(bad.nonzero()[0][-1])))
    if isinstance(support, TakesMissing):
        return f"{_in_words(support.base, value, bad)}, or NaN where missing"
    low, high = bound("lower_bound"), bound("upper_bound")
    kind = "a whole number" if support.is_discrete else "a number"
    if low is None and high is None:
        return f"a value in {support}"
    strict = "above" if isinstance(support, type(constraints.positive)) else "of at least"
    return (
        f"{kind} from {low} to {high}" if low and high else f"{kind} {strict} {low}" if low else f"{kind} up to {high}"
    )
