"""The state of a fit between two steps: all that the next step depends on, so that a fit goes on bit for bit.

That is parameters and constants of the pair, Adam's moments, what schedule, averaging and stopping remember, where the
random numbers and the order of rows stand, and how the fit began. A run of another length goes on from a checkpoint up
to which both took the same steps; the step sizes of a cosine depend on the length, so that such a run begins anew.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
import torch
from torch import Tensor

from inference.compiling.compiled import Mode
from inference.compiling.fallback import somebodys_level
from inference.fitting.keeping import Keeping, KeepingGuide
from inference.fitting.objective import Objective
from inference.fitting.rows import Minibatches
from inference.fitting.schedule import Averaging, Convergence, Cycles, learning_rate
from inference.fitting.step import Stepper
from inference.fitting.watching import Watch
from inference.running import constants
from inference.running.checkpoints import Checkpoints, Found, Shelf
from inference.running.signals import Waiting
from zoo import guides, held
from zoo.base import Batch, ModelGuide
from zoo.history import History, Mark
from zoo.modules import spelled
from zoo.state import packing
from zoo.threads import randomness

_PLAIN = ("skipped", "bad", "offence", "rounds", "decay", "placed", "average_from")  # what a loop counts


@dataclass
class Begun:
    """How a fit began.

    Args:
        started: at a start of its own, not where an earlier fit ended.
        kept: names of constants of earlier data.
        placed: the guide's widths suit the posterior already.
        keeping: the start, where it is kept unless steps lead higher.
    """

    started: bool
    kept: tuple[str, ...]
    placed: bool
    keeping: Keeping | KeepingGuide | None


@dataclass(frozen=True)
class Length:
    """How many steps a fit takes, and what of its steps depends on that."""

    limit: int
    known: bool
    schedule: str
    average: float
    standardises: bool = False  # the guide, a third of the way on

    @property
    def average_from(self) -> int:
        """The first step that the mean of the last iterates takes in."""
        return self.limit - round(self.average * self.limit) if self.known else self.limit

    def agrees(self, other: Length, step: int) -> bool:
        """Whether a fit of this length took the same steps as one of the other, so many of them."""
        if self.limit == other.limit or step == 0:
            return True
        if step > self.limit:
            return False
        if self.known and step > min(self.average_from, other.average_from):
            return False
        if self.known and other.standardises and step > min(self.limit // 3, other.limit // 3):
            return False
        rates = [[learning_rate(one.schedule, i, one.limit) for i in range(step)] for one in (self, other)]
        return self.schedule != "cosine" or rates[0] == rates[1]


class Loop(Protocol):
    """What of the steps of a fit is kept."""

    stepper: Stepper
    train: Batch
    limit: int
    known: bool
    watch: Watch
    averaging: Averaging
    convergence: Convergence | Cycles
    average_from: int
    losses: list[float]
    rates: list[float]
    validation: list[tuple[int, float]]
    stood: KeepingGuide | None


class Course:
    """The checkpoints of one fit.

    Args:
        shelf: where they are.
        pair: that is fitted.
        length: of the fit.
    """

    def __init__(self, shelf: Shelf, pair: ModelGuide, length: Length) -> None:
        self.shelf, self.pair, self.length = shelf, pair, length
        self.signals = Waiting()
        self.begun: Begun | None = None
        self.seconds = 0.0  # of the fit before this call
        self.modes: list[str] = []
        self._from = 0  # the step of the last checkpoint
        self.found = self._newest()

    @property
    def first(self) -> int:
        """Steps that are done already."""
        return 0 if self.found is None else self.found.step

    def _newest(self) -> Found | None:
        """The newest checkpoint on the way of a fit of this length."""

        def agrees(found: Found) -> bool:
            with self.shelf.fitting():
                return self.length.agrees(_length(found.told["length"]), found.step)

        found = self.shelf.newest(agrees)
        if found is None and self.shelf.names:
            self._say(
                f"a fit of {self.length.limit:,} steps takes other steps than that of the checkpoints, from the "
                "beginning on: it begins anew"
            )
        if found is not None and (threads := found.told.get("threads")) != torch.get_num_threads():
            self._say(f"made with {threads} processor threads, now {torch.get_num_threads()}: last digits may differ")
        if found is not None and (made := found.told["versions"].get("torch")) != str(torch.__version__):
            self._say(f"made with torch {made}, now {torch.__version__}: last digits may differ")
        return found

    def _say(self, what: str) -> None:
        warnings.warn(f"checkpoint: '{self.shelf.folder}': {what}", stacklevel=somebodys_level())

    def again(self, train: Batch, objective: Objective) -> Begun | None:
        """Put the pair where the checkpoint has it; how the fit had begun. None where there is no checkpoint.

        Raises:
            CheckpointError: it does not fit the pair, which stays what it was then.
        """
        if self.found is None:
            return None
        with self.shelf.fitting():
            state = self.found.state
            held.release(self.pair)
            if isinstance(self.pair.automatic, guides.AutoLaplace):
                self.pair.automatic.curve(None)
            _put(_tensors(self.pair), state["pair"])
            self.pair._history = History.of(state["history"], self.pair._history.start or Mark())
            constants.again(self.pair, state["constants"])
            begun, self.seconds = state["begun"], float(self.found.told["seconds"])
            self.modes = [str(mode) for mode in state["modes"]]
            if not set(self.modes) <= set(get_args(Mode)):
                raise ValueError(f"'modes': got {self.modes!r:.50}")
            keeping: Keeping | KeepingGuide | None = None
            if begun["keeping"] is not None:
                own = begun["keeping"]["kind"] == "own"
                keeping = (
                    Keeping.again(self.pair, train, begun["keeping"])
                    if own
                    else KeepingGuide.again(self.pair, train, objective, begun["keeping"])
                )
            return Begun(bool(begun["started"]), tuple(begun["kept"]), bool(begun["placed"]), keeping)

    def go(self, begun: Begun, mode: Mode, why: str) -> tuple[Mode, str]:
        """How steps are taken, and why: as they were before the checkpoint."""
        self.begun = begun
        if not self.modes:
            self.modes = [mode]
            return mode, why
        if mode != self.modes[0]:
            self._say(f"made in mode '{self.modes[0]}', in which the fit goes on")
        now: Any = self.modes[-1]
        return now, why if mode == now else f"as before the checkpoint of step {self.first:,}"

    def restore(self, loop: Loop, rows: Minibatches) -> str:
        """Put the loop where the checkpoint has it; why the fit had ended by then, or nothing.

        Raises:
            CheckpointError: it does not fit.
        """
        if self.found is None:
            return ""
        with self.shelf.fitting():
            state, step = self.found.state, self.found.step
            for name, tensors in loop.stepper.adam.tensors().items():
                _put(dict(enumerate(tensors)), dict(enumerate(state["adam"][name])))
            for name in ("averaging", "stopping", "convergence", "falling"):
                if getattr(loop, name) is not None:
                    getattr(loop, name).__dict__.update(_same(_memory(getattr(loop, name)), state[name], name))
            plain = state["loop"]
            for name in _PLAIN:
                if type(plain[name]) is not type(getattr(loop, name)):
                    raise ValueError(f"'{name}': got {plain[name]!r:.50}")
            natural = loop.average_from
            loop.__dict__.update({name: plain[name] for name in _PLAIN})
            if loop.known or plain["average_from"] == _length(self.found.told["length"]).limit:
                loop.average_from = natural
            if step < loop.average_from and not isinstance(loop.convergence, Cycles):  # which average at each end
                loop.averaging = Averaging(list(loop.stepper.parameters.values()))
            loop.losses, loop.rates = state["losses"].tolist(), state["rates"].tolist()
            loop.validation = [(int(at), float(score)) for at, score in plain["validation"]]
            if len(loop.losses) != step:
                raise ValueError(f"expected {step} losses, got {len(loop.losses)}")
            if state["stood"] is not None:
                objective = loop.stepper.objective
                loop.stood = KeepingGuide.again(self.pair, loop.train, objective, state["stood"])
            rows.restore(state["rows"])
            randomness.restore(state["random"])
            self._from = step
            return str(plain["ended"])

    def after(self, loop: Loop, rows: Minibatches, step: int, stop: str | None) -> None:
        """Keep a checkpoint after a step, where it is time or a signal came, which is then let through.

        Raises:
            KeyboardInterrupt: there was an interrupt.
        """
        if stop or step == loop.limit or self.signals.seen is not None or self.shelf.due(step):
            ended = stop if stop and not stop.startswith("stopped") else ""  # by its time, or by somebody: not for good
            self._write(loop, rows, step, ended)
        self.signals.through()

    def _write(self, loop: Loop, rows: Minibatches, step: int, ended: str) -> None:
        if self.begun is None:
            raise RuntimeError("a fit that has not begun has no checkpoints")
        begun, keeping = self.begun, self.begun.keeping
        kind = {"kind": "own" if isinstance(keeping, Keeping) else "guide"}
        state = {
            "pair": _tensors(self.pair),
            "history": self.pair._history.record(),
            "constants": constants.described(self.pair),
            "begun": {
                "started": begun.started,
                "kept": begun.kept,
                "placed": begun.placed,
                "keeping": None if keeping is None else kind | keeping.state(),
            },
            "modes": [*self.modes[:1], loop.stepper.mode],
            "adam": loop.stepper.adam.tensors(),
            **{name: _memory(getattr(loop, name)) for name in ("averaging", "stopping", "convergence", "falling")},
            "loop": {name: getattr(loop, name) for name in _PLAIN} | {"validation": loop.validation, "ended": ended},
            "losses": np.array(loop.losses, dtype=np.float64),
            "rates": np.array(loop.rates, dtype=np.float64),
            "stood": None if loop.stood is None else loop.stood.state(),
            "rows": rows.state(),
            "random": randomness.state(),
        }
        since = np.array(loop.losses[self._from :])
        score = loop.validation[-1][1] if loop.validation else float(np.nanmean(since)) if len(since) else None
        length, auto = self.length, self.pair.automatic
        standardises = length.known and not begun.placed and isinstance(auto, guides.Standardised)
        self._from = step
        self.shelf.write(
            step, state, score, ended=ended, threads=torch.get_num_threads(), seconds=self.seconds + loop.watch.spent,
            length=[length.limit, length.known, length.schedule, length.average, standardises],
        )  # fmt: skip


@contextmanager
def opened(
    asked: Checkpoints | None, resume: bool, pair: ModelGuide, data: Sequence[Batch | None], length: Length,
    options: Mapping[str, Any],
) -> Iterator[Course | None]:  # fmt: skip
    """The checkpoints of a fit while it runs, or None where none are kept.

    Args:
        asked: where they are.
        resume: whether to go on from them.
        pair: that is fitted.
        data: the observations to fit, and those held out.
        length: of the fit.
        options: what else the course of the fit depends on, by name.

    Raises:
        CheckpointError: see `Shelf`.
    """
    if asked is None:
        yield None
        return
    run = {"model": pair.name, "config": _config(pair), "type": str(pair.dtype)[6:], **options}
    run["data"] = getattr(asked, "data", "") or packing.digest(
        [None if part is None else _content(part) for part in data]
    )
    with Shelf(asked, run, resume) as shelf:
        yield Course(shelf, pair, length)


def _content(batch: Batch) -> dict[str, Any]:
    return {"total": batch.total, **batch.fields()}


def _config(pair: ModelGuide) -> str:
    """The arguments of the pair, in one spelling."""
    return "; ".join(f"{name}={value!r}" for name, value in sorted(spelled(pair.config).items()))


def _length(known: Any) -> Length:
    limit, fixed, schedule, average, standardises = known
    return Length(int(limit), bool(fixed), str(schedule), float(average), bool(standardises))


def _tensors(pair: ModelGuide) -> dict[str, Tensor]:
    """Parameters and buffers, by name."""
    return {**dict(pair.named_parameters()), **dict(pair.named_buffers())}


def _memory(thing: Any) -> dict[str, Any] | None:
    """What a piece of bookkeeping remembers, without the things it works on."""
    if thing is None:
        return None
    return {name: value for name, value in vars(thing).items() if name not in getattr(thing, "on", ())}


def _same(own: Mapping[str, Any] | None, kept: Any, what: str) -> dict[str, Any]:
    """What was kept of it, of the same names."""
    if not isinstance(kept, dict) or own is None or kept.keys() != own.keys():
        raise ValueError(f"'{what}': expected {', '.join(own or ())}, got {kept!r:.50}")
    return kept


@torch.no_grad()
def _put(tensors: Mapping[Any, Tensor], values: Mapping[Any, Any]) -> None:
    """Write values into tensors, once all are known to fit."""
    if tensors.keys() != values.keys():
        raise ValueError(f"expected {', '.join(map(str, tensors))}, got {', '.join(map(str, values))}")
    for name, tensor in tensors.items():
        value = values[name]
        if not isinstance(value, Tensor) or value.shape != tensor.shape or value.dtype != tensor.dtype:
            got = f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"{value!r:.50}"
            raise ValueError(f"'{name}': expected {tensor.dtype} {tuple(tensor.shape)}, got {got}")
    for name, tensor in tensors.items():
        tensor.copy_(values[name])
