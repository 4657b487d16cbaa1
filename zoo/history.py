"""What has been done to a pair: whether its parameters moved since they were made, and whose constants it took.

Version counters of tensors do not tell: `.to` and a load give new tensors, and creation itself counts up. So the bits
are looked at, by a checksum: it is the same after a copy or a move to another device. A change of type changes the bits
and nothing else; parameters of another type than at the start are compared in single precision.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.batch import Batch
from zoo.held import NAME, of, release

UNKNOWN = ""  # constants were taken, but nothing is known of the data: a file from before this was kept


@dataclass(frozen=True)
class Mark:
    """Where parameters stood: their types, and checksums of their bits, as they are and in single precision."""

    types: tuple[torch.dtype, ...] = ()
    bits: int = 0
    single: int = 0

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> Mark:
        """Of tensors as they are now, in their order."""
        tensors = list(tensors)
        return cls(tuple(tensor.dtype for tensor in tensors), checksum(tensors), _single(tensors))

    def left(self, tensors: Iterable[Tensor]) -> bool:
        """Whether any of the tensors holds other values by now; its type alone is no value."""
        tensors = list(tensors)
        if tuple(tensor.dtype for tensor in tensors) == self.types:
            return checksum(tensors) != self.bits
        return _single(tensors) != self.single


@dataclass(frozen=True)
class History:
    """What is kept of it; `start` and `told` not in files.

    Args:
        trained: a fit came to its end, or a file says so; else the mark tells.
        sampled: MCMC was run.
        measured: a checksum of the data that the constants were taken from; None if none were.
        start: the parameters as they were made, or as starting values were put; None while they are being made.
        told: checksums of the data for which it was said that the constants are kept.
        columns: names of the columns of x, of a pair without a schema that was fitted to a frame (`zoo.columns`).
    """

    trained: bool = False
    sampled: bool = False
    measured: str | None = None
    start: Mark | None = None
    told: frozenset[str] = frozenset()
    columns: tuple[str, ...] | None = None

    def moved(self, tensors: Iterable[Tensor]) -> bool:
        """Whether any of these parameters left its start; none has before all are made."""
        return self.start is not None and self.start.left(tensors)

    def at_start(self, tensors: Iterable[Tensor]) -> bool:
        """Whether these parameters stand where they were made, and all are."""
        return self.start is not None and not self.trained and not self.start.left(tensors)

    def record(self) -> dict[str, Any]:
        """What goes into config.json."""
        found = {"trained": self.trained, "sampled": self.sampled, "measured": self.measured}
        return found if self.columns is None else {**found, "columns": list(self.columns)}

    @classmethod
    def of(cls, record: Any, start: Mark) -> History:
        """From what `record` gave, for parameters that stand there.

        Raises:
            ValueError: it is something else.
        """
        kinds = {"trained": bool, "sampled": bool, "measured": (str, type(None))}
        if not isinstance(record, dict) or record.keys() - {"columns"} != kinds.keys():
            raise ValueError(f"'history': expected {', '.join(kinds)}, got {record!r:.50}")
        for name, kind in kinds.items():
            if not isinstance(record[name], kind):  # type: ignore[arg-type]
                raise ValueError(f"'history': '{name}': got {record[name]!r:.50}")
        columns = record.get("columns")
        if columns is not None and not (isinstance(columns, list) and all(isinstance(name, str) for name in columns)):
            raise ValueError(f"'history': 'columns': got {columns!r:.50}")
        names = None if columns is None else tuple(columns)
        return cls(**{name: record[name] for name in kinds}, start=start, columns=names)

    @classmethod
    def before(cls, card: Any, start: Mark) -> History:
        """Of a file or a pickle from before this was kept: a card meant fitted then."""
        return cls(bool(card), False, UNKNOWN if card else None, start)


def put_back(pair: Any) -> Callable[[], None]:
    """What puts the pair back to where it stands now, to the bit.

    Parameters, constants, draws that it holds, card, and whether it counts as fitted.

    Args:
        pair: the pair.
    """
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    history, card, kept, training = pair._history, pair.card, of(pair), pair.training

    def back() -> None:
        release(pair)
        if kept is not None:
            setattr(pair, NAME, kept)
        pair.load_state_dict(before)
        pair._history, pair.card = history, card
        pair.train(training)

    return back


@contextmanager
def or_as_it_was(pair: Any) -> Iterator[None]:
    """Where what is done within fails, an interrupt included, the pair is put back; see `put_back`.

    Args:
        pair: the pair.
    """
    back = put_back(pair)
    try:
        yield
    except BaseException:
        back()
        raise


def checksum(tensors: Iterable[Tensor]) -> int:
    """Of the bits of tensors, in their order: cyclic redundancy, 32 bits."""
    total = 0
    for tensor in tensors:
        bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total = zlib.crc32(bits.numpy().data, total)
    return total


def _single(tensors: Iterable[Tensor]) -> int:
    return checksum(tensor.detach().to(torch.float32) for tensor in tensors)


def fingerprint(batch: Batch) -> str:
    """A checksum of data, the same in single and double precision."""
    fields = batch.fields()
    total = checksum(value.to(torch.float32) for value in fields.values())
    shapes = " ".join(f"{name}{tuple(value.shape)}" for name, value in fields.items())
    return f"{zlib.crc32(shapes.encode(), total):08x}"


def near(one: Tensor, other: Tensor) -> bool:
    """Whether two constants are equal, each entry to a thousandth of itself: columns may have unlike units.

    What is lost in rounding beside the largest entry tells nothing.
    """
    if not one.is_floating_point() or not one.numel():
        return torch.equal(one, other)
    eps = torch.finfo(one.dtype).eps
    size = torch.maximum(one.abs(), other.abs())
    return bool(((one - other).abs() <= max(1e-3, 8 * eps) * size + 64 * eps * size.amax()).all())
