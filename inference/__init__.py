"""inference: what every model/guide pair shares, from data to ArviZ.

Names load on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inference.amortised import active_units, code_kl, collapsed, decode, encode, impute, reconstruct
    from inference.bounds import gap, log_marginal
    from inference.diagnostics import khat
    from inference.estimator import Estimator
    from inference.export import to_arviz
    from inference.likelihood import assignments, log_likelihood
    from inference.loop import NonFiniteError
    from inference.mcmc import Sampled, SamplingError, sample
    from inference.posterior import Posterior, draw, generate, predict, prior
    from inference.queries import Answer, marginals, query
    from inference.semi_amortised import refine
    from inference.sequences import forecast, sample_paths, smooth, viterbi
    from inference.simulation import fit_by_simulation
    from inference.strangers import novelty
    from inference.svi import Fit, fit
    from inference.trees import importance

_HOMES = {
    "svi": ("fit", "Fit"),
    "loop": ("NonFiniteError",),
    "mcmc": ("sample", "Sampled", "SamplingError"),
    "posterior": ("draw", "predict", "prior", "generate", "Posterior"),
    "likelihood": ("log_likelihood", "assignments"),
    "amortised": ("encode", "decode", "reconstruct", "impute", "active_units", "code_kl", "collapsed"),
    "semi_amortised": ("refine",),
    "bounds": ("gap", "log_marginal"),
    "strangers": ("novelty",),
    "simulation": ("fit_by_simulation",),
    "diagnostics": ("khat",),
    "export": ("to_arviz",),
    "queries": ("query", "marginals", "Answer"),
    "sequences": ("smooth", "viterbi", "forecast", "sample_paths"),
    "trees": ("importance",),
    "estimator": ("Estimator",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Estimator",
    "Fit",
    "NonFiniteError",
    "Posterior",
    "Sampled",
    "SamplingError",
    "active_units",
    "assignments",
    "code_kl",
    "collapsed",
    "decode",
    "draw",
    "encode",
    "fit",
    "fit_by_simulation",
    "forecast",
    "gap",
    "generate",
    "importance",
    "impute",
    "khat",
    "log_likelihood",
    "log_marginal",
    "marginals",
    "novelty",
    "predict",
    "prior",
    "query",
    "reconstruct",
    "refine",
    "sample",
    "sample_paths",
    "smooth",
    "to_arviz",
    "viterbi",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"inference.{_HOME[name]}"), name)
    raise AttributeError(f"module 'inference' has no attribute '{name}'")
