"""Where transitions diverge, in words: which number, and whether it is low or high there."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

LEAST = 5  # divergent transitions, of fewer of which nothing is told
ASIDE = 0.2  # of all ranks, that theirs lie from the middle in the mean
MOST = 4096  # draws that are ranked
NUMBERS = 200  # of a site


def corner(draws: Mapping[str, Tensor], diverging: Tensor) -> str:
    """A sentence that names the number by which divergent transitions differ most from the others; empty if none does.

    Args:
        draws: by site, (C, n, *event).
        diverging: which of them a divergent transition led to, that stayed where it began, (C, n).
    """
    bad = diverging.flatten().bool()
    if int(bad.sum()) < LEAST:
        return ""
    best, told = ASIDE, ""
    for name, value in draws.items():
        flat = value.detach().flatten(0, 1).reshape(len(bad), -1)[:, :NUMBERS].double()
        if not value.is_floating_point() or not flat.shape[1]:
            continue
        there, some = flat[bad], flat[:: -(-len(flat) // MOST)]
        place = torch.searchsorted(some.sort(0).values.mT.contiguous(), there.mT.contiguous()).double().mean(1)
        place = torch.where(some.std(0) > 0, place / len(some), 0.5)  # nothing of a number that never moves
        which = int((place - 0.5).abs().argmax())
        aside = float(place[which]) - 0.5
        if abs(aside) > best:
            index = torch.unravel_index(torch.tensor(which), value.shape[2:]) if value.ndim > 2 else ()
            where = f"{name}[{', '.join(str(int(i)) for i in index)}]" if index else name
            side, level = ("below", "low") if aside < 0 else ("above", "high")
            best = abs(aside)
            told = f"They begin where '{where}' is {level}, half of them {side} {float(there[:, which].median()):.3g}. "
    return told
