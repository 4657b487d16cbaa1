"""The state of chains between two transitions: all that the next depends on, so that a run goes on bit for bit.

Between two windows of warm-up that is where the chains stand, under which metric and in which coordinates, the random
numbers and what was tuned; of draws also which of them are whole on the disk. A run that is killed in a window of
warm-up takes that window again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from inference.compiling.compiled import Mode
from inference.running.checkpoints import Checkpoints, Found, Shelf
from inference.running.signals import Waiting
from inference.sampling.adaptation import Trajectory
from inference.sampling.chains import Chains
from inference.sampling.density import Density
from inference.sampling.effective import Enough
from inference.sampling.hamiltonian import Metric, State
from inference.sampling.options import Run
from inference.sampling.writer import Draws
from zoo.threads import randomness

FOLDER = "checkpoints"  # in that of the draws
SECONDS = 5.0  # between two, or a hundred times what one takes


class Begun(NamedTuple):
    """How far warm-up has come: its window, if there was one in this process, is of `inference.sampling.warmup`."""

    clock: Trajectory
    found: Any
    why: str
    groups: list[list[int]]
    total: int
    length: int


class Drawing(NamedTuple):
    """How far draws have come: step size, trajectory, warm-up behind them, acceptances to try yet, and why it ended."""

    size: float
    length: float
    warmup: int
    targets: list[float]
    ended: str


class Course:
    """The checkpoints of one run.

    Args:
        shelf: where they are.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.shelf, self.signals = shelf, Waiting()
        self.found: Found | None = shelf.newest()
        self.start = ""  # by name
        self.transitions = 0

    @property
    def names(self) -> tuple[list[str], list[str]]:
        """Starts that were tried in vain before the checkpoint, and the one that it is of and those that follow."""
        with self.shelf.fitting():
            state: Any = {} if self.found is None else self.found.state
            return [str(name) for name in state.get("failed", ())], [str(name) for name in state.get("names", ())]

    def tries(self, failed: list[str], names: list[str]) -> None:
        """Note which start is tried now."""
        self._names = {"failed": failed, "names": names}

    def again(self, chains: Chains, potential: Density) -> Tensor:
        """Put chains and density where the checkpoint has them; free latents of the chains, (C, P).

        Raises:
            CheckpointError: it does not fit.
        """
        with self.shelf.fitting():
            state: Any = self.state["chains"]
            if state["shares"] is not None:
                if len(potential.held) != 1 or potential.held[0].shape != state["shares"].shape:
                    raise ValueError(f"coordinates of {len(state['shares'])} numbers")
                potential.centre_at(state["shares"].to(potential.held[0]))
            mode = str(state["mode"])
            if mode not in get_args(Mode):
                raise ValueError(f"'mode': got {mode!r:.50}")
            chains.fallback.mode = mode  # type: ignore[assignment]
            chains.worth = chains.worth if state["weighs"] else None
            metric = Metric(state["centre"].to(chains.device), state["scale"].to(chains.device))
            z, density, gradient = (state[name].to(chains.device) for name in ("z", "log_density", "gradient"))
            size = (chains.number, potential.size)
            wanted = [size, size[:1], size]
            if [tuple(t.shape) for t in (z, density, gradient)] != wanted or z.dtype != potential.dtype:
                raise ValueError(f"expected {size[0]} chains of {size[1]} numbers, got {tuple(z.shape)}")
            chains.metric = metric
            chains.step = chains.leap.bind(metric.centre, metric.scale, *potential.held)
            chains.state = State(z, density, gradient)
            chains.generator.set_state(state["generator"])
            chains.index, chains.moved = int(state["index"]), int(state["moved"])
            chains.target, chains.ahead = float(state["target"]), int(state["ahead"])
            chains.notes = [str(note) for note in state["notes"]]
            for name in ("seconds", "cpu"):
                getattr(chains, name).update({key: float(value) for key, value in state[name].items()})
            randomness.restore(state["random"])
            return chains.points()

    @property
    def state(self) -> dict[str, Any]:
        """Of the checkpoint that is gone on from."""
        if self.found is None:
            raise RuntimeError("there is no checkpoint")
        return self.found.state

    def warming(self) -> Begun | None:
        """How far warm-up had come; None where it begins."""
        if self.found is None or self.state.get("warm-up") is None:
            return None
        with self.shelf.fitting():
            state = self.state["warm-up"]
            clock = Trajectory()
            if state["clock"].keys() != vars(clock).keys():
                raise ValueError(f"'clock': got {', '.join(state['clock'])}")
            vars(clock).update(state["clock"])
            groups = [[int(chain) for chain in group] for group in state["groups"]]
            return Begun(clock, None, str(state["why"]), groups, int(state["total"]), int(state["length"]))

    def warmed(self, chains: Chains, begun: Begun) -> None:
        """Keep a checkpoint between two windows of warm-up, if it is time."""
        if self.shelf.due(begun.total):
            state = {
                "clock": vars(begun.clock), "why": begun.why, "groups": begun.groups, "total": begun.total,
                "length": begun.length,
            }  # fmt: skip
            self.shelf.write(
                begun.total, self._of(chains) | {"warm-up": state}, stage=f"{begun.total:,} transitions of warm-up"
            )

    def drawing(self) -> Drawing | None:
        """How far draws had come; None where warm-up comes first."""
        if self.found is None or self.state.get("drawing") is None:
            return None
        with self.shelf.fitting():
            size, length, warmup, targets, ended = self.state["drawing"]
            return Drawing(float(size), float(length), int(warmup), [float(t) for t in targets], str(ended))

    def enough(self, own: Enough) -> None:
        """Let it remember what it had seen."""
        with self.shelf.fitting():
            state = self.state["enough"]
            own.restore(state)

    def kept(self) -> dict[str, Any] | None:
        """Which draws were whole; None where there were none."""
        state: Any = None if self.found is None else self.state.get("kept")
        with self.shelf.fitting():
            if state is None:
                return None
            points, told = state["points"], state["told"]
            if not all(type(state[name]) is int for name in ("done", "begin")):
                raise ValueError(f"'kept': got {state['done']!r:.50} draws")
            if points is not None and any(len(value) != len(points) for value in told.values()):
                raise ValueError("'kept': draws and what is told of them are not as many")
            return {"done": state["done"], "begin": state["begin"], "points": points, "told": told}

    def drew(self, chains: Chains, kept: Draws, how: Drawing, enough: Enough | None, last: bool) -> None:
        """Keep a checkpoint between two draws, where it is time or a signal came, which is then let through.

        Raises:
            KeyboardInterrupt: there was an interrupt.
            OSError: draws cannot be written.
        """
        if last or self.signals.seen is not None or self.shelf.due(kept.count):
            kept.flush()
            state = {"drawing": list(how), "enough": None if enough is None else enough.state(), "kept": kept.state()}
            most = kept.values.draws
            self.shelf.write(
                how.warmup + kept.count, self._of(chains) | state, stage=f"{kept.count:,} of {most:,} draws",
                draws=kept.count, ended=how.ended,
            )  # fmt: skip
        self.signals.through()

    def _of(self, chains: Chains) -> dict[str, Any]:
        potential, state = chains.potential, chains.state
        return self._names | {
            "chains": {
                "shares": potential.held[0] if potential.held else None,
                "mode": chains.mode,
                "weighs": chains.worth is not None,
                "centre": chains.metric.centre,
                "scale": chains.metric.scale,
                "z": state.z,
                "log_density": state.log_density,
                "gradient": state.gradient,
                "generator": chains.generator.get_state(),
                "index": chains.index,
                "moved": chains.moved,
                "target": chains.target,
                "ahead": chains.ahead,
                "notes": chains.notes,
                "seconds": chains.seconds,
                "cpu": chains.cpu,
                "random": randomness.state(),
            }
        }

    def over(self) -> None:
        """What follows begins anew."""
        self.found = None


@contextmanager
def opened(wanted: Run, run: Mapping[str, Any]) -> Iterator[Course | None]:
    """The checkpoints of a run that writes draws into a folder; None where it keeps them in memory.

    Args:
        wanted: what is asked for.
        run: what it is a run of.

    Raises:
        CheckpointError: see `Shelf`.
    """
    if wanted.folder is None or wanted.method == "nuts":
        yield None
        return
    names = ("chains", "method", "start", "max_warmup", "thin", "seed", "compile", "ess", "least", "resigns")
    options = {name: getattr(wanted, name) for name in names} | {"targets": list(wanted.targets)}
    given = Checkpoints(wanted.folder / FOLDER, seconds=SECONDS)
    with Shelf(given, {**run, **options, "threads": torch.get_num_threads()}, wanted.resume, "run") as shelf:
        yield Course(shelf)
