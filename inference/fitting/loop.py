"""The steps of one fit: minibatches, schedules, averaging, and when to stop."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from pyro import poutine
from torch import Tensor, nn
from tqdm.auto import tqdm

from inference.fitting import exact, settled
from inference.fitting.course import Course
from inference.fitting.falling import Bound, Falling
from inference.fitting.keeping import KeepingGuide
from inference.fitting.objective import Objective
from inference.fitting.rows import Minibatches
from inference.fitting.schedule import Averaging, Convergence, Cycles, EarlyStopping, learning_rate
from inference.fitting.step import SINGULAR, Stepper
from inference.fitting.watching import Watch
from inference.running import pieces
from inference.running.deadline import Deadline
from inference.running.densities import run
from inference.running.quiet import seeded
from inference.running.width import width
from zoo import guides
from zoo.base import Batch, ModelGuide, evaluating, is_local, sample_sites
from zoo.threads.handlers import unvalidated
from zoo.threads.randomness import apart

Callback = Callable[[int, float, ModelGuide], bool | None]
CONVERGED = "the ELBO has converged"
_PARTICLES = 8  # of a held-out bound
_ENDS = 32  # losses at the end of an annealed run
_BAD_STEPS = 10  # consecutive non-finite steps before giving up


class NonFiniteError(ValueError):
    """Loss or gradient stayed NaN or infinite; no such step was applied. The message names the site."""


@dataclass
class Loop:
    """The steps of one fit, and what came of them. See `inference.fit` for what its options mean.

    Args:
        stepper: takes the steps; its pair is fitted in place.
        train, held_out: the observations.
        size: observations a step, B.
        limit: most steps; `known`: exactly so many, unless something stops it.
        schedule: `constant`, `cosine` or `plateau`.
        placed: the guide's widths suit the posterior already.
        resumed: it goes on from where an earlier fit ended.
        deadline: when to stop at the latest.
        watch: whom to report to.
    """

    stepper: Stepper
    train: Batch
    held_out: Batch | None
    size: int
    limit: int
    known: bool
    lr: float
    schedule: str
    clip: float | None
    anneal: int
    average: float
    stopping: EarlyStopping
    convergence: Convergence | Cycles
    callbacks: Sequence[Callback]
    progress: bool
    placed: bool
    resumed: bool = False
    deadline: Deadline = field(default_factory=Deadline)
    watch: Watch = field(default_factory=lambda: Watch((), 1, 0.0))

    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    validation: list[tuple[int, float]] = field(default_factory=list)
    skipped: int = 0
    bad: int = 0  # the last so many steps were not finite
    offence: str = ""  # what was not finite in the first of them
    rounds: int = 2  # of further runs, where the bound stands still and the guide is not where the ELBO is highest
    stood: KeepingGuide | None = None  # where the bound stood still last, from where further runs may lead down
    decay: float = 1.0  # of the step size, whenever the loss stands still
    late_from: int = sys.maxsize  # the step from which time makes parameters be averaged

    def __post_init__(self) -> None:
        self.pair = self.stepper.pair
        kinds = ((1.0, self.pair.dtype), (self.lr, torch.float64), (self.clip or math.inf, torch.float32))
        # weight of the KL terms, step size, limit on the gradient: inputs of the graph
        self.scalars = [torch.full((), value, dtype=dtype, device=self.pair.device) for value, dtype in kinds]
        self.averaging = Averaging(list(self.stepper.parameters.values()))
        self.batch = self.train  # of the last step
        self.average_from = self.limit - round(self.average * self.limit) if self.known else self.limit
        self.falling: Falling | None = None
        if isinstance(self.pair, Bound) and isinstance(self.convergence, Convergence) and self.schedule == "plateau":
            window, tolerance = self.convergence.window, self.convergence.tolerance
            self.falling = Falling(self.stepper, lambda: self.train, self.scalars[0], window, tolerance)

    @cached_property
    def rows(self) -> int:
        """How many held-out observations are scored at once."""
        held_out = cast(Batch, self.held_out)
        return pieces.rows_at_once(held_out, width(self.pair, held_out), _PARTICLES)

    def run(self, generator: torch.Generator, course: Course | None = None) -> str:
        """Step until done, from where the checkpoints of `course` stand; returns why it stopped."""
        parameters = list(self.stepper.parameters.values())
        if not parameters:
            return "nothing to fit"
        rows = Minibatches(self.train.size, self.size, generator)
        ended = course.restore(self, rows) if course else ""
        steps = range(course.first if course else 0, 0 if ended else self.limit)
        reason = ended or ("all steps done" if self.known else f"not converged after max_steps={self.limit}")
        total = self.limit if self.known else None
        bar = tqdm(total=total, initial=len(self.losses), disable=None if self.progress else True, unit="step")
        self.pair.train()
        auto = self.pair.automatic
        if isinstance(auto, guides.Standardised):
            auto.landing = self.stepper.objective.bound == "elbo"
        try:
            with course.signals if course else nullcontext():
                for step in steps:
                    stop = self._advance(step, rows, parameters)
                    stop = self._report(step, stop) or stop
                    self._show(bar, step)
                    if course:
                        course.after(self, rows, step + 1, stop)
                    if stop:
                        reason = stop
                        break
        except KeyboardInterrupt:
            reason = "interrupted"
        finally:
            self.pair.eval()
            if isinstance(auto, guides.Standardised):
                auto.landing = False
            bar.close()
        if reason != "interrupted" and 2 * self.skipped > len(self.losses):
            raise NonFiniteError(
                f"loss or gradient not finite in {self.skipped} of {len(self.losses)} steps: {self.offence}; the "
                f"parameters are those of the last good step{self._cure}"
            )
        if self.held_out is not None and self.stopping.best is not None:
            self.stopping.restore(parameters)
            return reason
        self.averaging.apply()
        if reason not in ("interrupted", "stopped by a callback", "stopped by a logger"):
            far = diverged(self.losses[min(self.anneal, len(self.losses) // 2) :])
            reason = f"{far}{self._cure}" if far else reason
        return reason

    @property
    def _cure(self) -> str:
        """What may help a fit that went on where another ended, on other data perhaps."""
        anew = "the fit began where an earlier one had ended: fit(…, initialise=True) begins anew, at these data"
        return f"; {anew}" if self.resumed else ""

    def _advance(self, step: int, rows: Iterator[Tensor], parameters: Sequence[nn.Parameter]) -> str | None:
        """One step and what follows from it; a reason to stop, or None."""
        batch = self.batch = self._batch(rows)
        cycles = self._cycles(step)
        rate = self.lr * self.decay * (cycles.rate if cycles else learning_rate(self.schedule, step, self.limit))
        self.scalars[1].fill_(rate)
        if self.anneal:
            self.scalars[0].fill_(min(1.0, (step + 1) / self.anneal))
        loss = self._loss(batch, self.scalars[1])
        if not math.isfinite(loss):
            self.skipped += 1
            self.offence = self.offence or _offender(self.stepper, batch)
        self.losses.append(loss)
        self.rates.append(rate)
        self.bad = 0 if math.isfinite(loss) else self.bad + 1
        if self.bad == _BAD_STEPS:
            raise NonFiniteError(
                f"loss or gradient not finite in {self.bad} steps in a row (step {step}): "
                f"{_offender(self.stepper, batch)}; the parameters are those of the last good step"
                f"{self._cure}"
            )
        last = step >= min(self.average_from, self.late_from) or (cycles is not None and cycles.averages(self.average))
        if last and not self.bad and self.average:
            self.averaging.add()
        if any([callback(step, loss, self.pair) for callback in self.callbacks]):  # noqa: C419 - call every one
            return "stopped by a callback"
        if self.known and not self.placed and step == self.limit // 3:
            self._standardise()
        return self._validate(step, parameters) or self._converged(step, loss, rows) or self._late(step)

    def _loss(self, batch: Batch, rate: Tensor) -> float:
        """Per observation, before a step of this size; NaN where no step was possible."""
        weight, _, clip = self.scalars
        try:
            return float(self.stepper.step(batch, weight, rate, clip))
        except SINGULAR:  # of a matrix that is not finite, or no longer positive definite
            return math.nan

    def _late(self, step: int) -> str | None:
        """Whether time is up; its last part is the one that parameters are averaged over."""
        if self.deadline.over(1 - self.average):
            self.late_from = min(self.late_from, step)
        return self.deadline.words if self.deadline.over() else None

    def _report(self, step: int, stop: str | None) -> str | None:
        """Tell the loggers where they want to hear of this step; a reason to stop, or None."""
        if not self.watch.due(step, bool(stop) or step == self.limit - 1):
            return None
        score = self.validation[-1][1] if self.validation else None
        objective, loss, rate = self.stepper.objective, self.losses[-1], self.rates[-1]
        ended = self.watch.tell(self.pair, objective, self.batch, step, loss, rate, score)
        return "stopped by a logger" if ended else None

    def _validate(self, step: int, parameters: Sequence[nn.Parameter]) -> str | None:
        every = max(1, self.train.size // self.size) if self.size < self.train.size else 100
        if self.held_out is None or (step + 1) % every:
            return None
        score = _held_out_loss(self.pair, self.held_out, self.rows)
        self.validation.append((step + 1, score))
        stop = self.stopping.update(score, parameters)
        return f"validation has not improved in {self.stopping.patience} evaluations" if stop else None

    def _cycles(self, step: int) -> Cycles | None:
        """The annealed runs that this step is part of, if any."""
        annealed = self.schedule == "plateau" and step >= self.anneal
        return self.convergence if annealed and isinstance(self.convergence, Cycles) else None

    def _converged(self, step: int, loss: float, rows: Iterator[Tensor]) -> str | None:
        if self.schedule != "plateau" or step < self.anneal:
            return None
        if isinstance(self.convergence, Cycles):
            return self._run_over(self.convergence, rows)
        if self.falling:
            self.falling.add()
        if self.convergence.update(loss, self.falling):
            # The first loss that stands still may only say that steps are too long for a narrow posterior.
            self.decay *= 0.3 if self.placed else 1.0
            self._standardise()
            self.average_from = step if self.convergence.last else self.limit
        return CONVERGED if self.convergence.done else None

    def _run_over(self, cycles: Cycles, rows: Iterator[Tensor]) -> str | None:
        """Whether an annealed run has ended that led to where there is no more to gain."""
        if not cycles.step():
            return None
        self._end_average()
        alone = not self.pair.own_parameters()  # an automatic guide, and nothing else
        ends = self._ends()
        gains = not bool(ends.isfinite().all()) or cycles.gains(ends, slow=alone)
        self._standardise()
        if gains:
            return None
        return self._settled(rows) if alone and self.stepper.objective.plain else CONVERGED

    def _end_average(self) -> None:
        """Take on what was averaged, and begin anew."""
        self.averaging.apply()
        self.averaging = Averaging(list(self.stepper.parameters.values()))

    def _ends(self) -> Tensor:
        """Losses by the same draws and rows each time, (32,): of steps of no length, which are recorded already."""
        adam, rows = self.stepper.adam, Minibatches(self.train.size, self.size, torch.Generator().manual_seed(0))
        tensors = [tensor for part in adam.tensors().values() for tensor in part]
        before = [tensor.clone() for tensor in tensors]
        nowhere = torch.zeros_like(self.scalars[1])
        with apart(0):
            losses = [self._loss(self._batch(rows), nowhere) for _ in range(_ENDS)]
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        return torch.tensor(losses, dtype=torch.float64)

    def _settled(self, rows: Iterator[Tensor]) -> str | None:
        """The bound stands still: whether the guide is where it is highest, or is to go on, which it may twice."""
        if self.stood is not None:
            self.stood.back()
        slope = settled.slope(self.stepper, lambda: self._batch(rows), self.scalars[0])
        if not slope:
            return CONVERGED
        if not self.rounds:
            return (
                f"not converged: the bound stands still, but it rises by {slope:.2g} nats for each width of the guide"
            )
        self.rounds -= 1
        self.stood = KeepingGuide(self.pair, self.train, self.stepper.objective)
        self.stepper.adam.restart()
        return None

    def _standardise(self) -> None:
        """Let the guide's own widths set the length of steps from here on; the guide stays what it is."""
        self.placed = True
        auto = self.pair.automatic
        if isinstance(auto, guides.Standardised):
            auto.standardise()
            self.stepper.adam.restart()

    def _batch(self, rows: Iterator[Tensor]) -> Batch:
        if self.size == self.train.size:
            return self.train
        return self.train.select(next(rows).to(self.pair.device))

    def _show(self, bar: Any, step: int) -> None:
        bar.update()
        if step % 20 == 0 and not bar.disable:
            bar.set_postfix_str(f"loss {np.nanmean(self.losses[-20:]):.4f} per observation")


@torch.no_grad()
def _held_out_loss(pair: ModelGuide, batch: Batch, rows: int) -> float:
    """Minus the mean held-out bound per observation, at fixed noise so that evaluations compare."""
    total = 0.0
    with seeded(0), unvalidated(), evaluating(pair):
        for _, piece in pieces.chunks(batch, rows):
            total += float(run(pair, piece, _PARTICLES).log_weight.mean(0).sum())
    return -total / batch.size


def stopping(
    pair: ModelGuide, train: Batch, objective: Objective, tolerance: float, placed: bool
) -> Convergence | Cycles:
    """What says when a fit is done: annealed runs where all parameters are those of a posterior over globals.

    A model that learns parameters of its own has no evidence to reach, and longer steps go farther there, as they do
    for the networks of a flow.
    """
    few = train.select(slice(0, min(2, train.size)))
    if objective.has_globals and not isinstance(pair.automatic, guides.Flow) and exact.fixed(pair, few):
        return Cycles(tolerance)
    return Convergence(tolerance, stages=3 if placed else 4)


def diverged(losses: Sequence[float]) -> str | None:
    """What to say of losses that end far above their start; None where they do not.

    Start and end are medians of a tenth of the steps, at most 50. Far is twice as far from zero, and a nat, or ten
    times that where there are fewer than 20 steps, which say little: then no loss before may have been as high, as
    losses of minibatches may be and come down again.
    """
    good = [loss for loss in losses if math.isfinite(loss)]
    if len(good) < 2:
        return None
    few = max(1, min(50, len(good) // 10))
    start, end = float(np.median(good[:few])), float(np.median(good[-few:]))
    many = len(good) >= 20
    if end - start <= (1 if many else 10) * max(1.0, abs(start)) or not (many or end > max(good[:-1])):
        return None
    return f"diverged: the loss per observation went from {start:.4g} to {end:.4g}; try a smaller lr"


def _offender(stepper: Stepper, batch: Batch) -> str:
    """What is not finite, in words; the steps that follow draw what they would have drawn."""
    with apart(), torch.no_grad(), unvalidated(), poutine.block():
        try:
            return _first_offender(stepper, batch)
        except SINGULAR as error:
            return f"linear algebra fails ({next(iter(str(error).splitlines()), '')})"


def _first_offender(stepper: Stepper, batch: Batch) -> str:
    """The first site whose value or log density is not finite; else the parameters of such gradients."""
    pair = stepper.pair
    guide_trace = poutine.trace(pair.guide).get_trace(batch)
    own = getattr(pair, "offence", None)  # of a pair that is made of something else
    if own is not None and (told := own(guide_trace)):
        return str(told)
    model_trace = poutine.trace(poutine.replay(pair.model, trace=guide_trace)).get_trace(batch)
    for where, trace in (("guide", guide_trace), ("model", model_trace)):
        for name, site in sample_sites(trace).items():
            for what, tensor in (("value", site["value"]), ("log density", site["fn"].log_prob(site["value"]))):
                if not torch.isfinite(tensor).all() and not (site["is_observed"] and what == "value"):
                    rows = (~torch.isfinite(tensor)).nonzero()
                    row = f" at row {int(rows[0][0])} of the batch" if is_local(site) and len(rows) else ""
                    return f"{what} of {where} site '{name}'{row} is not finite"
    gradients = stepper.plain(batch, torch.ones((), dtype=pair.dtype, device=pair.device))[1]
    names = [n for n, g in zip(stepper.parameters, gradients, strict=True) if not torch.isfinite(g).all()]
    if not names:
        return "some draws of the guide make it so, others do not"
    return f"the gradient of {', '.join(names)} is not finite though every site's log density is"
