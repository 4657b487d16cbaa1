"""inference: what every model/guide pair shares, from data to ArviZ.

Names load on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.diagnostics import khat
    from inference.export import to_arviz
    from inference.likelihood import assignments, log_likelihood
    from inference.posterior import Posterior, draw, predict, prior
    from inference.sequences import forecast, smooth, viterbi
    from inference.svi import Fit, fit

_HOMES = {
    "svi": ("fit", "Fit"),
    "posterior": ("draw", "predict", "prior", "Posterior"),
    "likelihood": ("log_likelihood", "assignments"),
    "diagnostics": ("khat",),
    "export": ("to_arviz",),
    "sequences": ("smooth", "viterbi", "forecast"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Fit",
    "Posterior",
    "assignments",
    "draw",
    "fit",
    "forecast",
    "khat",
    "log_likelihood",
    "predict",
    "prior",
    "smooth",
    "to_arviz",
    "viterbi",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"inference.{_HOME[name]}"), name)
    raise AttributeError(f"module 'inference' has no attribute '{name}'")
