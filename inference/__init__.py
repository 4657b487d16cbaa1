"""inference: what every model/guide pair shares, from data to ArviZ.

Names load on first use, so that importing this package costs nothing. `help(inference)` says what each is for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.settings import settings

if TYPE_CHECKING:
    from inference.codes.collapse import active_units, code_kl, collapsed
    from inference.codes.encoding import decode, encode, reconstruct
    from inference.codes.gaps import gap, log_marginal
    from inference.codes.imputation import impute
    from inference.codes.refinement import refine
    from inference.codes.sleep import fit_by_simulation
    from inference.estimator import Estimator
    from inference.fitting.fit import Fit, fit
    from inference.fitting.loop import NonFiniteError
    from inference.posterior.draws import Posterior, draw, generate, predict, prior
    from inference.posterior.export import to_arviz
    from inference.posterior.khat import khat
    from inference.posterior.likelihood import assignments, log_likelihood
    from inference.posterior.novelty import novelty
    from inference.questions.importance import importance
    from inference.questions.queries import Answer, marginals, query
    from inference.questions.sequences import forecast, sample_paths, smooth, viterbi
    from inference.running.constants import KeptConstants
    from inference.sampling.sample import Sampled, SamplingError, sample

_HOMES = {
    "fitting.fit": ("fit", "Fit"),
    "fitting.loop": ("NonFiniteError",),
    "running.constants": ("KeptConstants",),
    "sampling.sample": ("sample", "Sampled", "SamplingError"),
    "posterior.draws": ("draw", "predict", "prior", "generate", "Posterior"),
    "posterior.likelihood": ("log_likelihood", "assignments"),
    "posterior.novelty": ("novelty",),
    "posterior.khat": ("khat",),
    "posterior.export": ("to_arviz",),
    "codes.encoding": ("encode", "decode", "reconstruct"),
    "codes.imputation": ("impute",),
    "codes.collapse": ("active_units", "code_kl", "collapsed"),
    "codes.refinement": ("refine",),
    "codes.gaps": ("gap", "log_marginal"),
    "codes.sleep": ("fit_by_simulation",),
    "questions.queries": ("query", "marginals", "Answer"),
    "questions.sequences": ("smooth", "viterbi", "forecast", "sample_paths"),
    "questions.importance": ("importance",),
    "estimator": ("Estimator",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Answer",
    "Estimator",
    "Fit",
    "KeptConstants",
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
    "settings",
    "smooth",
    "to_arviz",
    "viterbi",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"inference.{_HOME[name]}"), name)
    raise AttributeError(f"module 'inference' has no attribute '{name}'")
