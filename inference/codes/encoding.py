"""What an encoder knows: codes of observations, and what the codes stand for.

Works for every pair with local latents, read from its trace: codes z_n drawn by the guide, and classes summed out by
the model, whose posterior is exact. Global latents t are averaged over: by draws of a `Posterior`, or by a few dozen
from the guide. Nothing here holds more than a few times `zoo.settings.memory` numbers beside its result, whatever the
numbers of rows and draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from inference.codes.reading import Codes, Values
from inference.data.check import check, example
from inference.posterior.draws import Posterior
from inference.posterior.likelihood import assignments
from inference.running.effort import check_effort
from inference.running.expectation import settle, summary
from inference.running.quiet import quietly
from inference.running.vectorised import vectorised
from inference.running.words import check_count
from zoo.arrays import as_tensor
from zoo.base import FIELDS, Batch, ModelGuide
from zoo.images import shaped
from zoo.settings import settings
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn


@dataclass(frozen=True)
class Encoding:
    """Codes of N observations, by site.

    Args:
        mean: E[z_n | x_n], (N, *event); of an enumerated latent the probability of each class, (N, K).
        sd: standard deviations, (N, *event); enumerated latents have none.
        draws: draws from q(z_n | x_n), (chain, draw, N, *event); empty when none were asked for.
    """

    mean: dict[str, Tensor]
    sd: dict[str, Tensor]
    draws: dict[str, Tensor] = field(default_factory=dict)


@in_turn
def encode(
    pair: ModelGuide, data: Any, *, draws: int = 0, posterior: Posterior | None = None, seed: int = 0
) -> Encoding:
    """Codes of each observation: mean, standard deviation, and draws if asked for.

    Moments are in closed form where the guide's distribution has them, and then do not depend on the other rows;
    else from 1,000 draws. An enumerated latent has the exact probabilities of its classes.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: from q(z | x), for each row.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds the draws; the caller's random state is left as it was.

    Raises:
        ValueError: the pair has no local latents, or the data do not fit it.
    """
    check_count("draws", draws, least=0)
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    each = sum(given.sites[name].event_shape.numel() for name in given.locals)
    check_room("draws", draws, draws * batch.size * each * pair.dtype.itemsize)
    mean: dict[str, Tensor] = {}
    sd: dict[str, Tensor] = {}
    drawn: dict[str, Tensor] = {}
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        for rows, part in codes.rows(batch):
            for name, (first, second) in _moments(codes, part, globals_).items():
                _put(mean, name, first, rows, batch.size)
                _put(sd, name, second, rows, batch.size)
        if codes.enumerated:
            mean[codes.enumerated] = _class_probabilities(codes, batch, globals_)
        if draws:
            for rows, part in codes.rows(batch):
                for some, fixed in codes.draws(draws, part, globals_):
                    for name, value in _draw(codes, part, some.stop - some.start, fixed).items():
                        _put(drawn, name, value, (some, rows), draws, batch.size)
    return Encoding(mean, sd, {name: value[None] for name, value in drawn.items()})


@in_turn
def decode(pair: ModelGuide, codes: Any, *, posterior: Posterior | None = None, seed: int = 0) -> dict[str, Tensor]:
    """What observations with these codes are expected to be, averaged over the global latents.

    Args:
        pair: a fitted pair.
        codes: (M, L) or whatever the shape of a local latent is, where there is one; else site -> (M, *event). The
            classes of an enumerated latent are whole numbers.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds them, and the covariates of `pair.inputs` where the pair has any.

    Returns:
        observed site -> its mean, (M, *event); of a pair made for images x has their shape. A distribution of which a
        mean makes no sense says what may be averaged
        (`summary`) and what that stands for (`settle`): of the categories of a table, the most probable.

    Raises:
        ValueError: codes of the wrong names or shape, or not finite.
    """
    given = example(pair)
    known = Codes.of(given)
    found: dict[str, Tensor] = {}
    fns: dict[str, Any] = {}
    with quietly(seed, pair):
        values = _check_codes(known, codes)
        count = len(next(iter(values.values())))
        batch = pair.inputs(count).to(pair.device, pair.dtype)
        globals_ = known.global_draws(given.batch, posterior)
        for rows, part in known.rows(batch):
            here = {name: value[None, rows] for name, value in values.items()}
            for fixed in globals_:
                sites = known.model_given(part, 1, here, fixed)
                for name in known.observed:
                    fns[name] = sites[name]["fn"]
                    _add(found, name, summary(fns[name])[0], rows, count, len(globals_))
    return shaped(pair.image, {name: settle(fns[name], average) for name, average in found.items()})


@in_turn
def reconstruct(
    pair: ModelGuide, data: Any, *, draws: int = 0, posterior: Posterior | None = None, seed: int = 0
) -> Tensor:
    """Observations as their codes tell them, (N, *event): the expected x given z, averaged over the global latents.

    Of a pair made for images they are images, (N, H, W) or (N, C, H, W).

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: 0 for z at the encoder's mean; else the average over so many z from the encoder. Classes are always
            averaged over with their exact probabilities.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds the draws.

    Raises:
        ValueError: the pair has no local latents, or the data do not fit it.
    """
    check_count("draws", draws, least=0)
    given = check(pair, data)
    batch, codes = given.batch, Codes.of(given)
    check_effort(given, "draws", draws)
    site = next(name for name in FIELDS if name in codes.observed)
    found: dict[str, Tensor] = {}
    with quietly(seed, pair):
        globals_ = codes.global_draws(batch, posterior)
        number = max(draws, len(globals_))
        for rows, part in codes.rows(batch):
            centre = _moments(codes, part, globals_) if draws == 0 else {}
            for some, fixed in codes.draws(number, part, globals_):
                fn, x = None, torch.empty(0)  # those of the piece before are let go
                count = some.stop - some.start
                values = {name: mean.expand(count, *mean.shape) for name, (mean, _) in centre.items()}
                if draws and codes.drawn:
                    values = codes.propose(part, count, fixed)[0]
                fn, x = _expected(codes, part, count, values, fixed, site)
                _add(found, site, x.sum(0), rows, batch.size, number)
    return shaped(pair.image, {site: settle(fn, found[site])})[site]


def _put(into: dict[str, Tensor], name: str, value: Tensor, at: Any, *lead: int) -> None:
    if name not in into:
        into[name] = value.new_empty(*lead, *value.shape[len(lead) :])
    into[name][at] = value


def _add(into: dict[str, Tensor], name: str, value: Tensor, rows: slice, size: int, total: int) -> None:
    """Add this share of a mean over `total` draws, (B, *event), to the rows where it belongs."""
    if name not in into:
        into[name] = value.new_zeros(size, *value.shape[1:])
    into[name][rows] += value / total


def _moments(codes: Codes, part: Batch, globals_: list[Values]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each code, (B, *event): E[m] and E[v] + Var[m] over whatever m and v depend on."""
    if not codes.drawn:
        return {}
    # Two draws tell whether anything random stands behind the moments.
    one, other = (_conditional(codes, part, 1, fixed) for fixed in (globals_[0], globals_[-1]))
    if all(torch.equal(a, b) for name in one for a, b in zip(one[name], other[name], strict=True)):
        return {name: (mean[0], variance[0].sqrt()) for name, (mean, variance) in one.items()}
    number = max(settings.moment_draws, len(globals_))
    centre = {name: mean[0].clone() for name, (mean, _) in one.items()}  # so that squares do not cancel
    first = {name: torch.zeros_like(c) for name, c in centre.items()}
    second = {name: torch.zeros_like(c) for name, c in centre.items()}
    for some, fixed in codes.draws(number, part, globals_):
        for name, (mean, variance) in _conditional(codes, part, some.stop - some.start, fixed).items():
            shift = mean - centre[name]
            first[name] += shift.sum(0) / number
            second[name] += (variance + shift.square()).sum(0) / number
    return {
        name: (c + first[name], (second[name] - first[name].square()).clamp(min=0).sqrt()) for name, c in centre.items()
    }


def _conditional(codes: Codes, part: Batch, count: int, fixed: Values) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each code given all that the guide drew before it, (S, B, *event).

    A code whose distribution does not know them is its own mean, without variance.
    """
    trace = vectorised(codes.pair.guide, part, count, fixed, frozenset())
    found = {}
    for name, site in codes.drawn.items():
        node = trace.nodes[name]
        try:
            mean, variance = node["fn"].mean, node["fn"].variance
        except (NotImplementedError, AttributeError):
            mean, variance = node["value"], torch.zeros_like(node["value"])
        shape = (count, part.size, *site.event_shape)
        found[name] = (mean.expand(shape), variance.expand(shape))
    return found


def _class_probabilities(codes: Codes, batch: Batch, globals_: list[Values]) -> Tensor:
    """Posterior probability of each class, (N, K)."""
    site = codes.enumerated or ""
    if not codes.drawn:  # exact
        stacked = {name: torch.cat([values[name] for values in globals_])[None] for name in globals_[0]}
        return assignments(codes.pair, Posterior(stacked, chains=1, size=len(globals_)), codes.given.but(batch))[site]
    found: dict[str, Tensor] = {}
    number = max(settings.moment_draws, len(globals_))
    for rows, part in codes.rows(batch):
        for some, fixed in codes.draws(number, part, globals_):
            count = some.stop - some.start
            values = codes.propose(part, count, fixed)[0]
            classes = codes.log_classes(part, count, codes.model_given(part, count, values, fixed, True))
            _add(found, site, classes.exp().sum(1).T, rows, batch.size, number)
    return found[site]


def _draw(codes: Codes, part: Batch, count: int, fixed: Values) -> dict[str, Tensor]:
    """Codes from the guide, and classes from their exact posterior: site -> (S, B, *event)."""
    values = codes.propose(part, count, fixed)[0] if codes.drawn else {}
    return values | draw_class(codes, part, count, values, fixed)


def draw_class(codes: Codes, part: Batch, count: int, values: Values, fixed: Values) -> dict[str, Tensor]:
    """The class of each row at its codes, drawn from its exact posterior: site -> (S, B); nothing without classes."""
    if codes.enumerated is None:
        return {}
    logits = codes.log_classes(part, count, codes.model_given(part, count, values, fixed, enumerate_=True))
    return {codes.enumerated: torch.distributions.Categorical(logits=logits.movedim(0, -1)).sample()}


def _expected(codes: Codes, part: Batch, count: int, values: Values, fixed: Values, site: str) -> tuple[Any, Tensor]:
    """The distribution of x, and its summary with classes averaged over, (S, B, *event)."""
    sites = codes.model_given(part, count, values, fixed, enumerate_=codes.enumerated is not None)
    fn = sites[site]["fn"]
    value = summary(fn)
    event = value.shape[len(fn.batch_shape) :]
    if codes.enumerated is not None:
        weight = codes.log_classes(part, count, sites).exp()  # (K, S, B)
        value = (weight.reshape(*weight.shape, *[1] * len(event)) * value).sum(0)
    return fn, value.expand(count, part.size, *event)


def _check_codes(codes: Codes, given: Any) -> dict[str, Tensor]:
    name = codes.pair.name
    if not isinstance(given, Mapping):
        if len(codes.names) > 1:
            raise ValueError(f"{name} has several codes: give a dict of {', '.join(codes.names)}")
        given = {codes.names[0]: given}
    if given.keys() != set(codes.names):
        raise ValueError(f"{name}: expected codes {', '.join(codes.names)}, got {', '.join(given) or 'none'}")
    values: dict[str, Tensor] = {}
    size = 0
    for site in codes.names:
        drawn = site in codes.drawn
        try:
            value = as_tensor(site, given[site]).to(codes.pair.device, codes.pair.dtype)
        except ValueError as error:
            raise ValueError(f"codes: {error}") from error
        event = tuple(codes.drawn[site].event_shape) if drawn else ()
        size = size or (len(value) if value.ndim else 0)
        if value.ndim == 0 or value.shape != (size, *event) or size == 0:
            wanted = ", ".join(["M", *map(str, event)])
            raise ValueError(f"codes '{site}': expected shape ({wanted}), got {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"codes '{site}': expected finite numbers")
        if not drawn and not bool((value == value.long()).all()):
            raise ValueError(f"codes '{site}': expected whole numbers, the classes")
        values[site] = value if drawn else value.long()
    return values
