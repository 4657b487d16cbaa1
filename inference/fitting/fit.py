"""fit: stochastic variational inference over any pair and any accepted data."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from inference.compiling.fallback import choose_mode
from inference.data.check import check, check_pair
from inference.data.learnable import check_learnable
from inference.data.series import understood
from inference.fitting import curvature, doubt
from inference.fitting.beginning import begin, done, place, take_in
from inference.fitting.course import Length, opened
from inference.fitting.held_out import split
from inference.fitting.loop import Callback, Loop, stopping
from inference.fitting.objective import Bound, Objective, choose, plain
from inference.fitting.options import check_options, device_of, usual_particles
from inference.fitting.picking import by_family
from inference.fitting.schedule import EarlyStopping
from inference.fitting.step import Stepper
from inference.fitting.watching import Logger, Watch
from inference.running.checkpoints import Checkpoints, asked
from inference.running.constants import described
from inference.running.deadline import Deadline
from inference.running.programmed import or_program
from inference.running.quiet import seeded
from inference.running.width import width
from zoo import guides
from zoo.base import Batch, ModelGuide
from zoo.settings import settings
from zoo.state.memory import LARGE, check_room
from zoo.threads.handlers import unvalidated
from zoo.threads.turns import in_turn
from zoo.version import versions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Fit:
    """What happened in a fit.

    losses: minus the bound per observation in nats, one a step (NaN where a step was skipped), (steps,). Where the
        guide was found to be the exact posterior there are no steps, and one loss: minus the log evidence.
    validation: (step, minus held-out bound per observation) pairs.
    seconds, trace_seconds: wall time of the whole fit, and of tracing the graph in it.
    reason: why it stopped. compile: "inductor", "graph" or "off", and compile_reason why.
    skipped: steps not applied since they were not finite.
    kept: names of the pair's constants that are of earlier data, and that these would have set otherwise.
    caution: what to know before intervals are believed, such as few rows for many coefficients; empty as a rule.
    resumed: steps that were done before, by the fit that this one went on from; losses hold all.
    guide: the family that `guide="auto"` took, and why; empty where one was named.
    data: what series were understood to be, such as "3 series of 100 steps"; empty for other data.
    """

    losses: np.ndarray[Any, np.dtype[np.float64]]
    steps: int
    epochs: float
    reason: str
    seconds: float
    trace_seconds: float
    compile: str
    compile_reason: str
    objective: Objective
    seed: int
    batch_size: int
    skipped: int = 0
    validation: list[tuple[int, float]] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    kept: tuple[str, ...] = ()
    data: str = ""
    caution: str = ""
    resumed: int = 0
    guide: str = ""

    def plot(self) -> Figure:
        """The loss curve, as a matplotlib figure."""
        from inference.drawing import plots

        return plots.loss_curve(self)

    @property
    def left_out(self) -> str:
        """What to say of steps that were not applied; nothing where all were."""
        return f"{self.skipped} of {self.steps} steps skipped, not finite" if self.skipped else ""

    def __repr__(self) -> str:
        last = np.nanmean(self.losses[-50:]) if len(self.losses) else math.nan
        kept = f"constants kept: {', '.join(self.kept)}" if self.kept else ""
        guide = f"guide {self.guide}" if self.guide else ""
        said = "; ".join(filter(None, (self.reason, self.left_out, kept, self.caution, guide)))
        on = f" on {self.data}" if self.data else ""
        on += f" from {self.resumed:,} on" if self.resumed else ""
        told = f"loss {last:.4f} per observation, {self.seconds:.1f} s, {said}"
        return f"Fit({self.steps} steps{on}, {told})"


@in_turn
@or_program("fit")
@by_family
def fit(
    pair: ModelGuide,
    data: Any,
    y: Any = None,
    *,
    method: Literal["svi", "em"] = "svi",
    epochs: float | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    schedule: Literal["auto", "constant", "cosine", "plateau"] = "auto",
    clip: float | None = 10.0,
    objective: Bound = "elbo",
    particles: int | None = None,
    anneal: int = 0,
    free_bits: float = 0.0,
    average: float = 0.1,
    validation: float | Any = 0.0,
    patience: int = 10,
    tolerance: float = 1e-4,
    max_steps: int = 20_000,
    max_seconds: float | None = None,
    initialise: bool | None = None,
    seed: int = 0,
    device: torch.device | str = "auto",
    compile: Literal["auto", "inductor", "graph", "off"] = "auto",  # noqa: A002 - the name users know from torch
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    loggers: Sequence[Logger] = (),
    log_every: int = 100,
    checkpoint: str | os.PathLike[str] | Checkpoints | None = None,
    resume: bool = False,
) -> Fit:
    """Fit a pair by stochastic variational inference, in place; fitting again goes on from where it stands.

    Its constants (`pair.measure`: centres, units, designs) are those of the data of the first fit. A `KeptConstants`
    warning says so, once for the same data, where later data would have set them otherwise. A training of your own
    counts as a fit.

    Args:
        pair: the model/guide pair; it is moved to `device`.
        data: see `inference.data`.
        y: the response or label of each row, beside a matrix or frame, as in scikit-learn; the same as `data=(X, y)`.
        method: `svi`, or `em`: place the guide at the highest log joint density that expectation-maximisation finds,
            with the widths that the curvature there suggests, and take no steps. For pairs with a `maximise`.
        epochs: passes over the data; or
        steps: optimiser steps. With neither, it runs until the ELBO has converged, or for `max_steps`; and not at all
            where the guide, as it was placed, is found to be the exact posterior. Steps that are asked for are taken.
        batch_size: observations a step, B; by default all N up to 512, else 128.
        lr: Adam's step size; by default the pair's own `step_size`, else 1e-2 where the pair has networks of its own
            and 2e-2 without.
        schedule: `cosine` to zero over the run, `constant`, or `plateau`: cosines of 120, 240, 480, … steps until one
            leads on no more, or, where the model has parameters of its own or continuous locals, times 0.3 whenever the
            loss stands still, until the third time. `auto` is `cosine` for runs of known length, else `plateau`.
        clip: gradients of the loss per observation longer than this, and than so many times their running mean, are
            shortened to that; None for no clipping.
        objective: `elbo`, or `iwae` (importance-weighted; Burda et al. 2016) with `particles` draws.
        particles: draws from the guide a step; default 1, or 10 for `iwae`, or 32 where the guide is a `flow`.
        anneal: steps over which the weight of the KL terms rises from 0 to 1.
        free_bits: nats per latent dimension below which a local KL costs nothing.
        average: fraction of the run, at its end, over which parameters are averaged (Polyak averaging).
        validation: fraction of rows held out (of a text its last part), or a data set; early stopping then keeps the
            best parameters.
        patience: evaluations (one an epoch, or 100 steps) without improvement before early stopping.
        tolerance: improvement in nats per observation that counts as none.
        max_seconds: stop at the first step that ends later than this after the call, with the parameters averaged over
            the last part of the time; the start, and what a fit without steps does, are not cut short.
        initialise: start at `pair.initial(data)`, or what a search finds where that is empty, and take constants
            anew, or do not; by default on the first fit only.
        seed: seeds everything drawn here; the caller's random state is left as it was. The same bits come from the same
            seed, settings and number of processor threads (`torch.set_num_threads`; the card has it).
        device: `auto` takes a GPU when there is one.
        compile: `graph` records loss, gradients and Adam's step as one graph, `inductor` compiles that, `off` is
            plain Pyro; `auto` records runs of 50 steps or more and compiles those known to have 15,000 if there is a
            C++ compiler, and goes on with the next slower way, with one warning, where one fails.
        progress: show a bar with the loss per observation.
        callbacks: called as `callback(step, loss, pair)` after each step; a true result stops the fit.
        loggers: called with an `inference.Report` (loss, terms of the bound by site, validation, step size, seconds),
            such as `inference.CSVLogger("course.csv")`; a true result stops the fit.
        log_every: steps between two reports; the first step and the last are told too.
        checkpoint: a folder, or `inference.Checkpoints`, to keep the state of the fit in while steps are taken: every
            minute, at the end, and when SIGINT or SIGTERM comes, which then waits for the end of the step.
        resume: go on from the newest whole checkpoint that is there, in this process or another, where the fit was:
            parameters, losses and draws are those of a fit that was never broken off, to the last bit. Where there is
            none, the fit begins. A fit of more steps goes on from the last step that both would take.

    Raises:
        ValueError: data that do not fit the pair, or options out of range.
        CheckpointError: no checkpoint is whole, they are of another fit (model, options or data), another process is
            writing there, or they are there and `resume` is not.
        NonFiniteError: the loss was NaN or infinite ten steps on end, or in more than half of all; the pair keeps its
            last good parameters. Fewer such steps are skipped, with a warning.
    """
    check_pair(pair)
    particles = usual_particles(pair, objective) if particles is None else particles
    check_options(locals())
    where = asked(checkpoint, resume)
    if where is not None and method == "em":
        raise ValueError("checkpoint: method='em' takes no steps that could be gone on from")
    began, deadline = time.perf_counter(), Deadline(max_seconds)
    with seeded(seed), pair.learning("trained"), ExitStack() as leaving:
        pair.to(device_of(device))
        given = check(pair, data if y is None else (data, y))
        train, held_out, whole = split(given, validation, seed)
        check_learnable(given.but(train))
        size = min(batch_size or (train.size if train.size <= settings.full_batch else settings.minibatch), train.size)
        chosen = choose(pair, train.select(slice(0, min(2, train.size))), objective, particles, free_bits)
        if objective == "iwae" and chosen.has_globals and size < train.size:
            raise ValueError("iwae with global latents weighs whole data sets: pass batch_size=len(data)")
        _check_room(pair, train, size, particles)
        pair.eval()  # but while steps are taken
        converges = steps is None and epochs is None
        if steps is None and epochs is not None:
            steps = max(1, math.ceil(epochs * train.size / size))
        rate = lr or pair.step_size or (1e-2 if pair.own_parameters() else 2e-2)
        schedule = schedule if schedule != "auto" else ("cosine" if steps is not None else "plateau")
        length = Length(steps or max_steps, steps is not None, schedule, average)
        options = {
            "batch_size": size, "lr": rate, "schedule": schedule, "clip": clip, "objective": objective,
            "particles": particles, "anneal": anneal, "free_bits": free_bits, "average": average, "patience": patience,
            "tolerance": tolerance, "seed": int(seed), "device": pair.device.type, "compile": compile,
            "length": "a number of steps" if length.known else "until it has converged",
        }  # fmt: skip
        course = leaving.enter_context(opened(where, resume, pair, (train, held_out), length, options))
        begun = course.again(train, plain(chosen)) if course else None
        if begun is None:
            started, kept = take_in(pair, train, whole, initialise)
            if method == "em":
                return _maximise(pair, train, chosen, seed, began, kept)
            begun = begin(given, train, chosen, started, kept, steps is None, compile)
            end = done(pair, train, chosen, seed, begun.keeping, tolerance, held_out) if converges else None
            if end is not None:
                losses = np.array(end[:1])
                return _without_steps(pair, train, chosen, seed, began, kept, losses=losses, steps=0, reason=end[1])
        mode, why = choose_mode(compile, steps if max_seconds is None else None)
        if course:
            mode, why = course.go(begun, mode, why)
        loop = Loop(
            Stepper(pair, chosen, mode, compile == "auto", train if size == train.size else None),
            train,
            held_out,
            size,
            limit=length.limit,
            known=length.known,
            lr=rate,
            schedule=schedule,
            clip=clip,
            anneal=anneal,
            average=average,
            stopping=EarlyStopping(patience, tolerance),
            convergence=stopping(pair, train, chosen, tolerance, begun.placed),
            callbacks=callbacks,
            progress=progress,
            placed=begun.placed,
            resumed=not begun.started,
            deadline=deadline,
            watch=Watch(loggers, log_every, began - (course.seconds if course else 0.0)),
        )
        reason = loop.run(torch.Generator().manual_seed(int(seed)), course)
        if begun.keeping and begun.keeping.back():
            over = "all steps done" if reason.startswith("diverged") else reason  # nothing of that is left
            reason = f"{over}: no better than the start, which is kept"
        if isinstance(pair.automatic, guides.AutoLaplace):
            curvature.curve(pair, train, chosen)
    result = Fit(
        losses=np.array(loop.losses),
        steps=len(loop.losses),
        epochs=len(loop.losses) * size / train.size,
        reason=doubt.said(given.but(train), reason, seed),
        seconds=loop.watch.spent,
        trace_seconds=loop.stepper.trace_seconds,
        compile=loop.stepper.mode,
        compile_reason=why if loop.stepper.mode == mode else f"{mode} failed",
        objective=chosen,
        seed=seed,
        batch_size=size,
        skipped=loop.skipped,
        validation=loop.validation,
        learning_rates=loop.rates,
        kept=begun.kept,
        data=understood(train),
        caution=doubt.caution(pair, train),
        resumed=course.first if course else 0,
    )
    _write_card(pair, train, result)
    for said in (result.left_out, result.reason if result.reason.startswith("diverged") else ""):
        if said:
            offence = f" ({loop.offence})" if said == result.left_out else ""
            warnings.warn(f"{pair.name}: {said}{offence}", stacklevel=2)
    return result


def _check_room(pair: ModelGuide, batch: Batch, size: int, particles: int) -> None:
    """Refuse steps that memory does not hold: values of a run, and as many gradients, at the least."""
    if max(size * particles, sum(value.numel() for value in pair.parameters())) >= LARGE:
        option, value = ("particles", particles) if particles > size else ("batch_size", size)
        check_room(option, value, 2 * size * particles * width(pair, batch) * pair.dtype.itemsize)


def _maximise(
    pair: ModelGuide, train: Batch, objective: Objective, seed: int, began: float, kept: tuple[str, ...]
) -> Fit:
    """Expectation-maximisation instead of steps."""
    auto = pair.automatic
    if auto is None:
        raise ValueError(f"{pair.name}: method='em' needs an automatic guide over global latents to place")
    with torch.no_grad(), unvalidated():
        values, course = pair.maximise(train)
        if isinstance(auto, guides.AutoLaplace):
            auto.curve(None)
        place(pair, train, objective, values)
    if isinstance(auto, guides.AutoLaplace):
        curvature.curve(pair, train, objective)
    reason = "expectation-maximisation has converged"
    losses = -np.array(course)
    return _without_steps(pair, train, objective, seed, began, kept, losses=losses, steps=len(course), reason=reason)


def _without_steps(
    pair: ModelGuide,
    train: Batch,
    objective: Objective,
    seed: int,
    began: float,
    kept: tuple[str, ...],
    *,
    losses: np.ndarray[Any, Any],
    steps: int,
    reason: str,
) -> Fit:
    """What happened in a fit that took no gradient; each of its steps saw all rows."""
    result = Fit(
        losses=losses,
        steps=steps,
        epochs=float(steps),
        reason=reason,
        seconds=time.perf_counter() - began,
        trace_seconds=0.0,
        compile="off",
        compile_reason="no gradients are taken",
        objective=objective,
        seed=seed,
        batch_size=train.size,
        kept=kept,
        data=understood(train),
        caution=doubt.caution(pair, train),
    )
    _write_card(pair, train, result)
    return result


def _write_card(pair: ModelGuide, train: Batch, result: Fit) -> None:
    last = float(np.nanmean(result.losses[-max(1, len(result.losses) // 20) :])) if len(result.losses) else math.nan
    metrics: dict[str, Any] = {"elbo_per_observation": -last}
    if result.validation:
        metrics["held_out_bound_per_observation"] = -min(score for _, score in result.validation)
    pair.card = {
        "data": {name: list(value.shape) for name, value in train.fields().items()},
        "metrics": metrics,
        "fit": {
            "steps": result.steps,
            "skipped_steps": result.skipped,
            "epochs": round(result.epochs, 2),
            "batch_size": result.batch_size,
            "objective": result.objective.bound,
            "particles": result.objective.particles,
            "compile": result.compile,
            "stopped": result.reason,
            "seconds": round(result.seconds, 2),
            "threads": torch.get_num_threads(),  # sums of another order have other last digits
        },
        **({"constants": constants} if (constants := described(pair)) else {}),
        "seed": result.seed,
        "versions": versions(),
    }
