"""Which arguments of a pair suit data: what `ModelGuide.suits` reads off them where the user leaves an argument out.

Nothing is guessed that the data do not hold: widths, how many categories or trials there are, and the family of a cell
from what its numbers are (`content`). Whatever is chosen is said in words, and is an argument like any other: it is
saved with the pair, and one that is given stays as it is given.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from zoo.batch import Batch
from zoo.config import hints
from zoo.images import check_channels, told
from zoo.schema.schema import Schema

Kind = Literal["binary", "count", "byte", "real"]
AUTO = "auto"  # may be given for an argument that is to be read off the data
CEILING = 255  # the largest count that may be the most there can be: of a byte
DISPERSED = 0.5  # a count varies at least so many times as much as a Poisson variable of its mean


@dataclass(frozen=True)
class Suit:
    """Arguments that suit data.

    Args:
        arguments: by name, of those that were left out.
        words: what of the data called for them.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    def __or__(self, other: Suit) -> Suit:
        """Both; where they differ, the other's."""
        more = tuple(word for word in other.words if word not in self.words)
        return Suit({**self.arguments, **other.arguments}, self.words + more)


class Content(NamedTuple):
    """What the cells of an array are: `most` is the largest whole number that they may be, 0 of real ones."""

    kind: Kind
    most: int = 0

    def __str__(self) -> str:
        """In words."""
        return {
            "binary": "cells are 0 or 1",
            "byte": "cells are bytes, 0 to 255",
            "count": f"cells are whole numbers from 0 to {self.most}",
            "real": "cells are real numbers",
        }[self.kind]


def content(x: Tensor) -> Content:
    """What the cells of x are; NaN counts as missing. Bytes are of type uint8, or whole numbers up to 255 itself."""
    if x.dtype == torch.bool:
        return Content("binary", 1)
    known = (x[~x.isnan()] if x.is_floating_point() else x).double()
    whole = bool(known.numel()) and bool(((known >= 0) & (known == known.round()) & (known < 2**31)).all())
    most = int(known.max()) if whole else 0
    if not whole:
        return Content("real")
    if most <= 1:
        return Content("binary", 1)
    if x.dtype == torch.uint8 or most == CEILING:
        return Content("byte", CEILING)
    return Content("count", most)


def models_tables(cls: type[Any]) -> bool:
    """Whether a pair takes the schema of a table."""
    taken = hints(cls.__init__).get("columns")
    return taken is Schema or Schema in typing.get_args(taken)


def without_auto(cls: type[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are not "auto", but for those which take it as a choice of their own."""
    own = hints(cls.__init__)
    return {
        name: value
        for name, value in given.items()
        if not (isinstance(value, str) and value == AUTO) or AUTO in typing.get_args(own.get(name))
    }


def left_out(given: Mapping[str, Any], name: str) -> bool:
    """Whether an argument is to be read off the data."""
    return name not in given or given[name] is None or (isinstance(given[name], str) and given[name] == AUTO)


def usual(cls: type[Any], data: Batch, given: Mapping[str, Any]) -> Suit:
    """What every pair reads off a matrix (N, D): its width, a code no larger than that, the kinds of its columns.

    Off images, (N, H, W) or (N, C, H, W), a pair that takes them reads their shape.

    Raises:
        ValueError: images with their channels last.
    """
    takes, x = hints(cls.__init__), data.x
    found: dict[str, Any] = {}
    if x is not None and x.ndim in (3, 4) and "image" in takes and left_out(given, "image"):
        image = tuple(x.shape[1:])
        check_channels(image)
        return Suit({"image": image}, (told(len(x), image),)) | narrow(cls, math.prod(image), given)
    if x is None or x.ndim != 2:
        return Suit(found)
    if models_tables(cls) and left_out(given, "columns"):
        return Suit({"columns": columns(data)}, (str(content(x)),)) | narrow(cls, x.shape[1], given)
    if "features" in takes and left_out(given, "features"):
        found["features"] = x.shape[1]
    return Suit(found) | narrow(cls, x.shape[1], given)


def narrow(cls: type[Any], width: int, given: Mapping[str, Any]) -> Suit:
    """A code that is no larger than the data, where the usual one would be."""
    parameter = inspect.signature(cls.__init__).parameters.get("latent")
    if parameter is None or not left_out(given, "latent") or not isinstance(parameter.default, int):
        return Suit()
    if width >= parameter.default:
        return Suit()
    return Suit({"latent": width}, (f"there {'are' if width > 1 else 'is'} {width} column{'s' * (width > 1)}",))


def columns(data: Batch, counts: bool = True) -> Schema:
    """The columns of a matrix (N, D) of numbers: `binary` if all are 0 or 1, else `count` or `real`.

    Args:
        data: with x.
        counts: whether the pair knows counts; whole numbers that vary less than a Poisson variable are none.
    """
    x = data.x
    if x is None:
        raise ValueError("the columns of a table are read off x, and the data have none")
    kind = content(x).kind
    names = data.columns or tuple(f"x{i}" for i in range(1, x.shape[1] + 1))
    if kind == "binary":
        return Schema.of([(name, "binary", (0, 1)) for name in names])
    cells = x.double()
    mean = cells.nanmean(0)
    counted = (cells - mean).square().nanmean(0) >= DISPERSED * mean
    whole = counts and kind != "real"
    return Schema.of([(n, "count" if whole and bool(c) else "real") for n, c in zip(names, counted, strict=True)])
