"""What a page was made of: data, draws, arguments, fit, versions, seed, command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from inference.posterior.latents import Posterior
from inference.reporting.numbers import short
from inference.roads.grounds import Inferred
from inference.running.checked import Checked
from zoo.base import ModelGuide
from zoo.history import fingerprint
from zoo.version import versions

_METHODS = {
    "svi": "drawn from the fitted guide",
    "psis": "drawn from the fitted guide and resampled by their weights p / q",
    "mcmc": "drawn by Markov chain Monte Carlo",
    "prior": "drawn from the prior, which has seen no data",
}
_BESIDE = ("numpy", "arviz", "arviz-stats", "matplotlib")
_LETTERS = 300


def told(given: Checked) -> str:
    """What was observed, in a line."""
    fields = given.batch.fields()
    each = [
        f"{name} ({' × '.join(map(str, fields[name].shape[1:])) or 'a number'})"
        for name in given.observed
        if name in fields
    ]
    rows = "series" if given.example.lengths is not None else "observations"
    return f"Data: {given.size:,} {rows} of {' and '.join(each) or 'nothing'}."


def drawn(posterior: Posterior) -> str:
    """How draws were made, in a line."""
    how = _METHODS.get(posterior.method, posterior.method)
    if isinstance(posterior, Inferred):
        how = f"by the {posterior.road} road of inference.infer, {how}"
    several = f"{posterior.chains:,} chains of " if posterior.chains > 1 else ""
    return f"Draws: {several}{posterior.size:,}, {how}."


def of_pair(given: Checked, command: str, seed: int) -> dict[str, dict[str, str]]:
    """Tables of where a page of a pair comes from."""
    pair = given.pair
    card = pair.card
    data, fit = dict(card.get("data") or {}), dict(card.get("fit") or {})
    fit.pop("grounds", None)  # which are among the findings
    found = {
        "This page": listed({"command": command, "seed": seed}),
        "Data": listed({**data, "rows": given.size, "checksum of these": fingerprint(given.batch)}),
        "Arguments of the model": listed(pair.config),
        "Fit": listed({**fit, "seed": card.get("seed")}),
        "Scores that the run left": listed(card.get("metrics") or {}),
        "Versions": used_versions(),
    }
    return {head: values for head, values in found.items() if values}


def of_program(arguments: Mapping[str, Any], command: str, seed: int) -> dict[str, dict[str, str]]:
    """Tables of where a page of a program comes from."""
    shapes = {name: _shape(value) for name, value in arguments.items()}
    found = {
        "This page": listed({"command": command, "seed": seed}),
        "Arguments of the model": listed(shapes),
        "Versions": used_versions(),
    }
    return {head: values for head, values in found.items() if values}


def other_versions(pair: ModelGuide) -> str:
    """What to say of a pair that was fitted by another version; empty: it was not."""
    before, now = pair.card.get("versions") or {}, versions()
    if not isinstance(before, Mapping):
        return "The model's card does not say by which versions it was fitted."
    differ = [
        f"{name} {before[name]} (now {now[name]})" for name in now if name in before and before[name] != now[name]
    ]
    return f"The model was fitted by other versions: {', '.join(differ)}." if differ else ""


def used_versions() -> dict[str, str]:
    """Versions of what numbers and pictures depend on."""
    found = dict(versions())
    for name in _BESIDE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not known"
    return found


def listed(values: Mapping[str, Any]) -> dict[str, str]:
    """Names and values as a page shows them; those that are None are left out."""
    return {str(name): _cell(value) for name, value in values.items() if value is not None}


def _cell(value: Any) -> str:
    if isinstance(value, (bool, int, float)):
        return short(value) if not isinstance(value, bool) else ("yes" if value else "no")
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]} …"


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return _cell(value) if shape is None else f"{type(value).__name__} of shape {tuple(shape)}"
