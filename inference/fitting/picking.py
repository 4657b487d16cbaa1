"""`guide="auto"`: the family of a guide over global latents, by what it costs and by what its weights say.

Of P numbers a factorised Gaussian costs P a step, one of low rank P sqrt(P), one of full covariance P^2, and a flow
some networks of P inputs at 32 draws. So a Gaussian first: `multivariate` up to 100 numbers, `lowrank` up to 1,000,
else `normal`. Where its weights p / q say that the posterior is no Gaussian (their effective share is below 0.3, as it
must not be for `inference.infer` to believe one) and the numbers are few, at most 40, a `flow` goes on from that very
Gaussian; it is kept if the bound on the log evidence has risen, beyond the error of so many draws. The same seed takes
the same family, but where `max_seconds` leaves no time for a flow.
"""

from __future__ import annotations

import functools
import inspect
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from inference.data.check import check
from inference.fitting import doubt
from inference.fitting.options import device_of
from inference.running.checked import Checked
from zoo import guides
from zoo.base import ModelGuide
from zoo.flows import zuko
from zoo.guides import Family
from zoo.structure import note

P = ParamSpec("P")
F = TypeVar("F")  # an `inference.Fit`
FULL, LOW = 100, 1000  # numbers up to which a guide holds all correlations, or some
FEW = 40  # up to which a flow is tried
SHARE = 0.3  # of the weights, from which a Gaussian is believed
_SURE = 2.0  # standard errors


def by_size(size: int) -> Family:
    """The Gaussian for so many numbers."""
    return "multivariate" if size <= FULL else "lowrank" if size <= LOW else "normal"


def by_family(fit: Callable[P, F]) -> Callable[P, F]:
    """A fit that picks the family of a pair's guide where that is `auto`; the pair is of that family afterwards.

    A fit that raises leaves it `auto`.
    """

    @functools.wraps(fit)
    def either(*args: P.args, **kwargs: P.kwargs) -> F:
        pair: Any = args[0] if args else kwargs.get("pair")
        if not isinstance(pair, ModelGuide) or pair.guide_family != "auto" or pair.automatic is None:
            return fit(*args, **kwargs)
        given = inspect.signature(fit).bind(*args, **kwargs)
        given.apply_defaults()
        return cast(F, _fitted(fit, **given.arguments))

    return either


def _fitted(fit: Callable[..., Any], pair: ModelGuide, data: Any, y: Any, **options: Any) -> Any:
    """A fit of a Gaussian, and of a flow from there.

    Raises:
        ValueError: checkpoints, which are of one fit; a class without an argument `guide`, by which it could be saved.
    """
    if options["checkpoint"] is not None:
        raise ValueError("checkpoint: guide='auto' may fit twice; name a family, or fit without checkpoints")
    if "guide" not in pair.config:
        raise ValueError(f"{pair.name}: guide='auto' wants an argument `guide: zoo.guides.Family` of the class")
    pair.to(device_of(options["device"]))
    given = check(pair, data if y is None else (data, y))
    auto: Any = pair.automatic
    size = int(auto.latent_dim)
    family, began, room = by_size(size), time.perf_counter(), options["max_seconds"]
    with _or_back(pair):
        guides.adopt(pair, family, given.example)
        result = fit(pair, given, **options)
        weights, told = _weights(given, options, result), f"{size:,} number{'s' * (size != 1)}"
        if weights is None:
            return _said(pair, result, f"{family}: {told}")
        share = doubt.share_of(weights)
        told += f", effective share of its weights {share:.1%}"
        left = None if room is None else room + began - time.perf_counter()
        against = ""
        if size > FEW:
            against = f"a flow is for at most {FEW}"
        elif options["method"] == "em":
            against = "expectation-maximisation takes no steps"
        elif left is not None and left <= 0:
            against = "there was no time for a flow"
        else:
            against = _missing()
        if share >= SHARE or against:
            return _said(pair, result, f"{family}: {told}" + f", and {against}" * (share < SHARE))
    return _bent(fit, given, result, weights, {**options, "initialise": False, "max_seconds": left}, told)


def _bent(fit: Callable[..., Any], given: Checked, first: Any, before: Tensor, options: Any, told: str) -> Any:
    """A flow from where the Gaussian stands, and back if that was no gain."""
    pair = given.pair
    with _or_back(pair) as back:
        guides.adopt(pair, "flow", given.example)
        second = fit(pair, given, **options)
        after = doubt.weights_of(given, options["seed"])
        risen = -math.inf if after is None else float((after.mean() - before.mean()).nan_to_num(-math.inf))
        error = math.inf if after is None else math.sqrt(float(after.var() + before.var()) / len(before))
        gain = risen > _SURE * error or math.isinf(float(before.mean()))
        if not gain:
            back()
    words = f"multivariate: {told}, and a flow from there was no better"
    if gain and after is not None:
        words = f"flow: {told} as multivariate, {doubt.share_of(after):.1%} as flow"
    whole = replace(
        second,
        losses=np.concatenate([first.losses, second.losses]),
        steps=first.steps + second.steps,
        epochs=first.epochs + second.epochs,
        reason=second.reason if gain else first.reason,
        seconds=first.seconds + second.seconds,
        trace_seconds=first.trace_seconds + second.trace_seconds,
        skipped=first.skipped + second.skipped,
        learning_rates=[*first.learning_rates, *second.learning_rates],
        kept=first.kept,
    )
    return _said(pair, whole, words)


def _said(pair: ModelGuide, result: Any, words: str) -> Any:
    """The same, with which family was taken and why; in the card too."""
    card = pair.card.get("fit")
    if isinstance(card, dict):
        card |= {"guide": words, "stopped": result.reason, "steps": result.steps, "epochs": round(result.epochs, 2)}
        card |= {"skipped_steps": result.skipped, "seconds": round(result.seconds, 2)}
    return replace(result, guide=words)


def _weights(given: Checked, options: dict[str, Any], result: Any) -> Tensor | None:
    """Log weights of draws of the guide, (S,); None where they say nothing of what was fitted."""
    validated = not isinstance(options["validation"], (int, float)) or options["validation"] > 0
    stopped = result.reason in ("interrupted", "stopped by a callback", "stopped by a logger")
    return None if validated or stopped else doubt.weights_of(given, options["seed"])


def _missing() -> str:
    """What stands against a flow here."""
    try:
        zuko()
    except ValueError as error:
        return str(error)
    return ""


@contextmanager
def _or_back(pair: ModelGuide) -> Iterator[Callable[[], None]]:
    """The guide, its family and the other parameters as they were if what follows raises, or asks for it."""
    auto, family, named = pair.automatic, pair.guide_family, pair.config["guide"]
    values = {name: value.detach().clone() for name, value in pair.own_parameters().items()}
    card, history = pair.card, pair._history

    def back() -> None:
        pair._modules["auto"] = auto
        pair.guide_family, pair.card = family, card
        pair.config["guide"] = named
        note(pair, "auto")
        with torch.no_grad():
            for name, value in pair.own_parameters().items():
                value.copy_(values[name])

    try:
        yield back
    except BaseException:
        back()
        pair._history = history
        raise
