"""What has been done to a pair: whether its parameters moved since they were made, and whose constants it took.

Version counters of tensors do not tell: `.to` and a load give new tensors, and creation itself counts up. So the bits
are looked at, by a checksum: it is the same after a copy or a move to another device, and taken anew after a change of
type, which changes the bits and nothing else.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoo.batch import Batch

UNKNOWN = ""  # constants were taken, but nothing is known of the data: a file from before this was kept


@dataclass(frozen=True)
class History:
    """What is kept of it.

    Args:
        trained: a fit came to its end, or a file says so; else the checksum tells.
        sampled: MCMC was run.
        measured: a checksum of the data that the constants were taken from; None if none were.
        start: checksum of the parameters as they were made, or as starting values were put.
    """

    trained: bool = False
    sampled: bool = False
    measured: str | None = None
    start: int = 0

    def record(self) -> dict[str, Any]:
        """What goes into config.json."""
        return {"trained": self.trained, "sampled": self.sampled, "measured": self.measured}

    @classmethod
    def of(cls, record: Any, start: int) -> History:
        """From what `record` gave, for parameters of this checksum.

        Raises:
            ValueError: it is something else.
        """
        kinds = {"trained": bool, "sampled": bool, "measured": (str, type(None))}
        if not isinstance(record, dict) or record.keys() != kinds.keys():
            raise ValueError(f"'history': expected {', '.join(kinds)}, got {record!r:.50}")
        for name, kind in kinds.items():
            if not isinstance(record[name], kind):  # type: ignore[arg-type]
                raise ValueError(f"'history': '{name}': got {record[name]!r:.50}")
        return cls(**record, start=start)

    @classmethod
    def before(cls, card: Any, start: int) -> History:
        """Of a file or a pickle from before this was kept: a card meant fitted then."""
        return cls(bool(card), False, UNKNOWN if card else None, start)


def checksum(tensors: Iterable[Tensor]) -> int:
    """Of the bits of tensors, in their order: cyclic redundancy, 32 bits."""
    total = 0
    for tensor in tensors:
        bits = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        total = zlib.crc32(bits.numpy().data, total)
    return total


def fingerprint(batch: Batch) -> str:
    """A checksum of data, the same in single and double precision."""
    fields = batch.fields()
    total = checksum(value.to(torch.float32) for value in fields.values())
    shapes = " ".join(f"{name}{tuple(value.shape)}" for name, value in fields.items())
    return f"{zlib.crc32(shapes.encode(), total):08x}"
