"""`inference.fit`, `draw` and `khat` of any Pyro program."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from inference.compiling.fallback import somebodys_level
from inference.fitting import fit as fitting
from inference.fitting.fit import Fit
from inference.fitting.loop import Callback
from inference.fitting.picking import FULL, by_size
from inference.fitting.watching import Logger
from inference.posterior import draws as of_pairs
from inference.posterior.khat import KHat
from inference.posterior.latents import Posterior
from inference.posterior.psis import check_enough, effective_share, pareto_k
from inference.programs import offending
from inference.programs.draws import check_started
from inference.programs.export import check_names
from inference.programs.flat import DATA, Climbed, pair_of
from inference.programs.guided import Guided
from inference.programs.laplace import curved
from inference.programs.outline import Outline, outline
from inference.programs.parameters import leaves_of
from inference.programs.potential import ProgramPotential
from inference.programs.rows import outline_of_all
from inference.programs.runs import first_run
from inference.programs.visiting import Visit
from inference.running.checkpoints import Checkpoints, OfData, asked
from inference.running.mapped import Mapped, TraceError, one_by_one
from inference.running.pieces import pieces
from inference.running.quiet import quietly
from inference.running.words import check_count
from inference.sampling import starts
from zoo.base import ModelGuide
from zoo.guides import Family
from zoo.programs import Program
from zoo.state.memory import check_room
from zoo.state.packing import digest
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart

__all__ = ["draw", "fit", "khat"]


@dataclass(frozen=True)
class Fitted:
    """What a fit with a guide of a family leaves with its program."""

    pair: ModelGuide
    names: tuple[str, ...]  # of the latents, in the order of the flat vector
    size: int


class ProgramFit(Fit):
    """A `Fit` whose losses are minus the bound of all observations together, as `pyro.infer.SVI` has them."""

    def __repr__(self) -> str:
        return super().__repr__().replace(" per observation", "")


def fit(
    program: Program,
    *args: Any,
    steps: int | None = None,
    lr: float | None = None,
    schedule: Literal["auto", "constant", "cosine", "plateau"] = "auto",
    clip: float | None = 10.0,
    particles: int | None = None,
    average: float = 0.1,
    tolerance: float = 1e-4,
    max_steps: int = 20_000,
    max_seconds: float | None = None,
    initialise: bool | None = None,
    seed: int = 0,
    compile: Literal["auto", "inductor", "graph", "off"] = "auto",  # noqa: A002 - the name users know from torch
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    log_every: int = 100,
    checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
    resume: bool = False,
    **kwargs: Any,
) -> Fit:
    """Fit a program's guide, and its own parameters, by stochastic variational inference, in place.

    With a guide of a family (`zoo.program(model, guide="multivariate")`) all continuous latents are fitted at once in
    the flat space without constraints, from the best Gaussian on the way to the mode; discrete ones are summed out.
    With a guide of your own, any Pyro guide, its parameters are fitted as `pyro.infer.SVI` does, discrete latents that
    it leaves out summed out; those that it draws have the score function's gradients, from two draws a step, each the
    other's baseline. Latents of rows that a plate takes in part want such a guide, which reads them off the rows; it
    has converged where the same draws say so too. `pyro.param`s of model and guide end where plain Pyro puts them: in
    its store, or the module that they are of. Plates may take a part of their rows, afresh at each step.

    Args:
        program: see `zoo.program`.
        args, kwargs: what its model, and its guide, take.
        tolerance: improvement in nats per observed number that counts as none.
        initialise: begin anew, or do not; by default a program that was fitted to arguments of the same shape goes on.
        lr: Adam's step size; by default 2e-2, or 1e-2 with a guide of your own, an automatic one of Pyro's too, or
            where the model has parameters.
        steps, schedule, clip, particles, average, max_steps, max_seconds, seed, compile, progress, callbacks, loggers,
        log_every, checkpoint, resume: see `inference.fit`.

    Returns:
        what happened, with losses of all observations together.

    Raises:
        ValueError: a program without latents and parameters, a discrete latent that can neither be summed out nor is
            drawn by the guide, an improper prior and no start for it, options out of range.
        NonFiniteError: the log density is finite nowhere around the start; the loss stayed NaN or infinite.
    """
    where = asked(checkpoint, resume)
    if where is not None:
        where = OfData(**vars(where), data=digest([args, kwargs]))
    with apart(int(seed)), torch.no_grad():
        own = _own_guide(program)
        seen = outline(program, args, kwargs, sampled=own is None, whole=False)
        check_names(seen)
        pair, climbed = _bound_pair(seen, own, compile) if own else _flat_pair(seen, compile, bool(initialise))
    numbers = sum(site.shape.numel() for site in seen.observed.values())
    result = fitting.fit(
        pair, DATA.to(dtype=seen.dtype), steps=steps, lr=lr, schedule=schedule, clip=clip, particles=particles,
        average=average, tolerance=tolerance * max(1, numbers), max_steps=max_steps, max_seconds=max_seconds,
        initialise=initialise, seed=seed, device=seen.device, compile=compile, progress=progress, callbacks=callbacks,
        loggers=loggers, log_every=log_every, checkpoint=where, resume=resume,
    )  # fmt: skip
    if own is None:
        program.fitted = Fitted(pair, tuple(latent.name for latent in seen.latents), seen.size)
    told = vars(result)
    if climbed.random and own is None:  # weights of a part of the rows differ whatever the guide
        told["reason"] = result.reason.split(", but the guide")[0]
    return ProgramFit(**told)


def draw(
    program: Program, *args: Any, draws: int = 1000, stats: bool = True, seed: int = 0, **kwargs: Any
) -> Posterior:
    """Draws from a program's guide: chain 1 of `draws`, site -> (1, draw, *plates, *event), deterministic sites too.

    Args:
        program: fitted by `inference.fit`, or with a guide of your own, fitted anyhow. Of Pyro's
            `AutoLaplaceApproximation`, which fits a point, draws are of the normal of the curvature there.
        args, kwargs: what its model and guide take.
        draws: how many.
        stats: with the log densities `log_p` and `log_q` of each draw, which `khat` and `resample` want; not where
            the arguments, or a guide, hold a part of a plate's rows. A plate that takes a part by itself takes all.
        seed: seeds the draws.

    Raises:
        ValueError: a guide of a family that was not fitted yet, or to latents of other shapes.
    """
    check_count("draws", draws)
    with quietly(seed):
        own = _own_guide(program)
        seen = outline_of_all(program, args, kwargs, sampled=own is None)
        guided = _guided(seen, own) if own else None
        seen = guided.seen if guided else seen
        check_room("draws", draws, draws * sum(site.shape.numel() for site in seen.sites.values()) * 8)
        values, log_p, log_q = _of_guide(guided, draws) if guided else _of_family(seen, draws, seed)
    told = {"log_p": log_p[None], "log_q": log_q[None]} if stats and not seen.partial else {}
    return Posterior({n: value[None] for n, value in values.items()}, frozenset(), told, "svi", 1, draws)


def khat(program: Program, *args: Any, draws: int = 1000, seed: int = 0, **kwargs: Any) -> KHat:
    """Pareto k̂ and effective share of the weights p / q of a program's guide; see `inference.khat`.

    Raises:
        ValueError: see `draw`; too few draws.
    """
    check_count("draws", draws)
    check_enough("draws", draws)
    stats = draw(program, *args, draws=draws, seed=seed, **kwargs).stats
    if not stats:
        raise ValueError(f"khat: {program.name} takes a part of its rows, and weights need them all")
    ratios = (stats["log_p"] - stats["log_q"]).flatten().double().cpu().numpy()
    if not np.isfinite(ratios).any():
        return KHat(None, None, draws=draws)
    return KHat(float(pareto_k(ratios)), None, float(effective_share(ratios)), draws=draws)


def _own_guide(program: Program) -> Callable[..., Any] | None:
    """The guide that a user brings, or None."""
    return program.guide if callable(program.guide) else None


def _flat_pair(seen: Outline, compile: str, anew: bool) -> tuple[ModelGuide, Climbed]:  # noqa: A002
    """The pair of a guide of a family; where one was fitted to latents of the same shapes, it goes on from there."""
    name = seen.call.program.name
    check_started(seen)
    for latent in seen.latents:
        for plate in seen.sites[latent.name].plates:
            if plate.size < plate.full:
                raise ValueError(
                    f"{name}: latent '{latent.name}' stands in plate '{plate.name}', which takes {plate.size} of "
                    f"{plate.full} rows: write a guide of your own that draws it in the same plate, from what it reads "
                    "off those rows, or leave `subsample_size` out"
                )
    with torch.enable_grad(), unvalidated():
        leaves = leaves_of(first_run(seen.call))
    required, recorded = compile in ("graph", "inductor"), compile != "off"
    potential = ProgramPotential(seen, recorded, required, fixed=False)
    centre = starts.centre(potential, {})
    visit, recorded = Visit(seen, {}), recorded and not potential.plain
    offence = offending.of_density(visit)
    climbed = Climbed(visit.log_density, centre, list(leaves.values()), name, recorded, required, offence)
    asked = cast("Family | None", seen.call.program.guide)
    family: Family = asked or ("multivariate" if seen.size <= FULL else "normal")
    before = seen.call.program.fitted
    goes_on = isinstance(before, Fitted) and not anew and before.size == seen.size
    if asked == "auto" and (goes_on or climbed.random):  # weights of a part of the rows tell nothing
        family = before.pair.guide_family if goes_on else by_size(seen.size)
    pair = pair_of(name, climbed, leaves, centre, family).to(dtype=seen.dtype, device=seen.device)
    if goes_on and before.pair.guide_family == family:
        pair.load_state_dict(before.pair.state_dict())
    else:
        offending.check_density(potential, centre)
    return pair, climbed


def _bound_pair(seen: Outline, guide: Callable[..., Any], compile: str) -> tuple[ModelGuide, Climbed]:  # noqa: A002
    """The pair whose density is an estimate of the bound."""
    guided, name = Guided(seen, guide), seen.call.program.name
    if not guided.leaves:
        raise ValueError(f"{name}: neither the model nor its guide has a parameter: there is nothing to fit")
    offending.check_bound(guided)
    point = torch.zeros(1, dtype=seen.dtype, device=seen.device)
    climbed = Climbed(
        guided.bound, point, list(guided.leaves.values()), name, compile != "off", compile in ("graph", "inductor"),
        offending.of_bound(guided),
    )  # fmt: skip
    if climbed.why and compile == "auto":
        _say(name, climbed.why)
    return pair_of(name, climbed, guided.leaves, point, None), climbed


def _say(name: str, why: str) -> None:
    warnings.warn(f"{name}: {why}; fitting with plain Pyro instead", stacklevel=somebodys_level())


def _of_family(seen: Outline, draws: int, seed: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Draws of a guide of a family."""
    program = seen.call.program
    known = program.fitted
    if not isinstance(known, Fitted):
        raise ValueError(f"{program.name} has no fitted guide: call inference.fit on it first, or sample")
    names = tuple(latent.name for latent in seen.latents)
    if names != known.names or seen.size != known.size:
        raise ValueError(
            f"{program.name} was fitted with {known.size} numbers in sites {', '.join(known.names)}; with these "
            f"arguments it has {seen.size} in {', '.join(names)}"
        )
    pair, _ = _flat_pair(seen, "auto", False)
    found = of_pairs.draw(pair, DATA.to(dtype=seen.dtype), draws, seed=seed)
    free = found["free"][0].to(seen.dtype)
    values, _ = ProgramPotential(seen, fixed=False).constrain(free)
    return values, found.stats["log_p"][0], found.stats["log_q"][0]


def _guided(seen: Outline, guide: Callable[..., Any]) -> Guided:
    """The guide of a program with all rows; with a part of them where it cannot take them all."""
    call = seen.call
    if not call.all_rows:
        return Guided(seen, curved(guide, seen))
    part = outline(call.program, call.args, call.kwargs, sampled=False)
    Guided(part, guide)  # what it makes at first is of a part
    try:
        Guided(seen, guide)
    except (RuntimeError, ValueError, IndexError):
        return Guided(part, curved(guide, part))
    return Guided(seen, curved(guide, seen))


def _of_guide(guided: Guided, draws: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Draws of a guide of the user's own."""
    seen = guided.seen
    index = torch.arange(draws, device=seen.device)
    try:
        run: Callable[[Tensor], Any] = Mapped(guided.draw, index[0], seen.call.program.name, other=index[-1])
    except TraceError:
        run = lambda some: one_by_one(guided.draw, some)  # noqa: E731
    numbers = sum(site.shape.numel() for site in seen.sites.values())
    parts = [run(index[some]) for some in pieces(draws, 4 * numbers)]
    values = {name: torch.cat([part[0][name] for part in parts]) for name in parts[0][0]}
    return values, torch.cat([part[1] for part in parts]), torch.cat([part[2] for part in parts])
