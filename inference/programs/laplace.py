"""Pyro's `AutoLaplaceApproximation`, which is a point until its curvature is asked for: draws want the latter."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from pyro.infer.autoguide import AutoLaplaceApproximation

from inference.compiling.fallback import somebodys_level
from inference.programs.outline import Outline
from zoo.threads.randomness import apart


def curved(guide: Callable[..., Any], seen: Outline) -> Callable[..., Any]:
    """A guide to draw from: of a Laplace approximation the normal at its point, any other as it is.

    Warns:
        UserWarning: a curvature that cannot be told: draws are the point.

    Raises:
        ValueError: there the density does not fall off to all sides.
    """
    if not isinstance(guide, AutoLaplaceApproximation):
        return guide
    call, name = seen.call, seen.call.program.name
    parts = [plate.name for site in seen.sites.values() for plate in site.plates if plate.size < plate.full]
    why = f"plate '{parts[0]}' takes a part of its rows" if parts else ""
    if seen.enumerated:
        why = f"'{next(iter(seen.enumerated))}' is summed out"
    if why:
        warnings.warn(
            f"{name}: {why}, so the curvature at the point that AutoLaplaceApproximation found cannot be told: all "
            "draws are that point",
            stacklevel=somebodys_level(),
        )
        return guide
    try:
        with apart(), torch.enable_grad():
            found: Callable[..., Any] = call.run(guide.laplace_approximation)
    except RuntimeError as error:
        raise ValueError(
            f"{name}: the curvature at the point that AutoLaplaceApproximation found is not positive definite "
            f"({next(iter(str(error).splitlines()), '')}): it is no maximum. Fit it further, or take another guide"
        ) from error
    return found
