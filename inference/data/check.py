"""Whatever the user brings -> Batch, checked before step one.

Accepted: a NumPy array, a torch tensor, a pandas or polars frame (anything with `to_numpy`), a `Batch`, a map-style
torch `Dataset` of rows or (x, y) pairs. Checks read the pair's own trace: which fields it observes, their shapes, and
the support of each observed site; an error names field, row, column, what was expected and what was found. A pair
with a `schema` also takes a table in the user's units and category names, its `target` column becoming y, and one with
an `alphabet` a text, cut into sequences of as many characters as the pair has `steps`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from inference.data.accept import encoded, fields_of, is_table, place, windows
from inference.running.pieces import chunks, rows_at_once
from inference.running.width import width
from zoo.abilities import InWords, TakesMissing
from zoo.base import Batch, ModelGuide, Site

_CHUNK = 64  # rows that the support check traces without asking how much they hold


def as_batch(pair: ModelGuide, data: Any, complete: bool = True) -> Batch:
    """Turn `data` into a checked `Batch` on the pair's device and in its floating-point type.

    Args:
        pair: whose trace says what is expected.
        data: see the module docstring. Arrays and frames fill the field that the pair observes.
        complete: require every field that the pair observes; otherwise a missing one will be generated.

    Raises:
        ValueError: wrong kind, rank, width or length; NaN, infinite or too large values; values outside the support.
    """
    example = _example(pair)
    observed = {name: site for name, site in pair.sites(example).items() if site.observed}
    if isinstance(data, str):
        batch, columns = windows(pair, data), None
    elif pair.schema is not None and is_table(data):
        batch, columns = encoded(pair, data), None
    else:
        batch, columns = fields_of(data, first="x" if pair.schema is not None else next(iter(observed), "x"))
    columns = list(pair.schema.names) if pair.schema is not None else columns
    batch = _keep(pair, batch, example, observed, complete)
    converted = {name: _convert(name, value, pair, columns) for name, value in batch.fields().items()}
    batch = batch.but(**converted)
    _check_shapes(batch, example)
    if example.lengths is not None:
        batch = _check_lengths(batch)
    _check_values(pair, batch, example, observed, columns)
    return batch


def check_sites(pair: ModelGuide) -> Batch:
    """A small simulated batch, for reading the pair's trace. The caller's random state is left alone."""
    return _example(pair)


def minibatches(total: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless index tensors of `size` rows: a stream of permutations cut into equal pieces.

    Every row comes once per permutation and no piece is smaller, so one traced graph serves them all.
    """
    left = torch.empty(0, dtype=torch.long)
    while True:
        while len(left) < size:
            left = torch.cat([left, torch.randperm(total, generator=generator)])
        yield left[:size]
        left = left[size:]


def _example(pair: ModelGuide) -> Batch:
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        return pair.simulate(2)[0]


def _keep(pair: ModelGuide, batch: Batch, example: Batch, observed: dict[str, Site], complete: bool) -> Batch:
    """Drop fields that the pair does not use; require the ones it needs."""
    used = example.fields().keys()
    missing = [name for name in used if getattr(batch, name) is None and name != "lengths"]
    for name in missing:
        if complete and name in observed and batch.fields() and may_be_missing(observed[name]):
            value = torch.full((batch.size, *getattr(example, name).shape[1:]), torch.nan)
            batch = batch.but(**{name: value})
        elif complete or name not in observed:
            raise ValueError(
                f"{pair.name} needs field '{name}' of shape "
                f"(N, {', '.join(map(str, getattr(example, name).shape[1:]))}); given: {', '.join(batch.fields())}"
            )
    unused = {name: None for name in batch.fields() if name not in used}
    return batch.but(**unused)


def may_be_missing(site: Site) -> bool:
    """Whether the support of an observed site holds NaN, a missing value."""
    return bool(_elementwise(site.fn.support).check(torch.full_like(site.value, torch.nan)).all())


def _elementwise(support: Any) -> Any:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def _convert(field: str, value: Tensor, pair: ModelGuide, columns: Sequence[str] | None) -> Tensor:
    if value.is_complex():
        raise ValueError(f"field '{field}': expected real numbers, got dtype {value.dtype}")
    if field == "lengths":
        if value.is_floating_point() and (bad := value != value.round()).any():  # NaN is unequal to itself
            row = int(bad.nonzero()[0, 0])
            raise ValueError(f"field 'lengths', row {row}: expected a whole number of steps, got {value[row].item():g}")
        return value.detach().to(device=pair.device, dtype=torch.long)
    value = value.detach()
    _check_magnitude(field, value, pair.dtype, columns)
    return value.to(device=pair.device, dtype=pair.dtype).contiguous()


def _check_magnitude(field: str, value: Tensor, dtype: torch.dtype, columns: Sequence[str] | None) -> None:
    """No infinities, and nothing whose square would overflow in `dtype`."""
    if not value.is_floating_point():
        return
    limit = torch.finfo(dtype).max ** 0.5
    wide = value.double()
    bad = wide.isinf() | (wide.abs() > limit)
    if bad.any():
        index = bad.nonzero()[0].tolist()
        found = wide[tuple(index)].item()
        wanted = "a finite number" if np.isinf(found) else f"at most {limit:.3g} in size for {dtype} (rescale the data)"
        raise ValueError(f"{place(field, index, columns)}: expected {wanted}, got {found:g}")


def _check_shapes(batch: Batch, example: Batch) -> None:
    for name, value in batch.fields().items():
        wanted, found = tuple(getattr(example, name).shape[1:]), tuple(value.shape[1:])
        free = example.lengths is not None and name != "lengths"  # the time dim of sequences may differ
        if len(wanted) != len(found) or wanted[free:] != found[free:]:
            shown = ["N", *(["T"] if free else []), *map(str, wanted[free:])]
            hint = "; a single column needs reshape(-1, 1)" if len(found) == 0 and len(wanted) == 1 else ""
            raise ValueError(f"field '{name}': expected shape ({', '.join(shown)}), got {tuple(value.shape)}{hint}")


def _check_lengths(batch: Batch) -> Batch:
    steps = next(value.shape[1] for name, value in batch.fields().items() if name != "lengths")
    if batch.lengths is None:
        device = next(iter(batch.fields().values())).device
        return batch.but(lengths=torch.full((batch.size,), steps, dtype=torch.long, device=device))
    bad = (batch.lengths < 1) | (batch.lengths > steps)
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"field 'lengths', row {row}: expected 1 to {steps}, got {int(batch.lengths[row])}")
    return batch


@torch.no_grad()
def _check_values(
    pair: ModelGuide, batch: Batch, example: Batch, observed: dict[str, Site], columns: Sequence[str] | None
) -> None:
    for name, value in batch.fields().items():
        if name not in observed and name != "lengths" and value.isnan().any():
            index = value.isnan().nonzero()[0].tolist()
            raise ValueError(f"{place(name, index, columns)}: expected a number, got NaN")
    with torch.random.fork_rng(), pyro.validation_enabled(False):
        for piece, part in chunks(batch, _rows(pair, batch, example)):
            for name, site in pair.sites(part).items():
                if site.observed:
                    _check_support(site, getattr(part, name), part.lengths, piece.start, columns)


def _rows(pair: ModelGuide, batch: Batch, example: Batch) -> int:
    if batch.size <= _CHUNK:
        return _CHUNK
    # The example's values are valid, where a run on the user's may fail; sequences may be longer than its own.
    longer = max(-(-v[0].numel() // max(1, getattr(example, n)[0].numel())) for n, v in batch.fields().items())
    return rows_at_once(batch, width(pair, example) * longer)


def _check_support(
    site: Site, value: Tensor, lengths: Tensor | None, begin: int, columns: Sequence[str] | None
) -> None:
    support = _elementwise(site.fn.support)
    bad = ~support.check(value)
    if lengths is not None and bad.ndim > 1:  # what stands past the end of a sequence is not looked at
        over = torch.arange(bad.shape[1], device=bad.device) >= lengths.unsqueeze(-1)
        bad &= ~over.reshape(*over.shape, *[1] * (bad.ndim - 2))
    if not bad.any():
        return
    index = bad.nonzero()[0].tolist()
    found = value[tuple(index)]
    index[0] += begin
    shown = f"{found.item():g}" if found.numel() == 1 else str(found.tolist())
    wanted = "a number (this model takes no missing values)" if found.isnan().any() else _in_words(support, value, bad)
    raise ValueError(f"{place(site.name, index, columns)}: expected {wanted}, got {shown}")


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
