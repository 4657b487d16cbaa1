"""Models of the same data, compared by their evidence: Bayes factors, and the posterior probability of each.

    p(M_k | x) = p(x | M_k) p(M_k) / sum over j of p(x | M_j) p(M_j)

The evidence averages over the prior: what a model says of parameters before the data counts in full, and a vague prior
costs. `inference.compare` asks how well new data are foretold, in which the prior fades.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.posterior.comparing import check_same_values
from inference.roads.evidence import Evidence, log_evidence
from inference.running.words import listed, told

if TYPE_CHECKING:
    import pandas as pd


def compare_evidence(
    models: Mapping[str, Any], *, prior: Mapping[str, float] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Models of the same data by their evidence, the most probable first.

    Args:
        models: by name, each either what `inference.log_evidence` gave, or the arguments that it takes: (pair, data),
            (pair, data, posterior), or (program, *args).
        prior: the probability of each model before the data, by name, in any unit; by default all are alike.
        seed: seeds each.

    Returns:
        A line a model: `log_evidence` and its standard error `error`, in nats; `log_bayes_factor` against the first
        line, and `log_bayes_factor_error`; its posterior `probability` and `probability_error`; and `method`. Errors
        are those of the computation alone.

    Raises:
        ValueError: fewer than two models; other data in one than in another; a prior that is none; what
            `log_evidence` refuses, by the model's name.

    Example::

        line = zoo.create("polynomial_regression", features=1, degree=1).double()
        curve = zoo.create("polynomial_regression", features=1, degree=2).double()
        data, _ = curve.simulate(50)
        print(inference.compare_evidence({"line": (line, data), "curve": (curve, data)}))
    """
    import pandas as pd

    if not isinstance(models, Mapping) or len(models) < 2:
        raise ValueError(f"models: expected a mapping of at least two named models, got {told(models)}")
    weights = _prior(models, prior)
    found: dict[str, Evidence] = {}
    for name, model in models.items():
        try:
            found[str(name)] = model if isinstance(model, Evidence) else _worked_out(model, seed)
        except ValueError as error:
            raise ValueError(f"model '{name}': {error}") from error
    names = list(found)
    for name in names[1:]:
        both = f"'{names[0]}' and '{name}' cannot be compared"
        check_same_values(both, found[names[0]].observed, found[name].observed, "evidences")
    values = np.array([evidence.value for evidence in found.values()])
    errors = np.array([evidence.error for evidence in found.values()])
    shares = np.exp(values + weights - (values + weights).max())
    shares = shares / shares.sum()
    others = (shares * errors) ** 2  # by the delta method: dp_k = p_k (de_k - sum over j of p_j de_j)
    spread = shares * np.sqrt(((1 - shares) * errors) ** 2 + others.sum() - others)
    order = np.argsort(-shares, kind="stable")
    best = order[0]
    factor = [0.0 if k == best else math.hypot(errors[k], errors[best]) for k in range(len(names))]
    table = pd.DataFrame(
        {
            "log_evidence": values,
            "error": errors,
            "log_bayes_factor": values - values[best],
            "log_bayes_factor_error": factor,
            "probability": shares,
            "probability_error": spread,
            "method": [evidence.method for evidence in found.values()],
        },
        index=pd.Index(names, name="model"),
    )
    return table.iloc[order]


def _worked_out(model: Any, seed: int) -> Evidence:
    if not isinstance(model, tuple) or not model:
        expected = "an Evidence, (pair, data), (pair, data, posterior) or (program, *args)"
        raise ValueError(f"expected {expected}, got {told(model)}")
    return log_evidence(*model, seed=seed)


def _prior(models: Mapping[str, Any], prior: Mapping[str, float] | None) -> np.ndarray[Any, Any]:
    """Logs of the models' own probabilities, (K,)."""
    if prior is None:
        return np.zeros(len(models))
    if not isinstance(prior, Mapping) or prior.keys() != models.keys():
        got = listed(prior) if isinstance(prior, Mapping) else told(prior)
        raise ValueError(f"prior: expected the probability of each of {listed(models)}, got {got}")
    values = np.array([float(prior[name]) for name in models])
    if not np.isfinite(values).all() or (values < 0).any() or values.sum() == 0:
        raise ValueError(f"prior: expected probabilities, got {', '.join(str(value) for value in values)}")
    with np.errstate(divide="ignore"):
        found: np.ndarray[Any, Any] = np.log(values / values.sum())
    return found
