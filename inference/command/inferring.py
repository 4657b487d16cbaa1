"""`zoo fit` by the road whose evidence holds: which pairs take one, and how what it found is kept in the run.

A posterior that came as draws, by chains, particles or weights, is kept as such, in the place of the guide: `zoo
sample`, `predict` and the others draw from it. Pairs of networks are fitted: their road is the fit.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from typing import Any

import torch

from inference.fitting.exact import fixed
from inference.roads.grounds import Ground, Inferred
from inference.roads.infer import infer, latents
from inference.roads.roads import LARGEST
from inference.running.checked import Checked
from inference.running.constants import described
from inference.sampling.chains import SamplingError
from zoo import held
from zoo.base import ModelGuide
from zoo.threads.randomness import apart
from zoo.version import versions

BUDGET = 120.0  # seconds by default: whoever waits longer says so
KEPT = 4096  # draws
_NUMBERS = ("epochs", "steps", "max_seconds", "batch_size", "lr", "particles", "log")  # options of a fit; None if not


def asked(options: argparse.Namespace) -> str:
    """The option that asks for a fit in particular, as it was typed; empty where none does.

    Raises:
        ValueError: `--method infer` beside such an option, or a budget beside it.
    """
    typed = [f"--{name.replace('_', '-')}" for name in _NUMBERS if getattr(options, name) is not None]
    typed += ["--objective"] * (options.objective != "elbo") + ["--validation"] * bool(options.validation)
    typed += ["--set guide"] * ("guide" in options.set) + ["--device"] * (options.device != "auto")
    if options.method in ("svi", "em"):
        typed.insert(0, f"--method {options.method}")
    elif options.method == "infer" and typed:
        raise ValueError(f"--method infer: takes no {typed[0]}, which is an option of a fit")
    if typed and options.budget is not None:
        raise ValueError(f"--budget: is one of --method infer, and {typed[0]} asks for a fit; --max-seconds ends that")
    return typed[0] if typed else ""


def inferred(given: Checked, options: argparse.Namespace) -> Inferred | None:
    """The posterior by the road whose evidence holds, kept in the pair with its card; None where a fit is to be made.

    Args:
        given: the pair and its data.
        options: what was typed.
    """
    if asked(options):
        return None
    pair, why = given.pair, _fitted(given)
    if why:
        if options.method == "infer":
            raise ValueError(f"--method infer: {pair.name} {why}")
        return None
    if options.method != "infer" and pair.own_parameters() and (count := latents(given)) > LARGEST:
        told = "which its own guide takes in steps; --method infer goes on to chains, for as long as --budget says"
        print(f"note: {pair.name} has {count:,} latents, {told}", flush=True)
        return None
    budget = BUDGET if options.budget is None else options.budget
    try:
        found = infer(pair, given, budget=budget, seed=options.seed, progress=sys.stderr.isatty())
    except SamplingError as error:
        print(f"note: {error}; so it is fitted", flush=True)
        return None
    if found.method != "svi":  # draws, and not those of the guide
        few = found.thin(max(1, KEPT // found.chains))
        held.hold(pair, {name: few.draws[name] for name in few.draws if name in given.globals}, found.method)
    pair.card = _card(given, found, options.seed)
    return found


def _fitted(given: Checked) -> str:
    """Why a pair is fitted, in words that go on after its name; empty where a road is taken."""
    pair = given.pair
    if given.continuous_locals:
        return "has latents of single observations, which a network reads off the data"
    if all(given.sites[name].enumerated for name in given.globals):
        return "has no latents but its parameters"
    with apart():
        return "" if fixed(pair, given.example) else "has networks, whose parameters are fitted"


def _card(given: Checked, found: Inferred, seed: int) -> dict[str, Any]:
    """What the pair says of itself."""
    known = not math.isnan(found.log_evidence)
    fit = {
        "road": found.road,
        "trusted": found.trusted,
        "told": str(found),
        "seconds": round(found.seconds, 2),
        "threads": torch.get_num_threads(),
        "grounds": [vars(ground) for ground in found.grounds],
    }
    return {
        "data": {name: list(value.shape) for name, value in given.batch.fields().items()},
        "metrics": {"log_evidence_per_observation": found.log_evidence / given.size} if known else {},
        "fit": fit,
        **({"constants": constants} if (constants := described(given.pair)) else {}),
        "seed": seed,
        "versions": versions(),
    }


def kept(pair: ModelGuide) -> Inferred | None:
    """The posterior that a run keeps as draws, with the evidence of its road; None where its guide is the posterior."""
    draws, fit = held.of(pair), pair.card.get("fit", {})
    if draws is None:
        return None
    grounds = [
        Ground(str(one["name"]), _number(one["value"]), _number(one["limit"]), bool(one["least"]))
        for one in fit.get("grounds", ())
    ]
    values = dict(draws.draws)
    found = Inferred(values, frozenset(), {}, draws.method, draws.chains, draws.size, road=str(fit.get("road", "")))
    return replace(found, trusted=bool(fit.get("trusted")), grounds=tuple(grounds))


def _number(value: Any) -> float:
    """A number of a card, in which those that are not finite are null."""
    return math.nan if value is None else float(value)
