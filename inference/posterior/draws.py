"""Draws of the latents from guide and prior, and what they predict.

Everything runs in pieces (draws x rows), so that memory beyond the result itself is bounded whatever N and the number
of draws are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from inference.data.check import check, example, new_rows
from inference.posterior.check import check_posterior
from inference.posterior.latents import Posterior
from inference.running.checked import Checked, at
from inference.running.marginal import log_joint, pointwise
from inference.running.pieces import draws_of_globals
from inference.running.programmed import or_program
from inference.running.quiet import quietly
from inference.running.vectorised import Redraw, vectorised
from inference.running.words import check_bool, check_count
from zoo import held
from zoo.base import Batch, ModelGuide, is_local, sample_sites
from zoo.images import shaped
from zoo.state.memory import check_room
from zoo.threads.turns import in_turn

__all__ = ["Posterior", "draw", "generate", "predict", "prior"]


@in_turn
@or_program("fit")
def draw(pair: ModelGuide, data: Any, draws: int = 1000, *, stats: bool = True, seed: int = 0) -> Posterior:
    """Draws from the guide: chain 1 of `draws`, global latents once, local latents for every row of the data.

    Of a pair that holds draws of its posterior, as a run of `zoo fit` may, in the place of its guide: some of these.

    Args:
        pair: a fitted pair.
        data: see `inference.data`.
        draws: how many.
        stats: with the log densities of each draw of the globals, which need a pass over the data for each; `khat`
            and ArviZ's sample_stats want them.
        seed: seeds the draws; the caller's random state is left as it was.

    Raises:
        ValueError: data that do not fit the pair, or no draws asked for.
    """
    check_count("draws", draws)
    check_bool("stats", stats)
    return drawn(check(pair, data), draws, stats=stats, seed=seed)


def drawn(given: Checked, draws: int, *, stats: bool = True, seed: int = 0, rows: Tensor | None = None) -> Posterior:
    """`draw` for data that have been checked.

    Args:
        given: all the data of the posterior: the log densities in `stats` are of all of them.
        draws, stats, seed: see `draw`. The same seed gives the same globals, whatever the rows.
        rows: which observations' local latents are drawn, (M,); by default all.
    """
    pair, batch, kept = given.pair, given.batch, held.of(given.pair)
    check_draws("draws", draws, given, given.globals + given.locals, given.size if rows is None else len(rows))
    found: dict[str, list[Tensor]] = {}
    log_q: list[Tensor] = []
    with quietly(seed, pair):
        local = _guide_sites(pair, given.example)
        first = batch.select(slice(0, min(2, batch.size)))
        each = sum(given.sites[name].event_shape.numel() for name in given.globals)
        for piece in draws_of_globals(draws, each):
            trace = vectorised(pair.guide, first, piece.stop - piece.start, {}, frozenset())
            trace.compute_log_prob()
            log_q.append(_global_log_density(trace, piece.stop - piece.start))
            for name in (name for name, is_local in local.items() if not is_local):
                found.setdefault(name, []).append(trace.nodes[name]["value"].squeeze(1))
        values = {name: torch.cat(parts) for name, parts in found.items()}
        names = frozenset(name for name, is_local in local.items() if is_local)
        if names and (rows is None or len(rows)):
            values |= _draw_locals(given if rows is None else given.select(rows), draws, values, names)
        densities = {}
        if found and stats:
            log_p = log_joint(given, {name: values[name] for name in found})
            densities = {"log_p": log_p[None]}
            densities |= {} if kept else {"log_q": torch.cat(log_q)[None]}  # draws that are kept have no density
        elif not names and stats:  # without any latent: the same for every draw
            log_p = torch.stack([part.sum() for _, part in pointwise(given, {}, 1)]).sum().expand(1, draws)
            densities = {"log_p": log_p, "log_q": torch.zeros_like(log_p)}
    values = {name: value[None] for name, value in values.items()}
    return Posterior(values, names & values.keys(), densities, kept.method if kept else "svi", 1, draws)


def check_draws(option: str, draws: int, given: Checked, names: Sequence[str], rows: int = 1) -> None:
    """Refuse so many draws of these sites where memory does not hold them, local ones for each of the rows.

    Raises:
        ValueError: naming the option.
    """
    sites = [given.sites[name] for name in names]
    numbers = sum(site.event_shape.numel() * (rows if site.local else 1) for site in sites if not site.enumerated)
    check_room(option, draws, draws * max(1, numbers) * given.pair.dtype.itemsize)


def _guide_sites(pair: ModelGuide, batch: Batch) -> dict[str, bool]:
    """Latents that the guide draws, in order: name -> whether local."""
    trace = poutine.trace(pair.guide).get_trace(batch)
    return {name: is_local(site) for name, site in sample_sites(trace).items() if not site["infer"].get("is_auxiliary")}


def _global_log_density(trace: Any, draws: int) -> Tensor:
    total = torch.zeros(draws)
    for site in sample_sites(trace).values():
        if not is_local(site):
            total = total.to(site["log_prob"]) + site["log_prob"].expand(draws, -1).sum(-1)
    return total


def _draw_locals(given: Checked, draws: int, fixed: Mapping[str, Tensor], names: frozenset[str]) -> dict[str, Tensor]:
    kept: dict[str, Tensor] = {}
    for rows, part, some in given.sweep(draws):
        trace = vectorised(given.pair.guide, part, some.stop - some.start, at(fixed, some), frozenset())
        for name in names:
            value = trace.nodes[name]["value"]  # (S, B, *event)
            if name not in kept:
                kept[name] = value.new_empty(draws, given.size, *value.shape[2:])
            kept[name][some, rows] = value
    return kept


@in_turn
@or_program("draws")
def prior(pair: ModelGuide, data: Any = 1, draws: int = 1000, *, seed: int = 0) -> Posterior:
    """Draws of the latents from the prior, for `data` (their number and covariates) or for a number of rows."""
    check_count("draws", draws)
    given = new_rows(pair, data)
    check_draws("draws", draws, given, given.globals + given.locals, given.size)
    batch = given.batch
    sites = {name: site for name, site in given.sites.items() if not site.observed}
    kept: dict[str, list[Tensor]] = {}
    with quietly(seed, pair):
        for piece in given.draws(draws, batch):
            count = piece.stop - piece.start
            trace = vectorised(Redraw()(pair.model), batch, count, {}, frozenset())
            for name, site in sites.items():
                value = trace.nodes[name]["value"]
                lead = (count, batch.size) if site.local else (count, 1)
                value = value.expand(*lead, *value.shape[2:])
                kept.setdefault(name, []).append(value if site.local else value.squeeze(1))
    local = frozenset(name for name, site in sites.items() if site.local)
    return Posterior({name: torch.cat(parts)[None] for name, parts in kept.items()}, local, {}, "prior", 1, draws)


@in_turn
@or_program("draws")
def predict(
    pair: ModelGuide, posterior: Posterior, data: Any, draws: int | None = None, *, seed: int = 0
) -> dict[str, Tensor]:
    """Draws of new observations under each draw of the latents: the posterior (or prior) predictive.

    Args:
        pair: the pair.
        posterior: from `draw`, `sample` or `prior`.
        data: the rows whose local latents the posterior holds, covariates of new rows, or a number of new rows.
        draws: use only so many draws of each chain, evenly spaced; default all.
        seed: seeds the draws.

    Returns:
        observed site -> (chain, draw, N, *event).

    Raises:
        ValueError: the posterior is not this pair's, or holds local latents of another number of rows.
    """
    given = new_rows(pair, data)
    posterior = check_posterior(given, posterior, draws, local=True)
    values = posterior.flat()
    total = posterior.chains * posterior.size
    check_draws("draws", total, given, list(given.observed), given.size)
    kept: dict[str, Tensor] = {}
    model = Redraw()(pair.model)
    with quietly(seed, pair):
        for rows, part, some in given.sweep(total):
            count = some.stop - some.start
            trace = vectorised(model, part, count, at(values, some, rows, posterior.local), posterior.local)
            for name in given.observed:
                value = trace.nodes[name]["value"]
                value = value.expand(count, part.size, *value.shape[2:])
                if name not in kept:
                    kept[name] = value.new_empty(total, given.size, *value.shape[2:])
                kept[name][some, rows] = value
    return {name: value.unflatten(0, (posterior.chains, posterior.size)) for name, value in kept.items()}


@in_turn
def generate(
    pair: ModelGuide, number: int, *, posterior: Posterior | None = None, seed: int = 0, steps: int | None = None
) -> dict[str, Tensor]:
    """New observations from the fitted model: each under a draw of the globals of its own, locals from their prior.

    Args:
        pair: a fitted pair.
        number: how many, M.
        posterior: of the global latents; by default draws from the guide.
        seed: seeds everything drawn.
        steps: of each sequence, of a pair of sequences; by default as many as its own argument `steps` says.

    Returns:
        observed site -> (M, *event); of a pair made for images x has their shape, (M, H, W) or (M, C, H, W).

    Raises:
        ValueError: no such number, a posterior that is not this pair's, or steps of a pair without sequences.
    """
    given = example(pair)
    check_count("number", number)
    if steps is not None:
        check_count("steps", steps)
        if given.batch.lengths is None:
            raise ValueError(f"steps: {pair.name} has no sequences")
    check_draws("number", number, given, [*given.observed, *given.globals])
    if posterior is None:
        posterior = draw(pair, given, min(number, 1000), stats=False, seed=seed)
    posterior = check_posterior(given, posterior)
    kept = {name: posterior[name] for name in posterior.globals}
    if not kept:
        found = predict(pair, Posterior({}, method=posterior.method, size=1), _rows(pair, number, steps), seed=seed)
        return shaped(pair.image, {name: value[0, 0] for name, value in found.items()})
    total = posterior.chains * posterior.size
    picked = torch.arange(number) % total
    kept = {name: value.flatten(0, 1)[picked.to(value.device)][None] for name, value in kept.items()}
    found = predict(pair, Posterior(kept, method=posterior.method, size=number), _rows(pair, 1, steps), seed=seed)
    return shaped(pair.image, {name: value[0, :, 0] for name, value in found.items()})


def _rows(pair: ModelGuide, number: int, steps: int | None) -> int | Checked:
    """So many rows to generate, with what they need."""
    if steps is None:
        return number
    given = new_rows(pair, number)
    lengths = torch.full((number,), steps, device=pair.device)
    inputs = {name: value for name, value in given.batch.fields().items() if name != "lengths"}
    if inputs:
        raise ValueError(f"steps: {pair.name} goes on {', '.join(inputs)}, which are known for its own steps alone")
    return given.but(given.batch.but(lengths=lengths))
