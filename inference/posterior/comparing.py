"""Models of the same data, compared by what they expect of observations left out.

ArviZ compares (`az.compare`: differences with their standard errors, stacking weights, Yao et al. 2018, "Using stacking
to average Bayesian predictive distributions"); what it is given are the scores of `inference.posterior.loo`, in which
draws of a guide are weighed by p / q. Differences say something only where all models score the same values of the same
rows in the same units, so anything else is refused.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from inference.data.check import check
from inference.posterior.loo import LeaveOneOut, leave_one_out, loo
from inference.posterior.psis import Numbers, check_enough
from inference.running.loading import arviz
from inference.running.programmed import of_program
from inference.running.words import listed, told
from zoo.config import nearest
from zoo.programs import Program
from zoo.threads.turns import in_turn

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

_METHODS = ("stacking", "bb-pseudo-bma", "pseudo-bma")
_ALIKE = 1e-5  # of a value that single precision has rounded


@dataclass(frozen=True)
class Entry:
    """A model as it is compared: its scores, the values they are scores of where these are known, and which rows."""

    scores: LeaveOneOut
    observed: dict[str, Numbers]
    rows: tuple[Any, ...] | None = None


def compare(
    models: Mapping[str, Any], *, method: str = "stacking", site: str | None = None, seed: int = 0
) -> pd.DataFrame:
    """Models of the same data, the one first that is expected to predict new data best.

    Args:
        models: by name, each either (pair, posterior, data) as `inference.loo` takes them, (program, posterior, *args)
            with the arguments of a `zoo.program`, or what `inference.to_arviz` made of them, or scores from
            `inference.loo`.
        method: of the weights, those of `az.compare`: `stacking`, `BB-pseudo-BMA` or `pseudo-BMA`.
        site: of programs and containers with several observed sites, which is scored.
        seed: seeds the importance samples of continuous local latents.

    Returns:
        What `az.compare` returns: a line a model with its rank, expected log density of new data (nats, summed over
        rows), effective number of parameters, difference from the best and the standard error of that, and weight.

    Raises:
        ValueError: fewer than two models, other data, rows or units in one than in another, a model without global
            latents (its scores would be of data it has seen), too few draws, several observed sites and no `site`.

    Example::

        inference.compare({"line": (line, draws, data), "curve": (curve, others, data)})
    """
    if not isinstance(models, Mapping) or len(models) < 2:
        raise ValueError(f"models: expected a mapping of at least two named models, got {told(models)}")
    if not isinstance(method, str) or method.lower() not in _METHODS:
        raise ValueError(f"method: expected one of {', '.join(_METHODS)}, got {told(method)}")
    entries: dict[str, Entry] = {}
    for name, model in models.items():
        try:
            entries[str(name)] = _entry(model, site, seed)
        except ValueError as error:
            raise ValueError(f"model '{name}': {error}") from error
    return compared(entries, method)


def compared(entries: Mapping[str, Entry], method: str = "stacking") -> pd.DataFrame:
    """The same of models that are entries already."""
    az = arviz()

    names = list(entries)
    for name in names[1:]:
        _check_alike(names[0], entries[names[0]], name, entries[name])
    # What all models lose on an observation makes no difference to weights, but is nothing in floating point.
    shared = np.max([entry.scores.pointwise for entry in entries.values()], axis=0)
    given = {name: _as_arviz(entry.scores, entry.scores.pointwise - shared) for name, entry in entries.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of pandas, within ArviZ
        ranked: Any = az.compare
        whole = {"round_to": "none"} if "round_to" in inspect.signature(ranked).parameters else {}  # 1.x would round
        table: pd.DataFrame = ranked(given, method=method, **whole)
    for column, value in (("elpd", LeaveOneOut.elpd), ("se", LeaveOneOut.se)):
        place = next(known for known in (column, f"{column}_loo") if known in table)
        table[place] = [float(value.fget(entries[name].scores)) for name in table.index]  # type: ignore[attr-defined]
    return table


@in_turn
def _scored(pair: Any, posterior: Any, data: Any, seed: int) -> Entry:
    given = check(pair, data)
    if not given.globals:
        raise ValueError(f"{given.pair.name} has no global latents: its scores would be of data that it has seen")
    fields = given.batch.fields()
    observed = {name: fields[name].detach().cpu().double().numpy() for name in given.observed if name in fields}
    return Entry(loo(pair, posterior, given, seed=seed), observed)


def _entry(model: Any, site: str | None, seed: int) -> Entry:
    if isinstance(model, LeaveOneOut):
        return Entry(model, {})
    if isinstance(model, tuple) and len(model) > 1 and isinstance(model[0], Program):
        return cast("Entry", of_program("scores", "entry")(*model, site=site, seed=seed))
    if isinstance(model, tuple) and len(model) == 3:
        return _scored(*model, seed)
    if hasattr(model, "groups") and hasattr(model, "attrs"):
        return of_container(model, site)
    expected = "(pair, posterior, data), what inference.to_arviz made, or scores from inference.loo"
    raise ValueError(f"expected {expected}, got {told(model)}")


def of_container(container: Any, site: str | None = None) -> Entry:
    """The entry of an ArviZ container, of whichever line: its draws count by p / q where they are a guide's.

    Raises:
        ValueError: it holds no pointwise log likelihood, or no draws of global latents.
    """

    import xarray as xr

    def group(name: str) -> xr.Dataset | None:
        try:
            found = container[name]
        except (KeyError, AttributeError):
            return None
        return found if isinstance(found, xr.Dataset) else found.to_dataset()

    likelihood, posterior, stats = group("log_likelihood"), group("posterior"), group("sample_stats")
    names = [] if likelihood is None else [str(name) for name in likelihood.data_vars]
    if likelihood is None or (site is None and len(names) != 1):
        words = f"found {len(names)}" + (f", {listed(names)}: say which with site=" if names else "")
        raise ValueError(f"expected one pointwise log likelihood, as inference.to_arviz writes it, {words}")
    if site is not None and site not in names:
        raise ValueError(f"site: there is no log likelihood of '{site}'{nearest(site, names)}, but of {listed(names)}")
    values = likelihood[site or names[0]]
    if posterior is None or not any("obs" not in variable.dims for variable in posterior.data_vars.values()):
        raise ValueError("it has no draws of global latents: its scores would be of data that it has seen")
    log_p = values.stack(draws=("chain", "draw")).transpose("draws", ...).to_numpy()
    log_p = log_p.reshape(len(log_p), -1)
    check_enough("draws", len(log_p), "the Pareto k of a leave-one-out score")
    ratios = None
    if stats is not None and container.attrs.get("inference_method", stats.attrs.get("inference_method")) == "svi":
        if not {"log_p", "log_q"} <= set(stats.data_vars):
            raise ValueError("these draws of a guide lack log_p and log_q: draw them with stats=True")
        ratios = (stats["log_p"] - stats["log_q"]).to_numpy().ravel().astype(np.float64)
        ratios = ratios if np.isfinite(ratios).all() else None  # a point guide has no density
    seen = group("observed_data")
    observed = {} if seen is None else {str(name): found.to_numpy() for name, found in seen.data_vars.items()}
    if site is not None:
        observed = {name: value for name, value in observed.items() if name in site.split("+")}
    rows = tuple(values["obs"].to_numpy().tolist()) if "obs" in values.coords else None
    return Entry(leave_one_out(log_p, ratios), observed, rows)


def _check_alike(first: str, one: Entry, name: str, other: Entry) -> None:
    """Refuse scores of other rows, of other variables, or of other values."""
    both = f"'{first}' and '{name}' cannot be compared"
    counts = len(one.scores.pointwise), len(other.scores.pointwise)
    if counts[0] != counts[1] or (one.rows and other.rows and one.rows != other.rows):
        raise ValueError(f"{both}: they score {counts[0]} and {counts[1]} observations, not the same rows")
    if counts[0] < 2:
        raise ValueError(f"{both}: of a single observation nothing is left to predict it from")
    check_same_values(both, one.observed, other.observed, "scores")


def check_same_values(
    both: str, one: Mapping[str, np.ndarray[Any, Any]], other: Mapping[str, np.ndarray[Any, Any]], what: str
) -> None:
    """Refuse densities of other variables, or of other values, where these are known.

    Args:
        both: what cannot be done then, in words.
        one, other: the values that each is a density of, by site.
        what: those densities, in words.

    Raises:
        ValueError: with what differs.
    """
    if not one or not other:
        return
    shapes = [{key: value.shape for key, value in values.items()} for values in (one, other)]
    if shapes[0] != shapes[1]:
        told_ = [", ".join(f"{key} {tuple(shape)}" for key, shape in found.items()) for found in shapes]
        raise ValueError(f"{both}: they are densities of different things, {told_[0]} and {told_[1]}")
    for key, value in one.items():
        against = other[key]
        if value.dtype.kind in "fiub" and against.dtype.kind in "fiub":
            same = np.isclose(value, against, rtol=_ALIKE, atol=1e-30, equal_nan=True)
        else:
            same = value == against
        if not same.all():
            at = tuple(int(i) for i in np.argwhere(~same)[0])
            raise ValueError(
                f"{both}: their {key} differ, as at {at}, {value[at]} and {against[at]}: {what} are comparable only of "
                "the same rows in the same units"
            )


def _as_arviz(scores: LeaveOneOut, pointwise: Numbers) -> Any:
    """Scores as ArviZ keeps them, of either line."""
    import xarray as xr

    each = xr.DataArray(pointwise, dims=["obs"])
    k = xr.DataArray(scores.pareto_k, dims=["obs"])
    total, se = float(pointwise.sum()), float((len(pointwise) * pointwise.var()) ** 0.5)
    numbers: dict[str, Any] = {
        "se": se,
        "n_samples": 0,
        "n_data_points": len(pointwise),
        "warning": scores.unsure > 0,
        "scale": "log",
    }
    numbers |= {"good_k": scores.threshold, "pareto_k": k}
    az = arviz()

    if hasattr(az, "InferenceData"):  # 0.x: a Series, told by its first name
        found = {"elpd_loo": total, "p_loo": scores.penalty, "loo_i": each, **numbers}
        return az.ELPDData(data=list(found.values()), index=list(found))
    from arviz_stats import utils

    kind = getattr(utils, "ELPDDataLOO", None)
    more: dict[str, Any] = {} if kind is not None else {"kind": "loo"}
    return (kind or utils.ELPDData)(elpd=total, p=scores.penalty, elpd_i=each, **numbers, **more)
