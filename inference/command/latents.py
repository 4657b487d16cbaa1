"""The table of global latents in a run's summary: sites as the model writes them, and none cut off unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.distributions import constraints

from inference.running.loading import arviz
from zoo.base import ModelGuide

_FACTORS = (type(constraints.corr_cholesky), type(constraints.lower_cholesky), type(constraints.positive_definite))
_LEAST = 4  # lines that each site keeps, however long the others are


def in_order(pair: ModelGuide, names: Sequence[str]) -> list[str]:
    """The names in the order in which the model writes their sites; factors of correlations and covariances last."""
    sites = pair.sites()

    def place(name: str) -> tuple[bool, int, str]:
        if name not in sites:
            return True, len(sites), name
        support = sites[name].fn.support
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        return isinstance(support, _FACTORS), list(sites).index(name), name

    return sorted(names, key=place)


def table(exported: Any, names: Sequence[str], most: int) -> list[str]:
    """Lines of ArviZ's summary of these latents: a header, and at most about so many entries.

    Where there are more, the last sites are cut first; each keeps a few lines, and what is left out is counted.
    """
    frame = arviz().summary(exported, var_names=list(names), kind="stats", round_to="none")
    varying = frame[frame["sd"] > 0]  # not the zeros of a triangular factor
    if varying.empty:
        return ["(too few draws for a table)"]
    lines: list[str] = varying.to_string(float_format=lambda value: f"{value:.4g}").split(
        "\n"
    )  # names may hold other ends of lines
    owners = [str(label).split("[", 1)[0] for label in varying.index]
    groups = {name: [line for line, owner in zip(lines[1:], owners, strict=True) if owner == name] for name in names}
    keep = _shares([len(group) for group in groups.values()], most)
    shown = [lines[0]]
    for (name, group), count in zip(groups.items(), keep, strict=True):
        shown += group[:count]
        if count < len(group):
            shown.append(f"… and {len(group) - count} more of {name}, in posterior.nc")
    return shown


def _shares(sizes: Sequence[int], most: int) -> list[int]:
    """How many lines each group gets."""
    keep = list(sizes)
    for i in reversed(range(len(keep))):
        over = sum(keep) - most
        if over > 0:
            keep[i] = max(min(keep[i], _LEAST), keep[i] - over)
    return keep
