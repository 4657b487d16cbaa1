"""Families of a cell that suit data: `likelihood` and `emission` of pairs that leave the choice to the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.suiting import CEILING, Suit, content, left_out

TRIALS: Mapping[str, tuple[str, int]] = {
    "binomial": ("trials", 0), "beta_binomial": ("trials", 0), "categorical": ("trials", 0),
}  # fmt: skip
CATEGORIES: Mapping[str, tuple[str, int]] = {"categorical": ("categories", 1)}


def suited(
    x: Tensor | None,
    given: Mapping[str, Any],
    offers: Mapping[str, str],
    argument: str = "likelihood",
    sizes: Mapping[str, tuple[str, int]] = TRIALS,
) -> Suit:
    """The family that suits the cells of x, and how large they may be.

    Args:
        x: the data.
        given: arguments that the user gives.
        offers: family by what cells are, `binary`, `count`, `byte` or `real`; where there is none for a kind, and for
            counts above 255 of a family that has to know the most there can be, that for `real`.
        argument: the name of the argument.
        sizes: family -> the argument that bounds its cells, and by how much this is above the largest cell.
    """
    if x is None:
        return Suit()
    cells = content(x)
    found: dict[str, Any] = {}
    if left_out(given, argument):
        family = offers.get(cells.kind, offers["real"])
        found[argument] = offers["real"] if family in sizes and cells.most > CEILING else family
    size = sizes.get(str(found.get(argument, given.get(argument))))
    if size is not None and cells.kind != "real" and left_out(given, size[0]):
        found[size[0]] = cells.most + size[1]
    return Suit(found, (str(cells),) if found else ())
